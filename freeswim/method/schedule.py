"""Schedule of the refine pass: which noise levels run, which steps refresh, how sharp attention is.

FreeSwim, arXiv 2511.14712: SDEdit on a shifted flow schedule. The last `strength` share of the
schedule runs, starting from the input noised to the first of these levels.
"""

from __future__ import annotations

import math

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from freeswim.method.settings import RefineSettings, Temperature
from freeswim.method.window import InwardWindow

OFFICIAL_NATIVE_TOKENS = (
    30 * 52
)  # one latent frame of 480x832, for every model in the official code


def refine_schedule(
    settings: RefineSettings, device: torch.device
) -> tuple[UniPCMultistepScheduler, Tensor]:
    """A scheduler at the first refine step, and the timesteps that run, (num_refine_steps,)."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=settings.flow_shift,
        num_train_timesteps=1000,
    )
    scheduler.set_timesteps(settings.steps, device=device)
    first = settings.steps - settings.num_refine_steps
    scheduler.set_begin_index(first)
    return scheduler, scheduler.timesteps[first:]


def add_noise(latents: Tensor, noise: Tensor, settings: RefineSettings) -> Tensor:
    """Latents noised to where the refine pass starts.

    Args:
        latents: clean, (B, C, T, h, w).
        noise: N(0, 1), same shape.
    """
    scheduler, timesteps = refine_schedule(settings, latents.device)
    return scheduler.add_noise(latents, noise, timesteps[:1])  # pyright: ignore[reportArgumentType]


def is_refresh(step: int, settings: RefineSettings) -> bool:
    """Whether the full branch runs on refine step `step`, counted from 0."""
    return step % settings.refresh_interval == 0


def attention_scale(temperature: Temperature, window: InwardWindow, head_dim: int) -> float:
    """What self-attention scores of the refine pass are multiplied with.

    More keys than in training flatten a softmax; the logarithm of the counts' ratio undoes it
    (arXiv 2306.08645). The official program uses one constant whatever the size, 1.0461 times the
    usual scale; `entropy` uses the token counts of one latent frame, `none` the usual scale.
    """
    usual = 1 / math.sqrt(head_dim)
    if temperature == "none":
        return usual
    if temperature == "official":
        tokens, native = 2 * OFFICIAL_NATIVE_TOKENS, OFFICIAL_NATIVE_TOKENS
    else:
        tokens = max(window.rows * window.columns, 2)
        native = max(window.native_rows * window.native_columns, 2)
    return usual * math.sqrt(math.log(tokens) / math.log(native))
