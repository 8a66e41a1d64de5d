from __future__ import annotations

import pytest
import torch
from diffusers import FirstBlockCacheConfig, WanTransformer3DModel
from tiny_wan import NEGATIVE, NUM_BLOCKS, TEXT, latents_of, noise, tiny_transformer
from torch import Tensor

from freeswim import limits
from freeswim.method import RefineSettings, refine
from freeswim.method.block import in_pieces, left_out

LATENTS = latents_of()  # 84 tokens
SETTINGS = RefineSettings(steps=4, strength=1.0, refresh_interval=2, guidance_scale=4.0)
KINDS = {
    "plain": {},
    "cross-attention without norm": {"cross_attn_norm": False},
    "an image beside the text": {"image_dim": 8, "added_kv_proj_dim": 24, "rope_max_seq_len": 64},
}


def forward(transformer: WanTransformer3DModel, *, timestep: Tensor | None = None) -> Tensor:
    """Velocities of two rows, as diffusers calls it."""
    image = noise(2, 257, 8) if transformer.config["image_dim"] else None
    text = torch.cat([TEXT, NEGATIVE]) if image is None else noise(2, 512, 8)
    with torch.no_grad():
        return transformer(
            hidden_states=LATENTS.to(transformer.dtype).expand(2, -1, -1, -1, -1),
            timestep=torch.tensor([500.0, 500.0]) if timestep is None else timestep,
            encoder_hidden_states=text.to(transformer.dtype),
            encoder_hidden_states_image=None if image is None else image.to(transformer.dtype),
            return_dict=False,
        )[0]


def count_calls(module: torch.nn.Module) -> list[int]:
    """Tokens of each call of a module from now on."""
    sizes: list[int] = []
    module.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[1]))
    return sizes


def refined(transformer: WanTransformer3DModel | None = None) -> Tensor:
    return refine(
        transformer or tiny_transformer(),
        LATENTS, TEXT, NEGATIVE, native_grid=(3, 4), settings=SETTINGS,
    )  # fmt: skip


@pytest.mark.parametrize("config", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_piece_computes_what_diffusers_does_to_the_bit(
    config: dict[str, object], dtype: torch.dtype
):
    transformer = tiny_transformer(**config).to(dtype)
    whole = forward(transformer)
    with in_pieces(transformer):
        assert torch.equal(forward(transformer), whole)


@pytest.mark.parametrize("config", KINDS.values(), ids=list(KINDS))
def test_pieces_make_the_same_result(config: dict[str, object], monkeypatch: pytest.MonkeyPatch):
    transformer = tiny_transformer(**config)
    whole = forward(transformer)
    monkeypatch.setitem(limits.TOKENS_AT_ONCE, "cpu", 11)
    with in_pieces(transformer):
        torch.testing.assert_close(forward(transformer), whole, rtol=1e-5, atol=1e-5)


def test_every_token_has_the_modulation_of_its_own_timestep(monkeypatch: pytest.MonkeyPatch):
    transformer = tiny_transformer()
    timestep = torch.linspace(0, 999, 84).expand(2, -1)
    whole = forward(transformer, timestep=timestep)
    monkeypatch.setitem(limits.TOKENS_AT_ONCE, "cpu", 11)
    with in_pieces(transformer):
        torch.testing.assert_close(
            forward(transformer, timestep=timestep), whole, rtol=1e-5, atol=1e-5
        )


def test_the_refine_pass_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch):
    whole = refined()
    monkeypatch.setitem(limits.TOKENS_AT_ONCE, "cpu", 7)
    torch.testing.assert_close(refined(), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("most, pieces", [(84, 1), (83, 2), (42, 2), (41, 3), (7, 12)])
def test_no_piece_is_larger_than_allowed(most: int, pieces: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(limits.TOKENS_AT_ONCE, "cpu", most)
    transformer = tiny_transformer()
    block = transformer.blocks[0]
    seen = [count_calls(part) for part in (block.norm1, block.norm2, block.norm3, block.ffn)]
    with in_pieces(transformer):
        forward(transformer)
    for sizes in seen:
        assert len(sizes) == pieces
        assert max(sizes) <= most
        assert sum(sizes) == 84


def test_hooks_that_bring_the_weights_go_on_doing_so(monkeypatch: pytest.MonkeyPatch):
    transformer = tiny_transformer()
    whole = forward(transformer)
    monkeypatch.setitem(limits.TOKENS_AT_ONCE, "cpu", 42)
    transformer.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )
    brought: list[object] = []
    for block in transformer.blocks:
        (hook,) = block._diffusers_hook._fn_refs

        def bring(module: object, *given: object, bring: object = hook.pre_forward, **more: object):
            brought.append(module)
            return bring(module, *given, **more)  # pyright: ignore[reportCallIssue]

        hook.pre_forward = bring
    sizes = count_calls(transformer.blocks[0].norm1)
    with in_pieces(transformer):
        torch.testing.assert_close(forward(transformer), whole, rtol=1e-5, atol=1e-5)
    assert brought == list(transformer.blocks)
    assert sizes == [42, 42]


def test_hooks_that_compute_in_its_place_go_on_doing_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(limits.TOKENS_AT_ONCE, "cpu", 42)
    transformer = tiny_transformer()
    sizes = count_calls(transformer.blocks[-1].norm1)
    transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    with in_pieces(transformer), transformer.cache_context("cond"):
        forward(transformer)
        assert sizes == [42, 42]
        forward(transformer)
        assert sizes == [42, 42]


def test_full_branch_leaves_out_the_feed_forward_that_nobody_uses():
    transformer = tiny_transformer()
    calls = [count_calls(block.ffn.net[0]) for block in transformer.blocks]
    refined(transformer)
    steps, refreshes = 4, 2
    assert [len(one) for one in calls] == [steps + refreshes] * (NUM_BLOCKS - 1) + [steps]


def test_forward_of_the_class_and_of_whoever_hooked_it_come_back():
    transformer = tiny_transformer()
    first, second = transformer.blocks[0], transformer.blocks[1]
    hooked = second.forward = lambda hidden_states, *_: hidden_states * 2
    with pytest.raises(ValueError), in_pieces(transformer), left_out(first):
        raise ValueError
    assert "forward" not in vars(first)
    assert "forward" not in vars(first.ffn)
    assert second.forward is hooked
