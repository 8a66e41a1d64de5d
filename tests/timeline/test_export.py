import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import opentimelineio as otio
import pytest
from opentimelineio.opentime import RationalTime, TimeRange

from freeswim.errors import MediaError, OutputError, OutputExists, RequestError
from freeswim.timeline.export import (
    TIMELINE_RATES,
    ClipTake,
    ShotTakes,
    timeline_rate,
    write_timeline,
)

FILM = Fraction(24000, 1001)
PROMPT = "two orange koi swimming left in green water"


def take_in(folder: Path, file: str, *, num_frames: int = 9, rate: Fraction | int = 16) -> ClipTake:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.encode())
    return ClipTake(
        path=path,
        name=f"take of {file}",
        num_frames=num_frames,
        frame_rate=Fraction(rate),
        width=256,
        height=128,
        metadata={"prompt": PROMPT, "seed": 2**32 - 1, "model": "demo", "steps": 20},
    )


def shot_of(*takes: ClipTake, name: str = "s010", active: int = 0) -> ShotTakes:
    return ShotTakes(name, takes, active)


def written(path: Path, *shots: ShotTakes) -> otio.schema.Timeline:
    write_timeline(path, shots, name="Pond")
    timeline = otio.adapters.read_from_file(str(path))
    assert isinstance(timeline, otio.schema.Timeline)
    return timeline


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def clips_of(timeline: otio.schema.Timeline) -> list[otio.schema.Clip]:
    return list(timeline.find_clips())


def own(item: otio.core.SerializableObjectWithMetadata) -> dict[str, object]:
    return dict(item.metadata["freeswim"])


@pytest.fixture
def demo(tmp_path: Path) -> otio.schema.Timeline:
    """Two shots of a 16 fps checkpoint; the second of three takes of the first is in the cut."""
    first = shot_of(*(take_in(tmp_path, f"s010_t0{n}.mp4") for n in (1, 2, 3)), active=1)
    second = shot_of(take_in(tmp_path, "s020_t01.mp4", num_frames=17), name="s020")
    return written(tmp_path / "pond.otio", first, second)


def test_a_timeline_is_one_flat_track_of_one_clip_per_shot(demo: otio.schema.Timeline) -> None:
    assert demo.name == "Pond"
    (track,) = demo.tracks
    assert isinstance(track, otio.schema.Track)
    assert track.kind == otio.schema.TrackKind.Video
    assert [type(child) for child in track] == [otio.schema.Clip, otio.schema.Clip]
    assert [own(clip)["shot"] for clip in clips_of(demo)] == ["s010", "s020"]


def test_all_takes_are_references_and_the_active_one_is_default(demo: otio.schema.Timeline) -> None:
    clip = clips_of(demo)[0]
    references = clip.media_references()
    assert clip.active_media_reference_key == "DEFAULT_MEDIA"
    assert {key: reference.name for key, reference in references.items()} == {
        "take_01": "s010_t01.mp4",
        "DEFAULT_MEDIA": "s010_t02.mp4",
        "take_03": "s010_t03.mp4",
    }
    assert clip.name == "s010_t02.mp4"


def test_media_keeps_its_frames_and_rate_and_both_rates_are_recorded(
    demo: otio.schema.Timeline,
) -> None:
    for clip, num_frames in zip(clips_of(demo), (9, 17), strict=True):
        for reference in clip.media_references().values():
            assert reference.available_range == TimeRange(
                RationalTime(0, 16), RationalTime(num_frames, 16)
            )
            assert own(reference)["frames"] == num_frames
            assert own(reference)["fps"] == "16"
        assert (own(clip)["timeline_fps"], own(clip)["media_fps"]) == ("24", "16")
    assert own(demo)["fps"] == "24"


def test_a_cut_has_whole_frames_and_ends_within_its_media(demo: otio.schema.Timeline) -> None:
    first, second = clips_of(demo)
    assert first.source_range == TimeRange(RationalTime(0, 24), RationalTime(13, 24))
    assert second.source_range == TimeRange(RationalTime(0, 24), RationalTime(25, 24))
    for clip in (first, second):
        lost_s = (clip.available_range().duration - clip.duration()).to_seconds()
        assert 0 <= lost_s < 1 / 24


def test_every_time_on_the_timeline_has_a_timecode(demo: otio.schema.Timeline) -> None:
    starts = [clip.trimmed_range_in_parent().start_time for clip in clips_of(demo)]
    assert [start.to_timecode() for start in starts] == ["00:00:00:00", "00:00:00:13"]
    assert demo.duration().to_timecode() == "00:00:01:14"
    assert demo.global_start_time.to_timecode() == "00:00:00:00"
    for clip in clips_of(demo):
        assert clip.visible_range().end_time_exclusive().to_timecode()
        assert clip.markers[0].marked_range.end_time_exclusive().to_timecode()


@pytest.mark.parametrize("rate", TIMELINE_RATES)
def test_media_of_a_legal_rate_is_cut_at_exactly_that_rate(tmp_path: Path, rate: Fraction) -> None:
    take = take_in(tmp_path, "a.mov", num_frames=1001, rate=rate)
    (clip,) = clips_of(written(tmp_path / "a.otio", shot_of(take)))
    assert clip.source_range == clip.available_range()
    assert clip.source_range.duration.rate == float(rate)
    assert clip.source_range.duration.value == 1001
    assert clip.source_range.duration.to_timecode()


@pytest.mark.parametrize(
    ("media", "timeline"),
    [(8, 24), (12, 24), (15, 30), (16, 24), (18, 24), (FILM / 2, FILM), (48, 60), (120, 60)],
)
def test_other_rates_get_the_legal_one_with_the_most_regular_cadence(
    media: Fraction | int, timeline: Fraction | int
) -> None:
    assert timeline_rate(Fraction(media)) == timeline


def test_the_fastest_take_in_the_cut_sets_the_rate_of_all_clips(tmp_path: Path) -> None:
    slow, fast = take_in(tmp_path, "a.mp4"), take_in(tmp_path, "b.mp4", rate=25)
    timeline = written(tmp_path / "a.otio", shot_of(slow), shot_of(fast, name="s020"))
    assert {clip.source_range.duration.rate for clip in clips_of(timeline)} == {25}
    assert [clip.available_range().duration.rate for clip in clips_of(timeline)] == [16, 25]


def test_urls_are_relative_and_lead_from_the_timeline_to_the_media(tmp_path: Path) -> None:
    takes = (take_in(tmp_path / "media", "a.mp4"), take_in(tmp_path / "cuts", "b.mp4"))
    (clip,) = clips_of(written(tmp_path / "cuts" / "a.otio", shot_of(*takes)))
    urls = [reference.target_url for reference in clip.media_references().values()]
    assert sorted(urls) == ["../media/a.mp4", "b.mp4"]
    assert all((tmp_path / "cuts" / url).is_file() for url in urls)


def test_a_folder_with_spaces_above_timeline_and_media_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "Köi #1 100%"
    (clip,) = clips_of(written(folder / "a.otio", shot_of(take_in(folder, "a.mp4"))))
    assert clip.media_reference.target_url == "a.mp4"


@pytest.mark.parametrize("file", ["my take.mp4", "köi.mp4", "a#1.mp4", "100%.mp4"])
def test_a_name_that_a_url_would_escape_is_refused(tmp_path: Path, file: str) -> None:
    with pytest.raises(RequestError, match="may not find"):
        written(tmp_path / "a.otio", shot_of(take_in(tmp_path, file)))
    assert not (tmp_path / "a.otio").exists()


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    takes = (take_in(tmp_path / "one", "a.mp4"), take_in(tmp_path / "two", "A.mp4"))
    with pytest.raises(RequestError, match="Two media files"):
        written(tmp_path / "a.otio", shot_of(*takes))


def test_the_prompt_is_a_marker_on_the_clip_and_on_the_stack(demo: otio.schema.Timeline) -> None:
    on_clips = [marker for clip in clips_of(demo) for marker in clip.markers]
    assert [marker.marked_range.start_time.value for marker in on_clips] == [0, 0]
    assert [m.marked_range.start_time.value for m in demo.tracks.markers] == [0, 13]
    for marker in (*on_clips, *demo.tracks.markers):
        assert (marker.name, marker.comment) == (PROMPT, PROMPT)
        assert marker.marked_range.duration == RationalTime(1, 24)


def test_a_take_without_a_prompt_has_no_marker(tmp_path: Path) -> None:
    take = replace(take_in(tmp_path, "a.mp4"), metadata={})
    assert not written(tmp_path / "a.otio", shot_of(take)).tracks.markers


def test_seeds_are_text_and_other_metadata_keeps_its_type(demo: otio.schema.Timeline) -> None:
    clip = clips_of(demo)[0]
    for item in (clip, *clip.media_references().values()):
        assert own(item)["seed"] == "4294967295"
        assert own(item)["steps"] == 20
        assert own(item)["model"] == "demo"


def test_metadata_of_any_depth_survives(tmp_path: Path) -> None:
    metadata = {"large": 2**63, "deep": {"seed": 1, "loras": [{"weight": 0.5}], "none": None}}
    take = replace(take_in(tmp_path, "a.mp4"), metadata={**metadata, "is_draft": True})
    write_timeline(tmp_path / "a.otio", [shot_of(take)], name="Pond")
    document = json.loads((tmp_path / "a.otio").read_text("utf-8"))
    stored = document["tracks"]["children"][0]["children"][0]["metadata"]["freeswim"]
    assert stored["large"] == str(2**63)
    assert stored["deep"] == {"seed": "1", "loras": [{"weight": 0.5}], "none": None}
    assert stored["is_draft"] is True


def test_a_number_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    take = replace(take_in(tmp_path, "a.mp4"), metadata={"loss": float("nan")})
    with pytest.raises(RequestError, match="loss is nan"):
        written(tmp_path / "a.otio", shot_of(take))


def test_the_frame_size_is_where_premiere_looks_for_it(demo: otio.schema.Timeline) -> None:
    sequence = demo.tracks.metadata["PremierePro_OTIO"]
    assert dict(sequence["VideoResolution"]) == {"width": 256, "height": 128}
    assert sequence["VideoFrameRate"] == 24
    assert (own(demo)["width"], own(demo)["height"]) == (256, 128)


def test_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    shot = shot_of(take_in(tmp_path, "a.mp4"))
    (tmp_path / "a.otio").write_text("mine", "utf-8")
    with pytest.raises(OutputExists, match="already there"):
        write_timeline(tmp_path / "a.otio", [shot], name="Pond")
    assert (tmp_path / "a.otio").read_text("utf-8") == "mine"
    assert files_in(tmp_path) == ["a.mp4", "a.otio"]


def test_an_existing_file_is_replaced_when_asked_and_by_the_same_bytes(tmp_path: Path) -> None:
    shot = shot_of(take_in(tmp_path, "a.mp4"))
    write_timeline(tmp_path / "b.otio", [shot], name="Pond")
    first = (tmp_path / "b.otio").rename(tmp_path / "a.otio").read_bytes()
    write_timeline(tmp_path / "a.otio", [shot], name="Pond", overwrite=True)
    assert (tmp_path / "a.otio").read_bytes() == first
    assert files_in(tmp_path) == ["a.mp4", "a.otio"]


@pytest.mark.parametrize("folder", ["missing", "a.mp4"])
def test_a_folder_that_is_none_is_reported(tmp_path: Path, folder: str) -> None:
    shot = shot_of(take_in(tmp_path, "a.mp4"))
    with pytest.raises(OutputError, match="no folder"):
        write_timeline(tmp_path / folder / "a.otio", [shot], name="Pond")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of a file as Linux does")
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    import resource
    import signal

    shot = shot_of(take_in(tmp_path, "a.mp4"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    on_limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(OutputError):
            write_timeline(tmp_path / "a.otio", [shot], name="Pond")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, on_limit)
    assert files_in(tmp_path) == ["a.mp4"]


def test_missing_media_is_reported_and_nothing_is_written(tmp_path: Path) -> None:
    take = take_in(tmp_path, "a.mp4")
    take.path.unlink()
    with pytest.raises(MediaError, match="is missing"):
        written(tmp_path / "a.otio", shot_of(take))
    assert files_in(tmp_path) == []


def test_only_otio_files_with_shots_are_written(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be written"):
        written(tmp_path / "a.xml", shot_of(take_in(tmp_path, "a.mp4")))
    with pytest.raises(RequestError, match="0 shots"):
        written(tmp_path / "a.otio")


def test_a_take_shorter_than_a_frame_of_the_timeline_is_refused(tmp_path: Path) -> None:
    take = take_in(tmp_path, "a.mp4", num_frames=1, rate=120)
    with pytest.raises(RequestError, match="shorter than"):
        written(tmp_path / "a.otio", shot_of(take))


def test_takes_and_shots_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has 0 frames"):
        take_in(tmp_path, "a.mp4", num_frames=0)
    with pytest.raises(RequestError, match="at 0 fps"):
        take_in(tmp_path, "a.mp4", rate=0)
    with pytest.raises(RequestError, match="no take 2"):
        shot_of(take_in(tmp_path, "a.mp4"), active=1)


def test_the_export_needs_no_torch() -> None:
    code = "import sys, freeswim.timeline.export; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
