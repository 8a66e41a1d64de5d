"""Measures of pictures and clips that need no koi: fine detail, seams, flicker, repetition, layout.

All take sRGB values 0…1 and none knows how a clip was made. They are read beside the count of
measure.py: spare koi and repeated texture are sharp as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHARP_CYCLES = 0.125  # per pixel, a quarter of what pixels can show
SEGMENTS = 16  # a seam runs through most of them
BESIDE = 6  # lines to each side that a seam is compared with
BLOCKS = 8  # along a side, in which flicker is looked for
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
    """By how many of 255 steps of brightness a straight line across the whole frame stands out.

    The edges of tiles lie still, run through the whole frame and jump alike in every frame. So jumps
    are averaged over time with their sign, where ripples cancel, and the median of SEGMENTS pieces
    of a line is taken, where the edge of an object is in a few of them only.

    Args:
        frames: (T, H, W, 3).

    Returns:
        Of the strongest line, above what lines beside it have.
    """
    picture = luma(frames)
    return 255 * max(_line_score(picture), _line_score(picture.swapaxes(1, 2)))


def _line_score(picture: _Floats) -> float:
    """Of lines down the frames, (T, H, W): between which columns brightness jumps."""
    steps = np.diff(picture, axis=2).mean(0)  # (H, W - 1)
    # A slope is no jump: what the steps to both sides of a line do as well is taken off.
    jumps = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
    pieces = [np.abs(piece.mean(0)) for piece in np.array_split(jumps, SEGMENTS, axis=0)]
    strength = np.median(np.stack(pieces), axis=0)
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(strength, BESIDE, "reflect"), 2 * BESIDE + 1
    )
    return float((strength - np.median(around, axis=-1)).max())


def flicker(frames: _Floats) -> float:
    """Brightness that comes and goes from frame to frame, RMS; (T, H, W, 3), T ≥ 3.

    Of the middle one of BLOCKS x BLOCKS parts of the frame: what moves across a few is no flicker.
    Nor is what grows or falls steadily over three frames.
    """
    picture = luma(frames)
    second = (picture[2:] - 2 * picture[1:-1] + picture[:-2]) ** 2
    blocks = [
        block.mean()
        for rows in np.array_split(second, BLOCKS, axis=1)
        for block in np.array_split(rows, BLOCKS, axis=2)
    ]
    return float(np.sqrt(np.median(blocks)))


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
