from __future__ import annotations

import pytest
import torch
from tiny_wan import NEGATIVE, NUM_BLOCKS, TEXT, latents_of, tiny_transformer
from torch import Tensor

from freeswim import limits
from freeswim.method import RefineSettings, refine
from freeswim.method.feed_forward import in_pieces, left_out

CPU = torch.device("cpu")
LATENTS = latents_of()
SETTINGS = RefineSettings(steps=4, strength=1.0, refresh_interval=2, guidance_scale=4.0)


def refined() -> Tensor:
    return refine(
        tiny_transformer(), LATENTS, TEXT, NEGATIVE, native_grid=(3, 4), settings=SETTINGS
    )


def test_pieces_make_the_same_result(monkeypatch: pytest.MonkeyPatch):
    whole = refined()
    monkeypatch.setitem(limits.TOKENS_AT_ONCE, "cpu", 7)
    torch.testing.assert_close(refined(), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens, pieces", [(7, 1), (8, 2), (21, 3), (22, 4)])
def test_no_piece_is_larger_than_allowed(tokens: int, pieces: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(limits.TOKENS_AT_ONCE, "cpu", 7)
    transformer = tiny_transformer()
    ffn = transformer.blocks[0].ffn
    seen: list[int] = []
    ffn.net[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    given = torch.randn(
        2,
        tokens,
        transformer.config["num_attention_heads"] * transformer.config["attention_head_dim"],
    )
    with torch.no_grad(), in_pieces(transformer, CPU):
        ffn(given)
    assert len(seen) == pieces
    assert max(seen) <= 7
    assert sum(seen) == tokens


def test_full_branch_leaves_out_the_feed_forward_that_nobody_uses():
    transformer = tiny_transformer()
    calls = [0] * NUM_BLOCKS
    for index, block in enumerate(transformer.blocks):

        def count(_module: object, _given: object, index: int = index) -> None:
            calls[index] += 1

        block.ffn.net[0].register_forward_pre_hook(count)
    refine(transformer, LATENTS, TEXT, NEGATIVE, native_grid=(3, 4), settings=SETTINGS)
    steps, refreshes = 4, 2
    assert calls == [steps + refreshes] * (NUM_BLOCKS - 1) + [steps]


def test_forward_of_the_class_and_of_whoever_hooked_it_come_back():
    transformer = tiny_transformer()
    first, second = transformer.blocks[0], transformer.blocks[1]
    hooked = second.ffn.forward = lambda hidden_states: hidden_states * 2
    with pytest.raises(ValueError), in_pieces(transformer, CPU), left_out(first):
        raise ValueError
    assert "forward" not in vars(first.ffn)
    assert second.ffn.forward is hooked
