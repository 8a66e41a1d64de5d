"""The computed canvas: video tensors whose sides and frame count may exceed the take's.

A checkpoint computes sides of certain multiples and 4n + 1 frames. What is asked for lies in the
middle of that canvas and at its beginning; the rest is cut off again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def resize(video: Tensor, size: tuple[int, int]) -> Tensor:
    """Every frame bilinear at another size; a smaller one without aliasing.

    Args:
        video: (1, 3, frames, height, width).
        size: (width, height).
    """
    width, height = size
    frames = video[0].transpose(0, 1)  # (frames, 3, height, width)
    resized = functional.interpolate(frames, (height, width), mode="bilinear", antialias=True)
    return resized.transpose(0, 1)[None]


def fill(
    frames: Iterable[np.ndarray],
    *,
    size: tuple[int, int],
    num_frames: int,
    canvas_size: tuple[int, int],
    canvas_frames: int,
    on_frame: Callable[[int], None],
) -> Tensor:
    """Frames of a file on a canvas; their edges and the last of them are repeated into the rest.

    Args:
        frames: (h, w, 3) uint16 each, `num_frames` of them, any size.
        size: (width, height) they are resized to.
        canvas_size: (width, height), not smaller.
        canvas_frames: not fewer than `num_frames`.
        on_frame: called with the frames done so far.

    Returns:
        (1, 3, canvas frames, canvas height, canvas width) in [-1, 1], float32.
    """
    video = torch.empty(1, 3, canvas_frames, *canvas_size[::-1])
    left, top = _offsets(canvas_size, size)
    right, bottom = canvas_size[0] - size[0] - left, canvas_size[1] - size[1] - top
    for index, frame in enumerate(frames):
        pixels = torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1) / 32767.5 - 1
        pixels = resize(pixels[None, :, None], size)[:, :, 0]
        video[:, :, index] = functional.pad(pixels, (left, right, top, bottom), "replicate")
        on_frame(index + 1)
    video[:, :, num_frames:] = video[:, :, num_frames - 1 : num_frames]
    return video


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
