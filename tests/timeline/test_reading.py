"""Timelines read back: ours, those of other writers, and those that nobody should open."""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import opentimelineio as otio
import pytest
from cuts import FILM, demo_cut, media_at, random_cuts
from hypothesis import HealthCheck, given, settings

from freeswim.errors import MediaError, RequestError
from freeswim.timeline.cut import RATES, Clip, Cut, Dissolve, Gap, Track
from freeswim.timeline.edl import edl_texts
from freeswim.timeline.fcp7 import fcp7_text
from freeswim.timeline.fcpxml import fcpxml_text
from freeswim.timeline.mlt import kdenlive_text, mlt_text
from freeswim.timeline.otio import otio_text
from freeswim.timeline.reading import (
    Used,
    cut_list,
    exact_rate,
    file_of,
    read_timeline,
    read_untrusted,
)

FOLDER = Path("/media")


def plain_cut(rate: Fraction = FILM) -> Cut:
    """Two tracks with gaps, handles and a disabled clip; media with and without timecode."""
    a, b, c = (media_at(f"/media/{name}.mov", rate, 120) for name in "abc")
    b = replace(b, start_frame=round(rate) * 3600, has_timecode=True, reel="FS000012")
    first = (Clip("A", a, 24, 48), Gap(7), Clip("B", b, 12, 48), Clip("A again", a, 0, 1))
    second = (Gap(30), Clip("C", c, 72, 48), Clip("off", a, 3, 9, is_enabled=False))
    tracks = (Track("V1", first), Track("V2", second))
    return Cut("Plain", rate, 1920, 1080, tracks, start_frame=round(rate) * 3600)


def essence(used: Used) -> tuple[object, ...]:
    return used.track, used.start, used.num_frames, used.file, used.source_start, used.is_enabled


def of(used: list[Used] | tuple[Used, ...]) -> list[tuple[object, ...]]:
    return [essence(one) for one in used]


TEXTS = {
    ".otio": lambda cut: otio_text(cut, folder=FOLDER),
    ".xml": lambda cut: fcp7_text(cut, FOLDER),
    ".fcpxml": lambda cut: fcpxml_text(cut, FOLDER),
    ".mlt": lambda cut: mlt_text(cut, FOLDER),
    ".kdenlive": lambda cut: kdenlive_text(cut, FOLDER),
}


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("suffix", TEXTS)
def test_every_format_says_the_same_frames(tmp_path: Path, suffix: str, rate: Fraction):
    cut, path = plain_cut(rate), tmp_path / f"cut{suffix}"
    path.write_text(TEXTS[suffix](cut), "utf-8")
    read = read_timeline(path)
    expected = of(cut_list(cut))
    if suffix in (".mlt", ".kdenlive"):
        expected = [one for one in expected if one[-1]]  # what is disabled is left out
    assert sorted(of(read.used)) == sorted(expected)
    assert read.rate == rate
    if suffix in (".otio", ".xml", ".fcpxml"):
        assert read.start_frame == cut.start_frame
    assert read_untrusted(path) == read


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_an_edl_says_the_same_frames_by_timecode(tmp_path: Path, rate: Fraction):
    cut, path = plain_cut(rate), tmp_path / "cut_V1.edl"
    path.write_text(edl_texts(cut)[0], "ascii")
    read = read_untrusted(path, rate)
    assert read.start_frame == cut.start_frame
    hour = round(rate) * 3600
    assert [(one.start, one.num_frames, one.file, one.source_start) for one in read.used] == [
        (0, 48, "a.mov", 24),
        (55, 48, "b.mov", hour + 12),
        (103, 1, "a.mov", 0),
    ]
    assert all(one.has_timecode for one in read.used)


def test_an_edl_without_a_rate_is_asked_for_one(tmp_path: Path):
    path = tmp_path / "cut.edl"
    path.write_text(edl_texts(plain_cut())[0], "ascii")
    for read in (read_timeline, read_untrusted):
        with pytest.raises(RequestError, match="does not say its frame rate") as refused:
            read(path)
        assert "--rate" in refused.value.hint


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=random_cuts())
def test_otio_gives_back_any_cut(tmp_path: Path, cut: Cut):
    path = tmp_path / "cut.otio"
    timeline = otio_text(renamed(cut), folder=FOLDER, style="plain")
    path.write_text(timeline, "utf-8")
    assert of(read_timeline(path).used) == of(cut_list(renamed(cut)))


def renamed(cut: Cut) -> Cut:
    """With a name of its own for each file, as an .otio wants it."""
    places: dict[Path, str] = {}

    def media(one: Clip) -> Clip:
        name = places.setdefault(one.media.path, f"/media/{len(places)}.mov")
        return replace(one, media=replace(one.media, path=Path(name)), others={})

    tracks = tuple(
        Track(
            track.name,
            tuple(media(item) if isinstance(item, Clip) else item for item in track.items),
        )
        for track in cut.tracks
    )
    return replace(cut, tracks=tracks)


def test_a_cut_of_another_program_is_read(tmp_path: Path):
    """Ranges in the media's timecode and at its rate, and a nested sequence."""
    rate = 25.0
    timeline = otio.schema.Timeline("Elsewhere")
    timeline.global_start_time = otio.opentime.RationalTime(90000, rate)
    track = otio.schema.Track(kind="Video")
    reference = otio.schema.ExternalReference(
        "file://localhost/D%3A/shots/FS_pond_sh010_t02_0123abcd.mov",
        otio.opentime.TimeRange(
            otio.opentime.RationalTime(86400, 24), otio.opentime.RationalTime(240, 24)
        ),
    )
    clip = otio.schema.Clip(
        "renamed by the editor",
        reference,
        otio.opentime.TimeRange(
            otio.opentime.RationalTime(90000 + 50, rate), otio.opentime.RationalTime(100, rate)
        ),
    )
    track.append(clip)
    track.append(otio.schema.Stack("nested"))
    timeline.tracks.append(track)
    path = tmp_path / "cut.otio"
    otio.adapters.write_to_file(timeline, str(path))
    read = read_untrusted(path)
    (used,) = read.used
    assert (used.file, used.start, used.num_frames) == ("FS_pond_sh010_t02_0123abcd.mov", 0, 100)
    assert used.source_start == 50
    assert read.notes == ("nested is passed over.",)


def test_a_dissolve_moves_no_cut(tmp_path: Path):
    cut = renamed(demo_cut())
    even = replace(
        cut,
        tracks=tuple(
            Track(
                track.name,
                tuple(Dissolve(6, 6) if isinstance(i, Dissolve) else i for i in track.items),
            )
            for track in cut.tracks
        ),
    )
    for suffix in (".otio", ".xml", ".fcpxml"):
        path = tmp_path / f"cut{suffix}"
        path.write_text(TEXTS[suffix](even), "utf-8")
        assert of(read_timeline(path).used) == of(cut_list(even)), suffix


@pytest.mark.parametrize(
    ("given_rate", "rate"),
    [(23.976, FILM), (23.98, FILM), (24.0, 24), (29.97, Fraction(30000, 1001)), (12.5, 12.5)],
)
def test_rates_are_those_that_are_meant(given_rate: float, rate: Fraction):
    assert exact_rate(given_rate) == rate


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("file:///C:/a%20b/x%23.mov", "x#.mov"),
        ("C:\\shots\\x.mov", "x.mov"),
        ("\\\\server\\share\\x.mov", "x.mov"),
        ("../media/x.mov", "x.mov"),
        ("file://localhost/Volumes/A/x.mov", "x.mov"),
        ("", ""),
    ],
)
def test_a_files_name_is_found_in_any_address(url: str, name: str):
    assert file_of(url) == name


def bomb(folder: Path, kind: str) -> Path:
    """A timeline that is one in name only."""
    path = folder / {"otioz": "a.otioz", "entry": "b.otioz", "xml": "c.xml", "laughs": "d.xml"}.get(
        kind, "e.otio"
    )
    if kind == "nested":
        head = '{"OTIO_SCHEMA":"Stack.1","children":['
        path.write_text(head * 100_000 + "]}" * 100_000)
    elif kind == "otioz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr("version.txt", "1.0.0")
            bundle.writestr("content.otio", b" " * (200 * 2**20))
    elif kind == "entry":
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("content.otio", json.dumps({"OTIO_SCHEMA": "Timeline.1"}))
            for number in range(3000):
                bundle.writestr(f"../../{number}", b"")
    elif kind == "xml":
        path.write_text("<xmeml>" + "<a>" * 200_000)
    elif kind == "laughs":
        entities = "".join(
            f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">' for number in range(1, 12)
        )
        path.write_text(f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]><xmeml>&l11;</xmeml>')
    elif kind == "array":
        path.write_text('{"OTIO_SCHEMA":"Timeline.1","tracks":[' + "0," * 5_000_000 + "0]}")
    elif kind == "rate":
        path.write_text(otio_text(plain_cut(), folder=FOLDER).replace("23.976", "1e308"))
    else:
        path.write_bytes(b"\x00\xff" * 1000)
    return path


@pytest.mark.parametrize(
    "kind", ["nested", "otioz", "entry", "xml", "laughs", "array", "rate", "noise"]
)
def test_a_bomb_costs_seconds_and_one_process(tmp_path: Path, kind: str):
    path, began = bomb(tmp_path, kind), time.monotonic()
    with pytest.raises(MediaError) as refused:
        read_untrusted(path)
    assert refused.value.hint and len(refused.value.message) < 300
    assert str(tmp_path) not in refused.value.message
    assert time.monotonic() - began < 120
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["nothing.otio", "folder.otio", "clip.mp4"])
def test_what_is_no_timeline_is_refused(tmp_path: Path, name: str):
    (tmp_path / "folder.otio").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(MediaError):
        read_untrusted(tmp_path / name)
