"""Inward window attention: one function, exact backends behind it.

All backends compute the same attention over the keys of `InwardWindow`; they differ in speed and
in what they need:

* `natten`: NATTEN's fused kernels; an inward window is neighbourhood attention.
* `flex`: FlexAttention, compiled, on tokens reordered into spatial tiles so that the blocks of its
  mask follow the window; needs a compiler (CUDA, or a CPU with a C++ compiler on request).
* `tiled`: tiles of queries against the union of their windows through torch's own attention;
  runs anywhere, its mask never grows with the square of the clip.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from freeswim.errors import RequestError
from freeswim.method.settings import AttentionBackend
from freeswim.method.window import InwardWindow

ExactBackend = Literal["natten", "flex", "tiled"]

TILE = 8  # queries along an edge of a tile: fewer keys than 16, fewer calls than 4 (measured, CPU)
MASK_ENTRIES = 1 << 23  # of one tile's mask: 16 MiB in bfloat16
FLEX_BLOCK = 128  # tokens along an edge of a FlexAttention mask block
FLEX_TILE = (8, 16)  # rows and columns of the spatial tiles that make up these blocks


def window_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: InwardWindow,
    *,
    scale: float,
    backend: ExactBackend,
) -> Tensor:
    """Attention of every query over the keys of its inward window.

    Args:
        query: (B, L, heads, head dim), L = window.num_tokens in raster order (frame, row, column).
        key: the same shape.
        value: the same shape.
        scale: what the scores are multiplied with.
        backend: as chosen by `choose_backend`.

    Returns:
        (B, L, heads, head dim).
    """
    if window.is_full:
        return full_attention(query, key, value, scale=scale)
    compute = {"natten": _natten, "flex": _flex, "tiled": _tiled}[backend]
    return compute(query, key, value, window, scale)


def full_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """Attention of every query over every key; shapes as in `window_attention`."""
    out = scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=scale
    )
    return out.transpose(1, 2)


def choose_backend(
    asked: AttentionBackend, window: InwardWindow, device: torch.device
) -> ExactBackend:
    """The backend that computes `window` on `device`, the fastest first where none is asked for.

    Raises:
        RequestError: the backend asked for cannot run here.
    """
    usable = available_backends(window, device)
    if asked == "auto":
        return usable[0]
    if (
        asked == "flex" or asked in usable
    ):  # FlexAttention compiles for a CPU too, but only if asked
        return asked
    raise RequestError(
        f"Attention backend {asked} cannot run on {device.type} here.",
        hint=f"Use auto, which takes {usable[0]}.",
    )


def available_backends(window: InwardWindow, device: torch.device) -> list[ExactBackend]:
    """Backends that `auto` may take for `window` on `device`, the fastest first."""
    usable: list[ExactBackend] = []
    # NATTEN has no kernel of length 1.
    if _has_natten(device) and min(window.frames, window.num_rows, window.num_columns) > 1:
        usable.append("natten")
    if device.type == "cuda":
        usable.append("flex")
    return [*usable, "tiled"]


def _has_natten(device: torch.device) -> bool:
    if device.type != "cuda" or importlib.util.find_spec("natten") is None:
        return False
    import natten  # pyright: ignore[reportMissingImports] (optional, CUDA only)

    return bool(natten.HAS_LIBNATTEN)


def _natten(
    query: Tensor, key: Tensor, value: Tensor, window: InwardWindow, scale: float
) -> Tensor:
    import natten  # pyright: ignore[reportMissingImports] (optional, CUDA only)

    grid = (window.frames, window.rows, window.columns)
    query, key, value = (tokens.unflatten(1, grid) for tokens in (query, key, value))
    kernel_size = (window.frames, window.num_rows, window.num_columns)
    out = natten.na3d(query, key, value, kernel_size=kernel_size, scale=scale)
    return out.flatten(1, 3)


# ---------------------------------------------------------------------------------------- tiled


def _tiled(query: Tensor, key: Tensor, value: Tensor, window: InwardWindow, scale: float) -> Tensor:
    grid = (window.frames, window.rows, window.columns)
    query, key, value = (tokens.unflatten(1, grid) for tokens in (query, key, value))
    out = torch.empty_like(query)
    masks: dict[tuple[Any, ...], Tensor] = {}  # interior tiles share one
    for rows, key_rows, row_sees in _axis_tiles(window.rows, window.row_start, window.num_rows):
        for columns, key_columns, column_sees in _axis_tiles(
            window.columns, window.column_start, window.num_columns
        ):
            tile_keys = key[:, :, key_rows, key_columns].flatten(1, 3).transpose(1, 2)
            tile_values = value[:, :, key_rows, key_columns].flatten(1, 3).transpose(1, 2)
            num_queries = len(row_sees) * len(column_sees)
            for frames in _frame_chunks(window.frames, num_queries * tile_keys.shape[2]):
                tile = query[:, frames, rows, columns]
                num_frames = tile.shape[1]
                pattern = (row_sees, column_sees, num_frames, tile_keys.shape[2])
                if pattern not in masks:
                    masks[pattern] = _tile_mask(
                        row_sees, column_sees, num_frames, window.frames
                    ).to(query.device)
                attended = scaled_dot_product_attention(
                    tile.flatten(1, 3).transpose(1, 2),
                    tile_keys,
                    tile_values,
                    attn_mask=masks[pattern],
                    scale=scale,
                )
                out[:, frames, rows, columns] = attended.transpose(1, 2).unflatten(
                    1, tile.shape[1:4]
                )
    return out.flatten(1, 3)


# What each query of a tile sees along one axis, as (first, end) among the tile's keys.
_Sees = tuple[tuple[int, int], ...]


def _axis_tiles(
    num_tokens: int, start_of: Callable[[int], int], length: int
) -> Iterator[tuple[slice, slice, _Sees]]:
    """Queries, keys and what each query sees of these keys, tile by tile along one axis."""
    for first in range(0, num_tokens, TILE):
        end = min(first + TILE, num_tokens)
        key_first, key_end = start_of(first), start_of(end - 1) + length
        sees = tuple(
            (start_of(query) - key_first, start_of(query) - key_first + length)
            for query in range(first, end)
        )
        yield slice(first, end), slice(key_first, key_end), sees


def _frame_chunks(num_frames: int, entries_per_frame: int) -> Iterator[slice]:
    """Frames of queries whose mask stays within `MASK_ENTRIES`."""
    chunk = max(1, MASK_ENTRIES // entries_per_frame)
    for first in range(0, num_frames, chunk):
        yield slice(first, min(first + chunk, num_frames))


def _tile_mask(row_sees: _Sees, column_sees: _Sees, query_frames: int, key_frames: int) -> Tensor:
    """Which keys each query sees, (query frames · rows · columns, keys of the tile), bool."""
    rows, columns = _axis_mask(row_sees), _axis_mask(column_sees)
    spatial = rows[:, None, :, None] & columns[None, :, None, :]  # (rows, columns, rows', columns')
    return spatial.flatten(2).flatten(0, 1).repeat(query_frames, key_frames)


def _axis_mask(sees: _Sees) -> Tensor:
    """(queries, keys) of one axis of a tile, bool."""
    bounds = torch.tensor(sees)
    keys = torch.arange(sees[-1][1])
    return (keys >= bounds[:, :1]) & (keys < bounds[:, 1:])


# ----------------------------------------------------------------------------------------- flex


def _flex(query: Tensor, key: Tensor, value: Tensor, window: InwardWindow, scale: float) -> Tensor:
    order, raster, block_mask = _flex_layout(window, query.device)
    query, key, value = (tokens[:, order].transpose(1, 2) for tokens in (query, key, value))
    out = _compiled_flex()(query, key, value, block_mask=block_mask, scale=scale)
    return cast(Tensor, out).transpose(1, 2)[:, raster]


@cache
def _compiled_flex() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


@lru_cache(maxsize=4)  # the shapes of one run; a 4K mask is some hundred MB
def _flex_layout(window: InwardWindow, device: torch.device) -> tuple[Tensor, Tensor, BlockMask]:
    """Tokens in tile order, the way back, and the block mask of the tokens in that order."""
    order = _tile_order(window).to(device)
    spatial = order % (window.rows * window.columns)
    row, column = spatial // window.columns, spatial % window.columns
    row_start = torch.tensor([window.row_start(r) for r in range(window.rows)], device=device)[row]
    column_start = torch.tensor(
        [window.column_start(c) for c in range(window.columns)], device=device
    )[column]
    num_rows, num_columns = window.num_rows, window.num_columns

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        down, across = row[key] - row_start[query], column[key] - column_start[query]
        return (down >= 0) & (down < num_rows) & (across >= 0) & (across < num_columns)

    some_rows, all_rows = _block_coverage(row, row_start, num_rows)
    some_columns, all_columns = _block_coverage(column, column_start, num_columns)
    full = all_rows & all_columns
    partial = some_rows & some_columns & ~full
    block_mask = BlockMask.from_kv_blocks(
        *_block_lists(partial),
        *_block_lists(full),
        BLOCK_SIZE=FLEX_BLOCK,
        mask_mod=sees,
        seq_lengths=(window.num_tokens, window.num_tokens),
    )
    return order, order.argsort(), block_mask


def _tile_order(window: InwardWindow) -> Tensor:
    """Raster index of each token when tokens are sorted by spatial tile, then frame, then raster."""
    frame, row, column = (
        axis.flatten()
        for axis in torch.meshgrid(
            torch.arange(window.frames),
            torch.arange(window.rows),
            torch.arange(window.columns),
            indexing="ij",
        )
    )
    tile_rows, tile_columns = FLEX_TILE
    tile = (row // tile_rows) * (window.columns // tile_columns + 1) + column // tile_columns
    return (tile * window.frames + frame).argsort(stable=True)


def _block_coverage(position: Tensor, start: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Whether some, and whether all, pairs of a (query block, key block) see each other.

    Judged by the blocks' extents along one axis: `some` may be true of a block without such a
    pair, which costs time and no exactness, for the mask decides inside it.
    """
    first, last = _block_extent(position)
    start_first, start_last = _block_extent(start)
    some = (last[None] >= start_first[:, None]) & (first[None] < start_last[:, None] + length)
    every = (first[None] >= start_last[:, None]) & (last[None] < start_first[:, None] + length)
    return some, every


def _block_extent(position: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value in every block of tokens."""
    missing = -len(position) % FLEX_BLOCK
    blocks = torch.cat([position, position[-1:].expand(missing)]).unflatten(0, (-1, FLEX_BLOCK))
    return blocks.amin(1), blocks.amax(1)


def _block_lists(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Number and indices of the key blocks of each query block, as FlexAttention wants them."""
    counts = blocks.sum(1, dtype=torch.int32)
    indices = blocks.to(torch.int8).argsort(dim=1, descending=True, stable=True).to(torch.int32)
    return counts[None, None], indices[None, None].contiguous()
