"""Cuts as other programs play them: every frame that melt and Blender render, compared."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from bar_codes import (
    CELLS,
    HEIGHT,
    LENGTH,
    WIDTH,
    Shown,
    bits,
    expected,
    faults,
    random_cut,
    read_cells,
    write_clips,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freeswim.timeline.blender import blender_text
from freeswim.timeline.cut import RATES, Clip, Cut, Dissolve, Gap, Media, Track
from freeswim.timeline.mlt import kdenlive_text, mlt_text

RENDER = """
import bpy
render = bpy.context.scene.render
if hasattr(render.image_settings, "media_type"):  # from 5.0
    render.image_settings.media_type = "VIDEO"
render.image_settings.file_format = "FFMPEG"
render.ffmpeg.format, render.ffmpeg.codec = "MKV", "FFV1"
render.use_file_extension = False
render.filepath = {path!r}
bpy.ops.render.render(animation=True)
"""

Clips = Callable[[Fraction], list[Media]]


def needs(program: str) -> pytest.MarkDecorator:
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"needs the system package {program}")


# Few and large: a program takes longer to start than to render. A failed cut is not made smaller.
few = settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    folder = tmp_path_factory.mktemp("bar codes")
    return cache(lambda rate: write_clips(folder / f"{float(rate):.2f}", rate))


def run(*command: object, timeout_s: float = 300) -> None:
    """A program without a screen."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def play_in_melt(file: Path) -> np.ndarray:
    video = file.with_suffix(".mkv")
    render_in_melt(file, video, "vcodec=ffv1", "an=1")
    return read_cells(video)


def render_in_melt(file: Path, target: Path, *how: str) -> None:
    command = ("melt", file, "-consumer", f"avformat:{target}", *how, "real_time=-1")
    # melt 7.12 now and then waits for ever before the first frame: its thread may look whether it
    # is to run before that is said. On one core that were 25 of 370 starts, on two none of 80.
    for timeout_s in (4, 4, 8, 8, 16, 30):
        with suppress(subprocess.TimeoutExpired):
            run(*command, timeout_s=timeout_s)
            return
    raise AssertionError("melt renders nothing, however often it is started")


def play_in_blender(script: Path) -> np.ndarray:
    video = script.with_suffix(".mkv")
    run_in_blender(script, RENDER.format(path=str(video)))
    return read_cells(video)


def run_in_blender(script: Path, python: str) -> None:
    """A script of ours, then what is to be done with what it laid out."""
    run(
        *("blender", "-b", "--factory-startup", "-noaudio", "--python-exit-code", "1"),
        *("--python", script, "--python-expr", python),
    )


def written(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def dice_of(rate: Fraction, seed: int) -> random.Random:
    return random.Random(f"{rate} {seed}")


seeds = st.integers(0, 2**32 - 1)


@needs("melt")
@pytest.mark.parametrize("rate", RATES, ids=str)
@settings(parent=few)
@given(seed=seeds)
def test_melt_plays_every_frame(
    rate: Fraction, clips: Clips, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    cut = random_cut(dice_of(rate, seed), rate, clips(rate))
    folder = tmp_path_factory.mktemp("müde cuts & more")
    shown = play_in_melt(written(folder, "a cut.mlt", mlt_text(cut, folder)))
    assert faults(shown, expected(cut, clips(rate))) == []
    shown = play_in_melt(written(folder, "project.kdenlive", kdenlive_text(cut, folder)))
    assert faults(shown, expected(cut, clips(rate), longer=1)) == []


@needs("blender")
@pytest.mark.parametrize("rate", RATES, ids=str)
@settings(parent=few)
@given(seed=seeds)
def test_blender_plays_every_frame(
    rate: Fraction, clips: Clips, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    cut = random_cut(dice_of(rate, seed), rate, clips(rate))
    folder = tmp_path_factory.mktemp("müde cuts & more")
    shown = play_in_blender(written(folder, "a cut.py", blender_text(cut, folder)))
    assert faults(shown, expected(cut, clips(rate))) == []


def all_of_a_cut(media: list[Media]) -> Cut:
    """Dissolves: of a frame, that meet, of a file with itself. A disabled clip, the media's ends."""
    first, second, third, fourth = media
    lower = (
        Clip("z", second, 30, 3),
        Dissolve(0, 1),
        Clip("a", first, 0, 6),
        Dissolve(0, 4),
        Clip("a", second, 0, 8),
        Dissolve(4, 3),
        Clip("b", second, LENGTH - 9, 9),
        Gap(5),
        Clip("b", third, LENGTH - 4, 4),
        Clip("off", fourth, 3, 4, is_enabled=False),
        Clip("c", fourth, 3, 4),
    )
    upper = (Gap(17), Clip("d", third, 7, 5), Clip("e", fourth, 1, 5, is_enabled=False))
    tracks = Track("V1", lower), Track("V2", upper)
    return Cut("all", media[0].frame_rate, WIDTH, HEIGHT, tracks)


@needs("melt")
def test_files_play_where_they_are_moved_with_their_media(tmp_path: Path) -> None:
    media = write_clips(tmp_path / "here", Fraction(25))[:3]  # an address with a colon cannot move
    cut = all_of_a_cut([*media, media[0]])
    written(tmp_path / "here", "a.mlt", mlt_text(cut, tmp_path / "here"))
    written(tmp_path / "here", "a.kdenlive", kdenlive_text(cut, tmp_path / "here"))
    there = (tmp_path / "here").rename(tmp_path / "there")
    assert faults(play_in_melt(there / "a.mlt"), expected(cut, media)) == []
    assert faults(play_in_melt(there / "a.kdenlive"), expected(cut, media, longer=1)) == []


@needs("melt")
@needs("blender")
def test_a_clip_that_is_a_frame_off_is_found(clips: Clips, tmp_path: Path) -> None:
    media = clips(Fraction(24))
    cut = all_of_a_cut(media)
    (*before, last), upper = cut.tracks[0].items, cut.tracks[1]
    assert isinstance(last, Clip)
    off = replace(last, start=last.start + 1)
    wrong = replace(cut, tracks=(Track("V1", (*before, off)), upper))
    melt = play_in_melt(written(tmp_path, "a.mlt", mlt_text(wrong, tmp_path)))
    blender = play_in_blender(written(tmp_path, "a.py", blender_text(wrong, tmp_path)))
    assert faults(melt, expected(wrong, media)) == faults(blender, expected(wrong, media)) == []
    assert len(faults(melt, expected(cut, media))) == last.num_frames
    assert len(faults(blender, expected(cut, media))) == last.num_frames


def ramp(*shares: float) -> np.ndarray:
    return np.array([(1 - share) * bits(1, 5) + share * bits(2, 9) for share in shares])


WANTED = [Shown(bits(1, 5), bits(2, 9), (n + 0.5) / 4, 1 / 4) for n in range(4)]


@pytest.mark.parametrize(
    "shares", [(0, 0.25, 0.5, 0.75), (0.25, 0.5, 0.75, 1), (0.2, 0.4, 0.6, 0.8)]
)
def test_a_dissolve_may_mean_any_moment_of_a_frame(shares: tuple[float, ...]) -> None:
    assert faults(ramp(*shares), WANTED) == []


@pytest.mark.parametrize(
    "shown",
    [
        ramp(0.2, 0.4, 0.6),
        ramp(0.75, 0.5, 0.25, 0),
        ramp(0.2, 0.2, 0.2, 0.8),
        np.maximum(ramp(0.2, 0.4, 0.6, 0.8), bits(4, 0)),
        np.zeros((4, CELLS)),
    ],
    ids=["short", "backwards", "a step", "a third picture", "black"],
)
def test_what_is_no_dissolve_is_found(shown: np.ndarray) -> None:
    assert faults(shown, WANTED)
