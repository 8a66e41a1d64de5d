"""Inward window attention through FlexAttention, compiled; needs a compiler.

Tokens are reordered into spatial tiles, so that the blocks of the mask follow the window. The
reordering is a permutation: the output is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from freeswim.method.window import InwardWindow

BLOCK = 128  # tokens along an edge of a block of the mask
TILE = (8, 16)  # rows and columns of the spatial tiles that make up these blocks


def flex_window_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: InwardWindow,
    scale: float,
    *,
    is_in_tiles: bool = False,
) -> Tensor:
    """Window attention; shapes as in `attention.window_attention`.

    Args:
        is_in_tiles: queries, keys and values are in the order of tiles already; else they are
            copied into it, which takes as much memory again.
    """
    order, raster, block_mask = layout(window, query.device)
    if not is_in_tiles:
        query, key, value = (tokens[:, order] for tokens in (query, key, value))
    query, key, value = (tokens.transpose(1, 2) for tokens in (query, key, value))
    out = _compiled()(query, key, value, block_mask=block_mask, scale=scale)
    return cast(Tensor, out).transpose(1, 2)[:, raster]


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


@lru_cache(maxsize=4)  # the shapes of one run; a 4K mask is some hundred MB
def layout(window: InwardWindow, device: torch.device) -> tuple[Tensor, Tensor, BlockMask]:
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
        BLOCK_SIZE=BLOCK,
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
    tile_rows, tile_columns = TILE
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
    missing = -len(position) % BLOCK
    blocks = torch.cat([position, position[-1:].expand(missing)]).unflatten(0, (-1, BLOCK))
    return blocks.amin(1), blocks.amax(1)


def _block_lists(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Number and indices of the key blocks of each query block, as FlexAttention wants them."""
    counts = blocks.sum(1, dtype=torch.int32)
    indices = blocks.to(torch.int8).argsort(dim=1, descending=True, stable=True).to(torch.int32)
    return counts[None, None], indices[None, None].contiguous()
