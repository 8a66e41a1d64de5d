"""Large frames in tiles: where the tiles lie, how they become one frame, where they wait on disk.

Tiles and blending are those of diffusers' tiled autoencoder (AutoencoderKLWan.tiled_decode, 0.42):
a tile every stride from the top left, cut off at the frame's edge; in the overlap with the tile
above, then in the one with the tile to the left, a linear ramp from that neighbour, itself blended.
"""

from __future__ import annotations

import tempfile
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """One tile of a frame; the unit (latents or pixels) is that of the call that made it."""

    row: int  # of the grid of tiles
    column: int
    top: int
    left: int
    height: int
    width: int

    def cut(self, video: Tensor, scale: int = 1) -> Tensor:
        """The tile's part of (..., height, width); `scale` of its units for one of the tile's."""
        rows = slice(self.top * scale, (self.top + self.height) * scale)
        return video[..., rows, self.left * scale : (self.left + self.width) * scale]


def cut_frame(size: tuple[int, int], side: int, stride: int) -> list[Tile]:
    """Tiles of a frame, row by row from the top left.

    Args:
        size: (width, height) of the frame.
        side: of a tile; those at the right and bottom edge may be smaller.
        stride: from one tile to the next, at least half of `side`, at most `side`.
    """
    width, height = size
    return [
        Tile(row, column, top, left, min(side, height - top), min(side, width - left))
        for row, top in enumerate(range(0, height, stride))
        for column, left in enumerate(range(0, width, stride))
    ]


class Scratch:
    """Arrays by key in a nameless temporary file: for what a clip has too much of for memory.

    A key that is put again takes the old array's place, so the file does not grow with the puts.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """The file lies in `folder`, else where the system has its temporary files."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed on exit
        self._places: dict[Hashable, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, key: Hashable, array: np.ndarray) -> None:
        """Keep a copy of `array`.

        Raises:
            OSError: the disk is full.
        """
        offset, shape, dtype = self._places.get(key, (self._end, array.shape, array.dtype))
        if (shape, dtype) != (array.shape, array.dtype):  # would not fit into the old place
            offset = self._end
        self._places[key] = offset, array.shape, array.dtype
        self._end = max(self._end, offset + array.nbytes)
        self._file.seek(offset)
        self._file.write(np.ascontiguousarray(array).data)

    def get(self, key: Hashable) -> np.ndarray:
        """The array that was put last under `key`."""
        offset, shape, dtype = self._places[key]
        array = np.empty(shape, dtype)
        self._file.seek(offset)
        self._file.readinto(array.data.cast("B"))
        return array


class Seams:
    """Blends tiles into their neighbours as they come: row by row, each through all its chunks.

    What a tile shares with the next ones waits in `scratch`, for it is there for every chunk.
    """

    def __init__(self, scratch: Scratch, stride: int, grain: int = 1) -> None:
        """
        Args:
            stride: of the tiles, in elements of what `blend` gets.
            grain: neighbouring elements that weigh the same; the patch where elements are pixels
                of patches, for diffusers blends whole patches.
        """
        self._scratch, self._stride, self._grain = scratch, stride, grain

    def blend(self, tile: Tile, chunk: int, video: Tensor) -> Tensor:
        """The part of a tile that no later tile changes, blended with the tiles before it.

        Args:
            chunk: index in time.
            video: what the tile holds, (1, C, frames, height, width), float32, on the CPU.

        Returns:
            (1, C, frames, h, w), neither side longer than the stride.
        """
        scratch, stride = self._scratch, self._stride
        if tile.row > 0:
            video = self._ramp(scratch.get(("below", tile.column, chunk)), video, dim=-2)
        if tile.column > 0:
            video = self._ramp(scratch.get(("right", chunk)), video, dim=-1)
        if video.shape[-2] > stride:
            scratch.put(("below", tile.column, chunk), video[..., stride:, :].numpy())
        if video.shape[-1] > stride:
            scratch.put(("right", chunk), video[..., stride:].numpy())
        return video[..., :stride, :stride]

    def _ramp(self, before: np.ndarray, video: Tensor, dim: int) -> Tensor:
        extent = before.shape[dim]
        weight = torch.arange(extent) // self._grain * self._grain / extent
        weight = weight[:, None] if dim == -2 else weight
        start, rest = video.split([extent, video.shape[dim] - extent], dim)
        return torch.cat([torch.lerp(torch.from_numpy(before), start, weight), rest], dim)
