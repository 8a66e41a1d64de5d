"""AAF: what is written is read back by OpenTimelineIO's adapter and by pyaaf2."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import opentimelineio as otio
import pytest
from cuts import FILM, Shown, demo_cut, media_at, random_cuts, shown, shown_sound
from hypothesis import Phase, given, settings

from freeswim.errors import RequestError
from freeswim.timeline.aaf import write_aaf
from freeswim.timeline.cut import RATES, Clip, Cut, Track
from freeswim.timeline.timecode import is_drop_frame, nominal_rate

aaf2 = pytest.importorskip("aaf2", reason="freeswim[aaf] is not installed")


def read(path: Path) -> otio.schema.Timeline:
    timeline = otio.adapters.read_from_file(str(path))
    assert isinstance(timeline, otio.schema.Timeline)
    return timeline


def heard_by_track(cut: Cut) -> list[list[Shown]]:
    """The sound that plays, by tracks of sound; the writer leaves out those without."""
    heard = [one for one in shown_sound(cut) if one.is_enabled]
    return [
        [one for one in heard if one.track == number] for number in range(len(cut.sound_tracks()))
    ]


def shown_in_otio(
    timeline: otio.schema.Timeline, tracks: list[otio.schema.Track] | None = None
) -> list[Shown]:
    found = []
    for number, track in enumerate(timeline.video_tracks() if tracks is None else tracks):
        for clip in track.find_clips():
            at, source = track.range_of_child(clip).start_time, clip.source_range
            values = at.value, source.duration.value, source.start_time.value
            assert all(value == int(value) for value in values)
            found.append(Shown(number, *map(int, values), True))
    return found


def lengths(path: Path) -> list[int]:
    """Of the tracks of pictures, by pyaaf2."""
    with aaf2.open(str(path)) as file:
        (composition,) = file.content.compositionmobs()
        return [
            sum(component.length for component in slot.segment.components)
            for slot in composition.slots
            if isinstance(slot.segment, aaf2.components.Sequence)
        ]


def has_clips(track: Track) -> bool:
    return any(isinstance(item, Clip) for item in track.items)


@settings(max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # 0.3 s each
@given(random_cuts())
def test_every_clip_that_plays_survives(cut: Cut) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.aaf"
        write_aaf(cut, path)
        timeline = read(path)
        assert lengths(path) == [track.num_frames or cut.num_frames for track in cut.tracks]

    # The reader leaves out tracks without clips.
    tracks = [track for track in map(Track.playing, cut.tracks) if has_clips(track)]
    if tracks:
        assert shown_in_otio(timeline) == shown(cut, tracks)
        assert [
            clip.media_reference.target_url
            for track in timeline.video_tracks()
            for clip in track.find_clips()
        ] == [
            item.media.path.as_uri()
            for track in tracks
            for item in track.items
            if isinstance(item, Clip)
        ]
    wanted = [
        Shown(number, one.at, one.num_frames, one.source, True)
        for number, heard in enumerate(filter(None, heard_by_track(cut)))
        for one in heard
    ]
    assert shown_in_otio(timeline, timeline.audio_tracks()) == wanted
    assert timeline.global_start_time is not None
    assert timeline.global_start_time.to_frames() == cut.start_frame
    assert timeline.name == cut.name.replace("\x07", " ")


def test_a_track_whose_sound_is_all_disabled_leaves_nothing(tmp_path: Path) -> None:
    media = replace(media_at("/media/koi.mov", FILM), num_channels=2)
    off = Clip("off", media, start=0, num_frames=3, is_enabled=False)
    on = replace(off, name="on", is_enabled=True)
    tracks = (Track("V1", (off, off)), Track("V2", (on, on)))
    cut = replace(demo_cut(FILM), tracks=tracks, markers=())
    write_aaf(cut, tmp_path / "cut.aaf")
    (sound,) = read(tmp_path / "cut.aaf").audio_tracks()
    assert [clip.name for clip in sound.find_clips()] == ["on", "on"]


@pytest.mark.parametrize("rate", RATES)
def test_timecode_counts_as_its_rate_does(rate: Fraction, tmp_path: Path) -> None:
    path = tmp_path / "cut.aaf"
    write_aaf(demo_cut(rate), path)

    with aaf2.open(str(path)) as file:
        found = [
            (slot.segment.fps, slot.segment.drop, Fraction(slot.edit_rate))
            for mob in file.content.mobs
            for slot in mob.slots
            if isinstance(slot.segment, aaf2.components.Timecode)
        ]
    assert set(found) == {(nominal_rate(rate), is_drop_frame(rate), rate)}
    assert len(found) == 1 + 3  # of the timeline, and of three clips
    timeline = read(path)
    assert timeline.global_start_time == otio.opentime.RationalTime(
        demo_cut(rate).start_frame, timeline.global_start_time.rate
    )


def test_a_clip_says_its_prompt_and_size(tmp_path: Path) -> None:
    media = replace(media_at("/media/a.mov", FILM), width=2048, height=1024)
    clip = Clip("x", media, 0, 10, metadata={"prompt": "müde Köi\nim Teich"})
    path = tmp_path / "cut.aaf"
    write_aaf(Cut("c", FILM, 64, 64, (Track("V1", (clip,)),)), path)

    with aaf2.open(str(path)) as file:
        (master,) = file.content.mastermobs()
        assert dict(master.comments.items()) == {"Comments": "müde Köi\nim Teich"}
        (descriptor,) = [
            mob.descriptor
            for mob in file.content.sourcemobs()
            if isinstance(mob.descriptor, aaf2.essence.CDCIDescriptor)
        ]
        assert (descriptor["StoredWidth"].value, descriptor["StoredHeight"].value) == (2048, 1024)
        assert str(descriptor["ImageAspectRatio"].value) == "2"


def test_a_clip_and_its_sound_are_of_one_master(tmp_path: Path) -> None:
    stereo = replace(media_at("/media/a.mov", FILM), num_channels=2)
    clips = Clip("x", stereo, 4, 10), Clip("y", stereo, 20, 10)
    path = tmp_path / "cut.aaf"
    write_aaf(Cut("c", FILM, 64, 64, (Track("V1", clips),)), path)

    with aaf2.open(str(path)) as file:
        (composition,) = file.content.compositionmobs()
        pictures, sound = list(composition.slots)[:2]
        assert [one.media_kind for one in (pictures, sound)] == ["Picture", "Sound"]
        assert len(list(sound.segment.parameters)) == 1  # one pan
        row = next(iter(sound.segment.segments))
        for one, other in zip(pictures.segment.components, row.components, strict=True):
            assert (one.mob.mob_id, one.start, one.length) == (
                *(other.mob.mob_id, other.start, other.length),
            )
            assert (one.slot_id, other.slot_id) == (1, 2)
        assert len(list(file.content.mastermobs())) == 2
        channels = {
            mob.descriptor["Channels"].value
            for mob in file.content.sourcemobs()
            if isinstance(mob.descriptor, aaf2.essence.PCMDescriptor)
        }
    assert channels == {2}


def test_what_is_lost_is_said(tmp_path: Path) -> None:
    clip = Clip("x", media_at("/media/a.mov", FILM), 0, 10)
    plain = Cut("c", FILM, 64, 64, (Track("V1", (clip,)),))

    assert write_aaf(plain, tmp_path / "a.aaf") == []
    assert write_aaf(demo_cut(), tmp_path / "a.aaf") == [
        "Dissolves that are cuts in the AAF: 1.",
        "Disabled clips that are gaps in the AAF: 1.",
        "Markers that are not in the AAF: 3.",
        "Other takes and proxies that are not in the AAF: 3.",
    ]


def test_a_track_above_an_empty_one_stays_there(tmp_path: Path) -> None:
    clip = Clip("x", media_at("/media/a.mov", FILM), 0, 10)
    path = tmp_path / "cut.aaf"
    write_aaf(Cut("c", FILM, 64, 64, (Track("V1", ()), Track("V2", (clip,)))), path)

    assert lengths(path) == [10, 10]
    with aaf2.open(str(path)) as file:
        (composition,) = file.content.compositionmobs()
        kinds = [type(slot.segment.components[0]) for slot in list(composition.slots)[:2]]
    assert kinds == [aaf2.components.Filler, aaf2.components.SourceClip]


@pytest.mark.parametrize("missing", ["otio_aaf_adapter", "aaf2"])
def test_without_the_extra_it_says_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not there
    assert importlib.util.find_spec(missing) is None

    with pytest.raises(RequestError, match="not installed") as caught:
        write_aaf(demo_cut(), tmp_path / "cut.aaf")

    assert caught.value.hint == "pip install 'freeswim[aaf]'"
    assert not list(tmp_path.iterdir())


def test_media_of_another_rate_is_refused(tmp_path: Path) -> None:
    clip = Clip("x", media_at("/media/a.mov", Fraction(16)), 0, 10)
    with pytest.raises(RequestError, match="16 frames per second"):
        write_aaf(Cut("c", FILM, 64, 64, (Track("V1", (clip,)),)), tmp_path / "cut.aaf")
