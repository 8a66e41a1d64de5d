"""Inward window attention in tiles of queries, through torch's own attention; runs anywhere.

A tile of queries sees the union of its windows, less what a mask hides of it; the mask never grows
with the square of the clip. Tiles of one shape in one row of tiles go as one call: their keys are
overlapping ranges of one strip, so none is copied for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from freeswim.method.window import InwardWindow

# Rows, and columns, of queries in a tile, at most: larger ones see more keys too many, smaller ones
# are too few queries for torch's kernel (measured on a CPU).
TILE = 4
BORDER_TILE = 32  # the same along an axis where the tile's queries share one window
MASK_ENTRIES = 1 << 23  # of one tile's mask: 16 MiB in bfloat16


def tiled_attention(
    query: Tensor, key: Tensor, value: Tensor, window: InwardWindow, scale: float
) -> Tensor:
    """Window attention; shapes as in `attention.window_attention`."""
    grid = (window.frames, window.rows, window.columns)
    query = query.unflatten(1, grid)  # (B, T, h, w, heads, head dim)
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    mask_of = cache(partial(_tile_mask, frames=window.frames, like=query))  # tiles share them
    row_tiles = list(_axis_tiles(window.rows, window.row_start, window.num_rows))
    column_tiles = list(_axis_tiles(window.columns, window.column_start, window.num_columns))
    most_rows = max(rows.num_keys for rows in row_tiles)
    key_strip, value_strip = (
        _Strip(tokens.unflatten(1, grid), most_rows) for tokens in (key, value)
    )
    for rows in row_tiles:
        for index in range(rows.num_tiles):
            key_strip.take(rows.keys_of(index))
            value_strip.take(rows.keys_of(index))
            for columns in column_tiles:
                keys, values = key_strip.of_tiles(columns), value_strip.of_tiles(columns)
                for frames in _frame_chunks(
                    window.frames, rows.size * columns.size * keys.shape[2]
                ):
                    box = (slice(None), frames, rows.queries_of(index), columns.queries)
                    tiles = columns.split(query[box])
                    attended = scaled_dot_product_attention(
                        tiles.flatten(3, 5).flatten(1, 2),
                        keys,
                        values,
                        attn_mask=mask_of(rows.sees, columns.sees, tiles.shape[3]),
                        scale=scale,
                    )
                    columns.split(out[box]).copy_(attended.view(tiles.shape))
    return out.flatten(1, 3)


# What each query of a tile sees along one axis, as (first, end) among the tile's keys.
_Sees = tuple[tuple[int, int], ...]


class _AxisTiles(NamedTuple):
    """Neighbouring tiles of one size along one axis; their keys move on as they do."""

    first: int  # query of the first tile
    num_tiles: int
    size: int  # queries of a tile
    first_key: int  # of the first tile
    sees: _Sees  # the same in every tile

    @property
    def num_keys(self) -> int:
        """Keys of one tile."""
        return self.sees[-1][1]

    @property
    def queries(self) -> slice:
        """Queries of all tiles."""
        return slice(self.first, self.first + self.num_tiles * self.size)

    def queries_of(self, index: int) -> slice:
        """Queries of one tile."""
        first = self.first + index * self.size
        return slice(first, first + self.size)

    def keys_of(self, index: int) -> slice:
        """Keys of one tile."""
        first = self.first_key + index * self.size
        return slice(first, first + self.num_keys)

    def split(self, tokens: Tensor) -> Tensor:
        """(B, T, rows, columns of all tiles, heads, head dim) by the tile of their column.

        Returns:
            (tiles, B, heads, T, rows, columns of one tile, head dim), a view.
        """
        return tokens.unflatten(3, (self.num_tiles, self.size)).permute(3, 0, 5, 1, 2, 4, 6)


class _Strip:
    """Some rows of all keys, or values, columns first: those of a tile are then one range.

    Args:
        tokens: (B, T, h, w, heads, head dim).
        most_rows: that are taken at once. Their memory is used again for the next ones.
    """

    def __init__(self, tokens: Tensor, most_rows: int) -> None:
        self.tokens = tokens.permute(0, 4, 3, 1, 2, 5)  # (B, heads, w, T, h, head dim)
        self.buffer = tokens.new_empty(self.tokens[..., 0, :].numel() * most_rows)
        self.strip = self.buffer

    def take(self, rows: slice) -> None:
        """Fill the strip with `rows`."""
        taken = self.tokens[..., rows, :]
        self.strip = self.buffer[: taken.numel()].view(taken.shape).copy_(taken)

    def of_tiles(self, columns: _AxisTiles) -> Tensor:
        """The strip's tokens that each tile sees, (tiles, B · heads, keys, head dim).

        A view: neighbouring tiles overlap in it, none is copied.
        """
        seen = slice(columns.first_key, columns.keys_of(columns.num_tiles - 1).stop)
        ranges = self.strip.flatten(3, 4)[:, :, seen].unfold(2, columns.num_keys, columns.size)
        return ranges.permute(2, 0, 1, 5, 3, 4).flatten(3, 4).flatten(1, 2)


def _axis_tiles(
    num_tokens: int, start_of: Callable[[int], int], length: int
) -> Iterator[_AxisTiles]:
    """Tiles along one axis, cut where the window begins and ends to move.

    The queries next to a border share one window: tiles of their own see no key too many, and may
    be larger. Tiles inside differ by one query at most, the larger ones first.

    Args:
        num_tokens: along this axis.
        start_of: first key that a query sees.
        length: keys that a query sees.
    """
    starts = [start_of(query) for query in range(num_tokens)]
    first_inside = starts.count(starts[0])
    last_inside = max(first_inside, num_tokens - starts.count(starts[-1]))
    for first, end in ((0, first_inside), (last_inside, num_tokens)):
        for tile in range(first, end, BORDER_TILE):
            size = min(BORDER_TILE, end - tile)
            yield _AxisTiles(tile, 1, size, starts[tile], ((0, length),) * size)
    num_inside = last_inside - first_inside
    num_tiles = -(-num_inside // TILE)
    first = first_inside
    for num, size in _even_sizes(num_inside, num_tiles):
        sees = tuple((query, query + length) for query in range(size))
        yield _AxisTiles(first, num, size, starts[first], sees)
        first += num * size


def _even_sizes(total: int, num_parts: int) -> Iterator[tuple[int, int]]:
    """(parts, size of each) that make up `total`; sizes differ by one at most, larger ones first."""
    if num_parts == 0:
        return
    size, num_larger = divmod(total, num_parts)
    if num_larger:
        yield num_larger, size + 1
    yield num_parts - num_larger, size


def _frame_chunks(num_frames: int, entries_per_frame: int) -> Iterator[slice]:
    """Frames of queries whose mask stays within `MASK_ENTRIES`."""
    chunk = max(1, MASK_ENTRIES // entries_per_frame)
    for first in range(0, num_frames, chunk):
        yield slice(first, min(first + chunk, num_frames))


def _tile_mask(
    row_sees: _Sees, column_sees: _Sees, query_frames: int, *, frames: int, like: Tensor
) -> Tensor | None:
    """What is added to the scores of a tile, (query frames · rows · columns, keys of the tile).

    None where every query sees every key. Attention makes such numbers of booleans anyway; here
    they are made once for all tiles that share them.

    Args:
        frames: of the keys.
        like: its dtype and device are the mask's.
    """
    rows, columns = _axis_mask(row_sees), _axis_mask(column_sees)
    if rows.all() and columns.all():
        return None
    # (rows, columns, columns', rows'), the keys in the order of their strip
    spatial = rows[:, None, None, :] & columns[None, :, :, None]
    hidden = torch.where(spatial, 0.0, float("-inf")).to(like)
    keys = hidden[..., None, :].expand(-1, -1, -1, frames, -1).flatten(2).flatten(0, 1)
    return keys.repeat(query_frames, 1)


def _axis_mask(sees: _Sees) -> Tensor:
    """(queries, keys) of one axis of a tile, bool."""
    bounds = torch.tensor(sees)
    keys = torch.arange(sees[-1][1])
    return (keys >= bounds[:, :1]) & (keys < bounds[:, 1:])
