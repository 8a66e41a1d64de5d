"""What the measuring scripts compute, where it can be known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cheaper_guidance import decibels, prompts, sharpness
from diffusers import WanTransformer3DModel
from diffusers.hooks import MagCacheConfig
from step_caches import calibrated_ratios

from freeswim import limits
from freeswim.method import RefineSettings, refine


def test_prompts_are_all_different_and_use_every_word():
    shown = prompts(30)
    assert len({(p.count, p.color, p.direction, p.water) for p in shown}) == 30
    for word in ("count", "color", "direction", "water"):
        assert len({getattr(prompt, word) for prompt in shown}) >= 3


def test_sharpness_is_the_power_of_what_is_fine():
    columns = np.arange(64)
    coarse, fine = (np.sin(2 * np.pi * columns * cycles / 64) for cycles in (4, 16))
    for wave, power in ((coarse, 0), (fine, 0.5), (2 * fine, 2.0), (coarse + fine, 0.5)):
        frame = np.broadcast_to(wave[None, :, None], (64, 64, 3))
        assert sharpness(frame) == pytest.approx(power, abs=1e-9)


def test_decibels_are_of_values_up_to_one():
    video = torch.zeros(1, 3, 2, 4, 4)
    assert decibels(video, video + 0.1) == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "one-by-one"])
def test_ratios_are_those_of_diffusers_own_calibration(
    batched: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4,
        out_channels=4, text_dim=8, freq_dim=16, ffn_dim=32, num_layers=3, rope_max_seq_len=64,
    ).eval()  # fmt: skip
    latents, text = torch.randn(1, 4, 2, 12, 14), torch.randn(1, 5, 8)
    settings = RefineSettings(steps=6, strength=1.0, refresh_interval=2, guidance="none")

    def refine_exactly() -> None:
        # Both rows have one text: diffusers means over both, ours are the conditional row's.
        refine(transformer, latents, text, text, native_grid=(3, 4), settings=settings)

    with monkeypatch.context() as patched:
        if not batched:
            patched.setitem(limits.BATCHED_TOKENS, "cpu", 0)
        ratios = calibrated_ratios(transformer, refine_exactly)
    transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=6))
    refine_exactly()
    printed = capsys.readouterr().out.splitlines()
    diffusers_own = json.loads(next(line for line in printed if line.startswith("[1.0")))
    assert len(ratios) == settings.num_refine_steps
    assert ratios == pytest.approx(diffusers_own, rel=1e-4)
