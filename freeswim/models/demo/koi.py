"""Procedural, captioned koi pond: the world that the demo checkpoint was trained on.

A scene is independent of resolution: `render` draws it, or a view of it, at any size, and fades
the detail that is finer than a pixel. `scene.py` says what is in a scene and in which units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from freeswim.models.demo.scene import (
    WHOLE_POND,
    Color,
    Direction,
    Koi,
    LilyPad,
    Scene,
    View,
    Water,
    caption,
    sample_scene,
)

__all__ = [
    "KOI_RGB",
    "WATER_RGB",
    "Color",
    "Direction",
    "Koi",
    "LilyPad",
    "Scene",
    "View",
    "Water",
    "caption",
    "render",
    "sample_scene",
]

KOI_RGB: dict[Color, tuple[int, int, int]] = {
    "orange": (242, 118, 22),
    "red": (200, 28, 34),
    "white": (240, 238, 230),
    "gold": (250, 208, 60),
}
WATER_RGB: dict[Water, tuple[int, int, int]] = {
    "blue": (38, 84, 148),
    "green": (44, 104, 66),
    "teal": (24, 118, 122),
    "purple": (84, 58, 116),
}

_INTERVALS_PER_CLIP = 8
_SHADOW_OFFSET = (0.025, 0.035)  # ponds
_Array = NDArray[np.floating]


def render(
    scene: Scene, height: int, width: int, *, view: View | None = None, num_frames: int = 9
) -> NDArray[np.float32]:
    """The scene as frames, (num_frames, height, width, 3) float32, sRGB values 0…1.

    Args:
        height: pixels; the view's height, or the pond's, fills it.
        width: pixels; one that is not `height` shows less or more to the right.
        num_frames: more than 9 go on at the same speed, past what was kept free for the koi.
    """
    view = view or WHOLE_POND
    grid = _Grid(
        x=_pixel_centres(width, height, view.size, view.x)[None, None, :],
        y=_pixel_centres(height, height, view.size, view.y)[None, :, None],
        time=np.arange(num_frames, dtype=np.float32)[:, None, None] / _INTERVALS_PER_CLIP,
        pixel=np.float32(view.size / height),
    )
    frames = _water(scene, grid)
    for pad in scene.lily_pads:
        _paint_pad(frames, pad, grid)
    for koi in scene.koi:
        rows, columns = _reach(koi, grid, view)
        window = replace(grid, x=grid.x[..., columns], y=grid.y[:, rows])
        if window.x.size and window.y.size:
            _paint_koi(frames[:, rows, columns], koi, scene.color, window)
    return np.clip(frames, 0, 1).astype(np.float32, copy=False)


@dataclass(frozen=True)
class _Grid:
    """Where and when the pixels are; the three arrays broadcast to (T, H, W)."""

    x: _Array  # (1, 1, W), ponds
    y: _Array  # (1, H, 1), ponds
    time: _Array  # (T, 1, 1), clips
    pixel: np.float32  # edge of a pixel, ponds


@dataclass(frozen=True)
class _Outline:
    """How much of each pixel a koi's parts cover, 0…1, and the half width of its body."""

    body: _Array
    tail: _Array
    fins: _Array
    radius: _Array  # koi lengths


def _pixel_centres(num_pixels: int, height: int, size: float, start: float) -> _Array:
    return (np.arange(num_pixels, dtype=np.float32) + 0.5) / height * size + start


def _reach(koi: Koi, grid: _Grid, view: View) -> tuple[slice, slice]:
    """Rows and columns of the frame that the koi can touch."""
    last = max(1.0, float(grid.time[-1, 0, 0]))
    places = np.array([koi.centre(0.0), koi.centre(last)])
    margin = 0.75 * koi.length
    first = (places.min(0) - margin - (view.x, view.y)) / grid.pixel
    end = (places.max(0) + margin - (view.x, view.y)) / grid.pixel + 1
    columns, rows = (
        slice(max(0, int(low)), max(0, min(size, int(high))))
        for low, high, size in zip(first, end, (grid.x.size, grid.y.size), strict=True)
    )
    return rows, columns


def _water(scene: Scene, grid: _Grid) -> _Array:
    """Broad caustics and fine ripples, (T, H, W, 3)."""
    phase = np.array(scene.ripple_phases, np.float32)
    x, y, time = grid.x, grid.y, grid.time
    bent_x = x + 0.05 * np.sin(7 * y + phase[0] + 0.6 * time)
    bent_y = y + 0.05 * np.sin(8 * x + phase[1] - 0.5 * time)
    caustics = _ridge(9 * bent_x + 4 * bent_y + phase[2] + 0.5 * time)
    caustics = caustics * _ridge(-5 * bent_x + 10 * bent_y + phase[3] - 0.4 * time)
    depth = np.sin(3 * x + phase[4]) * np.sin(2.5 * y + phase[5])
    light = 0.82 + 0.42 * caustics**1.5 + 0.1 * depth
    ripple_share = np.float32(np.clip(1.6 - grid.pixel * 90, 0, 1))
    if ripple_share > 0:
        ripples = _ridge(37 * bent_x + 16 * bent_y + phase[6] + 1.1 * time)
        ripples = ripples * _ridge(-19 * bent_x + 41 * bent_y + phase[7] - 1.3 * time)
        light = light + ripple_share * 0.12 * (ripples - 0.4)
    return _tinted(WATER_RGB[scene.water], scene.water_tint) * light[..., None]


def _paint_pad(frames: _Array, pad: LilyPad, grid: _Grid) -> None:
    to_x, to_y = grid.x - np.float64(pad.centre[0]), grid.y - np.float64(pad.centre[1])
    distance, angle = np.hypot(to_x, to_y), np.arctan2(to_y, to_x)
    soft = 2 * grid.pixel
    from_notch = np.abs((angle - pad.notch + np.pi) % (2 * np.pi) - np.pi)
    notch = _inside(distance * (from_notch - 0.22), soft) * (distance > 0)
    cover = _inside(distance - pad.radius, soft) * (1 - notch)
    vein = np.clip(1 - np.abs(np.sin(angle * pad.num_veins / 2)) * 6, 0, 1)
    vein = vein * np.clip(distance / pad.radius, 0.2, 1)
    green = np.stack([0.36 + 0.12 * vein, 0.60 + 0.10 * vein, 0.20 + 0.1 * vein], -1)
    shade = 1.05 - 0.35 * (distance / pad.radius) ** 2
    _blend(frames, green * shade[..., None], cover)


def _paint_koi(frames: _Array, koi: Koi, color: Color, grid: _Grid) -> None:
    soft = np.float32(1.6 * grid.pixel / koi.length)
    shadow = _outline(*_along_and_across(koi, grid, _SHADOW_OFFSET), soft)
    dark = np.maximum(shadow.body, 0.7 * np.maximum(shadow.tail, shadow.fins))
    frames *= (1 - 0.32 * dark)[..., None]

    along, across = _along_and_across(koi, grid)
    outline = _outline(along, across, soft)
    skin = np.clip(_tinted(KOI_RGB[color], koi.tint), 0, 1)
    rays = np.clip(1.3 - soft * 14, 0, 1) * 0.09
    rays = 0.92 + rays * np.sin(across / (np.abs(along + 0.25) + 0.12) * 45)
    _blend(frames, skin * rays[..., None], np.maximum(outline.tail * 0.85, outline.fins * 0.75))
    light = _body_light(along, across, outline.radius, soft)
    eyes = np.maximum(_eye(along, across, 1, soft), _eye(along, across, -1, soft))
    _blend(frames, skin * (light * (1 - 0.85 * eyes))[..., None], outline.body)


def _along_and_across(
    koi: Koi, grid: _Grid, offset: tuple[float, float] = (0.0, 0.0)
) -> tuple[_Array, _Array]:
    """Pixels in the koi's own coordinates, koi lengths: along it (nose at 0.5), and across.

    The tail's beat is taken out, so that the koi is straight in them.
    """
    start_x, start_y = koi.centre(0.0)
    heading_x, heading_y = koi.heading
    time = grid.time.astype(np.float64)
    centre_x = (start_x + heading_x * koi.travel * time).astype(np.float32)
    centre_y = (start_y + heading_y * koi.travel * time).astype(np.float32)
    to_x, to_y = grid.x - centre_x - offset[0], grid.y - centre_y - offset[1]
    along = (to_x * heading_x + to_y * heading_y) / koi.length
    across = (-to_x * heading_y + to_y * heading_x) / koi.length
    behind = np.clip(0.5 - along, 0, 1.2)
    beat = np.sin(6 * behind - koi.beat * grid.time + koi.phase)
    return along, across - koi.swing * behind**1.4 * beat


def _outline(along: _Array, across: _Array, soft: np.float32) -> _Outline:
    side = np.abs(across)
    to_nose = np.clip((along + 0.40) / 0.90, 0, 1)  # 0 where the tail begins, 1 at the nose
    radius = 0.155 * np.sqrt(to_nose + 0.02) * np.sqrt(1 - to_nose**3.2) + 0.018 * (to_nose < 1)
    body = _inside(side - radius, soft) * ((along > -0.42) & (along < 0.5))
    to_tip = np.clip((-0.34 - along) / 0.28, 0, 1)
    fork = 0.10 * (1 - np.minimum(side / 0.15, 1))
    tail = _inside(side - (0.03 + 0.17 * to_tip), soft) * _inside(along + 0.34, soft)
    tail = tail * _inside(-0.62 - along + fork, soft)
    fins = np.maximum(_fin(along, across, 1, soft), _fin(along, across, -1, soft))
    return _Outline(body, tail, fins, radius)


def _fin(along: _Array, across: _Array, side: int, soft: np.float32) -> _Array:
    forward, outward = along - 0.17, side * across - 0.15
    lengthwise = -forward * 0.55 + outward * 0.83
    crosswise = forward * 0.83 + outward * 0.55
    return _inside(np.hypot((lengthwise - 0.05) / 0.12, crosswise / 0.055) - 1, soft * 12)


def _eye(along: _Array, across: _Array, side: int, soft: np.float32) -> _Array:
    return _inside(np.hypot(along - 0.385, across - side * 0.085) - 0.020, soft)


def _body_light(along: _Array, across: _Array, radius: _Array, soft: np.float32) -> _Array:
    """Brightness of the body: round flanks, scales behind the head, a line on the back."""
    row = np.floor(along * 20)
    in_scale = np.hypot(along * 20 - row - 0.5, (across * 20 + 0.5 * (row % 2)) % 1 - 0.5)
    scales = np.clip((in_scale - 0.25) * 2, 0, 1) * np.clip((0.30 - along) * 12, 0, 1)
    scales = scales * np.clip(1.4 - soft * 16, 0, 1) * 0.20
    flanks = 0.42 * np.clip(np.abs(across) / (radius + 1e-3), 0, 1) ** 2.5
    return 1.03 - flanks - scales + 0.05 * np.exp(-((across / 0.02) ** 2))


def _tinted(rgb: tuple[int, int, int], tint: tuple[float, float, float]) -> _Array:
    return np.array(rgb, np.float32) / 255 * (1 + np.array(tint, np.float32))


def _blend(frames: _Array, color: _Array, cover: _Array) -> None:
    cover = cover[..., None]
    frames[...] = frames * (1 - cover) + color * cover


def _inside(distance: _Array, soft: np.float32) -> _Array:
    """1 where a signed distance is inside (negative), 0 outside, over an edge `soft` wide."""
    return np.clip(0.5 - distance / soft, 0, 1)


def _ridge(angle: _Array) -> _Array:
    return 1 - np.abs(np.sin(angle))
