"""What a checkpoint in training can do at native size, counted."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from freeswim.method.denoise import sample_base
from freeswim.method.settings import BaseSettings
from freeswim.models.demo.koi import render
from freeswim.models.demo.measure import koi_mask, measure_koi
from freeswim.models.demo.quality import fine_energy
from freeswim.models.demo.scene import (
    COLORS,
    COUNT_WORDS,
    DIRECTIONS,
    HEADING_RAD,
    WATERS,
    Direction,
    sample_scene,
)
from freeswim.models.demo.training.recipe import MAX_TEXT, NATIVE, PIXELS, Recipe
from freeswim.models.demo.training.stage import Figures
from freeswim.models.demo.training.text import as_tokens, encode
from freeswim.video import autoencoder

GUIDANCE = 2.5  # as the preset demo has it
FIRST_SEED = 3000
LEAST_WAY = 0.015  # ponds from the first frame to the last; less is no direction


@torch.no_grad()
def native_figures(
    transformer: WanTransformer3DModel,
    encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    vae: AutoencoderKLWan,
    recipe: Recipe,
    *,
    rounds: int = 1,
) -> Figures:
    """Shares of a fixed round of prompts that came out right, in the middle frame.

    Args:
        rounds: how many times as many prompts as the recipe checks with.
    """
    rows = []
    empty = _as_pipelines(encoder, tokenizer, "")
    for index in range(rounds * recipe.check_prompts):
        count, color = index % len(COUNT_WORDS) + 1, COLORS[index % len(COLORS)]
        direction = DIRECTIONS[index // 2 % len(DIRECTIONS)]
        water = WATERS[(3 * index + index // 4) % len(WATERS)]
        prompt = f"{COUNT_WORDS[count - 1]} {color} koi swimming {direction} in {water} water"
        side = NATIVE if recipe.crops > 1 else recipe.buckets[0].rows
        shape = (1, recipe.vae_config["z_dim"], (recipe.native_frames - 1) // 4 + 1, side, side)
        generator = torch.Generator().manual_seed(FIRST_SEED + index)
        latents = sample_base(
            transformer,
            torch.randn(shape, generator=generator).to(transformer.device),
            _as_pipelines(encoder, tokenizer, prompt),
            empty,
            scheduler=make_scheduler(),
            settings=BaseSettings(steps=recipe.check_steps, guidance_scale=GUIDANCE),
        )
        video = autoencoder.decode(vae, latents)[0].permute(1, 2, 3, 0).numpy() / 2 + 0.5
        koi = measure_koi(video[len(video) // 2], color, water, count)
        rows.append((koi.error == 0, koi.error, koi.color_share, koi.is_water_right,
                     direction_of(video) == direction))  # fmt: skip
    names = ("exact", "error", "color", "water", "direction")
    means = np.array(rows, np.float64).mean(0)
    return {name: round(float(mean), 4) for name, mean in zip(names, means, strict=True)}


def round_trip_figures(vae: AutoencoderKLWan, recipe: Recipe) -> Figures:
    """PSNR, and the share of fine energy that is left, of whole ponds at three sizes."""
    figures: Figures = {}
    for factor in (1, 2, 4) if recipe.crops > 1 else (1,):
        side = NATIVE * PIXELS * factor
        errors, fine = [], []
        for seed in range(4 if factor < 4 else 2):
            scene = sample_scene(np.random.default_rng([recipe.seed, 31, seed]))
            true = render(scene, side, side, num_frames=5)
            video = torch.from_numpy(true).permute(3, 0, 1, 2)[None] * 2 - 1
            made = autoencoder.decode(vae, autoencoder.encode(vae, video))
            back = made[0].permute(1, 2, 3, 0).numpy() / 2 + 0.5
            errors.append(float(((back - true) ** 2).mean()))
            fine.append((fine_energy(back[2]), fine_energy(true[2])))
        figures[f"psnr_{side}"] = round(-10 * float(np.log10(np.mean(errors))), 2)
        share = sum(made for made, _ in fine) / sum(true for _, true in fine)
        figures[f"fine_{side}"] = round(share, 4)
    return figures


def direction_of(video: NDArray[np.floating]) -> Direction | None:
    """Where the koi of a clip, (T, H, W, 3), 0…1, swim; None where they hardly move."""
    places = [np.argwhere(koi_mask(video[index])) for index in (0, -1)]
    if not all(len(place) for place in places):
        return None
    down, across = (places[1].mean(0) - places[0].mean(0)) / 256
    if np.hypot(down, across) < LEAST_WAY:
        return None
    return max(HEADING_RAD, key=lambda name: np.cos(HEADING_RAD[name] - np.arctan2(down, across)))


def make_scheduler() -> UniPCMultistepScheduler:
    """The scheduler that the checkpoint comes with."""
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        num_train_timesteps=1000,
        flow_shift=3.0,
    )


def _as_pipelines(
    encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, text: str
) -> Tensor:
    """A text as diffusers' pipeline pads it, (1, 512, D)."""
    hidden = encode(encoder, as_tokens(tokenizer, [text]).to(encoder.device))
    return torch.nn.functional.pad(hidden, (0, 0, 0, 512 - MAX_TEXT))
