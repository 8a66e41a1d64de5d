"""The computed canvas: frames whose sides and number may exceed the take's.

A checkpoint computes sides of certain multiples and 4n + 1 frames. What is asked for lies in the
middle of that canvas and at its beginning; the rest is cut off again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, repeat

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def resized(frames: Iterable[Tensor], size: tuple[int, int]) -> Iterator[Tensor]:
    """Every frame bilinear at another size; a smaller one without aliasing.

    Args:
        frames: (3, height, width) each.
        size: (width, height).
    """
    width, height = size
    for frame in frames:
        yield functional.interpolate(frame[None], (height, width), mode="bilinear", antialias=True)[
            0
        ]


def filled(
    frames: Iterable[np.ndarray],
    *,
    size: tuple[int, int],
    canvas_size: tuple[int, int],
    canvas_frames: int,
) -> Iterator[Tensor]:
    """Frames of a file on a canvas; their edges and the last of them are repeated into the rest.

    Args:
        frames: (h, w, 3) uint16 each, any size, one at least.
        size: (width, height) they are resized to.
        canvas_size: (width, height), not smaller.
        canvas_frames: not fewer than there are frames.

    Yields:
        (3, canvas height, canvas width) in [-1, 1], float32.
    """
    left, top = _offsets(canvas_size, size)
    right, bottom = canvas_size[0] - size[0] - left, canvas_size[1] - size[1] - top
    pixels = (
        torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1) / 32767.5 - 1
        for frame in frames
    )
    last, num_frames = None, 0
    for frame in resized(pixels, size):
        last = functional.pad(frame[None], (left, right, top, bottom), "replicate")[0]
        num_frames += 1
        yield last
    assert last is not None
    yield from repeat(last, canvas_frames - num_frames)


def take_frames(
    frames: Iterable[Tensor], *, size: tuple[int, int], num_frames: int
) -> Iterator[np.ndarray]:
    """What is asked for, cut out of a canvas: `num_frames` frames of `size`.

    Args:
        frames: (3, height, width) in [-1, 1] each, on the CPU.

    Yields:
        (height, width, 3) uint16, full range.
    """
    width, height = size
    for frame in islice(frames, num_frames):
        left, top = _offsets((frame.shape[2], frame.shape[1]), size)
        cut = frame[:, top : top + height, left : left + width]
        pixels = cut.permute(1, 2, 0).numpy() * 32767.5 + 32768  # rounds when cut to integers
        yield pixels.clip(0, 65535).astype(np.uint16)


def _offsets(canvas_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    return (canvas_size[0] - size[0]) // 2, (canvas_size[1] - size[1]) // 2
