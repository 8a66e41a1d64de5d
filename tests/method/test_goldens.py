"""The official program's outputs are the arbiter of the method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from freeswim import limits
from freeswim.method import RefineSettings, refine
from freeswim.method.attention import available_backends
from freeswim.method.window import InwardWindow

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = json.loads((GOLDENS / "cases.json").read_text())
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ANY_WINDOW = InwardWindow(2, 9, 9, native_rows=4, native_columns=4)
BACKENDS = [*available_backends(ANY_WINDOW, DEVICE)]
if shutil.which("g++") and "flex" not in BACKENDS:
    BACKENDS.append("flex")


@pytest.fixture(scope="module")
def transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel.from_pretrained(GOLDENS / "transformer").to(DEVICE)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return load_file(GOLDENS / "cases.safetensors", device=str(DEVICE))


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "one-by-one"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_refine_gives_what_the_official_program_gives(
    case, backend, batched, transformer, tensors, record_property, monkeypatch
):
    if not batched:
        monkeypatch.setitem(limits.BATCHED_TOKENS, "cpu", 0)
    name = case["name"]
    is_nocache = case["refresh"] is None
    latents = refine(
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
            attention=backend,
        ),
    )
    want = tensors[f"{name}.latents_out"]
    relative_error = float((latents - want).norm() / want.norm())
    record_property("relative_error", relative_error)
    assert relative_error < 1e-5
