"""A transformer block in pieces of tokens; without its feed-forward where nobody uses that.

A block computes its norms in float32, and its feed-forward is three to six times as wide as a token:
at 4K what lies between two of its steps would be the largest thing of a forward, 25 GB for Wan 2.1
1.3B. Outside attention a token's result does not depend on the others, so that only what attention
needs is ever whole. On a CPU a piece stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from freeswim.limits import TOKENS_AT_ONCE


@contextmanager
def in_pieces(transformer: WanTransformer3DModel) -> Iterator[None]:
    """The blocks compute a piece of their tokens at a time meanwhile, wherever they are hooked."""
    blocks: Any = transformer.blocks
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_replaced(*_innermost(block), partial(_forward, block)))
        yield


@contextmanager
def left_out(block: Any) -> Iterator[None]:
    """The feed-forward of a block gives what it is given meanwhile."""
    with _replaced(block.ffn, "forward", lambda hidden_states: hidden_states):
        yield


def _forward(
    block: Any,
    hidden_states: Tensor,  # (B, L, D)
    encoder_hidden_states: Tensor,
    temb: Tensor,  # (B, 6, D), or (B, L, 6, D) where every token has a timestep of its own
    rotary_emb: tuple[Tensor, Tensor],
) -> Tensor:
    """What diffusers' `WanTransformerBlock.forward` computes."""
    num_tokens = hidden_states.shape[1]
    most = TOKENS_AT_ONCE[hidden_states.device.type]
    pieces = [slice(first, first + most) for first in range(0, num_tokens, most)]
    modulation = partial(_modulation, block.scale_shift_table, temb)

    normed = torch.empty_like(hidden_states)
    for piece in pieces:
        shift, scale, *_ = modulation(piece)
        normed[:, piece] = block.norm1(hidden_states[:, piece].float()) * (1 + scale) + shift
    attended = block.attn1(normed, None, None, rotary_emb)

    out = torch.empty_like(hidden_states)
    for piece in pieces:
        gate = modulation(piece)[2]
        out[:, piece] = hidden_states[:, piece].float() + attended[:, piece] * gate
        normed[:, piece] = block.norm2(out[:, piece].float())
    del attended
    attended = block.attn2(normed, encoder_hidden_states, None, None)
    del normed

    for piece in pieces:
        _, _, _, shift, scale, gate = modulation(piece)
        tokens = out[:, piece] + attended[:, piece]
        fed = block.ffn((block.norm3(tokens.float()) * (1 + scale) + shift).type_as(tokens))
        out[:, piece] = tokens.float() + fed.float() * gate
    return out


def _modulation(table: Tensor, temb: Tensor, piece: slice) -> list[Tensor]:
    """Shift, scale and gate of self-attention, then of the feed-forward, (B, 1 or tokens, D) each."""
    if temb.ndim == 3:
        return list((table + temb.float()).split(1, dim=1))
    return list((table.unsqueeze(0) + temb[:, piece].float()).unbind(dim=2))


def _innermost(block: Any) -> tuple[Any, str]:
    """Where the block's own forward is, inside all of diffusers' hooks: an object and a name of it.

    Hooks that bring the block's weights, or leave it out, have to go on doing so.
    """
    registry = getattr(block, "_diffusers_hook", None)
    if registry is None or not registry._fn_refs:
        return block, "forward"
    first = registry._fn_refs[0]
    return first, "forward" if first.original_forward is None else "original_forward"


@contextmanager
def _replaced(owner: Any, name: str, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Another forward meanwhile; what was there comes back, whatever happens."""
    own = vars(owner).get(name)  # of whoever hooked it, else the class's
    setattr(owner, name, forward)
    try:
        yield
    finally:
        delattr(owner, name)
        if own is not None:
            setattr(owner, name, own)
