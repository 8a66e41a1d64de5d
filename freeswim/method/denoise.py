"""The denoising loop of both passes.

FreeSwim, arXiv 2511.14712. The base pass is ordinary sampling with the checkpoint's own schedule
and attention. The refine pass starts from noised latents at the target size and runs the window
branch, overridden by the full branch (dual_path.py), on its own schedule (schedule.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import UniPCMultistepScheduler, WanTransformer3DModel
from torch import Tensor

from freeswim.method.attention import choose_backend
from freeswim.method.dual_path import DualPath, Kept
from freeswim.method.schedule import attention_scale, is_refresh, refine_schedule
from freeswim.method.settings import BaseSettings, RefineSettings
from freeswim.method.window import InwardWindow

# Called after every step with steps done, steps to run, and the latents; may raise to stop.
OnStep = Callable[[int, int, Tensor], None]
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
    on_step: OnStep | None = None,
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
        on_step: called after every step with (steps done, steps to run, latents).

    Returns:
        Clean latents, same shape.
    """
    scheduler.set_timesteps(settings.steps, device=latents.device)
    scheduler.set_begin_index(0)

    def velocity(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
        expert, scale = _expert_at(timestep, transformer, low_noise, settings)
        conditional = _forward(expert, latents, timestep, condition, prompt_embeds)
        if negative_prompt_embeds is None or scale == 1:
            return conditional
        unconditional = _forward(expert, latents, timestep, condition, negative_prompt_embeds)
        return _guide(conditional, unconditional, scale)

    return _denoise(latents, scheduler, scheduler.timesteps, velocity, condition, on_step)


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
    on_step: OnStep | None = None,
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
        on_step: called after every step with (steps done, steps to run, latents).

    Returns:
        Clean latents, same shape and dtype.

    Raises:
        RequestError: a grid without tokens, or an attention backend that cannot run here.

    Source: arXiv 2511.14712.
    """
    scheduler, timesteps = refine_schedule(settings, latents.device)
    window = token_window(transformer, latents, native_grid)
    branches = {
        "scale": attention_scale(
            settings.temperature, window, transformer.config["attention_head_dim"]
        ),
        "backend": choose_backend(settings.attention, window, latents.device),
    }
    experts = [transformer] if low_noise is None else [transformer, low_noise.transformer]
    kept: dict[
        WanTransformer3DModel, tuple[Kept | None, Kept | None]
    ] = {}  # of the expert that runs

    with ExitStack() as stack:
        paths = {
            expert: stack.enter_context(DualPath(expert, window, **branches)) for expert in experts
        }

        def velocity(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
            expert, scale = _expert_at(timestep, transformer, low_noise, settings)
            path = paths[expert]
            conditional = partial(_forward, expert, latents, timestep, condition, prompt_embeds)
            unconditional = None
            if negative_prompt_embeds is not None and scale != 1:
                unconditional = partial(
                    _forward, expert, latents, timestep, condition, negative_prompt_embeds
                )

            if expert not in kept or is_refresh(step, settings):
                kept.clear()  # before the new ones are made: they are large
                kept[expert] = _refresh(path, conditional, unconditional, settings)
            kept_conditional, kept_unconditional = kept[expert]
            guided = path.window_branch(conditional, kept_conditional)
            if unconditional is None:
                return guided
            return _guide(guided, path.window_branch(unconditional, kept_unconditional), scale)

        return _denoise(latents, scheduler, timesteps, velocity, condition, on_step)


def _refresh(
    path: DualPath,
    conditional: Callable[[], Tensor],
    unconditional: Callable[[], Tensor] | None,
    settings: RefineSettings,
) -> tuple[Kept | None, Kept | None]:
    """What overrides the cross-attention of the conditional and the unconditional forward."""
    if settings.guidance == "none":
        return None, None
    overridden = unconditional if settings.override_unconditional else None
    return path.full_branch(conditional), overridden and path.full_branch(overridden)


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


def _denoise(
    latents: Tensor,
    scheduler: UniPCMultistepScheduler,
    timesteps: Tensor,
    velocity: Velocity,
    condition: ImageCondition | None,
    on_step: OnStep | None,
) -> Tensor:
    """Integrate `velocity` over `timesteps`; the latents stay float32, as in diffusers."""
    for step, timestep in enumerate(timesteps):
        latents = scheduler.step(
            velocity(step, timestep, latents), timestep, latents, return_dict=False
        )[0]
        if on_step is not None:
            on_step(step + 1, len(timesteps), latents)
    return _with_first_frame(latents, condition)


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


def _forward(
    transformer: WanTransformer3DModel,
    latents: Tensor,
    timestep: Tensor,
    condition: ImageCondition | None,
    text_embeds: Tensor,
) -> Tensor:
    """Velocity that `transformer` predicts, (1, C, T, h, w), in the latents' dtype."""
    dtype = transformer.dtype
    model_input = _with_first_frame(latents, condition)
    if condition is not None and condition.channels is not None:
        model_input = torch.cat([latents, condition.channels], dim=1)
    image_embeds = None if condition is None else condition.image_embeds
    return transformer(
        hidden_states=model_input.to(dtype),
        timestep=_timesteps_of_tokens(transformer, latents, timestep, condition),
        encoder_hidden_states=text_embeds.to(dtype),
        encoder_hidden_states_image=None if image_embeds is None else image_embeds.to(dtype),
        return_dict=False,
    )[0].to(latents.dtype)


def _timesteps_of_tokens(
    transformer: WanTransformer3DModel,
    latents: Tensor,
    timestep: Tensor,
    condition: ImageCondition | None,
) -> Tensor:
    """One timestep for the clip, (1,); for each token, (1, L), where the first frame is known."""
    if condition is None or condition.first_frame is None:
        return timestep.expand(1)
    patch_frames, patch_rows, patch_columns = transformer.config["patch_size"]
    frames, height, width = latents.shape[2:]
    tokens_per_frame = (height // patch_rows) * (width // patch_columns)
    of_frames = timestep.repeat(frames // patch_frames)
    of_frames[0] = 0
    return of_frames.repeat_interleave(tokens_per_frame)[None]


def _with_first_frame(latents: Tensor, condition: ImageCondition | None) -> Tensor:
    """The latents with their known first frame in place."""
    if condition is None or condition.first_frame is None:
        return latents
    return torch.cat([condition.first_frame.to(latents), latents[:, :, 1:]], dim=2)


def _guide(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance, arXiv 2207.12598."""
    return unconditional + guidance_scale * (conditional - unconditional)
