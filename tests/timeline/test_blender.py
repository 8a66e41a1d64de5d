"""The script for Blender, read; test_consumers.py runs it."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from freeswim.errors import RequestError
from freeswim.timeline.blender import blender_text
from freeswim.timeline.cut import RATES, Clip, Cut, Dissolve, Gap, Marker, Media, Track

FILM = Fraction(24000, 1001)


def media_of(path: str, rate: Fraction = FILM) -> Media:
    return Media(Path(path), 100, rate, 1920, 1080)


def example(rate: Fraction = FILM) -> Cut:
    a = media_of("/cuts/müde \"Köi\" 'x' \\n {y}.mov", rate)
    items = (
        Clip("a", a, 0, 20),
        Dissolve(4, 6),
        Clip("b", a, 30, 20),
        Gap(3),
        Clip("off", a, 0, 5, is_enabled=False),
    )
    tracks = Track("V1", items), Track("V2", (Clip("c", a, 1, 3, markers=(Marker(1, "hi"),)),))
    return Cut('P "on" \\d """{0}', rate, 1920, 1080, tracks)


def layout(cut: Cut) -> dict[str, list[dict[str, object]]]:
    """What the script lays out; it must be Python for that."""
    tree = ast.parse(blender_text(cut, Path("/cuts")))
    (call,) = (
        node.value.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.targets[0]) == "CUT"
    )
    return json.loads(ast.literal_eval(call))


@pytest.mark.parametrize("rate", RATES)
def test_the_rate_is_exact(rate: Fraction) -> None:
    found = layout(example(rate))
    assert isinstance(found["fps"], int)
    assert found["fps"] / found["fps_base"] == pytest.approx(float(rate), rel=1e-12)


def test_clips_that_dissolve_overlap_in_channels_of_their_own() -> None:
    found = layout(example())
    keys = ("name", "channel", "at", "start", "num_frames", "is_enabled")
    assert [tuple(clip[key] for key in keys) for clip in found["clips"]] == [
        ("a", 1, 0, 0, 26, True),
        ("b", 2, 16, 26, 24, True),
        ("off", 1, 43, 0, 5, False),
        ("c", 4, 0, 1, 3, True),
    ]
    assert found["dissolves"] == [
        {"at": 16, "num_frames": 10, "channel": 3, "first": 0, "second": 1}
    ]
    assert found["markers"] == [{"frame": 1, "text": "hi"}]


def test_sound_lies_below_and_fades_where_pictures_dissolve() -> None:
    stereo = replace(media_of("/cuts/s.mov"), num_channels=2)
    items = (
        Clip("a", stereo, 0, 20),
        Dissolve(4, 6),
        Clip("b", stereo, 30, 20),
        Clip("q", media_of("/cuts/q.mov"), 0, 5),
        Clip("off", stereo, 0, 5, is_enabled=False),
    )
    found = layout(Cut("c", FILM, 1920, 1080, (Track("V1", items),)))
    keys = ("name", "channel", "at", "start", "num_frames", "is_enabled", "fade_in", "fade_out")
    assert [tuple(clip[key] for key in keys) for clip in found["sound"]] == [
        ("a", 1, 0, 0, 26, True, 0, 10),
        ("b", 2, 16, 26, 24, True, 10, 0),
        ("off", 1, 45, 0, 5, False, 0, 0),
    ]
    assert [clip["channel"] for clip in found["clips"]] == [3, 4, 3, 3]
    assert found["channels"] == {"1": "A1", "3": "V1"}


def test_names_of_any_kind_reach_blender() -> None:
    found = layout(example())
    assert found["name"] == 'P "on" \\d """{0}'
    assert found["clips"][0]["path"] == "müde \"Köi\" 'x' \\n {y}.mov"


def test_the_script_needs_nothing_but_blender() -> None:
    tree = ast.parse(blender_text(example(), Path("/cuts")))
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert names == {"bpy", "json", "os"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_media_of_another_rate_is_refused() -> None:
    clip = Clip("a", media_of("/cuts/a.mov", Fraction(16)), 0, 9)
    cut = Cut("a", FILM, 1920, 1080, (Track("V1", (clip,)),))
    with pytest.raises(RequestError, match="16 frames per second"):
        blender_text(cut, Path("/cuts"))


def test_more_tracks_than_channels_are_refused() -> None:
    cut = replace(example(), tracks=example().tracks[1:] * 43)
    with pytest.raises(RequestError, match="has 43 tracks, 0 of them with sound; Blender has 128"):
        blender_text(cut, Path("/cuts"))
