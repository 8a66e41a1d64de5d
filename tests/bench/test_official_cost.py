"""The baseline is a right program: nothing is gained over a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import official_cost
import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from freeswim.bench.speed import relative_error
from freeswim.method import RefineSettings, refine
from freeswim.method.window import InwardWindow

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = json.loads((GOLDENS / "cases.json").read_text())


@pytest.fixture(scope="module")
def transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel.from_pretrained(GOLDENS / "transformer")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_baseline_gives_what_the_official_program_gives(case, transformer, record_property):
    tensors, name = load_file(GOLDENS / "cases.safetensors"), case["name"]
    is_nocache = case["refresh"] is None
    latents = official_cost.refine(
        transformer,
        tensors[f"{name}.latents_in"],
        tensors[f"{name}.prompt_embeds"],
        tensors[f"{name}.negative_prompt_embeds"],
        native_grid=(case["native_height"] // 16, case["native_width"] // 16),
        settings=RefineSettings(
            steps=case["steps"],
            strength=case["strength"],
            flow_shift=case["flow_shift"],
            guidance_scale=case["guidance_scale"],
            refresh_interval=1 if is_nocache else case["refresh"],
            override_unconditional=is_nocache,
        ),
    )
    error = relative_error(latents, tensors[f"{name}.latents_out"])
    record_property("relative_error", error)
    assert error < 1e-5


def random_case() -> tuple[WanTransformer3DModel, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4,
        out_channels=4, text_dim=8, freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=64,
    ).eval()  # fmt: skip
    latents = torch.randn(1, 4, 3, 2 * 13, 2 * 11)  # blocks that cross rows and frames
    return transformer, latents, torch.randn(1, 5, 8), torch.randn(1, 5, 8)


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_baseline_agrees_with_our_refine_and_leaves_the_transformer_as_it_was(interval: int):
    transformer, latents, text, negative = random_case()
    processors = {name: id(one) for name, one in transformer.attn_processors.items()}
    settings = RefineSettings(steps=6, strength=1.0, refresh_interval=interval)
    ours, theirs = (
        run(transformer, latents, text, negative, native_grid=(4, 5), settings=settings)
        for run in (refine, official_cost.refine)
    )
    assert relative_error(ours, theirs) < 1e-5
    assert {name: id(one) for name, one in transformer.attn_processors.items()} == processors


def test_every_forward_of_the_baseline_carries_two_rows():
    transformer, latents, text, negative = random_case()
    rows: list[int] = []
    transformer.register_forward_pre_hook(
        lambda module, arguments, keywords: rows.append(len(keywords["hidden_states"])),
        with_kwargs=True,
    )
    settings = RefineSettings(steps=4, strength=1.0, refresh_interval=2)
    official_cost.refine(
        transformer, latents, text, negative, native_grid=(4, 5), settings=settings
    )
    assert rows == [2] * 8  # conditional, then unconditional, in each of four steps


def test_blocks_hold_the_keys_that_the_mask_touches_in_raster_order():
    window = InwardWindow(2, 16, 32, native_rows=5, native_columns=5)  # a block is four rows
    sees = official_cost.window_rule(window, torch.device("cpu"))
    first = official_cost.query_blocks(window, sees)[0]
    assert first.queries == slice(0, 128)
    assert first.keys == [slice(0, 256), slice(512, 768)]  # rows 0 to 5, of both frames
