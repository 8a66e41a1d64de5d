"""A round that teaches a transformer to keep to the count it is asked for, by what it knows itself.

How many koi there will be is decided where the noise is strongest. There a velocity is pushed away
from, or towards, those of the same caption with each other count: classifier-free guidance with
other counts in the place of no text. The transformer learns the pushed velocities of what it was at
the beginning (Meng et al. 2023, "On Distillation of Guided Diffusion Models"), so that sampling needs
neither the other captions nor their time. Everywhere else it goes on learning from clips.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from freeswim.models.demo.scene import COUNT_WORDS
from freeswim.models.demo.training import lean, transformer
from freeswim.models.demo.training.latents import Encoded
from freeswim.models.demo.training.optimiser import Muon
from freeswim.models.demo.training.recipe import Recipe
from freeswim.models.demo.training.stage import Figures, Trainee
from freeswim.models.demo.training.text import as_tokens, encode

_BEGINS, _WHOLE = 0.85, 0.9  # noise at which velocities are pushed a little, and all the way
_LEAST_PLACE = 0.7  # of a schedule that runs backwards, 0…1: a noise of 0.875, the least that is taught: half of a push
_SHIFT = 3.0  # of the noise levels, as the scheduler has it
_WEIGHT = 20.0  # beside the loss on clips: these targets are no draws, so little of it is noise
_STEPS = 41  # part of seeds


def trainee(
    model: WanTransformer3DModel,
    encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    encoded: Sequence[Encoded],
    scale: tuple[Tensor, Tensor],
    recipe: Recipe,
) -> Trainee:
    """The transformer, to be trained on the clips of the recipe and to be pushed on native ones.

    Args:
        scale: mean and deviation of the latents' channels, (C,) each.
        recipe: with `pushes`.
    """
    assert recipe.pushes is not None
    encoder.requires_grad_(False)
    teacher = copy.deepcopy(model).requires_grad_(False)
    on_clips = transformer.trainee(model, encoder, tokenizer, encoded, scale, recipe)
    native, batch = encoded[0], recipe.buckets[0].batch
    mean, std = (value.view(1, -1, 1, 1, 1) for value in scale)
    tokens, counted = _with_every_count(tokenizer, transformer.trained_on(native))
    pushes = torch.tensor(recipe.pushes)

    def difference(step: int) -> Tensor:
        """From pushed velocities of the teacher, on clips that are asked for by any count."""
        rng = np.random.default_rng([recipe.seed, _STEPS, step])
        picked = rng.choice(len(counted), batch)
        asked = torch.from_numpy(rng.choice(len(COUNT_WORDS), batch))
        clean = (native.latents[counted[picked]].float() - mean) / std
        noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
        place = _LEAST_PLACE + (1 - _LEAST_PLACE) * rng.random(batch)
        sigma = torch.from_numpy(_SHIFT * place / (1 + (_SHIFT - 1) * place)).float()
        part = sigma.view(-1, 1, 1, 1, 1)
        noised = ((1 - part) * clean + part * noise).to(model.device)
        timesteps = sigma.to(model.device) * 1000
        bias = transformer.bias_of_pads(rng, batch).to(model.device)

        def velocities(net: WanTransformer3DModel, words: Tensor) -> Tensor:
            return lean.forward(
                net, noised, timesteps, words, bias, compiled=recipe.compiled
            ).float()

        each_clip = torch.arange(batch)
        with torch.no_grad():
            words = torch.stack([encode(encoder, text[picked].to(model.device)) for text in tokens])
            known = torch.stack([velocities(teacher, of_count) for of_count in words])
            target = pushed(known, asked, sigma, pushes)
        return (velocities(model, words[asked, each_clip]) - target).pow(2).mean()

    def loss(step: int) -> tuple[Tensor, Figures]:
        of_clips, figures = on_clips.loss(step)
        pushing = difference(step)
        return of_clips + _WEIGHT * pushing, figures | {"loss_pushed": pushing.item()}

    weights = dict(model.named_parameters())
    return replace(
        on_clips, optimiser=Muon({}, weights, rate=0.0, rest_rate=3e-4), loss=loss, memory=0.98
    )


def pushed(known: Tensor, asked: Tensor, sigma: Tensor, pushes: Tensor) -> Tensor:
    """Velocities of the count that is asked for, away from those of others, (B, C, T, h, w).

    Args:
        known: velocities for one, two and three koi, (3, B, C, T, h, w).
        asked: which of them, (B,), 0…2.
        sigma: noise levels, (B,), 0…1.
        pushes: how far, as multiples of the differences: of the count that is asked for (rows)
            from each (columns), (3, 3); below 0 it is towards.
    """
    own = known[asked, torch.arange(len(asked))]
    share = ((sigma - _BEGINS) / (_WHOLE - _BEGINS)).clamp(0, 1)
    parts = (pushes[asked] * share[:, None]).T.to(own)  # (3, B)
    return own + torch.einsum("kb,kb...->b...", parts, own - known)


def _with_every_count(
    tokenizer: PreTrainedTokenizerFast, captions: Sequence[str]
) -> tuple[list[Tensor], np.ndarray]:
    """Tokens of the captions that say a count, once with each; and which captions those are."""
    counted = [number for number, text in enumerate(captions) if text.startswith(COUNT_WORDS)]
    rest = [captions[number].split(" ", 1)[1] for number in counted]
    return [as_tokens(tokenizer, [f"{word} {text}" for text in rest]) for word in COUNT_WORDS], (
        np.array(counted)
    )
