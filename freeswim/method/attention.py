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
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from freeswim.errors import RequestError
from freeswim.method.settings import AttentionBackend
from freeswim.method.window import InwardWindow

ExactBackend = Literal["natten", "flex", "tiled"]

TILE = 8  # rows of queries in a tile, at most
# Columns, at most: fewer keys than with 8 and still enough queries of all frames (measured, CPU).
TILE_COLUMNS = 4
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
    query = query.transpose(1, 2).unflatten(2, grid)  # (B, heads, T, h, w, head dim)
    # Columns before frames and rows: the keys of neighbouring tiles are then ranges of one strip.
    key, value = (
        tokens.transpose(1, 2).unflatten(2, grid).permute(0, 1, 4, 2, 3, 5)
        for tokens in (key, value)
    )  # (B, heads, w, T, h, head dim)
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    mask_of = cache(partial(_tile_mask, like=query))  # interior tiles share one
    for rows in _axis_tiles(window.rows, window.row_start, window.num_rows, TILE):
        strip = [tokens[..., rows.keys, :].flatten(3, 4) for tokens in (key, value)]
        for columns in _axis_tiles(
            window.columns, window.column_start, window.num_columns, TILE_COLUMNS
        ):
            tile_keys, tile_values = (tokens[:, :, columns.keys].flatten(2, 3) for tokens in strip)
            num_queries = len(rows.sees) * len(columns.sees)
            for frames in _frame_chunks(window.frames, num_queries * tile_keys.shape[2]):
                tile = query[:, :, frames, rows.queries, columns.queries]
                attended = scaled_dot_product_attention(
                    tile.flatten(2, 4),
                    tile_keys,
                    tile_values,
                    attn_mask=mask_of(rows.sees, columns.sees, tile.shape[2]),
                    scale=scale,
                )
                out[:, :, frames, rows.queries, columns.queries] = attended.view(tile.shape)
    return out.flatten(2, 4).transpose(1, 2)


# What each query of a tile sees along one axis, as (first, end) among the tile's keys.
_Sees = tuple[tuple[int, int], ...]


class _AxisTile(NamedTuple):
    """One axis of a tile."""

    queries: slice
    keys: slice
    sees: _Sees


def _axis_tiles(
    num_tokens: int, start_of: Callable[[int], int], length: int, most: int
) -> Iterator[_AxisTile]:
    """Tiles along one axis, cut where the window begins and ends to move.

    The queries next to a border share one window: tiles of their own see no key too many.

    Args:
        num_tokens: along this axis.
        start_of: first key that a query sees.
        length: keys that a query sees.
        most: queries of a tile.
    """
    starts = [start_of(query) for query in range(num_tokens)]
    first_inside = starts.count(starts[0])
    last_inside = max(first_inside, num_tokens - starts.count(starts[-1]))
    for part in ((0, first_inside), (first_inside, last_inside), (last_inside, num_tokens)):
        for first, end in _even_cuts(*part, most):
            key_first = starts[first]
            sees = tuple(
                (start - key_first, start - key_first + length) for start in starts[first:end]
            )
            yield _AxisTile(slice(first, end), slice(key_first, key_first + sees[-1][1]), sees)


def _even_cuts(first: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """The range in pieces of nearly the same length, each at most `most`."""
    num_pieces = -(-(end - first) // most)
    cuts = [first + (end - first) * piece // num_pieces for piece in range(num_pieces)]
    return pairwise([*cuts, end])


def _frame_chunks(num_frames: int, entries_per_frame: int) -> Iterator[slice]:
    """Frames of queries whose mask stays within `MASK_ENTRIES`."""
    chunk = max(1, MASK_ENTRIES // entries_per_frame)
    for first in range(0, num_frames, chunk):
        yield slice(first, min(first + chunk, num_frames))


def _tile_mask(
    row_sees: _Sees, column_sees: _Sees, query_frames: int, *, like: Tensor
) -> Tensor | None:
    """What is added to the scores of a tile, (query frames · rows · columns, keys of the tile).

    None where every query sees every key. Attention makes such numbers of booleans anyway; here
    they are made once for all tiles that share them.

    Args:
        like: (B, heads, T, h, w, head dim); its dtype and device are the mask's.
    """
    rows, columns = _axis_mask(row_sees), _axis_mask(column_sees)
    if rows.all() and columns.all():
        return None
    frames = like.shape[2]
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
