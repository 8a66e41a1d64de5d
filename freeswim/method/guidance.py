"""Cheaper guidance: what the full branch sees in place of the latents as they are.

* `full`: the latents at their size and positions; this is the method.
* `interpolated`: the same latents at rotary positions drawn together to the native grid's extent,
  so that no distance is larger than in training. It costs what `full` costs.
* `native`: every n-th value of the latents, as many as the native grid has: the noise stays white,
  which averages would not leave it. What the full branch gives is spread over the target's grid.
  Its cost falls by the square of the enlargement twice, and what is kept by the square once.

Where the target's grid is the native one, all three are the same.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor
from torch.nn.functional import interpolate

from freeswim.method.window import InwardWindow


def interpolated_positions(
    rope: WanRotaryPosEmbed, window: InwardWindow, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rotary embedding of `window`'s tokens at positions scaled to its native extent.

    Made as `WanRotaryPosEmbed` makes it; along an axis that is not larger than native it is the
    same, and so it is in time.

    Returns:
        (cosines, sines), each (1, L, 1, head dim), float32.
    """
    axes = (
        (rope.t_dim, window.frames, window.frames),
        (rope.h_dim, window.rows, window.native_rows),
        (rope.w_dim, window.columns, window.native_columns),
    )
    grid = (window.frames, window.rows, window.columns)
    parts = []
    for axis, (dim, num_tokens, native_tokens) in enumerate(axes):
        positions = np.arange(num_tokens) * min(1.0, native_tokens / num_tokens)
        tables = get_1d_rotary_pos_embed(dim, positions, use_real=True, freqs_dtype=torch.float64)
        shape = [1, 1, 1, dim]
        shape[axis] = num_tokens
        parts.append([table.to(device).view(shape).expand(*grid, dim) for table in tables])
    cosines, sines = (torch.cat(of_axes, dim=-1) for of_axes in zip(*parts, strict=True))
    return cosines.view(1, window.num_tokens, 1, -1), sines.view(1, window.num_tokens, 1, -1)


def pick(latents: Tensor, size: tuple[int, int]) -> Tensor:
    """The latents at `size`, each value one of theirs.

    Args:
        latents: (..., h, w).
        size: (height, width), at most theirs; index i is taken from floor((i + 0.5) * h / height).
    """
    for axis, picked in zip((-2, -1), size, strict=True):
        length = latents.shape[axis]
        if picked != length:
            index = (2 * torch.arange(picked, device=latents.device) + 1) * length // (2 * picked)
            latents = latents.index_select(axis, index)
    return latents


def spread(tokens: Tensor, source: InwardWindow, target: InwardWindow) -> Tensor:
    """Tokens of one grid at another of as many frames, bilinear over rows and columns.

    Args:
        tokens: (rows of the batch, source's tokens, D).

    Returns:
        (rows of the batch, target's tokens, D).
    """
    size = (target.rows, target.columns)
    if (source.rows, source.columns) == size:
        return tokens
    # Channels stay last, so that nothing is copied but the result.
    images = tokens.view(-1, source.rows, source.columns, tokens.shape[-1]).permute(0, 3, 1, 2)
    out = tokens.new_empty(len(images), *size, tokens.shape[-1])
    for index, image in enumerate(images.split(1)):  # one by one: all can be over 2**31 values
        out[index] = interpolate(image, size, mode="bilinear")[0].permute(1, 2, 0)
    return out.view(tokens.shape[0], -1, tokens.shape[-1])
