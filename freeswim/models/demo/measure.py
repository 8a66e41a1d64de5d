"""Counts koi and checks their colour in a picture of the pond, rendered or generated.

Hue decides what is koi; bodies decide how many. A body is where a connected area is thick: koi that
touch with their fins are two, for an area is thin between them. A broken body is two koi as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from freeswim.models.demo.scene import COLORS, Color, Water

GRID = 256  # pictures are measured at 256 × 256, so that areas compare between sizes
MIN_SHARE = 0.0006  # of the frame; a smaller piece is noise
LARGE_SHARE = 0.009  # of the frame; a koi at the size that was asked for
# Of the greatest depth in a connected area: bodies reach BODY, and are one where they join above NECK.
# Tails stay below BODY, fins that touch below NECK.
BODY, NECK = 0.75, 0.4

_WATER_HUE: dict[Water, int] = {"blue": 215, "green": 142, "teal": 182, "purple": 267}  # degrees
_NO_KOI = -1
_MIN_PIXELS_FOR_COLOR = 50  # of the grid; fewer say nothing about the colour

_Mask = NDArray[np.bool_]
_Floats = NDArray[np.floating]


@dataclass(frozen=True)
class KoiMeasure:
    asked: int  # koi that should be there
    found: int  # koi above MIN_SHARE
    large: int  # koi above LARGE_SHARE
    koi_share: float  # of the frame that is koi, 0…1
    color_share: float  # of the koi that has the asked colour, 0…1; 0 where there is too little koi
    is_water_right: bool

    @property
    def error(self) -> int:
        """Koi too many or too few."""
        return abs(self.found - self.asked)


def count_koi(frame: _Floats, *, min_share: float = MIN_SHARE) -> int:
    """Koi in a frame, (H, W, 3), sRGB values 0…1, larger than `min_share` of it."""
    return int((_koi_shares(koi_mask(frame)) > min_share).sum())


def koi_mask(frame: _Floats) -> _Mask:
    """Where a frame, (H, W, 3), sRGB values 0…1, is koi, (256, 256)."""
    return _color_index(_on_grid(frame)) != _NO_KOI


def measure_koi(frame: _Floats, color: Color, water: Water, count: int) -> KoiMeasure:
    """A frame, (H, W, 3), sRGB values 0…1, against what its caption asked for."""
    picture = _on_grid(frame)
    colors = _color_index(picture)
    is_koi = colors != _NO_KOI
    shares = _koi_shares(is_koi)
    has_color = is_koi.sum() > _MIN_PIXELS_FOR_COLOR
    return KoiMeasure(
        asked=count,
        found=int((shares > MIN_SHARE).sum()),
        large=int((shares > LARGE_SHARE).sum()),
        koi_share=float(is_koi.mean()),
        color_share=float((colors[is_koi] == COLORS.index(color)).mean()) if has_color else 0.0,
        is_water_right=_nearest_water(picture[~is_koi]) == water,
    )


def _on_grid(frame: _Floats) -> _Floats:
    """The frame at 256 × 256: area averages where it is larger, bilinear where it is smaller."""
    rows, columns = (_resizing(size) for size in frame.shape[:2])
    return np.einsum("yh,hwc,xw->yxc", rows, frame, columns, optimize=True)


def _resizing(size: int) -> NDArray[np.float32]:
    """Weights of `size` pixels for each pixel of the grid, (256, size); every row sums to 1."""
    weights = np.zeros((GRID, size), np.float32)
    for index in range(GRID):
        if size > GRID:
            first, end = index * size // GRID, -(-(index + 1) * size // GRID)
            weights[index, first:end] = 1 / (end - first)
        else:
            place = max(0.0, (index + 0.5) * size / GRID - 0.5)
            low = int(place)
            weights[index, low] = 1 - (place - low)
            weights[index, min(low + 1, size - 1)] += place - low
    return weights


def _hue_saturation_value(picture: _Floats) -> tuple[_Floats, _Floats, _Floats]:
    """Hue in degrees, saturation and value 0…1, each without the last axis."""
    value = picture.max(-1)
    chroma = value - picture.min(-1) + 1e-6
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    to_red = ((green - blue) / chroma) % 6
    to_green, to_blue = (blue - red) / chroma + 2, (red - green) / chroma + 4
    hue = np.where(value == red, to_red, np.where(value == green, to_green, to_blue)) * 60
    return hue, chroma / (value + 1e-6), value


def _color_index(picture: _Floats) -> NDArray[np.int8]:
    """Which of the koi colours a pixel has, or _NO_KOI."""
    hue, saturation, value = _hue_saturation_value(picture)
    is_warm = (saturation > 0.45) & (value > 0.30)
    is_color: dict[Color, _Mask] = {
        "red": is_warm & ((hue > 335) | (hue < 14)),
        "orange": is_warm & (hue >= 14) & (hue < 37),
        "gold": is_warm & (hue >= 37) & (hue < 64),
        "white": (saturation < 0.22) & (value > 0.5),
    }
    index = np.full(hue.shape, _NO_KOI, np.int8)
    for color, mask in is_color.items():
        index[mask] = COLORS.index(color)
    return index


def _nearest_water(pixels: _Floats) -> Water | None:
    if not pixels.size:
        return None
    hue = float(np.median(_hue_saturation_value(pixels)[0]))
    return min(_WATER_HUE, key=lambda water: abs(_WATER_HUE[water] - hue))


def _koi_shares(mask: _Mask) -> _Floats:
    """Shares of the frame that the koi of a mask have, in no order.

    Closing joins a body whose scales broke it; opening drops what is thinner than 3 pixels.
    """
    closed = ~_grown(~_grown(mask))
    opened = _grown(~_grown(~closed))
    pieces, depth = _pieces(opened), _depth(opened)
    deepest = np.zeros(pieces.max() + 1)
    np.maximum.at(deepest, pieces, depth)
    relative = np.where(opened, depth / np.maximum(deepest, 1)[pieces], 0)
    bodies = _pieces(relative > NECK)
    bodies[~np.isin(bodies, bodies[relative > BODY])] = 0
    areas = np.bincount(pieces[opened], minlength=len(deepest))
    found = np.unique(np.stack([pieces[bodies > 0], bodies[bodies > 0]]), axis=1)
    # Koi that touch share the area of their piece: they are of one size, near enough.
    in_piece = np.bincount(found[0], minlength=len(deepest))
    return (areas / np.maximum(in_piece, 1))[found[0]] / mask.size


def _grown(mask: _Mask, *, is_diagonal: bool = True) -> _Mask:
    """The mask, one pixel larger in all eight directions, or in four."""
    padded = np.pad(mask, 1)
    tall = padded[:-2] | padded[1:-1] | padded[2:]
    if is_diagonal:
        return tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:]
    return tall[:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _depth(mask: _Mask) -> NDArray[np.int64]:
    """How far inside the mask a pixel is: 1 at its edge, 0 outside; the frame's edge is none."""
    depth, left = np.zeros(mask.shape, np.int64), mask
    while left.any():
        depth += left
        # Four directions and eight in turn: what is left keeps the shape of an octagon.
        left = ~_grown(~left, is_diagonal=bool(depth.max() % 2))
    return depth


def _pieces(mask: _Mask) -> NDArray[np.int64]:
    """The number, 1 or more, of the 8-connected piece that a pixel is in; 0 outside the mask.

    Union-find over the runs of pixels in the rows.
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    # Runs are numbered along the picture, so those that touch a run from the row above it are
    # neighbours in that order: first_above ≤ index < end_above.
    stride = mask.shape[1] + 2
    first_above = np.searchsorted(rows * stride + ends, (rows - 1) * stride + starts, "left")
    end_above = np.searchsorted(rows * stride + starts, (rows - 1) * stride + ends, "right")
    parents = list(range(len(rows)))
    for run in range(len(rows)):
        for above in range(first_above[run], end_above[run]):
            parents[_root(parents, above)] = _root(parents, run)
    numbers = np.zeros(mask.shape, np.int64)
    roots = np.array([_root(parents, run) for run in range(len(rows))], np.int64)
    numbers[mask] = np.repeat(roots + 1, ends - starts)
    return numbers


def _root(parents: list[int], run: int) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]  # halves the path, so that long pieces stay quick
        run = parents[run]
    return run
