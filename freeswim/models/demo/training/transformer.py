"""Training of transformer and text encoder: flow matching on latents of several grids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from freeswim.models.demo.scene import COUNT_WORDS
from freeswim.models.demo.training import lean
from freeswim.models.demo.training.latents import Encoded
from freeswim.models.demo.training.optimiser import Muon
from freeswim.models.demo.training.recipe import MAX_TEXT, Recipe
from freeswim.models.demo.training.stage import Figures, Trainee
from freeswim.models.demo.training.text import as_tokens, encode

NO_TEXT = 0.1  # share of the clips that are shown without their caption
# Lengths a pipeline may pad its text to: the model has to bear them all.
PADDED = (16, 24, 32, 32, 64, 128, 226, 512)
_OUTPUTS = ("attn1.to_out.", "attn2.to_out.", "ffn.net.2.")  # what a layer adds to its tokens
_STEPS, _HELD_OUT = 21, 16  # part of seeds; every so many clips of a bucket, one is not trained on


def trainee(
    transformer: WanTransformer3DModel,
    encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    encoded: Sequence[Encoded],
    scale: tuple[Tensor, Tensor],
    recipe: Recipe,
) -> Trainee:
    """Both, to be trained together.

    Args:
        scale: mean and deviation of the latents' channels, (C,) each.
    """
    mean, std = (value.view(1, -1, 1, 1, 1) for value in scale)
    tokens = [as_tokens(tokenizer, part.captions) for part in encoded]
    odds = [odds_of(part, recipe.counted) for part in encoded]
    empty = as_tokens(tokenizer, [""])
    device = transformer.device

    def mean_loss(number: int, picked: Tensor, rng: np.random.Generator) -> Tensor:
        """Of the clips `picked` of a bucket."""
        clean = (encoded[number].latents[picked].float() - mean) / std
        words = tokens[number][picked]
        count = len(picked)
        words = torch.where(torch.from_numpy(rng.random(count) < NO_TEXT)[:, None], empty, words)
        sigma = _sigmas(rng, count, recipe.shift)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
        part = sigma.view(-1, 1, 1, 1, 1)
        noised = (1 - part) * clean + part * noise
        bias = bias_of_pads(rng, count)
        velocity = lean.forward(
            transformer,
            noised.to(device),
            sigma.to(device) * 1000,
            encode(encoder, words.to(device)),
            bias.to(device),
            compiled=recipe.compiled,
        )
        return (velocity.float() - (noise - clean).to(device)).pow(2).mean()

    def loss(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([recipe.seed, _STEPS, step])
        number = _bucket_of(rng, recipe, step)
        size = _batch(recipe, number)
        picked = rng.choice(len(trained_on(encoded[number])), size, p=odds[number])
        value = mean_loss(number, torch.from_numpy(picked), rng)
        kind = "frames" if encoded[number].bucket.frames == 1 else "clips"
        return value, {f"loss_{kind}": value.item()}

    @torch.no_grad()
    def check() -> Figures:
        """Losses of every bucket on clips that are never trained on, noised always alike."""
        figures: Figures = {}
        for number, part in enumerate(encoded):
            rng = np.random.default_rng([recipe.seed, _STEPS + 1, number])
            clips = part.bucket.clips
            kept = torch.arange(clips - _held_out(clips), clips)
            # Of the size that is trained on: another would be compiled as well.
            size = min(_batch(recipe, number), len(kept))
            batches = kept[: len(kept) // size * size].split(size)[:8]
            losses = [mean_loss(number, picked, rng).item() for picked in batches]
            figures[f"held_out_{part.bucket.name}"] = round(sum(losses) / len(losses), 5)
        return figures

    return Trainee("transformer", _optimiser(transformer, encoder), loss, check)


def start(transformer: WanTransformer3DModel) -> None:
    """Begin with velocities of zero: steps go the right way from the first one on."""
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)


def grown(model: WanTransformer3DModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a transformer with as many layers as `model` or fewer, for `model`.

    New layers are copies that add nothing yet, spread evenly behind those they are copies of, so
    what comes out is the same.
    """
    layers = len(model.blocks)
    old_layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    content = {name: value for name, value in weights.items() if not name.startswith("blocks.")}
    sources = [layer * old_layers // layers for layer in range(layers)]
    for layer, source in enumerate(sources):
        is_new = source in sources[:layer]
        for name, value in weights.items():
            if name.startswith(f"blocks.{source}."):
                rest = name.split(".", 2)[2]
                adds_nothing = is_new and rest.startswith(_OUTPUTS)
                value = torch.zeros_like(value) if adds_nothing else value
                content[f"blocks.{layer}.{rest}"] = value
    return content


def odds_of(part: Encoded, share: float | None) -> NDArray[np.float64] | None:
    """How often each clip that is trained on is picked; None: all alike.

    Args:
        share: of the picks that say how many koi there are, where a bucket has others as well.
    """
    if share is None:
        return None
    counts = np.array([caption.startswith(COUNT_WORDS) for caption in trained_on(part)])
    odds = np.where(counts, share / max(1, counts.sum()), (1 - share) / max(1, (~counts).sum()))
    return odds / odds.sum()  # where all clips are of one kind, every one as often


def trained_on(part: Encoded) -> list[str]:
    """Captions of the clips that are trained on: the first ones."""
    return part.captions[: len(part.captions) - _held_out(len(part.captions))]


def bias_of_pads(rng: np.random.Generator, count: int) -> Tensor:
    """For `lean.forward`, as if each text were padded to some length, (count, MAX_TEXT)."""
    bias = torch.zeros(count, MAX_TEXT)
    bias[:, -1] = torch.from_numpy(np.log(rng.choice(PADDED, count) - (MAX_TEXT - 1.0)))
    return bias


def _optimiser(transformer: WanTransformer3DModel, encoder: UMT5EncoderModel) -> Muon:
    named = dict(transformer.named_parameters())
    is_matrix = {name: name.startswith("blocks.") and named[name].ndim == 2 for name in named}
    matrices = {name: weight for name, weight in named.items() if is_matrix[name]}
    rest = {name: weight for name, weight in named.items() if not is_matrix[name]}
    rest |= {f"text.{name}": weight for name, weight in encoder.named_parameters()}
    return Muon(matrices, rest, rate=0.008, rest_rate=1.5e-3, decay=0.01)


def _bucket_of(rng: np.random.Generator, recipe: Recipe, step: int) -> int:
    """Which bucket a step trains on: single frames, which are cheap, more often at the start."""
    done = min(1.0, step / (recipe.settled * recipe.transformer.steps))
    share = recipe.first_frames_share
    share += (recipe.last_frames_share - share) * done
    is_frames = rng.random() < share
    shares = np.array([b.share * ((b.frames == 1) == is_frames) for b in recipe.buckets])
    return int(rng.choice(len(shares), p=shares / shares.sum()))


def _sigmas(rng: np.random.Generator, count: int, shift: float) -> Tensor:
    """Noise levels, most in the middle, some anywhere, shifted up."""
    middle = 1 / (1 + np.exp(-1.1 * rng.standard_normal(count)))
    anywhere = rng.random(count)
    level = np.where(rng.random(count) < 0.2, anywhere, middle)
    return torch.from_numpy((shift * level / (1 + (shift - 1) * level)).astype(np.float32))


def _held_out(clips: int) -> int:
    return math.ceil(min(clips / _HELD_OUT, 64))


def _batch(recipe: Recipe, number: int) -> int:
    return recipe.buckets[number].batch
