"""What the refine pass costs as the official program runs it: the baseline of `freeswim bench`.

A plain reading of the method without its gains, written from the paper and from what the official
program was seen to do; its outputs agree with the goldens. It models this cost:

* every forward of the `cache` mode carries two rows: on refresh steps the conditional one holds the
  window branch and the full branch, everywhere else the second row is a copy of the first;
* the unconditional forward follows the conditional one, it never shares a batch with it;
* tokens stay in raster order and window attention pays for every 128x128 block that the mask
  touches in that order, as FlexAttention does: on a GPU it is FlexAttention, on a CPU it is
  torch's own attention of 128 queries over the key blocks that their mask touches;
* cross-attention outputs are those of the full branch, used by both rows and until the next refresh.

Where a plain reading leaves a choice, the cheaper one is taken, so that a gain over this baseline
is never a gain over straw: masks are made once a pass, key blocks are read in runs, and reused
cross-attention costs nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from freeswim.method.denoise import token_window
from freeswim.method.schedule import attention_scale, is_refresh, refine_schedule
from freeswim.method.settings import RefineSettings
from freeswim.method.window import InwardWindow

BLOCK = 128  # tokens along an edge of a mask block: FlexAttention's own


@torch.no_grad()
def refine(
    transformer: WanTransformer3DModel,
    latents: Tensor,
    prompt_embeds: Tensor,
    negative_prompt_embeds: Tensor,
    *,
    native_grid: tuple[int, int],
    settings: RefineSettings,
) -> Tensor:
    """The refine pass at the official cost; arguments and result as of `freeswim.method.refine`."""
    scheduler, timesteps = refine_schedule(settings, latents.device)
    window = token_window(transformer, latents, native_grid)
    head_dim = transformer.config["attention_head_dim"]
    scale = attention_scale(settings.temperature, window, head_dim)
    branches = Branches(raster_attention(window, scale, latents.device), scale)
    ordinary = dict(transformer.attn_processors)
    transformer.set_attn_processor(official_processors(transformer, branches))
    try:
        for step, timestep in enumerate(timesteps):
            refreshes = is_refresh(step, settings)
            overrides = (True, settings.override_unconditional)
            conditional, unconditional = (
                branches.forward(transformer, latents, timestep, text, overridden, refreshes)
                for text, overridden in zip(
                    (prompt_embeds, negative_prompt_embeds), overrides, strict=True
                )
            )
            velocity = unconditional + settings.guidance_scale * (conditional - unconditional)
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    finally:
        transformer.set_attn_processor(ordinary)
    return latents


@dataclass
class Branches:
    """What the two rows of the forward that runs now are."""

    window_attention: Callable[[Tensor, Tensor, Tensor], Tensor]  # each (B, heads, L, head dim)
    scale: float
    is_overridden: bool = False
    refreshes: bool = False
    kept: dict[int, Tensor] = field(default_factory=dict)  # block -> (1, L, D), of the full row

    def forward(
        self,
        transformer: WanTransformer3DModel,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        is_overridden: bool,
        refreshes: bool,
    ) -> Tensor:
        """Velocity of the first of two rows, which is the window branch, float32."""
        self.is_overridden, self.refreshes = is_overridden, refreshes
        dtype = transformer.dtype
        return transformer(
            hidden_states=latents.to(dtype).expand(2, -1, -1, -1, -1),
            timestep=timestep.expand(2),
            encoder_hidden_states=text.to(dtype).expand(2, -1, -1),
            return_dict=False,
        )[0][:1].to(latents.dtype)

    def self_attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Of both rows; the second is the full branch where cross-attention is to be kept."""
        if not (self.is_overridden and self.refreshes):
            return self.window_attention(query, key, value)
        window = self.window_attention(query[:1], key[:1], value[:1])
        full = scaled_dot_product_attention(query[1:], key[1:], value[1:], scale=self.scale)
        return torch.cat([window, full])


class SelfAttention:
    """diffusers processor: self-attention of two rows."""

    def __init__(self, branches: Branches) -> None:
        self.branches = branches

    def __call__(
        self, attn: Any, hidden_states: Tensor, text: None, mask: None, rotary: Any
    ) -> Tensor:
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(hidden_states)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1))
        query, key = rotate(query, *rotary), rotate(key, *rotary)
        out = self.branches.self_attention(*(one.transpose(1, 2) for one in (query, key, value)))
        out = out.transpose(1, 2).flatten(2).type_as(hidden_states)
        return attn.to_out[1](attn.to_out[0](out))


class CrossAttention:
    """diffusers processor: the full row's cross-attention for both rows, until the next refresh."""

    def __init__(self, branches: Branches, block: int, ordinary: Callable[..., Tensor]) -> None:
        self.branches = branches
        self.block = block
        self.ordinary = ordinary

    def __call__(self, attn: Any, hidden_states: Tensor, text: Tensor, *nothing: None) -> Tensor:
        branches = self.branches
        if not branches.is_overridden:
            return self.ordinary(attn, hidden_states, text, *nothing)
        if branches.refreshes:
            full = self.ordinary(attn, hidden_states[1:], text[1:], *nothing)
            branches.kept[self.block] = full
        return branches.kept[self.block].expand(2, -1, -1)


def official_processors(transformer: Any, branches: Branches) -> dict[str, Any]:
    """Name -> processor, of every attention of the transformer."""
    processors: dict[str, Any] = {}
    for index, block in enumerate(transformer.blocks):
        ordinary = block.attn2.processor
        processors[f"blocks.{index}.attn1.processor"] = SelfAttention(branches)
        processors[f"blocks.{index}.attn2.processor"] = CrossAttention(branches, index, ordinary)
    return processors


def rotate(tokens: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding of (B, L, heads, head dim), as the Wan transformer defines it."""
    even, odd = tokens.unflatten(-1, (-1, 2)).unbind(-1)
    cosines, sines = cosines[..., 0::2], sines[..., 1::2]
    rotated = torch.empty_like(tokens)
    rotated[..., 0::2] = even * cosines - odd * sines
    rotated[..., 1::2] = even * sines + odd * cosines
    return rotated


# ------------------------------------------------------------------ window attention, raster order


def raster_attention(
    window: InwardWindow, scale: float, device: torch.device
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Window attention of (B, heads, L, head dim) in raster order, in blocks of 128 by 128."""
    sees = window_rule(window, device)
    if device.type == "cuda":
        length = window.num_tokens
        mask = create_block_mask(sees, None, None, length, length, device=device, _compile=True)
        flex = compiled_flex()
        return lambda query, key, value: flex(query, key, value, block_mask=mask, scale=scale)
    blocks = list(query_blocks(window, sees))
    return lambda query, key, value: blocked_attention(query, key, value, blocks, scale)


@cache
def compiled_flex() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


def window_rule(window: InwardWindow, device: torch.device) -> Callable[..., Tensor]:
    """Whether a query sees a key, both raster indices, as FlexAttention asks for it."""
    row_start = torch.tensor([window.row_start(row) for row in range(window.rows)], device=device)
    column_start = torch.tensor(
        [window.column_start(column) for column in range(window.columns)], device=device
    )
    num_rows, num_columns, columns = window.num_rows, window.num_columns, window.columns
    per_frame = window.rows * columns

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        query, key = query % per_frame, key % per_frame
        down = key // columns - row_start[query // columns]
        across = key % columns - column_start[query % columns]
        return (down >= 0) & (down < num_rows) & (across >= 0) & (across < num_columns)

    return sees


@dataclass(frozen=True)
class QueryBlock:
    """128 queries and the key blocks that their mask touches."""

    queries: slice
    keys: list[slice]  # runs of neighbouring key blocks
    mask: Tensor  # (queries, keys), added to the scores


def query_blocks(window: InwardWindow, sees: Callable[..., Tensor]) -> list[QueryBlock]:
    """The block mask of a CPU, one entry for 128 queries each."""
    num_tokens, nothing = window.num_tokens, torch.tensor(0)
    tokens = torch.arange(num_tokens)
    masks: dict[bytes, Tensor] = {}  # latent frames often share theirs
    blocks = []
    for first in range(0, num_tokens, BLOCK):
        queries = tokens[first : first + BLOCK]
        seen = sees(nothing, nothing, queries[:, None], tokens[None])
        touched = [bool(block.any()) for block in seen.any(0).split(BLOCK)]
        seen = seen[:, torch.tensor(touched).repeat_interleave(BLOCK)[:num_tokens]]
        pattern = seen.numpy().tobytes()
        if pattern not in masks:
            masks[pattern] = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
        keys = [slice(a * BLOCK, min(b * BLOCK, num_tokens)) for a, b in runs(touched)]
        blocks.append(QueryBlock(slice(first, first + len(queries)), keys, masks[pattern]))
    return blocks


def runs(touched: list[bool]) -> list[tuple[int, int]]:
    """First and end of each run of neighbours that are true."""
    edges = [
        index
        for index, (before, after) in enumerate(
            zip([False, *touched], [*touched, False], strict=True)
        )
        if before != after
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def blocked_attention(
    query: Tensor, key: Tensor, value: Tensor, blocks: list[QueryBlock], scale: float
) -> Tensor:
    """Attention of each query block over the key blocks that its mask touches."""
    key, value = key.contiguous(), value.contiguous()
    out = torch.empty_like(query)
    for block in blocks:
        keys, values = (
            torch.cat([tokens[:, :, run] for run in block.keys], dim=2) for tokens in (key, value)
        )
        out[:, :, block.queries] = scaled_dot_product_attention(
            query[:, :, block.queries], keys, values, attn_mask=block.mask, scale=scale
        )
    return out
