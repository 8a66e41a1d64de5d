from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks import apply_group_offloading
from safetensors.torch import load_file
from torch import Tensor

from freeswim import limits
from freeswim.method import RefineSettings, denoise, refine
from freeswim.method.denoise import token_window
from freeswim.method.dual_path import DualPath
from freeswim.method.kept import CONVERTED_TOKENS, FP8_MAX, Kept, from_fp8, to_fp8
from freeswim.method.settings import KeptPrecision, kept_bytes
from freeswim.method.window import InwardWindow

GOLDENS = Path(__file__).parents[1] / "goldens"
CASE = "case2"
NATIVE = (4, 6)
CPU = torch.device("cpu")
GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel.from_pretrained(GOLDENS / "transformer")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    found = load_file(GOLDENS / "cases.safetensors")
    return {
        key.removeprefix(f"{CASE}."): value for key, value in found.items() if key.startswith(CASE)
    }


def refined(transformer, tensors: dict[str, Tensor], **keywords) -> Tensor:
    """The refine pass of the goldens' transformer, 12 steps, wherever the transformer is."""
    device = keywords.pop("device", CPU)
    changes = keywords.pop("changes", {})
    settings = RefineSettings(steps=12, strength=0.7, refresh_interval=3, **changes)
    inputs = [
        tensors[name].to(device)
        for name in ("latents_in", "prompt_embeds", "negative_prompt_embeds")
    ]
    return refine(transformer, *inputs, native_grid=NATIVE, settings=settings, **keywords)


@pytest.mark.parametrize("precision", ["plain", "fp8"])
@pytest.mark.parametrize("unconditional", [False, True])
def test_placement_never_changes_the_result(transformer, tensors, precision, unconditional):
    changes = {"kept_precision": precision, "override_unconditional": unconditional}
    on_device = refined(transformer, tensors, changes=changes)
    assert torch.equal(refined(transformer, tensors, keep_on="host", changes=changes), on_device)


def outputs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_blocks_come_back_in_any_order_and_begin_forgets_them():
    kept = Kept(CPU)
    blocks = [outputs(1, 6, 4, seed=index) for index in range(3)]
    for block in blocks:
        kept.append(block)
    assert kept.num_blocks == 3
    for index in (2, 0, 1):
        assert torch.equal(kept.get(index), blocks[index])
    kept.begin()
    assert (kept.num_blocks, kept.num_bytes) == (0, 0)
    kept.append(blocks[2])
    assert torch.equal(kept.get(0), blocks[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp8_is_within_half_a_step_of_three_bits_for_every_token(dtype: torch.dtype):
    """Every token has a scale of its own: a loud one does not cost a quiet one its digits."""
    exact = outputs(2, CONVERTED_TOKENS + 7, 8)
    exact *= 10.0 ** torch.linspace(-9, 6, exact.shape[1])[:, None]
    exact = exact.to(dtype)
    got = from_fp8(*to_fp8(exact), dtype=dtype)
    assert got.dtype == dtype
    largest = exact.float().abs().amax(-1, keepdim=True)
    # Half a step of a number, or of the smallest number that e4m3 has beside the token's largest.
    allowed = exact.float().abs() / 16 + largest / FP8_MAX * 2.0**-10
    rounding = largest * torch.finfo(dtype).eps
    assert ((got.float() - exact.float()).abs() <= allowed + rounding).all()


def test_fp8_keeps_zero_tokens_and_largest_values():
    exact = torch.zeros(1, 3, 4)
    exact[0, 1] = torch.tensor([1.0, -2.0, 0.5, 2.0])
    exact[0, 2, 0] = torch.finfo(torch.float32).max
    got = from_fp8(*to_fp8(exact), dtype=torch.float32)
    assert torch.equal(got[0, :2], exact[0, :2])
    torch.testing.assert_close(got[0, 2], exact[0, 2], rtol=1e-6, atol=0)


def test_fp8_moves_the_velocity_by_a_few_percent(transformer, tensors, record_property):
    latents, text = tensors["latents_in"], tensors["prompt_embeds"]
    window = token_window(transformer, latents, NATIVE)
    velocities = {}
    with DualPath(transformer, window, RefineSettings(), CPU) as path:

        @torch.no_grad()
        def forward() -> Tensor:
            return transformer(latents, torch.tensor([900.0]), text, return_dict=False)[0]

        for precision in ("plain", "fp8"):
            kept = Kept(CPU, precision=precision)
            path.full_branch(forward, kept)
            velocities[precision] = path.window_branch(forward, kept)
    gap = float((velocities["fp8"] - velocities["plain"]).norm() / velocities["plain"].norm())
    record_property("relative_error", gap)
    assert 0 < gap < 0.03


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "one-by-one"])
@pytest.mark.parametrize("precision", ["plain", "fp8"])
@pytest.mark.parametrize("unconditional", [False, True])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("guidance", ["full", "native"])
def test_size_is_what_was_forecast(
    transformer, tensors, precision: KeptPrecision, unconditional, guidance, guidance_scale,
    batched, monkeypatch,
):  # fmt: skip
    if not batched:
        monkeypatch.setitem(limits.BATCHED_TOKENS, "cpu", 0)
    made: list[Kept] = []

    def noting(*arguments) -> Kept:
        made.append(Kept(*arguments))
        return made[-1]

    monkeypatch.setattr(denoise, "Kept", noting)
    changes = {
        "kept_precision": precision,
        "override_unconditional": unconditional,
        "guidance_scale": guidance_scale,
        "guidance": guidance,
    }
    refined(transformer, tensors, changes=changes)
    forecast = kept_bytes(
        RefineSettings(**changes),
        token_window(transformer, tensors["latents_in"], NATIVE),
        num_blocks=len(transformer.blocks),
        width=transformer.config["num_attention_heads"] * transformer.config["attention_head_dim"],
        bytes_per_value=4,
    )
    assert sum(kept.num_bytes for kept in made) == forecast > 0


def test_nothing_is_kept_without_guidance():
    window = InwardWindow(2, 8, 8, native_rows=4, native_columns=4)
    assert kept_bytes(RefineSettings(guidance="none"), window, num_blocks=2, width=8) == 0


# ---------------------------------------------------------------------------------- with a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["plain", "fp8"])
def test_pinned_memory_gives_back_what_left_while_the_device_works(precision: KeptPrecision):
    """Blocks of several pinned pieces, filled and read many times, between kernels that take long."""
    busy = torch.randn(4096, 4096, device=GPU)
    host, device = Kept(GPU, "host", precision), Kept(GPU, "device", precision)
    for refresh in range(3):
        host.begin()
        device.begin()
        for index in range(4):
            out = outputs(1, 40_000, 512, seed=10 * refresh + index, dtype=torch.bfloat16).to(GPU)
            device.append(out)
            (busy @ busy).relu_()
            out = out + 0  # made on the device just before it is kept, and freed just after
            host.append(out)
            del out
            torch.full((1, 40_000, 512), 7.0, device=GPU, dtype=torch.bfloat16)  # takes its memory
        for order in ([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 3, 1]):
            for index in order:
                got = host.get(index)
                (busy @ busy).relu_()
                assert torch.equal(got, device.get(index))
                del got


@pytest.mark.gpu
def test_pinned_memory_is_taken_once(transformer, tensors):
    on_gpu = transformer.to(GPU)
    try:
        refined(on_gpu, tensors, device=GPU, keep_on="host")
        taken = torch.cuda.host_memory_stats()["num_host_alloc"]
        refined(on_gpu, tensors, device=GPU, keep_on="host")
        # The second pass finds what the first gave back; its refreshes use it again.
        assert torch.cuda.host_memory_stats()["num_host_alloc"] == taken
    finally:
        transformer.to(CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["plain", "fp8"])
def test_placement_never_changes_the_result_on_a_gpu(transformer, tensors, precision):
    changes = {"kept_precision": precision}
    try:
        on_gpu = transformer.to(GPU)
        want = refined(on_gpu, tensors, device=GPU, changes=changes)
        got = refined(on_gpu, tensors, device=GPU, keep_on="host", changes=changes)
        assert torch.equal(got, want)
    finally:
        transformer.to(CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
def test_weights_that_stream_in_and_out_change_nothing(tensors, offload_type):
    plain = WanTransformer3DModel.from_pretrained(GOLDENS / "transformer")
    want = refined(plain.to(GPU), tensors, device=GPU)
    streamed = WanTransformer3DModel.from_pretrained(GOLDENS / "transformer")
    apply_group_offloading(
        streamed, GPU, CPU, offload_type=offload_type, num_blocks_per_group=1, use_stream=True
    )
    for _ in range(2):
        got = refined(streamed, tensors, device=GPU, keep_on="host")
        assert torch.equal(got, want)
