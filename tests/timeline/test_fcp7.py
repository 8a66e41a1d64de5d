"""FCP7 XML: OpenTimelineIO's reader of it, and one of our own, find the cut that was written."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import opentimelineio as otio
import pytest
from cuts import FILM, Shown, demo_cut, dissolves, media_at, random_cuts, shown
from hypothesis import given

from freeswim.errors import RequestError
from freeswim.timeline.cut import RATES, Clip, Cut, Dissolve, Media, Track
from freeswim.timeline.fcp7 import fcp7_text
from freeswim.timeline.timecode import is_drop_frame, timecode_of

FOLDER = Path("/media/timelines")


def centred(cut: Cut) -> Cut:
    """The cut with its dissolves where FCP7 XML can say they are: half of each is on each side."""
    return replace(cut, tracks=tuple(_centred(track) for track in cut.tracks))


def _centred(track: Track) -> Track:
    """Cuts move into the middle of their dissolves; what plays is the same."""
    items = list(track.items)
    for index, item in enumerate(items):
        if not isinstance(item, Dissolve) or not (item.before_cut and item.after_cut):
            continue
        half = item.num_frames // 2
        shift = half - item.before_cut  # the cut comes later by it
        first, second = items[index - 1], items[index + 1]
        assert isinstance(first, Clip) and isinstance(second, Clip)
        items[index - 1] = replace(first, num_frames=first.num_frames + shift)
        items[index] = Dissolve(half, item.num_frames - half)
        items[index + 1] = replace(
            second, start=second.start + shift, num_frames=second.num_frames - shift
        )
    return Track(track.name, tuple(items))


def read_by_otio(text: str) -> otio.schema.Timeline:
    return otio.adapters.read_from_string(text, "fcp_xml")


def shown_in_otio(timeline: otio.schema.Timeline) -> list[Shown]:
    found = []
    for number, track in enumerate(timeline.video_tracks()):
        for clip in track.find_clips():
            # Beside a dissolve `trimmed_range_in_parent` has its frames as well.
            at, source = track.range_of_child(clip).start_time, clip.trimmed_range()
            values = at.value, source.duration.value, source.start_time.value
            assert all(value == int(value) for value in values)
            is_enabled = clip.metadata["fcp_xml"]["enabled"] == "TRUE"  # it sets no `enabled`
            found.append(Shown(number, *map(int, values), is_enabled))
    return found


def dissolves_in_otio(timeline: otio.schema.Timeline) -> list[tuple[int, int, int]]:
    return [
        (
            number,
            round((track.range_of_child(item).start_time).value),
            round((item.in_offset + item.out_offset).value),
        )
        for number, track in enumerate(timeline.video_tracks())
        for item in track
        if isinstance(item, otio.schema.Transition)
    ]


class Reader:
    """What a clip plays, its dissolves included; read without OpenTimelineIO."""

    def __init__(self, text: str) -> None:
        root = ElementTree.fromstring(text)
        files = {one.get("id"): one for one in root.iter("file") if len(one)}
        self.played: list[tuple[int, int, int, int, str]] = []
        for number, track in enumerate(root.findall("sequence/media/video/track")):
            items = [item for item in track if item.tag in ("clipitem", "transitionitem")]
            for index, item in enumerate(items):
                if item.tag == "transitionitem":
                    continue
                at, end = value(item, "start"), value(item, "end")
                at = value(items[index - 1], "start") if at == -1 else at
                end = value(items[index + 1], "end") if end == -1 else end
                first, last = value(item, "in"), value(item, "out")
                assert end - at == last - first
                file = item.find("file")
                assert file is not None
                url = urlsplit(files[file.get("id")].findtext("pathurl", ""))
                assert (url.scheme, url.netloc) == ("file", "localhost")
                self.played.append((number, at, end, first, unquote(url.path)))


def value(element: Element, name: str) -> int:
    return int(element.findtext(name, ""))


def played(cut: Cut) -> list[tuple[int, int, int, int, str]]:
    """Of each clip: track, first frame, end, first frame of the media, file."""
    found = []
    for number, track in enumerate(cut.tracks):
        for index, (at, item) in enumerate(track.placed()):
            if not isinstance(item, Clip):
                continue
            before = track.items[index - 1] if index else None
            after = track.items[index + 1] if index + 1 < len(track.items) else None
            head = before.before_cut if isinstance(before, Dissolve) else 0
            tail = after.after_cut if isinstance(after, Dissolve) else 0
            end = at + item.num_frames + tail
            found.append((number, at - head, end, item.start - head, str(item.media.path)))
    return found


@given(random_cuts())
def test_every_frame_that_plays_survives(cut: Cut) -> None:
    assert Reader(fcp7_text(cut, FOLDER)).played == played(cut)


@given(random_cuts())
def test_opentimelineio_reads_the_same_cut(cut: Cut) -> None:
    timeline = read_by_otio(fcp7_text(cut, FOLDER))

    assert timeline.global_start_time is not None
    assert timeline.global_start_time.to_frames() == cut.start_frame
    assert shown_in_otio(timeline) == shown(centred(cut))
    assert [(track, length) for track, _, length in dissolves_in_otio(timeline)] == [
        (track, length) for track, _, length in dissolves(cut)
    ]


@pytest.mark.parametrize("rate", RATES)
def test_every_rate_is_exact(rate: Fraction) -> None:
    cut = demo_cut(rate)
    root = ElementTree.fromstring(fcp7_text(cut, FOLDER))

    rates = {
        Fraction(value(one, "timebase")) / (Fraction(1001, 1000) if _is_ntsc(one) else 1)
        for one in root.iter("rate")
    }
    assert rates == {rate}
    timecode = root.find("sequence/timecode")
    assert timecode is not None
    assert timecode.findtext("string") == timecode_of(cut.start_frame, rate)
    assert timecode.findtext("displayformat") == ("DF" if is_drop_frame(rate) else "NDF")
    assert shown_in_otio(read_by_otio(fcp7_text(cut, FOLDER))) == shown(cut)


@given(random_cuts())
def test_the_same_cut_gives_the_same_text(cut: Cut) -> None:
    assert fcp7_text(cut, FOLDER) == fcp7_text(cut, FOLDER)


@given(random_cuts())
def test_opentimelineio_finds_every_marker(cut: Cut) -> None:
    timeline = read_by_otio(fcp7_text(cut, FOLDER))

    def wanted(text: str) -> str:
        return text.replace("\x07", " ")

    found = [(marker.name, marker.marked_range) for marker in timeline.tracks.markers]
    assert [(name, place.start_time.value) for name, place in found] == [
        (wanted(marker.text).partition("\n")[0], marker.frame) for marker in cut.markers
    ]
    # In frames of the media: the reader adds no timecode to it, as it does to a clip.
    assert [
        (marker.metadata["fcp_xml"]["comment"], marker.marked_range.start_time.value)
        for clip in timeline.find_clips()
        for marker in clip.markers
    ] == [
        (wanted(marker.text), clip.start + marker.frame)
        for clip in cut.clips()
        for marker in clip.markers
    ]


def test_the_size_of_the_picture_is_said() -> None:
    size = ElementTree.fromstring(fcp7_text(demo_cut(), FOLDER)).find(
        "sequence/media/video/format/samplecharacteristics"
    )

    assert size is not None
    assert (value(size, "width"), value(size, "height")) == (1920, 1080)


def test_clips_at_a_dissolve_have_no_end_of_their_own() -> None:
    root = ElementTree.fromstring(fcp7_text(demo_cut(), FOLDER))
    first, second, third = root.findall("sequence/media/video/track[1]/clipitem")

    names = ("start", "end", "in", "out")
    assert [value(first, name) for name in names] == [0, -1, 24, 78]
    assert [value(second, name) for name in names] == [-1, 96, 6, 60]
    assert [value(third, name) for name in names] == [120, 144, 30, 54]
    assert third.findtext("enabled") == "FALSE"


@pytest.mark.parametrize(
    ("dissolve", "alignment"),
    [(Dissolve(0, 4), "start"), (Dissolve(4, 0), "end"), (Dissolve(4, 4), "center")],
)
def test_where_a_dissolve_lies_is_said(dissolve: Dissolve, alignment: str) -> None:
    media = media_at("/media/a.mov", FILM)
    items = Clip("x", media, 10, 20), dissolve, Clip("y", media, 40, 20)
    text = fcp7_text(Cut("c", FILM, 64, 64, (Track("V1", items),)), FOLDER)

    assert ElementTree.fromstring(text).findtext(".//alignment") == alignment
    assert [one[1:4] for one in shown_in_otio(read_by_otio(text))] == [(0, 20, 10), (20, 20, 40)]


def test_a_file_is_told_once_and_then_named() -> None:
    media = Media(
        Path("/media/müde Köi/a#1%.mov"),
        *(100, FILM, 64, 64, 86400),
        has_timecode=True,
        num_channels=2,
        reel="FS000012",
    )
    clips = (Clip("x", media, 0, 10), Clip("y", media, 20, 10))
    root = ElementTree.fromstring(fcp7_text(Cut("c", FILM, 64, 64, (Track("V1", clips),)), FOLDER))

    told, *named = root.findall(".//file")
    assert all(told.attrib == one.attrib and len(one) == 0 for one in named)
    assert len(named) == 1 + 2 * 2  # of the second picture, and of two channels of both
    assert told.findtext("pathurl") == "file://localhost/media/m%C3%BCde%20K%C3%B6i/a%231%25.mov"
    assert told.findtext("timecode/string") == "01:00:00:00"
    assert told.findtext("timecode/reel/name") == "FS000012"
    assert told.findtext("media/audio/channelcount") == "2"
    assert len({one.text for one in root.iter("masterclipid")}) == 1
    ids = [one.get("id") for one in root.iter("clipitem")]
    assert len(set(ids)) == 2 + 2 * 2


def test_markers_have_their_text_and_length() -> None:
    root = ElementTree.fromstring(fcp7_text(demo_cut(), FOLDER))
    first, second = root.findall("sequence/marker")
    inside = root.find(".//clipitem/marker")

    assert inside is not None
    assert (inside.findtext("comment"), value(inside, "in")) == ("look\nhere\njob: 7", 27)
    assert (value(first, "in"), value(first, "out")) == (0, -1)
    assert (value(second, "in"), value(second, "out")) == (100, 105)


def test_media_of_another_rate_is_refused() -> None:
    clip = Clip("x", media_at("/media/a.mov", Fraction(16)), 0, 10)
    with pytest.raises(RequestError, match="16 frames per second"):
        fcp7_text(Cut("c", FILM, 64, 64, (Track("V1", (clip,)),)), FOLDER)


def _is_ntsc(rate: Element) -> bool:
    return rate.findtext("ntsc") == "TRUE"
