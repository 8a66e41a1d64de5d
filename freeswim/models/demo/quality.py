"""Measures of pictures and clips that need no koi: fine detail, seams, flicker, repetition, layout.

All take sRGB values 0…1 and none knows how a clip was made. They are read beside the count of
measure.py: spare koi and repeated texture are sharp as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHARP_CYCLES = 0.125  # per pixel, a quarter of what pixels can show
SEGMENTS = 8  # a seam runs through most of them
NEAREST_LAG = 1 / 8  # of the frame; what is nearer is a thing beside itself

_LUMA = np.array((0.299, 0.587, 0.114))  # BT.601
_Floats = NDArray[np.floating]


def luma(frames: _Floats) -> NDArray[np.float64]:
    """Brightness of (..., 3) colours."""
    return frames.astype(np.float64) @ _LUMA


def fine_energy(frame: _Floats) -> float:
    """Power of the luma of a frame, (H, W, 3), above SHARP_CYCLES.

    Under a window that falls to 0 at the edges: a picture does not go on at its other side.
    """
    picture = luma(frame)
    window = np.hanning(picture.shape[0])[:, None] * np.hanning(picture.shape[1])
    power = np.abs(np.fft.fft2((picture - picture.mean()) * window)) ** 2
    rows, columns = (np.fft.fftfreq(length) for length in picture.shape)
    is_fine = np.hypot(rows[:, None], columns) > SHARP_CYCLES
    return float(power[is_fine].sum() / (picture.size * (window**2).sum()))


def seam_score(frames: _Floats) -> float:
    """How far the strongest straight line across the whole frame stands out, 1 at the least.

    Args:
        frames: (T, H, W, 3).

    Returns:
        The kink at that line over the usual kink beside it, in the median of SEGMENTS pieces of
        the line: an object's edge is in a few of them, the edge of a tile in all.
    """
    picture = luma(frames)
    return max(_line_score(picture), _line_score(picture.swapaxes(1, 2)))


def _line_score(picture: _Floats) -> float:
    """Of lines down the frames, (T, H, W): between which columns brightness jumps."""
    steps = np.diff(picture, axis=2)
    # A slope is no jump: what the steps to both sides of a line do as well is taken off.
    kinks = np.abs(steps[..., 1:-1] - (steps[..., :-2] + steps[..., 2:]) / 2)
    pieces = [piece.mean((0, 1)) for piece in np.array_split(kinks, SEGMENTS, axis=1)]
    profile = np.stack(pieces)  # (SEGMENTS, lines)
    usual = np.median(profile, axis=1, keepdims=True) + 1e-6
    return float(np.median(profile / usual, axis=0).max())


def flicker(frames: _Floats) -> float:
    """Brightness that comes and goes from frame to frame, RMS; (T, H, W, 3), T ≥ 3.

    What grows or falls steadily over three frames, as most motion does, is not in it.
    """
    picture = luma(frames)
    second = picture[2:] - 2 * picture[1:-1] + picture[:-2]
    return float(np.sqrt((second**2).mean()))


def repetition(picture: _Floats) -> float:
    """How much of a picture, (H, W), comes again elsewhere: its autocorrelation's highest peak.

    Returns:
        0 where nothing does, 1 where everything does; two equal things are 0.5, n of them in a
        regular row (n - 1) / n. Shifts by less than NEAREST_LAG of the frame do not count.
    """
    heights = picture - np.median(picture)
    total = float((heights**2).sum())
    if total == 0:
        return 0.0
    rows, columns = picture.shape
    spectrum = np.fft.rfft2(heights, (2 * rows, 2 * columns))  # room, so that nothing wraps around
    likeness = np.fft.irfft2(np.abs(spectrum) ** 2, (2 * rows, 2 * columns)) / total
    down = np.abs(np.fft.fftfreq(2 * rows, 1 / (2 * rows)))[:, None] / rows
    across = np.abs(np.fft.fftfreq(2 * columns, 1 / (2 * columns)))[None, :] / columns
    return float(likeness[np.maximum(down, across) >= NEAREST_LAG].max())


def layout_db(frames: _Floats, base: _Floats) -> float:
    """PSNR of frames made small again, by averages, against the base video; dB, 60 at most.

    Args:
        frames: (T, n·h, n·w, 3).
        base: (T, h, w, 3).
    """
    num_frames, height, width, _ = base.shape
    factors = frames.shape[1] // height, frames.shape[2] // width
    blocks = frames.reshape(num_frames, height, factors[0], width, factors[1], 3)
    error = float(((blocks.mean((2, 4)) - base) ** 2).mean())
    return -10 * float(np.log10(max(error, 1e-6)))
