"""FCPXML: what is written is in the order of Apple's DTD, and gives back the cut frame by frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from cuts import FILM, PLACES, Shown, demo_cut, dissolves, media_at, random_cuts, shown
from hypothesis import given

from freeswim.errors import RequestError
from freeswim.timeline.cut import RATES, Clip, Cut, Dissolve, Gap, Track
from freeswim.timeline.fcpxml import VERSIONS, fcpxml_text
from freeswim.timeline.timecode import is_drop_frame

FOLDER = Path("/media/timelines")
CLIPS = "asset-clip|audition|gap"

# Of Apple's DTD, what is written here: children as a pattern of their names, then attributes; those
# that are required have a mark.
GRAMMAR = {
    "fcpxml": ("(resources )(library )", "version!"),
    "resources": ("((asset|effect|format) )*", ""),
    "format": ("", "id! name frameDuration width height colorSpace"),
    "asset": (
        "(media-rep )+(metadata )?",
        "id! name start duration hasVideo format hasAudio videoSources audioSources audioChannels",
    ),
    "media-rep": ("", "kind src!"),
    "effect": ("", "id! name uid!"),
    "library": ("(event )*", ""),
    "event": ("(project )*", "name"),
    "project": ("(sequence )", "name"),
    "sequence": ("(note )?(spine )(metadata )?", "format! duration tcStart tcFormat"),
    "spine": (f"(({CLIPS}|transition) )*", "lane offset"),
    "gap": (
        "(note )?((asset-clip|audition|spine) )*((marker|keyword) )*(metadata )?",
        "name offset start duration! enabled",
    ),
    "asset-clip": (
        "(note )?((asset-clip|audition|spine) )*((marker|keyword) )*(metadata )?",
        "ref! lane offset name start duration enabled tcFormat",
    ),
    "audition": ("(asset-clip )+", "lane offset"),
    "transition": (
        "(filter-video )?(filter-audio )?(marker )*(metadata )?",
        "name offset duration!",
    ),
    "filter-video": ("", "ref! name"),
    "filter-audio": ("", "ref! name"),
    "marker": ("", "start! duration value! completed note"),
    "keyword": ("", "start duration value! note"),
    "note": ("", ""),
    "metadata": ("(md )*", ""),
    "md": ("", "key! value type displayName"),
}
TIMES = ("frameDuration", "start", "duration", "tcStart", "offset")
KEYS = {"asset-clip": "asset", "asset": "format", "sequence": "format"}
KEYS |= {"filter-video": "effect", "filter-audio": "effect"}


def check_grammar(root: Element) -> None:
    for element in root.iter():
        children, attributes = GRAMMAR[element.tag]
        names = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(children, names), (element.tag, names)
        allowed = {name.rstrip("!") for name in attributes.split()}
        required = {name.rstrip("!") for name in attributes.split() if name.endswith("!")}
        assert required <= set(element.attrib) <= allowed, (element.tag, element.attrib)
        assert (element.text or "").strip() == "" or element.tag == "note"


def check_references(root: Element) -> None:
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    kinds = {element.get("id"): element.tag for element in root.iter() if "id" in element.attrib}
    for element in root.iter():
        for name in ("ref", "format"):
            if name in element.attrib:
                assert kinds[element.attrib[name]] == KEYS[element.tag]


def check_times(root: Element, rate: Fraction) -> None:
    for element in root.iter():
        for name in TIMES:
            if name in element.attrib:
                text = element.attrib[name]
                assert re.fullmatch(r"\d+(/\d+)?s", text), text
                assert (seconds(text) * rate).denominator == 1, text
                assert int(text.rstrip("s").partition("/")[2] or 1) < 2**31


def seconds(text: str) -> Fraction:
    return Fraction(text.removesuffix("s"))


def parsed(cut: Cut, version: str = "1.11") -> Element:
    root = ElementTree.fromstring(fcpxml_text(cut, FOLDER, version))
    check_grammar(root)
    check_references(root)
    check_times(root, cut.rate)
    return root


class Reader:
    """What Final Cut's documentation says the elements mean, read independently of the writer."""

    def __init__(self, root: Element) -> None:
        self.resources = {
            element.get("id"): element for element in root.iter() if element.get("id")
        }
        sequence = root.find(".//sequence")
        assert sequence is not None
        frame = self.resources[sequence.get("format")].attrib["frameDuration"]
        self.rate = 1 / seconds(frame)
        self.start_frame = self.frames(sequence, "tcStart")
        self.num_frames = self.frames(sequence, "duration")
        self.drops = sequence.attrib["tcFormat"] == "DF"
        self.shown: list[Shown] = []
        self.files: list[str] = []
        self.dissolves: list[tuple[int, int, int]] = []
        self.markers: list[tuple[int, str]] = []
        spine = sequence.find("spine")
        assert spine is not None
        self.read_spine(spine, 0, -self.start_frame)
        order = sorted(range(len(self.shown)), key=lambda index: self.shown[index][:2])
        self.shown = [self.shown[index] for index in order]
        self.files = [self.files[index] for index in order]
        self.dissolves.sort()

    def frames(self, element: Element, name: str) -> int:
        frames = seconds(element.attrib[name]) * self.rate
        assert frames.denominator == 1
        return frames.numerator

    def read_spine(self, spine: Element, lane: int, shift: int) -> None:
        """Of a spine the clips follow one another without a frame between."""
        end = None
        for item in spine:
            at = self.frames(item, "offset") + shift
            if item.tag == "transition":
                num_frames = self.frames(item, "duration")
                assert end is not None and at <= end <= at + num_frames
                self.dissolves.append((lane, at, num_frames))
                continue
            assert end is None or at == end
            active = item[0] if item.tag == "audition" else item
            self.read_clip(active, lane, at)
            end = at + self.frames(active, "duration")
        if lane == 0:
            assert end == self.num_frames

    def read_clip(self, clip: Element, lane: int, at: int) -> None:
        start = self.frames(clip, "start")
        if clip.tag == "asset-clip":
            asset = self.resources[clip.get("ref")]
            num_frames = self.frames(clip, "duration")
            first = self.frames(asset, "start")
            assert first <= start
            assert start + num_frames <= first + self.frames(asset, "duration")
            enabled = clip.get("enabled", "1") == "1"
            self.shown.append(Shown(lane, at, num_frames, start, enabled))
            original = asset.find("media-rep[@kind='original-media']")
            assert original is not None
            self.files.append(unquote(original.attrib["src"]))
        for child in clip:
            if child.tag == "marker":
                self.markers.append(
                    (at + self.frames(child, "start") - start, child.attrib["note"])
                )
            elif child.tag in ("asset-clip", "audition", "spine"):
                self.read_connected(child, at - start)

    def read_connected(self, item: Element, shift: int) -> None:
        at, lane = self.frames(item, "offset") + shift, int(item.attrib["lane"])
        if item.tag == "spine":
            self.read_spine(item, lane, at)
        else:
            self.read_clip(item[0] if item.tag == "audition" else item, lane, at)


@given(random_cuts())
def test_a_cut_survives(cut: Cut) -> None:
    read = Reader(parsed(cut))

    assert read.shown == shown(cut)
    assert read.dissolves == dissolves(cut)
    assert (read.rate, read.start_frame, read.num_frames) == (
        cut.rate,
        cut.start_frame,
        cut.num_frames,
    )
    assert read.drops == is_drop_frame(cut.rate)


@given(random_cuts())
def test_media_is_addressed_from_the_folder(cut: Cut) -> None:
    read = Reader(parsed(cut))

    places = [Path("/media/timelines") / file for file in read.files]
    assert [str(place.resolve()) for place in places] == [
        str(clip.media.path) for clip in cut.clips()
    ]


def test_addresses_are_percent_encoded() -> None:
    clip = Clip("x", media_at("/media/müde Köi/01:00 #1%.mov", FILM), 0, 10)
    place = parsed(Cut("c", FILM, 64, 64, (Track("V1", (clip,)),))).find(".//media-rep")

    assert place is not None
    assert place.get("src") == "../m%C3%BCde%20K%C3%B6i/01%3A00%20%231%25.mov"


@given(random_cuts())
def test_every_marker_is_at_its_frame(cut: Cut) -> None:
    wanted = [(marker.frame, marker.text) for marker in cut.markers]
    for track in cut.tracks:
        for at, item in track.placed():
            if isinstance(item, Clip):
                wanted += [(at + marker.frame, marker.text) for marker in item.markers]

    read = Reader(parsed(cut)).markers

    assert sorted(read) == sorted((at, text.replace("\x07", " ")) for at, text in wanted)


@given(random_cuts())
def test_the_same_cut_gives_the_same_text(cut: Cut) -> None:
    assert fcpxml_text(cut, FOLDER) == fcpxml_text(cut, FOLDER)


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_are_said(version: str) -> None:
    assert parsed(demo_cut(), version).get("version") == version
    assert "<!DOCTYPE fcpxml>" in fcpxml_text(demo_cut(), FOLDER, version)


@pytest.mark.parametrize("rate", RATES)
def test_every_rate_is_exact(rate: Fraction) -> None:
    read = Reader(parsed(demo_cut(rate)))

    assert read.rate == rate
    assert read.shown == shown(demo_cut(rate))


def test_times_have_the_form_that_editors_write() -> None:
    sequence = parsed(demo_cut()).find(".//sequence")

    assert sequence is not None
    assert sequence.attrib["tcStart"] == "86486400/24000s"
    assert sequence.attrib["duration"] == "144144/24000s"


def test_a_take_is_an_audition_and_a_proxy_a_second_place_of_its_file() -> None:
    root = parsed(demo_cut())

    audition = root.find(".//audition")
    assert audition is not None
    assets = {asset.attrib["id"]: asset for asset in root.iter("asset")}
    names = [assets[clip.attrib["ref"]].get("name") for clip in audition]
    assert names == ["d.mov", "d_02.mov"]
    assert [clip.attrib["duration"] for clip in audition] == ["24024/24000s", "24024/24000s"]
    assert audition[1].attrib["start"] == "6006/24000s"  # it has 30 frames: 6 and on, not 10
    places = [place.attrib for place in assets[audition[0].attrib["ref"]].findall("media-rep")]
    assert places == [
        {"kind": "original-media", "src": "../d.mov"},
        {"kind": "proxy-media", "src": "../proxy/d.mov"},
    ]
    assert "native" not in ElementTree.tostring(root, encoding="unicode")


def test_what_made_a_clip_is_in_its_note_keywords_and_metadata() -> None:
    root = parsed(demo_cut())

    clip = root.find(".//audition/asset-clip")
    asset = next(asset for asset in root.iter("asset") if asset.get("name") == "d.mov")
    assert clip is not None
    assert clip.findtext("note") == "a koi"
    keyword = clip.find("keyword")
    assert keyword is not None
    assert keyword.get("value") == "FreeSwim, koi, pond"
    facts = {md.get("key"): md.get("value") for md in asset.iter("md")}
    assert facts == {"com.freeswim.prompt": "a koi", "com.freeswim.seed": str(2**40)}


def test_a_marker_has_its_first_line_as_its_name_and_all_in_its_note() -> None:
    marker = parsed(demo_cut()).find(".//asset-clip[@name='A']/marker[@value='look']")

    assert marker is not None
    assert marker.get("note") == "look\nhere\njob: 7"


def test_a_file_is_one_asset_however_often_it_plays() -> None:
    media = media_at("/media/a.mov", FILM)
    clips = (Clip("x", media, 0, 10), Clip("y", media, 20, 10))
    root = parsed(Cut("c", FILM, 1920, 1080, (Track("V1", clips),)))

    assert len(root.findall(".//asset")) == 1
    assert len(root.findall(".//format")) == 1


def test_a_track_above_an_empty_one_is_connected_to_a_gap() -> None:
    media = media_at("/media/a.mov", FILM)
    tracks = Track("V1", ()), Track("V2", (Gap(5), Clip("x", media, 0, 10)))

    read = Reader(parsed(Cut("c", FILM, 1920, 1080, tracks)))

    assert read.shown == [Shown(1, 5, 10, 0, True)]


def test_dissolves_of_upper_tracks_are_in_a_spine_of_their_own() -> None:
    media = media_at("/media/a.mov", FILM)
    items = Clip("x", media, 0, 20), Dissolve(4, 6), Clip("y", media, 30, 20)
    tracks = Track("V1", (Gap(50),)), Track("V2", (Gap(5), *items))

    read = Reader(parsed(Cut("c", FILM, 1920, 1080, tracks)))

    assert read.dissolves == [(1, 21, 10)]
    assert [one.at for one in read.shown] == [5, 25]


def test_media_of_another_rate_is_refused() -> None:
    cut = demo_cut()
    with pytest.raises(RequestError, match="16 frames per second"):
        fcpxml_text(_with_clip(cut, media=media_at(PLACES[0], Fraction(16))), FOLDER)
    with pytest.raises(RequestError, match="25 frames per second") as caught:
        take = media_at(PLACES[0], Fraction(25))
        fcpxml_text(_with_clip(cut, others={"take_02": take}), FOLDER)
    assert "Conform it" in caught.value.hint


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(RequestError, match=r"1\.8"):
        fcpxml_text(demo_cut(), FOLDER, "1.8")


def test_the_checks_see_faults() -> None:
    for spoil in _faults():
        root = parsed(demo_cut())
        spoil(root)
        with pytest.raises((AssertionError, KeyError)):
            check_grammar(root)
            check_references(root)
            check_times(root, FILM)
            Reader(root)


def _faults() -> Iterator:
    def find(root: Element, path: str) -> Element:
        found = root.find(path)
        assert found is not None
        return found

    yield lambda root: find(root, ".//asset-clip").set("ref", "r99")
    yield lambda root: find(root, ".//asset-clip").set("start", "1/24s")
    yield lambda root: find(root, ".//asset-clip").set("duration", "49049/24000s")
    yield lambda root: find(root, ".//asset-clip").insert(0, Element("metadata"))
    yield lambda root: find(root, ".//asset").set("id", "r1")
    yield lambda root: find(root, ".//transition").set("offset", "0s")


def _with_clip(cut: Cut, **changes: object) -> Cut:
    first = cut.tracks[0].items[0]
    assert isinstance(first, Clip)
    changed = replace(first, **changes)  # type: ignore[arg-type]
    return replace(cut, tracks=(Track("V1", (changed,)),))
