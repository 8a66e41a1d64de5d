"""Clips longer than nine frames: the same way is swum, more slowly.

A scene keeps room for what its koi swim in 9 frames. `render` goes on past that at the same speed,
out of the pond in the end; paced, the way lasts for as many frames as there are.
"""

from __future__ import annotations

from dataclasses import replace

from freeswim.models.demo.scene import Koi, Scene

_INTERVALS = 8  # between the frames that a scene keeps room for


def paced(scene: Scene, num_frames: int) -> Scene:
    """The scene with koi that swim in `num_frames` frames the way they swim in 9.

    Tails beat and water moves at their own speed. A caption of the scene as it was still holds:
    it looks at the beginning, the middle and the end of the way.
    """
    if num_frames <= 1:
        return scene
    stretch = (num_frames - 1) / _INTERVALS
    return replace(scene, koi=tuple(_slowed(koi, stretch) for koi in scene.koi))


def _slowed(koi: Koi, stretch: float) -> Koi:
    travel = koi.travel / stretch
    back = (koi.travel - travel) / 2  # so that it starts where it started
    x, y = (place - axis * back for place, axis in zip(koi.middle, koi.heading, strict=True))
    return replace(koi, middle=(x, y), travel=travel)
