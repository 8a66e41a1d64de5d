"""The sound of timelines: heard as melt and Blender play it, and looked at in every format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import opentimelineio as otio
import pytest
from bar_codes import HEIGHT, LENGTH, WIDTH, random_cut
from cuts import FILM, media_at, random_cuts
from hypothesis import Phase, given, settings
from test_consumers import (
    dice_of,
    few,
    needs,
    render_in_melt,
    run_in_blender,
    seeds,
    written,
)
from tones import SAMPLES, Heard, expected, faults, pitch, read_wave, write_clips

from freeswim.timeline.blender import blender_text
from freeswim.timeline.cut import Clip, Cut, Dissolve, Gap, Marker, Media, Track
from freeswim.timeline.edl import edl_texts
from freeswim.timeline.fcp7 import fcp7_text
from freeswim.timeline.fcpxml import fcpxml_text
from freeswim.timeline.mlt import kdenlive_text, mlt_text
from freeswim.timeline.otio import otio_text
from freeswim.timeline.reading import read_timeline
from freeswim.timeline.timecode import source_start

RATES = (FILM, Fraction(25), Fraction(30000, 1001), Fraction(50))
HALF = 0.5  # a frame: where melt begins to read a file's sound
# Its steps are how exactly Blender ends a strip; 1024 samples are its own choice.
MIXDOWN = """
import bpy
how = dict(container="WAV", codec="PCM", format="S16", accuracy=16)
bpy.ops.sound.mixdown(filepath={path!r}, **how)
"""

# A failed cut is not made smaller: a program would be started hundreds of times.
once = settings(parent=few, phases=(Phase.explicit, Phase.reuse, Phase.generate))

Clips = Callable[[Fraction], list[Media]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    folder = tmp_path_factory.mktemp("tones")
    return cache(lambda rate: write_clips(folder / f"{float(rate):.2f}", rate))


def hear_in_melt(file: Path) -> np.ndarray:
    sound = file.with_suffix(".wav")
    render_in_melt(file, sound, "vn=1", "acodec=pcm_s16le", f"frequency={SAMPLES}", "channels=2")
    return read_wave(sound)


def hear_in_blender(script: Path) -> np.ndarray:
    sound = script.with_suffix(".wav")
    run_in_blender(script, MIXDOWN.format(path=str(sound)))
    return read_wave(sound)


def sounding_cut(rate: Fraction, seed: int, media: list[Media]) -> Cut:
    """Without clips of a single frame: melt and Kdenlive are silent at some of them."""
    return random_cut(dice_of(rate, seed), rate, media, shortest=2)


@needs("melt")
@pytest.mark.parametrize("rate", RATES, ids=str)
@settings(parent=once)
@given(seed=seeds)
def test_melt_plays_the_sound_of_every_frame(
    rate: Fraction, clips: Clips, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    cut = sounding_cut(rate, seed, clips(rate))
    folder = tmp_path_factory.mktemp("müde cuts & more")
    heard = hear_in_melt(written(folder, "a cut.mlt", mlt_text(cut, folder)))
    assert faults(heard, expected(cut, clips(rate), skips_single=True), rate, HALF) == []
    heard = hear_in_melt(written(folder, "project.kdenlive", kdenlive_text(cut, folder)))
    assert faults(heard, expected(cut, clips(rate), longer=1), rate, HALF) == []


@needs("blender")
@pytest.mark.parametrize("rate", RATES, ids=str)
@settings(parent=once, max_examples=1)
@given(seed=seeds)
def test_blender_plays_the_sound_of_every_frame(
    rate: Fraction, clips: Clips, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    cut = sounding_cut(rate, seed, clips(rate))
    folder = tmp_path_factory.mktemp("müde cuts & more")
    heard = hear_in_blender(written(folder, "a cut.py", blender_text(cut, folder)))
    assert faults(heard, expected(cut, clips(rate), longer=1), rate) == []


def all_of_a_cut(media: list[Media]) -> Cut:
    """Two files of one name, handles, a gap, a silent clip, dissolves, two tracks, disabled clips."""
    first, second, third, silent = media
    lower = (
        Clip("take", first, 12, 8),
        Dissolve(3, 4),
        Clip("take", second, 20, 9),
        Gap(5),
        Clip("silent", silent, 4, 6),
        Clip("end", third, LENGTH - 6, 6),
        Clip("off", first, 0, 4, is_enabled=False),
        Clip("again", first, 40, 5),
    )
    upper = (Clip("take 2", third, 12, 8, is_enabled=False), Gap(20), Clip("over", second, 3, 4))
    return Cut("all", media[0].frame_rate, WIDTH, HEIGHT, (Track("V1", lower), Track("V2", upper)))


def moved(cut: Cut, frames: int) -> Cut:
    """With its last clip of the first track begun later in its media."""
    (*before, last), upper = cut.tracks[0].items, cut.tracks[1]
    assert isinstance(last, Clip)
    return replace(
        cut, tracks=(Track("V1", (*before, replace(last, start=last.start + frames))), upper)
    )


@needs("melt")
@needs("blender")
def test_sound_that_is_a_frame_off_is_heard(clips: Clips, tmp_path: Path) -> None:
    rate = Fraction(24000, 1001)
    media = clips(rate)
    cut, wrong = all_of_a_cut(media), moved(all_of_a_cut(media), 1)
    for heard, slack, longer in (
        (hear_in_melt(written(tmp_path, "a.mlt", mlt_text(wrong, tmp_path))), HALF, 0),
        (hear_in_melt(written(tmp_path, "a.kdenlive", kdenlive_text(wrong, tmp_path))), HALF, 1),
        (hear_in_blender(written(tmp_path, "a.py", blender_text(wrong, tmp_path))), 0, 1),
    ):
        assert faults(heard, expected(wrong, media, longer=longer), rate, slack) == []
        found = faults(heard, expected(cut, media, longer=longer), rate, slack)
        assert {int(fault.split()[1].rstrip(":")) for fault in found} == set(range(38, 43))


TONE, OTHER = (1, 20), (2, 33)
AT = np.arange(SAMPLES // 25) / SAMPLES


def sine(tone: tuple[int, int], loudness: float = 0.2) -> np.ndarray:
    return loudness * np.sin(2 * np.pi * pitch(tone) * AT + 1)


@pytest.mark.parametrize(
    "samples",
    [sine(TONE) + sine(OTHER), sine((1, 21)), sine(TONE, 0.1), 0 * AT, sine(TONE) + 0.05],
    ids=["two", "the next frame", "too soft", "nothing", "a hum"],
)
def test_what_is_not_the_tone_of_a_frame_is_heard(samples: np.ndarray) -> None:
    want = Heard()
    want.tones[TONE] = 1
    stereo = np.stack([samples, samples], axis=1)
    assert faults(stereo, [want], Fraction(25))
    assert faults(np.stack([sine(TONE), samples], axis=1), [want], Fraction(25))
    assert faults(np.stack([sine(TONE)] * 2, axis=1), [want], Fraction(25)) == []


def test_a_gap_is_silent() -> None:
    assert faults(np.zeros((SAMPLES // 25, 2)), [Heard()], Fraction(25)) == []
    assert faults(np.full((SAMPLES // 25, 2), 0.03), [Heard()], Fraction(25))


def with_sound(place: str, num_channels: int) -> Media:
    return replace(media_at(place, FILM), num_channels=num_channels)


STEREO, MONO, SILENT = (
    with_sound(f"/media/{name}.mov", n) for n, name in ((2, "s"), (1, "m"), (0, "q"))
)


def test_a_track_of_pictures_has_its_sound_at_the_same_frames() -> None:
    items = (
        Clip("a", STEREO, 10, 20, markers=(Marker(1, "here"),)),
        Dissolve(2, 3),
        Clip("b", MONO, 30, 10),
        Dissolve(1, 1),
        Clip("c", SILENT, 30, 10),
        Gap(4),
        Clip("d", STEREO, 0, 5, is_enabled=False),
    )
    tracks = Track("V1", (Clip("q", SILENT, 0, 9),)), Track("V2", items)
    cut = Cut("c", FILM, 64, 64, tracks)

    assert cut.sound_tracks() == {
        1: Track(
            "A1",
            (
                Clip("a", STEREO, 10, 20),
                Dissolve(2, 3),
                Clip("b", MONO, 30, 10),
                Gap(10),
                Gap(4),
                Clip("d", STEREO, 0, 5, is_enabled=False),
            ),
        )
    }
    assert [track.num_channels for track in tracks] == [0, 2]
    assert tracks[1].sounding(2).items[1:3] == (Gap(10), Gap(10))


def test_a_cut_without_sound_has_no_tracks_of_it() -> None:
    cut = Cut("c", FILM, 64, 64, (Track("V1", (Clip("q", SILENT, 0, 9),)),))
    assert cut.sound_tracks() == {}


FOLDER = Path("/media")
TEXTS = {
    ".otio": lambda cut: otio_text(cut, folder=FOLDER),
    ".xml": lambda cut: fcp7_text(cut, FOLDER),
    ".fcpxml": lambda cut: fcpxml_text(cut, FOLDER),
    ".edl": lambda cut: edl_texts(cut)[0],
    ".mlt": lambda cut: mlt_text(cut, FOLDER),
    ".kdenlive": lambda cut: kdenlive_text(cut, FOLDER),
    ".py": lambda cut: blender_text(cut, FOLDER),
}


def example() -> Cut:
    """Stereo, mono and silent clips; a disabled take over them; handles, a gap, a dissolve."""
    lower = (
        Clip("a", STEREO, 10, 20),
        Dissolve(3, 3),
        Clip("b", MONO, 30, 10),
        Gap(6),
        Clip("q", SILENT, 4, 9),
        Clip("a", STEREO, 50, 12),
    )
    upper = (Gap(3), Clip("take", MONO, 10, 20, is_enabled=False))
    return Cut("c", FILM, 1920, 1080, (Track("V1", lower), Track("V2", upper)))


def silenced(cut: Cut) -> Cut:
    tracks = (
        Track(
            track.name,
            tuple(
                replace(item, media=replace(item.media, num_channels=0))
                if isinstance(item, Clip)
                else item
                for item in track.items
            ),
        )
        for track in cut.tracks
    )
    return replace(cut, tracks=tuple(tracks))


# Of each format, what is there only where something is heard.
SIGNS = {
    ".otio": '"kind": "Audio"',
    ".xml": "<audio>",
    ".fcpxml": "hasAudio",
    ".edl": "AA/V",
    ".mlt": '"always_active"',
    ".kdenlive": "kdenlive:audio_track",
    ".py": '"fade_in"',
}


@pytest.mark.parametrize("suffix", TEXTS)
def test_a_silent_cut_is_written_without_sound(suffix: str) -> None:
    sign = SIGNS[suffix]
    silent, sounding = TEXTS[suffix](silenced(example())), TEXTS[suffix](example())
    if suffix == ".py":  # what it can do is in every script
        silent, sounding = (text.partition("def own_folder")[0] for text in (silent, sounding))
    assert sign in sounding
    assert sign not in silent


@pytest.mark.parametrize("suffix", [".otio", ".xml", ".fcpxml", ".edl", ".kdenlive"])
def test_sound_is_read_back_and_pictures_are_not_asked_for_twice(
    suffix: str, tmp_path: Path
) -> None:
    cut = example()
    if suffix in (".edl", ".kdenlive"):  # their clips begin where their dissolves do
        tracks = (
            Track(t.name, tuple(i for i in t.items if not isinstance(i, Dissolve)))
            for t in cut.tracks
        )
        cut = replace(cut, tracks=tuple(tracks))
    path = tmp_path / f"cut{suffix}"
    path.write_text(TEXTS[suffix](cut), "utf-8")
    wanted = [
        (1, 0, 20, "s.mov", 10, True),
        (1, 20, 10, "m.mov", 30, True),
        (1, 45, 12, "s.mov", 50, True),
        (2, 3, 20, "m.mov", 10, False),
    ]
    if suffix in (".edl", ".kdenlive"):
        wanted = wanted[:3]
    sound = read_timeline(path, FILM, "sound").used
    assert [
        (u.track, u.start, u.num_frames, u.file, u.source_start, u.is_enabled) for u in sound
    ] == wanted
    pictures = read_timeline(path, FILM).used
    assert [u.file for u in pictures if u.is_enabled] == ["s.mov", "m.mov", "q.mov", "s.mov"]


def test_opentimelineio_has_each_clip_linked_with_its_sound() -> None:
    timeline = otio.adapters.read_from_string(otio_text(example(), folder=FOLDER), "otio_json")
    assert isinstance(timeline, otio.schema.Timeline)
    assert [track.name for track in timeline.tracks] == ["V1", "V2", "A1", "A2"]
    below, lower = timeline.tracks[2], timeline.tracks[0]
    assert [type(item).__name__ for item in below] == [
        *("Clip", "Transition", "Clip", "Gap", "Gap", "Clip")
    ]
    pairs = list(zip((lower[0], lower[2], lower[5]), (below[0], below[2], below[5]), strict=True))
    for picture, sound in pairs:
        assert sound.source_range == picture.source_range
        assert sound.range_in_parent() == picture.range_in_parent()
        assert sound.media_reference.target_url == picture.media_reference.target_url
        assert sound.metadata["freeswim"] == picture.metadata["freeswim"]
        for name, key in (("PremierePro_OTIO", "LinkID"), ("Resolve_OTIO", "Link Group ID")):
            assert sound.metadata[name][key] == picture.metadata[name][key]
    links = [picture.metadata["PremierePro_OTIO"]["LinkID"] for picture, _ in pairs]
    assert len(set(links)) == 3
    assert "Resolve_OTIO" not in lower[4].metadata  # it is silent
    assert [len(one.metadata["Resolve_OTIO"]["Channels"]) for one in below.find_clips()] == [
        2,
        1,
        2,
    ]
    assert timeline.tracks[3].metadata["Resolve_OTIO"]["Audio Type"] == "Mono"
    assert [clip.enabled for clip in timeline.tracks[3].find_clips()] == [False]


def test_fcp7_has_a_track_per_channel_and_links_that_lead_to_their_clips() -> None:
    root = ElementTree.fromstring(fcp7_text(example(), FOLDER))
    kinds = {kind: root.findall(f"sequence/media/{kind}/track") for kind in ("video", "audio")}
    assert [track.get("currentExplodedTrackIndex") for track in kinds["audio"]] == ["0", "1", "0"]
    assert [track.get("premiereTrackType") for track in kinds["audio"]] == [
        *("Stereo", "Stereo", "Mono")
    ]
    assert [len(track.findall("clipitem")) for track in kinds["audio"]] == [3, 2, 1]
    for track in kinds["audio"]:
        sources = {item.findtext("sourcetrack/trackindex") for item in track.iter("clipitem")}
        assert sources == {str(1 + int(track.get("currentExplodedTrackIndex", "")))}
    groups: dict[str, list[str]] = {}
    for item in root.iter("clipitem"):
        names = [link.findtext("linkclipref", "") for link in item.findall("link")]
        groups[item.attrib["id"]] = names
        assert len(names) == len(set(names))
        for link in item.findall("link"):
            tracks = kinds[link.findtext("mediatype", "")]
            row = tracks[int(link.findtext("trackindex", "")) - 1].findall("clipitem")
            named = row[int(link.findtext("clipindex", "")) - 1]
            assert named.get("id") == link.findtext("linkclipref")
            assert named.findtext("enabled") == item.findtext("enabled")
            for side, source in (("start", "in"), ("end", "out")):
                if "-1" not in (item.findtext(side), named.findtext(side)):  # no dissolve there
                    assert named.findtext(side) == item.findtext(side)
                    assert named.findtext(source) == item.findtext(source)
    assert sorted(map(len, groups.values())) == [0, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    assert all(
        item in names and groups[one] == names for item, names in groups.items() for one in names
    )


@given(random_cuts())
def test_opentimelineio_reads_the_sound_of_fcp7(cut: Cut) -> None:
    plain = without_dissolves(cut)
    timeline = otio.adapters.read_from_string(fcp7_text(plain, FOLDER), "fcp_xml")
    heard = list(plain.sound_tracks().values())
    for row, track in zip(timeline.audio_tracks(), heard, strict=True):  # it takes one channel
        found = []
        for clip in row.find_clips():
            source = clip.trimmed_range()
            found.append((row.range_of_child(clip).start_time, source.start_time, source.duration))
        assert [tuple(time.value for time in times) for times in found] == [
            (at, source_start(item.media) + item.start, item.num_frames)
            for at, item in track.placed()
            if isinstance(item, Clip)
        ]


def without_dissolves(cut: Cut) -> Cut:
    tracks = (
        Track(track.name, tuple(item for item in track.items if not isinstance(item, Dissolve)))
        for track in cut.tracks
    )
    return replace(cut, tracks=tuple(tracks))


def test_kdenlive_groups_clips_with_their_sound_and_has_its_lowest_track_first() -> None:
    root = ElementTree.fromstring(kdenlive_text(example(), FOLDER))
    sequence = next(t for t in root.iter("tractor") if named(t, "kdenlive:uuid"))
    tracks = [track.attrib["producer"] for track in sequence.findall("track")]
    assert tracks == ["black", "sound1", "sound0", "track0", "track1"]
    places: dict[str, set[int]] = {}
    for name in tracks[1:]:
        rows = root.findall(f"playlist[@id='{name}-row0']") + root.findall(
            f"playlist[@id='{name}-row1']"
        )
        places[name] = {at for row in rows for at in starts(row)}
        hidden = {track.get("hide") for track in root.findall(f"tractor[@id='{name}']/track")}
        assert hidden == {"video" if name.startswith("sound") else "audio"}
    groups = json.loads(named(sequence, "kdenlive:sequenceproperties.groups"))
    found = [[leaf["data"].split(":")[:2] for leaf in group["children"]] for group in groups]
    assert {group["type"] for group in groups} == {"AVSplit"}
    assert [(pair[0][0], pair[1][0]) for pair in found] == [("2", "1")] * 3
    assert all(int(pair[0][1]) in places["track0"] for pair in found)
    assert {int(pair[1][1]) for pair in found} == places["sound0"] == {0, 17, 45}


def named(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"property[@name='{name}']", "")


def starts(playlist: ElementTree.Element) -> Iterator[int]:
    at = 0
    for item in playlist:
        if item.tag == "entry":
            yield at
            at += int(item.attrib["out"]) + 1 - int(item.attrib["in"])
        elif item.tag == "blank":
            at += int(item.attrib["length"])


def test_fcpxml_fades_sound_where_both_clips_have_it() -> None:
    root = ElementTree.fromstring(fcpxml_text(example(), FOLDER))
    effects = {one.get("id"): one.get("uid") for one in root.iter("effect")}
    (fade,) = root.iter("filter-audio")
    assert effects[fade.get("ref")] == "FFAudioTransition"
    channels = {one.get("name"): one.get("audioChannels") for one in root.iter("asset")}
    assert channels == {"s.mov": "2", "m.mov": "1", "q.mov": None}
    (*lower, last), upper = example().tracks[0].items, example().tracks[1]
    lower[2] = replace(lower[2], media=SILENT)
    cut = replace(example(), tracks=(Track("V1", (*lower, last)), upper))
    assert "filter-audio" not in fcpxml_text(cut, FOLDER)


def test_music_of_the_editor_is_passed_over(tmp_path: Path) -> None:
    """Sound without pictures, before all else, and counted in samples."""
    timeline = otio.schema.Timeline("Elsewhere")
    for kind, rate, name in (("Audio", 48000, "music.wav"), ("Video", 25, "a.mov")):
        span = otio.opentime.TimeRange(
            otio.opentime.RationalTime(rate, rate), otio.opentime.RationalTime(2 * rate, rate)
        )
        track = otio.schema.Track(kind=kind)
        track.append(otio.schema.Clip(name, otio.schema.ExternalReference(name), span))
        timeline.tracks.append(track)
    path = tmp_path / "cut.otio"
    otio.adapters.write_to_file(timeline, str(path))
    found = read_timeline(path)
    assert (found.rate, [(u.file, u.source_start, u.num_frames) for u in found.used]) == (
        *(25, [("a.mov", 25, 50)]),
    )
    sound = read_timeline(path, kind="sound").used
    assert [(u.file, u.source_start, u.num_frames) for u in sound] == [("music.wav", 25, 50)]

    text = TEXTS[".fcpxml"](silenced(example()))
    music = '<asset id="r90" name="music.wav" hasAudio="1" src="music.wav"/></resources>'
    clip = '<asset-clip ref="r90" lane="-1" offset="0s" name="music" start="0s" duration="1s"/>'
    text = text.replace("</resources>", music).replace("<note", f"{clip}<note", 1)
    path = tmp_path / "cut.fcpxml"
    path.write_text(text, "utf-8")
    assert {u.file for u in read_timeline(path).used} == {"s.mov", "m.mov", "q.mov"}
    assert [u.file for u in read_timeline(path, kind="sound").used] == ["music.wav"]


def test_an_edl_with_events_of_sound_alone_names_its_pictures_rightly(tmp_path: Path) -> None:
    lines = (
        "TITLE: cut",
        "001  A001 V     C        00:00:00:00 00:00:02:00 01:00:00:00 01:00:02:00",
        "* FROM CLIP NAME: a.mov",
        "002  MUSI AA    C        00:00:00:00 00:00:04:00 01:00:00:00 01:00:04:00",
        "* FROM CLIP NAME: music.wav",
        "003  B001 A2/V  C        00:00:00:00 00:00:02:00 01:00:02:00 01:00:04:00",
        "* FROM CLIP NAME: b.mov",
    )
    path = tmp_path / "cut.edl"
    path.write_text("\n".join(lines), "ascii")
    rate = Fraction(25)
    assert [u.file for u in read_timeline(path, rate).used] == ["a.mov", "b.mov"]
    assert [u.file for u in read_timeline(path, rate, "sound").used] == ["music.wav", "b.mov"]
