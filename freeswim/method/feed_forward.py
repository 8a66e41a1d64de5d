"""The blocks' feed-forward: in pieces of tokens, and not at all where nobody uses it.

Its inner width is three to six times a token's: at 4K what is inside it would be the largest thing
of a forward, 25 GB for Wan 2.1 1.3B. A token's result does not depend on the others.
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
def in_pieces(transformer: WanTransformer3DModel, device: torch.device) -> Iterator[None]:
    """The feed-forwards compute a piece of their tokens at a time meanwhile."""
    most = TOKENS_AT_ONCE[device.type]
    blocks: Any = transformer.blocks
    with ExitStack() as stack:
        for block in blocks:
            pieces = partial(_by_pieces, block.ffn.forward, most)
            stack.enter_context(_replaced(block.ffn, pieces))
        yield


@contextmanager
def left_out(block: Any) -> Iterator[None]:
    """The feed-forward of a block gives what it is given meanwhile."""
    with _replaced(block.ffn, lambda hidden_states: hidden_states):
        yield


def _by_pieces(whole: Callable[[Tensor], Tensor], most: int, hidden_states: Tensor) -> Tensor:
    """`whole` of (rows, tokens, D), at most so many tokens at a time."""
    if hidden_states.shape[1] <= most:
        return whole(hidden_states)
    out = torch.empty_like(hidden_states)
    for piece, into in zip(hidden_states.split(most, 1), out.split(most, 1), strict=True):
        into.copy_(whole(piece))
    return out


@contextmanager
def _replaced(module: Any, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Another forward of one module; what was there comes back, whatever happens."""
    own = vars(module).get("forward")  # of whoever hooked it, else the class's
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
