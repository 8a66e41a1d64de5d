"""MLT XML and Kdenlive projects, looked at; test_consumers.py plays them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest

from freeswim.errors import RequestError
from freeswim.timeline.cut import RATES, Clip, Cut, Dissolve, Gap, Marker, Media, Track
from freeswim.timeline.mlt import kdenlive_text, mlt_text

FILM = Fraction(24000, 1001)
WRITERS = [mlt_text, kdenlive_text]


def media_of(path: str, rate: Fraction = FILM) -> Media:
    return Media(Path(path), 100, rate, 3840, 2160)


def example(rate: Fraction = FILM) -> Cut:
    a, b = media_of("/cuts/media/a.mov", rate), media_of("/cuts/media/b.mov", rate)
    lower = (
        Clip("a", a, 0, 20),
        Dissolve(4, 6),
        Clip("b", b, 10, 20, markers=(Marker(2, 'a "koi" \x07 & <b>'),)),
        Dissolve(3, 5),
        Clip("a", a, 40, 20),
        Gap(7),
        Clip("a", a, 70, 5),
    )
    upper = (Gap(2), Clip("off", b, 0, 9, is_enabled=False), Clip("b", b, 1, 3))
    tracks = Track("V1", lower), Track("Köi & co", upper)
    return Cut("Pond <1>", rate, 3840, 2160, tracks, markers=(Marker(1, "act one", "RED"),))


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def value(element: ElementTree.Element, name: str) -> str:
    found = element.find(f"property[@name='{name}']")
    assert found is not None, name
    return found.text or ""


def sources(root: ElementTree.Element) -> dict[str, str]:
    """The resource of each producer by its id."""
    producers = [*root.iter("producer"), *root.iter("chain")]
    return {producer.attrib["id"]: value(producer, "resource") for producer in producers}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("rate", RATES)
def test_the_profile_says_size_and_exact_rate(write, rate: Fraction) -> None:
    profile = parsed(write(example(rate), Path("/cuts"))).find("profile")
    assert profile is not None
    fields = ("width", "height", "frame_rate_num", "frame_rate_den", "progressive")
    assert [int(profile.attrib[name]) for name in fields] == [
        *(3840, 2160, rate.numerator, rate.denominator, 1)
    ]


def test_no_two_profiles_share_a_description() -> None:
    """Kdenlive takes the first for both: with another rate, every clip plays other frames."""
    found = set()
    for cut in [example(rate) for rate in RATES] + [replace(example(), width=4096)]:
        profile = parsed(kdenlive_text(cut, Path("/cuts"))).find("profile")
        assert profile is not None
        found.add(profile.attrib["description"])
    assert len(found) == len(RATES) + 1


@pytest.mark.parametrize("write", WRITERS)
def test_every_reference_leads_to_something_written_before_it(write) -> None:
    known: set[str] = set()
    for element in parsed(write(example(), Path("/cuts"))):
        for part in element.iter():
            assert part.attrib.get("producer", "main_bin") in {*known, "main_bin"}
        assert element.attrib.get("id", "") not in known - {""}
        known.add(element.attrib.get("id", ""))


@pytest.mark.parametrize("write", WRITERS)
def test_no_two_clips_that_play_together_share_a_decoder(write) -> None:
    """melt 7.42 gives wrong frames where they do."""
    same = media_of("/cuts/a.mov")
    items = (Clip("a", same, 0, 20), Dissolve(4, 4), Clip("a", same, 50, 20))
    cut = Cut("a", FILM, 3840, 2160, (Track("V1", items), Track("V2", items)))
    root = parsed(write(cut, Path("/cuts")))
    if write is mlt_text:
        together = [
            [track.attrib["producer"] for track in tractor.iter("track")]
            for tractor in root.iter("tractor")
            if tractor.attrib["id"] != "cut"
        ]
        assert len(together) == 2 and all(len(set(pair)) == 2 for pair in together)
    rows = [
        {entry.attrib["producer"] for entry in playlist.iter("entry")} & set(sources(root))
        for playlist in root.iter("playlist")
        if playlist.attrib["id"] != "main_bin"
    ]
    assert len(set().union(*rows)) == sum(len(row) for row in rows)


@pytest.mark.parametrize("write", WRITERS)
def test_two_files_of_one_name_stay_apart(write) -> None:
    clips = [Clip("take", media_of(f"/cuts/{place}/take.mov"), 0, 9) for place in "ab"]
    cut = Cut("a", FILM, 3840, 2160, (Track("V1", tuple(clips)),))
    found = set(sources(parsed(write(cut, Path("/cuts")))).values()) - {"black"}
    assert found == {"a/take.mov", "b/take.mov"}


@pytest.mark.parametrize("write", WRITERS)
def test_media_of_another_rate_is_refused(write) -> None:
    clip = Clip("a", media_of("/cuts/a.mov", Fraction(16)), 0, 9)
    cut = Cut("a", FILM, 3840, 2160, (Track("V1", (clip,)),))
    with pytest.raises(RequestError, match="16 frames per second") as failure:
        write(cut, Path("/cuts"))
    assert failure.value.hint


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_cut_gives_the_same_text(write) -> None:
    assert write(example(), Path("/cuts")) == write(example(), Path("/cuts"))


@pytest.mark.parametrize("write", WRITERS)
def test_a_colon_is_only_in_whole_paths(write) -> None:
    """MLT takes a relative path with one for the address of a service."""
    cut = Cut(
        "a", FILM, 3840, 2160, (Track("V1", (Clip("a", media_of("/cuts/01:00.mov"), 0, 9),)),)
    )
    found = set(sources(parsed(write(cut, Path("/cuts")))).values()) - {"black"}
    assert found == {Path("/cuts/01:00.mov").as_posix()}


def test_a_disabled_clip_is_a_gap_and_its_dissolves_are_cuts() -> None:
    items = list(example().tracks[0].items)
    middle = items[2]
    assert isinstance(middle, Clip)
    items[2] = replace(middle, is_enabled=False)
    cut = replace(example(), tracks=(Track("V1", tuple(items)),))
    for write in WRITERS:
        root = parsed(write(cut, Path("/cuts")))
        services = [value(mix, "mlt_service") for mix in root.iter("transition")]
        assert not {"luma", "mix"} & set(services)
        assert "media/b.mov" not in [
            sources(root).get(entry.attrib["producer"])
            for playlist in root.iter("playlist")
            if playlist.attrib["id"] != "main_bin"
            for entry in playlist.iter("entry")
        ]


def test_markers_are_guides_in_kdenlive() -> None:
    root = parsed(kdenlive_text(example(), Path("/cuts")))
    (sequence,) = (
        t for t in root.iter("tractor") if t.find("property[@name='kdenlive:uuid']") is not None
    )
    guides = json.loads(value(sequence, "kdenlive:sequenceproperties.guides"))
    assert guides == [
        {"pos": 1, "comment": "act one", "type": 6},
        {"pos": 22, "comment": 'a "koi" \x07 & <b>', "type": 1},
    ]


@pytest.mark.parametrize(
    ("size", "rate", "name"),
    [
        ((3840, 2160), FILM, "uhd_2160p_2398"),
        ((1920, 1080), Fraction(30000, 1001), "atsc_1080p_2997"),
        ((1280, 720), Fraction(60000, 1001), "atsc_720p_5994"),
        ((1920, 1080), Fraction(25), "atsc_1080p_25"),
        ((1024, 576), Fraction(25), "freeswim"),
    ],
)
def test_kdenlive_gets_the_name_of_its_profile(
    size: tuple[int, int], rate: Fraction, name: str
) -> None:
    """Without one it takes 25 frames per second, whatever the document says."""
    cut = replace(example(rate), width=size[0], height=size[1])
    playlist = parsed(kdenlive_text(cut, Path("/cuts"))).find("playlist[@id='main_bin']")
    assert playlist is not None
    assert value(playlist, "kdenlive:docproperties.profile") == name


def test_the_frames_around_a_dissolve_lie_in_both_rows_of_kdenlive() -> None:
    root = parsed(kdenlive_text(example(), Path("/cuts")))
    rows = [
        [
            (e.tag, e.attrib.get("in"), e.attrib.get("out", e.attrib.get("length")))
            for e in root.iterfind(f"playlist[@id='track0-row{row}']/*")
        ]
        for row in range(2)
    ]
    assert rows == [
        [
            ("entry", "0", "25"),
            ("blank", None, "11"),
            ("entry", "37", "59"),
            ("blank", None, "7"),
            ("entry", "70", "74"),
        ],
        [("blank", None, "16"), ("entry", "6", "34")],
    ]
    mixes = root.findall("tractor[@id='track0']/transition")
    assert [(mix.attrib["in"], mix.attrib["out"], value(mix, "reverse")) for mix in mixes] == [
        ("16", "26", "0"),
        ("37", "45", "1"),
    ]
    assert [value(mix, "kdenlive:mixcut") for mix in mixes] == ["6", "5"]
