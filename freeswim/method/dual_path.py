"""The two branches of the refine pass, as attention processors on an unmodified transformer.

FreeSwim, arXiv 2511.14712. The window branch's self-attention sees the inward window; its latents
are the result. The full branch is a forward of the same latents whose self-attention sees
everything; only its cross-attention outputs are used: they replace the window branch's. They are
kept after the output projection, which both branches share, so that a forward that reuses them
computes no cross-attention at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from freeswim.limits import TOKENS_AT_ONCE
from freeswim.method.attention import (
    Backends,
    choose_backends,
    full_attention,
    token_places,
    window_attention,
)
from freeswim.method.block import left_out
from freeswim.method.guidance import interpolated_positions, spread
from freeswim.method.kept import Kept
from freeswim.method.schedule import attention_scale
from freeswim.method.settings import RefineSettings, full_branch_window
from freeswim.method.window import InwardWindow


class DualPath:
    """Both branches of one transformer, installed while the `with` block runs.

    The transformer's own processors are back in place afterwards, whatever happened.

    Args:
        transformer: a Wan transformer.
        window: inward window of the latents that the window branch forwards.
        settings: of the pass.
        device: of the latents.

    Raises:
        RequestError: the attention backend asked for cannot run there.
    """

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        window: InwardWindow,
        settings: RefineSettings,
        device: torch.device,
    ) -> None:
        self._transformer = transformer
        self._blocks: Any = transformer.blocks
        self._interpolates = settings.guidance == "interpolated"
        self.full_window = full_branch_window(settings.guidance, window)
        head_dim = transformer.config["attention_head_dim"]
        self._scale = attention_scale(settings.temperature, window, head_dim)
        self._full_scale = attention_scale(settings.temperature, self.full_window, head_dim)
        self._branch = _Branch(
            window=window,
            full_window=self.full_window,
            scale=self._scale,
            backends=choose_backends(settings, window, device, transformer.dtype, head_dim),
        )
        self._ordinary: list[tuple[Any, Any]] = []

    def __enter__(self) -> Self:
        for index, block in enumerate(self._blocks):
            self._ordinary.append((block.attn1.processor, block.attn2.processor))
            block.attn1.set_processor(_SelfAttention(self._branch))
            block.attn2.set_processor(_CrossAttention(self._branch, index, block.attn2.processor))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for block, (self_attention, cross_attention) in zip(
            self._blocks, self._ordinary, strict=True
        ):
            block.attn1.set_processor(self_attention)
            block.attn2.set_processor(cross_attention)
        self._ordinary.clear()

    def full_branch(self, forward: Callable[[], Tensor], kept: Kept) -> None:
        """One forward with full self-attention; its cross-attention outputs are added to `kept`.

        `forward` is of latents whose token grid is `full_window`. Nothing is used of it after the
        last cross-attention, so the last feed-forward is left out; the forward itself runs to its
        end, for an exception would pass hooks that move weights after each block.
        """
        self._branch.become("full", kept, self._full_scale)
        with self._positions(), left_out(self._blocks[-1]):
            forward()

    def window_branch(self, forward: Callable[[], Tensor], override: Kept | None = None) -> Tensor:
        """One forward with window self-attention.

        `override` replaces the cross-attention of as many rows of the batch as it has, the first
        ones; the others compute their own.
        """
        self._branch.become("window", override, self._scale)
        return forward()

    @contextmanager
    def _positions(self) -> Iterator[None]:
        """The transformer's rotary positions are the full branch's meanwhile."""
        if not self._interpolates:
            yield
            return

        def replaced(rope: Any, inputs: tuple[Tensor], output: object) -> tuple[Tensor, Tensor]:
            return interpolated_positions(rope, self.full_window, inputs[0].device)

        handle = self._transformer.rope.register_forward_hook(replaced)
        try:
            yield
        finally:
            handle.remove()


@dataclass
class _Branch:
    """What the processors do in the forward that runs now."""

    window: InwardWindow
    full_window: InwardWindow  # the token grid of what is kept
    scale: float
    backends: Backends
    name: Literal["full", "window"] = "window"
    kept: Kept | None = None  # filled by the full branch, read by the window branch

    def become(self, name: Literal["full", "window"], kept: Kept | None, scale: float) -> None:
        self.name, self.kept, self.scale = name, kept, scale


class _SelfAttention:
    """diffusers processor: self-attention of the branch that runs now."""

    def __init__(self, branch: _Branch) -> None:
        self.branch = branch

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,  # (B, L, D)
        encoder_hidden_states: None,
        attention_mask: None,
        rotary_emb: tuple[Tensor, Tensor],
    ) -> Tensor:
        branch = self.branch
        if branch.name == "full":
            query, key, value = _queries_keys_values(attn, hidden_states, rotary_emb)
            out = full_attention(
                query, key, value, scale=branch.scale, backend=branch.backends.full
            )
        else:
            backend = branch.backends.window
            places = token_places(branch.window, backend, hidden_states.device)
            query, key, value = _queries_keys_values(attn, hidden_states, rotary_emb, places)
            out = window_attention(
                query, key, value, branch.window,
                scale=branch.scale, backend=backend, places=places,
            )  # fmt: skip
        del query, key, value  # three times what comes next
        return attn.to_out[1](attn.to_out[0](out.flatten(2).type_as(hidden_states)))


class _CrossAttention:
    """diffusers processor: the transformer's own cross-attention, kept or overridden."""

    def __init__(self, branch: _Branch, block_index: int, ordinary: Callable[..., Tensor]) -> None:
        self.branch = branch
        self.block_index = block_index
        self.ordinary = ordinary

    def __call__(self, attn: Any, hidden_states: Tensor, text: Tensor, *nothing: None) -> Tensor:
        kept = self.branch.kept
        if kept is None:
            return self.ordinary(attn, hidden_states, text, *nothing)
        if self.branch.name == "full":
            out = self.ordinary(attn, hidden_states, text, *nothing)
            kept.append(out)
            return out
        override = spread(kept.get(self.block_index), self.branch.full_window, self.branch.window)
        rows = override.shape[0]
        if rows == hidden_states.shape[0]:
            return override
        own = self.ordinary(attn, hidden_states[rows:], text[rows:], *nothing)
        return torch.cat([override, own])


def _queries_keys_values(
    attn: Any,
    hidden_states: Tensor,
    rotary_emb: tuple[Tensor, Tensor],
    places: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What self-attention is of, (B, L, heads, head dim) each; norms and positions included.

    Made piece by piece: what lies between the steps of a piece stays in the cache of a CPU.

    Args:
        places: where each token is put, (L,); None: where it is.
    """
    most = TOKENS_AT_ONCE[hidden_states.device.type]
    pieces = [tensor.split(most, 1) for tensor in (hidden_states, *rotary_emb)]
    whole: list[Tensor] = []
    for index, (tokens, *positions) in enumerate(zip(*pieces, strict=True)):
        query, key, value = (
            projected.unflatten(2, (attn.heads, -1))
            for projected in (
                attn.norm_q(attn.to_q(tokens)),
                attn.norm_k(attn.to_k(tokens)),
                attn.to_v(tokens),
            )
        )
        made = _rotate(query, *positions), _rotate(key, *positions), value
        if len(pieces[0]) == 1 and places is None:
            return made
        if not whole:
            shape = (hidden_states.shape[0], hidden_states.shape[1], *value.shape[2:])
            whole = [part.new_empty(shape) for part in made]
        piece = slice(index * most, (index + 1) * most)
        for part, into in zip(made, whole, strict=True):
            into[:, piece if places is None else places[piece]] = part
    return whole[0], whole[1], whole[2]


def _rotate(tokens: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding of (B, L, heads, head dim), as the Wan transformer defines it.

    Neighbouring channels are the parts of one complex number, turned by its position's angle: one
    read and one write of the tokens.
    """
    turns = torch.complex(cosines[..., 0::2], sines[..., 0::2])  # (1, L, 1, head dim / 2)
    numbers = torch.view_as_complex(tokens.to(cosines.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(numbers * turns).flatten(-2).type_as(tokens)
