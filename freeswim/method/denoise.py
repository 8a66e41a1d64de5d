"""The denoising loop of both passes.

FreeSwim, arXiv 2511.14712. The base pass is ordinary sampling with the checkpoint's own schedule
and attention. The refine pass starts from noised latents at the target size and runs the window
branch, overridden by the full branch (dual_path.py), on its own schedule (schedule.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanTransformer3DModel
from torch import Tensor

from freeswim.errors import NumericalError
from freeswim.limits import rows_at_once
from freeswim.method.block import in_pieces
from freeswim.method.dual_path import DualPath
from freeswim.method.guidance import pick
from freeswim.method.kept import Kept, Placement
from freeswim.method.schedule import (
    ResumePoint,
    is_refresh,
    refine_schedule,
    resume_at,
    take_resume_point,
)
from freeswim.method.settings import BaseSettings, KeptPrecision, RefineSettings
from freeswim.method.step_cache import StepCache
from freeswim.method.window import InwardWindow

# Called after every step with steps done, steps to run, and the latents; may raise to stop.
OnStep = Callable[[int, int, Tensor, Tensor], None]
# Called between steps with all that decides the rest of the pass.
OnResumePoint = Callable[[ResumePoint], None]
Velocity = Callable[[int, Tensor, Tensor], Tensor]  # (step, timestep, latents) -> velocity


@dataclass(frozen=True)
class ImageCondition:
    """What an image-conditioned checkpoint sees beside text, at the size of the latents."""

    channels: Tensor | None = None  # (1, C', T, h, w), joined to the latents' channels
    image_embeds: Tensor | None = None  # (1, tokens, D), of the image encoder (Wan 2.1)
    first_frame: Tensor | None = (
        None  # (1, C, 1, h, w), clean latents of a known frame (Wan 2.2 5B)
    )


@dataclass(frozen=True)
class LowNoiseExpert:
    """The transformer of a two-expert checkpoint that takes over below a timestep (Wan 2.2 A14B)."""

    transformer: WanTransformer3DModel
    boundary: float  # timesteps below it are this expert's, 0 to 1000


@torch.no_grad()
def sample_base(
    transformer: WanTransformer3DModel,
    latents: Tensor,
    prompt_embeds: Tensor,
    negative_prompt_embeds: Tensor | None = None,
    *,
    scheduler: UniPCMultistepScheduler,
    settings: BaseSettings = BaseSettings(),  # noqa: B008 (frozen)
    condition: ImageCondition | None = None,
    low_noise: LowNoiseExpert | None = None,
    resume: ResumePoint | None = None,
    on_step: OnStep | None = None,
    on_resume_point: OnResumePoint | None = None,
) -> Tensor:
    """Sample a clip at native size: the ordinary text- or image-to-video loop of diffusers.

    Args:
        transformer: the checkpoint's transformer; the high-noise expert where there are two.
        latents: noise, (1, C, T, h, w), float32.
        prompt_embeds: (1, text tokens, D).
        negative_prompt_embeds: the same; None or guidance 1 means no unconditional forward.
        scheduler: the checkpoint's own.
        settings: of this pass.
        condition: of an image-conditioned checkpoint, at the size of `latents`.
        low_noise: second expert of a two-expert checkpoint.
        resume: where an interrupted pass goes on, instead of at `latents`; to the same result.
        on_step: called after every step with (steps done, steps to run, latents, the solver's
            estimate of the clean ones).
        on_resume_point: called wherever the pass could go on from, and at its end.

    Returns:
        Clean latents, same shape.
    """
    batch_rows = _batch_rows(transformer, latents)
    scheduler.set_timesteps(settings.steps, device=latents.device)
    scheduler.set_begin_index(0)

    def velocity(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
        expert, scale = _expert_at(timestep, transformer, low_noise, settings)
        texts = _texts(prompt_embeds, negative_prompt_embeds, scale)
        velocities = [
            _forward(expert, latents, timestep, condition, batch)
            for batch in texts.split(batch_rows)
        ]
        return _guide(torch.cat(velocities), scale)

    run = _Run(scheduler, scheduler.timesteps, resume, on_step, on_resume_point)
    with ExitStack() as stack:
        for expert in _experts(transformer, low_noise):
            stack.enter_context(in_pieces(expert))
        return _with_first_frame(_denoise(latents, velocity, run), condition)


@torch.no_grad()
def refine(
    transformer: WanTransformer3DModel,
    latents: Tensor,
    prompt_embeds: Tensor,
    negative_prompt_embeds: Tensor | None = None,
    *,
    native_grid: tuple[int, int],
    settings: RefineSettings = RefineSettings(),  # noqa: B008 (frozen)
    condition: ImageCondition | None = None,
    low_noise: LowNoiseExpert | None = None,
    keep_on: Placement = "device",
    resume: ResumePoint | None = None,
    on_step: OnStep | None = None,
    on_resume_point: OnResumePoint | None = None,
) -> Tensor:
    """Denoise noised latents at the target size: the FreeSwim refine pass.

    Args:
        transformer: an unmodified Wan transformer; the high-noise expert where there are two.
        latents: noised to the first refine step already, (1, C, T, h, w), float32.
        prompt_embeds: (1, text tokens, D).
        negative_prompt_embeds: the same; None or guidance 1 means no unconditional forward.
        native_grid: tokens of one latent frame at native size, (rows, columns), e.g. (30, 52).
        settings: of this pass.
        condition: of an image-conditioned checkpoint, at the size of `latents`.
        low_noise: second expert of a two-expert checkpoint.
        keep_on: where kept cross-attention outputs are between their uses; never what they are.
        resume: where an interrupted pass goes on, instead of at `latents`; to the same result.
        on_step: called after every step with (steps done, steps to run, latents, the solver's
            estimate of the clean ones).
        on_resume_point: called wherever the pass could go on from, and at its end.

    Returns:
        Clean latents, same shape and dtype.

    Raises:
        RequestError: a grid without tokens, or an attention backend that cannot run here.

    Source: arXiv 2511.14712.
    """
    scheduler, timesteps = refine_schedule(settings, latents.device)
    window = token_window(transformer, latents, native_grid)
    experts = _experts(transformer, low_noise)
    batch_rows = _batch_rows(transformer, latents)
    kept = _KeptRows(latents.device, keep_on, settings.kept_precision)

    with ExitStack() as stack:
        paths = {
            expert: stack.enter_context(DualPath(expert, window, settings, latents.device))
            for expert in experts
        }

        for expert in experts:
            stack.enter_context(in_pieces(expert))
        cache = stack.enter_context(StepCache(settings))

        def velocity(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
            expert, scale = _expert_at(timestep, transformer, low_noise, settings)
            texts = _texts(prompt_embeds, negative_prompt_embeds, scale)
            forward = partial(_forward, expert, latents, timestep, condition)
            if kept.expert is not expert or is_refresh(step, settings):
                cache.stop()  # the full branch never sees it
                kept.begin(expert)
                overridden = texts if settings.override_unconditional else texts[:1]
                if settings.guidance != "none":
                    seen = _picked(latents, condition, expert, paths[expert].full_window)
                    full = partial(_forward, expert, seen[0], timestep, seen[1])
                    _full_rows(paths[expert], full, overridden, batch_rows, kept)
                cache.start(expert, step)
            velocities = _window_rows(paths[expert], forward, texts, batch_rows, kept, cache)
            return _guide(velocities, scale)

        # What was kept is not part of a resume point: only a step that refreshes needs none.
        run = _Run(
            scheduler,
            timesteps,
            resume,
            on_step,
            on_resume_point,
            partial(is_refresh, settings=settings),
        )
        return _with_first_frame(_denoise(latents, velocity, run), condition)


class _KeptRows:
    """What the full branch's forwards of one step keep, in their order, until the next refresh.

    The window branch forwards the same rows in the same batches.
    """

    def __init__(
        self, device: torch.device, placement: Placement, precision: KeptPrecision
    ) -> None:
        self.expert: WanTransformer3DModel | None = None  # whose they are
        self._make = partial(Kept, device, placement, precision)
        self._forwards: list[Kept] = []
        self._num_kept = 0

    def begin(self, expert: WanTransformer3DModel) -> None:
        """Forget all, before the new ones are made: they are large."""
        self.expert, self._num_kept = expert, 0
        for kept in self._forwards:
            kept.begin()

    def next(self) -> Kept:
        """What the next forward is to fill."""
        if self._num_kept == len(self._forwards):
            self._forwards.append(self._make())
        self._num_kept += 1
        return self._forwards[self._num_kept - 1]

    def of(self, forward_index: int) -> Kept | None:
        """What overrides a forward; None where it computes its own."""
        return self._forwards[forward_index] if forward_index < self._num_kept else None


def _full_rows(
    path: DualPath,
    forward: Callable[[Tensor], Tensor],
    texts: Tensor,
    batch_rows: int,
    kept: _KeptRows,
) -> None:
    """The full branch's forwards of all rows."""
    for batch in texts.split(batch_rows):
        path.full_branch(partial(forward, batch), kept.next())


def _window_rows(
    path: DualPath,
    forward: Callable[[Tensor], Tensor],
    texts: Tensor,
    batch_rows: int,
    kept: _KeptRows,
    cache: StepCache,
) -> Tensor:
    """Velocities of all rows by the window branch, the first ones overridden by what was kept."""
    velocities = []
    for index, batch in enumerate(texts.split(batch_rows)):
        with cache.forward(index):
            velocities.append(path.window_branch(partial(forward, batch), kept.of(index)))
    return torch.cat(velocities)


def _picked(
    latents: Tensor,
    condition: ImageCondition | None,
    transformer: WanTransformer3DModel,
    window: InwardWindow,
) -> tuple[Tensor, ImageCondition | None]:
    """Latents and condition on the grid of `window`."""
    _, patch_rows, patch_columns = transformer.config["patch_size"]
    size = (window.rows * patch_rows, window.columns * patch_columns)
    if condition is not None:
        channels, first_frame = condition.channels, condition.first_frame
        condition = replace(
            condition,
            channels=None if channels is None else pick(channels, size),
            first_frame=None if first_frame is None else pick(first_frame, size),
        )
    return pick(latents, size), condition


def token_window(
    transformer: WanTransformer3DModel, latents: Tensor, native_grid: tuple[int, int]
) -> InwardWindow:
    """The inward window of `latents`' token grid."""
    patch_frames, patch_rows, patch_columns = transformer.config["patch_size"]
    frames, height, width = latents.shape[2:]
    return InwardWindow(
        frames=frames // patch_frames,
        rows=height // patch_rows,
        columns=width // patch_columns,
        native_rows=native_grid[0],
        native_columns=native_grid[1],
    )


@dataclass(frozen=True)
class _Run:
    """How a pass is run: its schedule, where it starts, and who is told."""

    scheduler: UniPCMultistepScheduler
    timesteps: Tensor
    resume: ResumePoint | None
    on_step: OnStep | None
    on_resume_point: OnResumePoint | None
    is_resumable: Callable[[int], bool] = lambda step: True


def _denoise(latents: Tensor, velocity: Velocity, run: _Run) -> Tensor:
    """Integrate `velocity` over the timesteps; the latents stay float32, as in diffusers.

    Raises:
        NumericalError: a step gave latents that are no numbers.
    """
    first, num_steps = 0, len(run.timesteps)
    if run.resume is not None:
        first, latents = run.resume.step, run.resume.latents
        resume_at(run.scheduler, run.resume)
    for step in range(first, num_steps):
        timestep = run.timesteps[step]
        latents = run.scheduler.step(
            velocity(step, timestep, latents), timestep, latents, return_dict=False
        )[0]
        if not latents.isfinite().all():
            raise NumericalError(f"The latents are no numbers any more after step {step + 1}.")
        # First the resume point: who stops the work at this step finds it.
        if run.on_resume_point is not None and (
            step + 1 == num_steps or run.is_resumable(step + 1)
        ):
            run.on_resume_point(take_resume_point(run.scheduler, step + 1, latents))
        if run.on_step is not None:
            denoised: Any = run.scheduler.model_outputs[-1]
            run.on_step(step + 1, num_steps, latents, denoised)
    return latents


def _experts(
    transformer: WanTransformer3DModel, low_noise: LowNoiseExpert | None
) -> list[WanTransformer3DModel]:
    return [transformer] if low_noise is None else [transformer, low_noise.transformer]


def _expert_at(
    timestep: Tensor,
    transformer: WanTransformer3DModel,
    low_noise: LowNoiseExpert | None,
    settings: BaseSettings | RefineSettings,
) -> tuple[WanTransformer3DModel, float]:
    """The transformer that denoises at `timestep`, and its guidance scale."""
    if low_noise is None or timestep >= low_noise.boundary:
        return transformer, settings.guidance_scale
    if settings.low_noise_guidance_scale is None:
        return low_noise.transformer, settings.guidance_scale
    return low_noise.transformer, settings.low_noise_guidance_scale


def _batch_rows(transformer: WanTransformer3DModel, latents: Tensor) -> int:
    num_tokens = latents[0, 0].numel() // math.prod(transformer.config["patch_size"])
    return rows_at_once(num_tokens, latents.device.type)


def _texts(prompt: Tensor, negative: Tensor | None, guidance_scale: float) -> Tensor:
    """Text of the rows that a step forwards, (rows, text tokens, D): conditional first."""
    if negative is None or guidance_scale == 1:
        return prompt
    return torch.cat([prompt, negative])


def _forward(
    transformer: WanTransformer3DModel,
    latents: Tensor,
    timestep: Tensor,
    condition: ImageCondition | None,
    texts: Tensor,
) -> Tensor:
    """Velocities that `transformer` predicts for each text, (rows, C, T, h, w), float32.

    Conditional and unconditional go as one batch: weights are read, and uploaded, once.
    """
    rows, dtype = texts.shape[0], transformer.dtype
    model_input = _with_first_frame(latents, condition)
    if condition is not None and condition.channels is not None:
        model_input = torch.cat([latents, condition.channels], dim=1)
    image_embeds = None if condition is None else condition.image_embeds
    if image_embeds is not None:
        image_embeds = image_embeds.to(dtype).expand(rows, -1, -1)
    timesteps = timestep.expand(rows)
    if condition is not None and condition.first_frame is not None:
        timesteps = _timesteps_of_tokens(transformer, latents, timestep).expand(rows, -1)
    return transformer(
        hidden_states=model_input.to(dtype).expand(rows, -1, -1, -1, -1),
        timestep=timesteps,
        encoder_hidden_states=texts.to(dtype),
        encoder_hidden_states_image=image_embeds,
        return_dict=False,
    )[0].to(latents.dtype)


def _timesteps_of_tokens(
    transformer: WanTransformer3DModel, latents: Tensor, timestep: Tensor
) -> Tensor:
    """One timestep for each token where the first frame is known, (L,)."""
    patch_frames, patch_rows, patch_columns = transformer.config["patch_size"]
    frames, height, width = latents.shape[2:]
    tokens_per_frame = (height // patch_rows) * (width // patch_columns)
    of_frames = timestep.repeat(frames // patch_frames)
    of_frames[0] = 0
    return of_frames.repeat_interleave(tokens_per_frame)


def _with_first_frame(latents: Tensor, condition: ImageCondition | None) -> Tensor:
    """The latents with their known first frame in place."""
    if condition is None or condition.first_frame is None:
        return latents
    return torch.cat([condition.first_frame.to(latents), latents[:, :, 1:]], dim=2)


def _guide(velocities: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance, arXiv 2207.12598, of (conditional, unconditional) rows."""
    if velocities.shape[0] == 1:
        return velocities
    conditional, unconditional = velocities.split(1)
    return unconditional + guidance_scale * (conditional - unconditional)
