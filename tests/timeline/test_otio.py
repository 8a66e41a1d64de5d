"""The OpenTimelineIO text, read back."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import opentimelineio as otio
import pytest
from opentimelineio.opentime import RationalTime, TimeRange

from freeswim.errors import RequestError
from freeswim.timeline.cut import Clip, Cut, Dissolve, Gap, Marker, Media, Track
from freeswim.timeline.otio import Style, file_url, otio_text

FILM = Fraction(24000, 1001)


def media_of(path: Path, *, rate: Fraction = FILM, num_frames: int = 100) -> Media:
    return Media(path, num_frames, rate, 3840, 2160)


def example(folder: Path) -> Cut:
    hero = replace(
        media_of(folder / "media/s010_t01.mov"),
        start_frame=86400,
        has_timecode=True,
        reel="FS000001",
        metadata={"seed": 2**63, "prompt": "koi"},
    )
    others = {
        "take_02": media_of(folder / "media/s010_t02.mov", num_frames=80),
        "proxy": media_of(folder / "proxy/s010_t01p.mov"),
        "native": media_of(folder / "native/s010_t01n.mp4", rate=Fraction(16), num_frames=67),
    }
    first = Clip("s010", hero, 10, 30, others, markers=(Marker(4, "look", "RED", 2),))
    second = Clip("s020", media_of(folder / "media/s020_t01.mov"), 20, 25)
    off = Clip("s010", others["take_02"], 0, 30, is_enabled=False, markers=(Marker(0, "off"),))
    return Cut(
        "Pond",
        FILM,
        3840,
        2160,
        (
            Track("V1", (Gap(5), first, Dissolve(6, 4), second)),
            Track("V2", (Gap(5), off)),
        ),
        start_frame=86400,
        markers=(Marker(2, "act one", "GREEN"),),
        metadata={"project": "p1"},
    )


def read(text: str) -> otio.schema.Timeline:
    timeline = otio.adapters.read_from_string(text, "otio_json")
    assert isinstance(timeline, otio.schema.Timeline)
    return timeline


@pytest.fixture
def timeline(tmp_path: Path) -> otio.schema.Timeline:
    return read(otio_text(example(tmp_path), folder=tmp_path))


def at(start: int, num_frames: int, rate: Fraction = FILM) -> TimeRange:
    return TimeRange(RationalTime(start, float(rate)), RationalTime(num_frames, float(rate)))


def test_tracks_are_flat_and_hold_what_the_cut_holds(timeline: otio.schema.Timeline) -> None:
    lower, upper = timeline.tracks
    assert [type(item).__name__ for item in lower] == ["Gap", "Clip", "Transition", "Clip"]
    assert [type(item).__name__ for item in upper] == ["Gap", "Clip"]
    assert timeline.duration() == RationalTime(60, float(FILM))
    assert lower[3].range_in_parent().start_time.value == 35
    dissolve = lower[2]
    assert dissolve.transition_type == "SMPTE_Dissolve"
    assert (dissolve.in_offset.value, dissolve.out_offset.value) == (6, 4)


def test_media_time_counts_from_0_whatever_timecode_the_file_has(
    timeline: otio.schema.Timeline,
) -> None:
    clip = timeline.tracks[0][1]
    assert clip.source_range == at(10, 30)
    assert clip.available_range() == at(0, 100)
    assert clip.media_reference.metadata["freeswim"]["start_frame"] == 86400
    assert timeline.global_start_time.to_timecode() == "01:00:00:00"


def test_all_media_lie_under_their_keys_at_their_own_rate(timeline: otio.schema.Timeline) -> None:
    references = timeline.tracks[0][1].media_references()
    urls = {key: reference.target_url for key, reference in references.items()}
    assert urls == {
        "DEFAULT_MEDIA": "media/s010_t01.mov",
        "take_02": "media/s010_t02.mov",
        "proxy": "proxy/s010_t01p.mov",
        "native": "native/s010_t01n.mp4",
    }
    assert references["native"].available_range == at(0, 67, Fraction(16))
    assert timeline.tracks[0][1].active_media_reference_key == "DEFAULT_MEDIA"
    assert all(reference.name == Path(urls[key]).name for key, reference in references.items())


def test_a_disabled_clip_is_disabled(timeline: otio.schema.Timeline) -> None:
    assert [clip.enabled for clip in timeline.find_clips()] == [True, True, False]


def test_markers_are_in_media_time_on_clips_and_in_cut_time_on_the_stack(
    timeline: otio.schema.Timeline,
) -> None:
    (marker,) = timeline.tracks[0][1].markers
    assert marker.marked_range == at(14, 2)
    assert (marker.name, marker.comment, marker.color) == ("look", "look", "RED")
    on_stack = [(m.marked_range, m.name, m.comment) for m in timeline.tracks.markers]
    assert on_stack == [(at(2, 1), "act one", "act one"), (at(9, 2), "look", "look")]
    assert [m.metadata["kdenlive"]["type"] for m in timeline.tracks.markers] == [3, 6]


def test_large_numbers_are_text(timeline: otio.schema.Timeline) -> None:
    stored = timeline.tracks[0][1].media_reference.metadata["freeswim"]
    assert (stored["seed"], stored["prompt"], stored["reel"]) == (str(2**63), "koi", "FS000001")
    assert timeline.metadata["freeswim"]["project"] == "p1"


def test_premiere_gets_the_frame_size_and_a_link_per_clip(timeline: otio.schema.Timeline) -> None:
    size = timeline.tracks.metadata["PremierePro_OTIO"]["VideoResolution"]
    assert dict(size) == {"width": 3840, "height": 2160}
    links = [clip.metadata["PremierePro_OTIO"]["LinkID"] for clip in timeline.find_clips()]
    assert links == [1, 2, 3]


def test_schemas_are_those_that_importers_know(tmp_path: Path) -> None:
    found: set[str] = set()

    def note(entry: dict[str, object]) -> dict[str, object]:
        found.add(str(entry.get("OTIO_SCHEMA", "")))
        return entry

    json.loads(otio_text(example(tmp_path), folder=tmp_path), object_hook=note)
    assert found - {""} == {
        *("Timeline.1", "Stack.1", "Track.1", "Clip.2", "Gap.1", "Transition.1", "Marker.2"),
        *("ExternalReference.1", "RationalTime.1", "TimeRange.1"),
    }


@pytest.mark.parametrize(("style", "start"), [("absolute", "file://"), ("plain", "")])
def test_whole_paths_are_as_they_are(tmp_path: Path, style: Style, start: str) -> None:
    media = media_of(tmp_path / "müde Köi" / "a b.mov")
    cut = Cut("a", FILM, 3840, 2160, (Track("V1", (Clip("a", media, 0, 9),)),))
    (clip,) = read(otio_text(cut, folder=tmp_path, style=style)).find_clips()
    assert clip.media_reference.target_url == f"{start}{media.path.as_posix()}"


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (PurePosixPath("/a b/é.mov"), "file:///a b/é.mov"),
        (PureWindowsPath(r"D:\cuts\a.mov"), "file:///D:/cuts/a.mov"),
        (PureWindowsPath(r"\\nas\cuts\a.mov"), "file://nas/cuts/a.mov"),
    ],
)
def test_file_urls_of_all_systems(path: PurePath, url: str) -> None:
    assert file_url(path) == url


@pytest.mark.parametrize("name", ["a#1.mov", "100%25.mov", "why?.mov"])
def test_a_url_that_decodes_to_another_file_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="may not find"):
        file_url(PurePosixPath("/cuts") / name)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    clips = [Clip("a", media_of(tmp_path / place / "A.mov"), 0, 9) for place in "xy"]
    cut = Cut("a", FILM, 3840, 2160, (Track("V1", tuple(clips)),))
    with pytest.raises(RequestError, match="Two media files are called"):
        otio_text(cut, folder=tmp_path)


def test_a_cut_that_cannot_be_played_is_refused(tmp_path: Path) -> None:
    clip = Clip("a", media_of(tmp_path / "a.mov"), 95, 9)
    cut = Cut("a", FILM, 3840, 2160, (Track("V1", (clip,)),))
    with pytest.raises(RequestError, match="has no frames 95 to 103"):
        otio_text(cut, folder=tmp_path)
