"""EDL: every frame of every track is read back from the events, by us and by OpenTimelineIO."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import opentimelineio as otio
import pytest
from cuts import FILM, demo_cut, media_at, random_cuts
from hypothesis import given
from hypothesis import strategies as st

from freeswim.errors import RequestError
from freeswim.timeline.cut import RATES, Clip, Cut, Dissolve, Gap, Marker, Track
from freeswim.timeline.edl import ascii_text, edl_texts
from freeswim.timeline.timecode import frames_of, frames_per_day, is_drop_frame, source_start

_TIME = r"\d\d:\d\d:\d\d[:;]\d\d"
_EVENT = re.compile(
    r"(?P<number>\d{3})  (?P<reel>[A-Z0-9_]{1,8}) +(?P<channels>V|B|AA/V) +(?P<kind>C        |D    \d{3} ?  ?)"
    rf"(?P<times> ?{_TIME} {_TIME} {_TIME} {_TIME})"
)
_NOTE = re.compile(r"\* (FROM CLIP NAME|TO CLIP NAME|SOURCE FILE|COMMENT|LOC): ?([ -~]*)")

Played = dict[int, list[tuple[str, int]]]  # of a frame: file or reel, and timecode, in frames


@dataclass
class Event:
    number: int
    reel: str
    channels: str
    dissolve: int
    source: int
    at: int
    num_frames: int
    notes: list[tuple[str, str]] = field(default_factory=list)


class Reader:
    """A strict reader of what CMX 3600 is."""

    def __init__(self, text: str, rate: Fraction) -> None:
        assert text.isascii()
        title, fcm, empty, *lines = text.splitlines()
        assert title.startswith("TITLE: ") or title == "TITLE: "
        assert fcm == f"FCM: {'DROP FRAME' if is_drop_frame(rate) else 'NON-DROP FRAME'}"
        assert empty == ""
        self.events: list[Event] = []
        for line in lines:
            assert len(line) <= 80 or line.startswith(("* FROM", "* TO", "* SOURCE", "* LOC"))
            if note := _NOTE.fullmatch(line):
                self.events[-1].notes.append((note[1], note[2]))
                continue
            found = _EVENT.fullmatch(line)
            assert found, line
            self._add(found, rate)

    def _add(self, found: re.Match[str], rate: Fraction) -> None:
        first, last, into, out = (frames_of(time, rate) for time in found["times"].split())
        if last < first:  # past midnight
            last += frames_per_day(rate)
        assert last - first == out - into >= 0
        number = int(found["number"])
        assert number - (self.events[-1].number if self.events else 0) in (0, 1)
        dissolve = int(found["kind"][1:].strip() or 0)
        self.events.append(
            Event(number, found["reel"], found["channels"], dissolve, first, into, out - into)
        )

    def played(self) -> Played:
        """Reel and timecode at every frame; of a dissolve first what goes, then what comes."""
        played: Played = defaultdict(list)
        for index, event in enumerate(self.events):
            if event.dissolve:
                gone = self.events[index - 1]
                assert (gone.number, gone.num_frames, gone.at) == (event.number, 0, event.at)
                assert event.dissolve <= event.num_frames
                for frame in range(event.dissolve):
                    assert not played[event.at + frame]
                    played[event.at + frame].append((gone.reel, gone.source + frame))
            for frame in range(event.num_frames):
                played[event.at + frame].append((event.reel, event.source + frame))
        return {frame: shown for frame, shown in played.items() if shown}


def played(cut: Cut, track: Track) -> Played:
    """What a track of a cut plays: file and timecode at every frame."""
    found: Played = defaultdict(list)
    items = track.playing().items
    for index, (at, item) in enumerate(track.playing().placed()):
        if not isinstance(item, Clip):
            continue
        before = items[index - 1] if index else None
        after = items[index + 1] if index + 1 < len(items) else None
        head = before.before_cut if isinstance(before, Dissolve) else 0
        tail = after.after_cut if isinstance(after, Dissolve) else 0
        for frame in range(-head, item.num_frames + tail):
            source = source_start(item.media) + item.start + frame
            place = cut.start_frame + at + frame
            found[place].append((str(item.media.path), source % frames_per_day(cut.rate)))
    return found


@given(random_cuts())
def test_every_frame_that_plays_survives(cut: Cut) -> None:
    texts = edl_texts(cut)

    assert len(texts) == len(cut.tracks)
    reels: dict[str, str] = {}
    for track, text in zip(cut.tracks, texts, strict=True):
        read, wanted = Reader(text, cut.rate).played(), played(cut, track)
        assert read.keys() == wanted.keys()
        for frame, shown in wanted.items():
            assert [source for _, source in read[frame]] == [source for _, source in shown]
            for (reel, _), (file, _) in zip(read[frame], shown, strict=True):
                assert reels.setdefault(file, reel) == reel
    assert len(set(reels.values())) == len(reels)  # a reel is of one file, in all tracks


@given(random_cuts())
def test_opentimelineio_reads_the_same_frames(cut: Cut) -> None:
    """Without dissolves, of which its reader makes others."""
    for track, text in zip(cut.tracks, edl_texts(without_dissolves(cut)), strict=True):
        clips = [clip for clip in track.playing().items if isinstance(clip, Clip)]
        timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=float(cut.rate))
        (pictures,) = timeline.video_tracks() or [otio.schema.Track()]
        read = [
            (clip.source_range.start_time.to_frames(), clip.source_range.duration.to_frames())
            for clip in pictures.find_clips()
        ]
        assert read == [(source_start(clip.media) + clip.start, clip.num_frames) for clip in clips]
        assert [clip.name for clip in pictures.find_clips()] == [
            ascii_text(clip.name) for clip in clips
        ]


def without_dissolves(cut: Cut) -> Cut:
    tracks = (
        Track(track.name, tuple(item for item in track.items if not isinstance(item, Dissolve)))
        for track in cut.tracks
    )
    return replace(cut, tracks=tuple(tracks))


@given(random_cuts())
def test_the_same_cut_gives_the_same_texts(cut: Cut) -> None:
    assert edl_texts(cut) == edl_texts(cut)


@given(random_cuts())
def test_every_marker_is_at_its_timecode(cut: Cut) -> None:
    read, wanted, is_first = [], [], True
    for track, text in zip(cut.tracks, edl_texts(cut), strict=True):
        for event in Reader(text, cut.rate).events:
            read += [text for kind, text in event.notes if kind == "LOC"]
        clips = [(at, item) for at, item in track.playing().placed() if isinstance(item, Clip)]
        if clips and is_first:
            wanted += cut.markers
            is_first = False
        for at, clip in clips:
            wanted += [replace(marker, frame=at + marker.frame) for marker in clip.markers]

    assert sorted(
        (frames_of(text[:11], cut.rate), text[12:19].strip(), text[20:]) for text in read
    ) == sorted(
        (cut.start_frame + marker.frame, marker.color, ascii_text(marker.text)) for marker in wanted
    )


@pytest.mark.parametrize("rate", RATES)
def test_the_demo_at_every_rate(rate: Fraction) -> None:
    cut = demo_cut(rate)
    first, second = edl_texts(cut)

    assert len(Reader(first, rate).played()) == 48 + 48
    assert len(Reader(second, rate).played()) == 24
    mark = ";" if is_drop_frame(rate) else ":"
    assert f"01:00:00{mark}00" in first


def test_the_cuts_markers_are_at_the_event_that_plays() -> None:
    events = Reader(edl_texts(demo_cut())[0], FILM).events

    found = [[text[20:] for kind, text in event.notes if kind == "LOC"] for event in events]
    assert found == [["look here", "begin"], [], ["in the gap"]]


def test_a_dissolve_is_two_events_of_one_number() -> None:
    text = edl_texts(demo_cut())[0]

    assert (
        "002  FS000001 AA/V  C        00:00:02:18 00:00:02:18 01:00:01:18 01:00:01:18\n"
        "002  FS000012 AA/V  D    012 01:00:00:06 01:00:02:12 01:00:01:18 01:00:04:00\n"
        "* FROM CLIP NAME: A\n"
        "* TO CLIP NAME: B\n"
        "* SOURCE FILE: b.mov\n"
    ) in text


@given(random_cuts())
def test_sound_goes_with_its_picture(cut: Cut) -> None:
    for track, text in zip(cut.tracks, edl_texts(cut), strict=True):
        wanted = {
            (item.media.name, source_start(item.media) + item.start + frame): (
                ("V", "B", "AA/V")[item.media.num_channels]
            )
            for item in track.playing().items
            if isinstance(item, Clip)
            for frame in range(item.num_frames)
        }
        for event in Reader(text, cut.rate).events:
            name = dict(event.notes).get("SOURCE FILE", "")
            for frame in range(event.num_frames):
                key = name, event.source + frame
                assert wanted.get(key, event.channels) == event.channels


def test_a_clip_that_only_dissolves_has_no_event_of_its_own() -> None:
    a, b = media_at("/media/a.mov", FILM), media_at("/media/b.mov", FILM)
    first = Clip("x", a, 0, 6, markers=(Marker(2, "here"),))
    items = first, Dissolve(6, 6), Clip("y", b, 10, 6)
    cut = Cut("c", FILM, 64, 64, (Track("V1", items),))

    read = Reader(edl_texts(cut)[0], FILM)

    assert [(event.number, event.num_frames) for event in read.events] == [(1, 0), (1, 12)]
    assert ("LOC", "00:00:00:02 CYAN    here") in read.events[1].notes
    assert read.played() == {
        frame: [("FS000001", frame), ("FS000002", 4 + frame)] for frame in range(12)
    }


@pytest.mark.parametrize(
    ("given_reels", "written"),
    [
        (["FS000007", ""], ["FS000007", "FS000001"]),
        (["FS000001", ""], ["FS000001", "FS000002"]),
        (["", "FS000001"], ["FS000002", "FS000001"]),
        (["A001", "A001"], ["A001", "FS000001"]),
        (["much too long", "Köi"], ["FS000001", "FS000002"]),
        (["AX", "bl"], ["FS000001", "FS000002"]),
        (["a001", "x\n002"], ["A001", "FS000001"]),
    ],
)
def test_reels_are_their_own_or_made(given_reels: list[str], written: list[str]) -> None:
    clips = tuple(
        Clip("x", replace(media_at(f"/media/{number}.mov", FILM), reel=reel), 0, 10)
        for number, reel in enumerate(given_reels)
    )
    text = edl_texts(Cut("c", FILM, 64, 64, (Track("V1", clips),)))[0]

    assert [event.reel for event in Reader(text, FILM).events] == written


def test_a_prompt_is_wrapped_ascii() -> None:
    prompt = "Müde Köi – 雪\n" + "a very long description of a pond " * 8
    clip = Clip("x", media_at("/media/a.mov", FILM), 0, 10, metadata={"prompt": prompt})
    text = edl_texts(Cut("c", FILM, 64, 64, (Track("V1", (clip,)),)))[0]

    comments = [text for kind, text in Reader(text, FILM).events[0].notes if kind == "COMMENT"]
    assert " ".join(comments) == ascii_text(prompt)
    assert len(comments) == 5
    assert comments[0].startswith("Mude Koi ? ? a very long")


@given(st.text())
def test_names_cannot_write_events(name: str) -> None:
    name = f"{name}\n002  AX       V     C        00:00:00:00 00:00:00:10 00:00:00:00 00:00:00:10"
    media = replace(media_at("/media/a.mov", FILM), metadata={"prompt": name})
    clip = Clip(name, media, 0, 10, markers=(Marker(0, name, color=name),))
    text = edl_texts(Cut(name, FILM, 64, 64, (Track(name, (clip,)),)))[0]

    assert len(Reader(text, FILM).events) == 1


def test_a_disabled_clip_is_left_out_and_its_dissolve_is_a_cut() -> None:
    media = media_at("/media/a.mov", FILM)
    items = Clip("x", media, 0, 20), Dissolve(4, 6), Clip("y", media, 30, 20, is_enabled=False)
    text = edl_texts(Cut("c", FILM, 64, 64, (Track("V1", items),)))[0]

    assert [(event.at, event.num_frames) for event in Reader(text, FILM).events] == [(0, 20)]


def test_an_empty_track_has_an_empty_list_and_the_next_has_the_markers() -> None:
    clip = Clip("x", media_at("/media/a.mov", FILM), 0, 10)
    tracks = Track("V1", (Gap(3),)), Track("V2", (clip,))

    texts = edl_texts(Cut("c", FILM, 64, 64, tracks, markers=(Marker(0, "here"),)))

    assert texts[0] == "TITLE: c\nFCM: NON-DROP FRAME\n\n"
    assert texts[1].endswith("* LOC: 00:00:00:00 CYAN    here\n")


def test_what_an_edl_cannot_hold_is_refused() -> None:
    long = media_at("/media/a.mov", FILM, num_frames=5000)
    items = Clip("x", long, 0, 1000), Dissolve(500, 500), Clip("y", long, 2000, 1000)
    cut = Cut("c", FILM, 64, 64, (Track("V1", items),))
    with pytest.raises(RequestError, match="1000 frames"):
        edl_texts(cut)
    with pytest.raises(RequestError, match="24 hours"):
        edl_texts(replace(cut, start_frame=frames_per_day(FILM) - 1))
    short = Clip("x", media_at(Path("/media/a.mov").as_posix(), Fraction(16)), 0, 10)
    with pytest.raises(RequestError, match="16 frames per second"):
        edl_texts(replace(cut, tracks=(Track("V1", (short,)),)))
