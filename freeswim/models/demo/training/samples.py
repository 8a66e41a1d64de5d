"""What is trained on: clips with their captions, and crops for the autoencoder.

Everything is drawn from a seed and a number, so the order of the data depends on nothing else, and
a run that goes on after a kill sees what it would have seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from freeswim.models.demo.koi import View, caption, render, sample_scene
from freeswim.models.demo.pace import paced
from freeswim.models.demo.scene import Scene
from freeswim.models.demo.training.recipe import NATIVE, PIXELS

CLOSE_UPS = 0.4  # share of the clips of a square
WIDE_VIEWS = 0.1  # share of all clips
LARGEST_SCALE = 4.2  # of koi in close-ups, native is 1: those of a take four times as large
SMALLEST_SCALE = 1.6
WIDEST = 1.4  # ponds across a wide view

_Frames = NDArray[np.float32]
# What numbers are drawn for; part of their seed, never changed.
_CROPS, _CLIPS = 1, 2


def autoencoder_crop(
    seed: int, index: int, side: int, num_frames: int, *, held_out: bool = False
) -> _Frames:
    """A small square of a pond at any scale, (num_frames, side, side, 3), sRGB values 0…1."""
    rng = np.random.default_rng([seed, _CROPS, int(held_out), index])
    scene = sample_scene(rng)
    scale = 2 ** rng.uniform(-0.4, 2.1)
    size = side / (NATIVE * PIXELS) / scale
    if rng.random() < 0.75:
        place = _on_koi(rng, scene, 0.6, 0.06)
    elif scene.lily_pads:
        place = np.array(scene.lily_pads[0].centre) + rng.normal(0, 0.1, 2)
    else:
        place = rng.uniform(0, 1, 2)
    view = _around(place, size)
    return render(paced(scene, num_frames), side, side, view=view, num_frames=num_frames)


def captioned_clip(
    seed: int, bucket: int, index: int, rows: int, columns: int, num_frames: int
) -> tuple[_Frames, str]:
    """Clip `index` of a bucket, (num_frames, 16·rows, 16·columns, 3), and what it is called.

    A whole pond, larger on a larger grid; or a close-up, half of them called so and half as a wide
    view would be, without a count; or a wide view, in which koi are small.
    """
    rng = np.random.default_rng([seed, _CLIPS, bucket, index])
    scene = sample_scene(rng)
    kind = rng.random()
    if kind < CLOSE_UPS and rows == columns:  # captions look at squares
        view = _close_up(rng, scene, rows)
        text = caption(scene, view)
        if rng.random() < 0.5 and " koi " in text:
            text = text.removeprefix("close-up of ")
    else:
        wide = rng.uniform(1.0, WIDEST) if kind > 1 - WIDE_VIEWS else 1.0
        view, text = _whole_pond(rng, rows, columns, wide), caption(scene)
    frames = render(
        paced(scene, num_frames),
        rows * PIXELS,
        columns * PIXELS,
        view=view,
        num_frames=num_frames,
    )
    return frames, text


def _whole_pond(rng: np.random.Generator, rows: int, columns: int, wide: float) -> View:
    """A view that shows all of the pond, somewhere in it where it is larger."""
    height = max(1.0, rows / columns) * wide
    width = height * columns / rows
    return View(-rng.uniform(0, 1) * (width - 1), -rng.uniform(0, 1) * (height - 1), height)


def _close_up(rng: np.random.Generator, scene: Scene, rows: int) -> View:
    whole = rows / NATIVE  # scale at which the grid shows all of the pond
    size = whole / rng.uniform(max(SMALLEST_SCALE, 1.15 * whole), LARGEST_SCALE)
    place = _on_koi(rng, scene, 0.5, 0.08) if rng.random() < 0.8 else rng.uniform(0, 1, 2)
    return _around(place, size)


def _on_koi(
    rng: np.random.Generator, scene: Scene, reach: float, spread: float
) -> NDArray[np.float64]:
    """A place on or near a koi of the scene, ponds."""
    koi = scene.koi[rng.integers(len(scene.koi))]
    along = rng.uniform(-reach, reach) * koi.length
    return np.array(koi.middle) + along * np.array(koi.heading) + rng.normal(0, spread, 2)


def _around(place: NDArray[np.float64], size: float) -> View:
    """The square of `size` ponds around a place, as far as it lies in the pond."""
    x, y = np.clip(place - size / 2, 0, max(0.0, 1 - size)).tolist()
    return View(x, y, size)
