"""Schedule of the refine pass: which noise levels run, which steps refresh, how sharp attention is.

FreeSwim, arXiv 2511.14712: SDEdit on a shifted flow schedule. The last `strength` share of the
schedule runs, starting from the input noised to the first of these levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class ResumePoint:
    """Everything that decides the rest of a pass, taken between two of its steps."""

    step: int  # steps done
    latents: Tensor  # (1, C, T, h, w)
    last_sample: Tensor | None  # the multistep solver's history from here on
    model_outputs: tuple[Tensor | None, ...]
    timesteps: tuple[Tensor | None, ...]
    lower_order_nums: int
    order: int

    def to(self, device: torch.device) -> ResumePoint:
        """The same on `device`."""
        return replace(
            self,
            latents=self.latents.to(device),
            last_sample=None if self.last_sample is None else self.last_sample.to(device),
            model_outputs=tuple(
                None if output is None else output.to(device) for output in self.model_outputs
            ),
        )


def take_resume_point(
    scheduler: UniPCMultistepScheduler, step: int, latents: Tensor
) -> ResumePoint:
    """The state of a pass after `step` steps."""
    return ResumePoint(
        step=step,
        latents=latents,
        last_sample=scheduler.last_sample,
        model_outputs=tuple(scheduler.model_outputs),
        timesteps=tuple(scheduler.timestep_list),
        lower_order_nums=scheduler.lower_order_nums,
        order=getattr(scheduler, "this_order", 0),  # made by the first step
    )


def resume_at(scheduler: UniPCMultistepScheduler, point: ResumePoint) -> None:
    """Bring a scheduler that stands at the first step of a pass to `point`."""
    scheduler.set_begin_index((scheduler.begin_index or 0) + point.step)
    scheduler.last_sample = point.last_sample
    scheduler.model_outputs = list(point.model_outputs)
    scheduler.timestep_list[:] = point.timesteps  # pyright: ignore[reportCallIssue, reportArgumentType]
    scheduler.lower_order_nums = point.lower_order_nums
    scheduler.this_order = point.order


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
