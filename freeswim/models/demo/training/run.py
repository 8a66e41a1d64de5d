"""All stages of a training run, one after the other; or another round of the last one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, load_model

from freeswim.models.demo.training import autoencoder, contrast, transformer
from freeswim.models.demo.training.assemble import machine, write_card, write_checkpoint
from freeswim.models.demo.training.evaluation import native_figures, round_trip_figures
from freeswim.models.demo.training.latents import make_latents, statistics
from freeswim.models.demo.training.recipe import Recipe
from freeswim.models.demo.training.stage import Figures, Run, train
from freeswim.models.demo.training.text import make_encoder, make_tokenizer

TRANSFORMER = "transformer/diffusion_pytorch_model"  # where a checkpoint has its weights
VAE = "vae/diffusion_pytorch_model"
FINAL_ROUNDS = 4  # of prompts, that the card's figures are of


def make_checkpoint(
    recipe: Recipe, run: Run, device: torch.device, *, after: Path | None = None
) -> None:
    """All stages, or what is left of them.

    Args:
        after: a finished checkpoint, whose autoencoder is kept and whose transformer and text
            encoder are trained on; None: all begin from nothing.

    Raises:
        OutOfTime: another run has to go on.
    """
    run.log(begin=recipe.name, seed=recipe.seed, device=str(device), **machine())
    torch.manual_seed(recipe.seed)  # of the weights that training starts from
    vae: Any = AutoencoderKLWan(**recipe.vae_config)
    tokenizer = make_tokenizer()
    encoder = make_encoder(recipe.text_config, tokenizer)
    model: Any = WanTransformer3DModel(**recipe.transformer_config)
    transformer.start(model)
    if after is not None:
        for part, name in ((vae, VAE), (encoder, "text_encoder/model")):
            load_model(part, after / f"{name}.safetensors")
        model.load_state_dict(
            transformer.grown(model, load_file(after / f"{TRANSFORMER}.safetensors"))
        )
    parts: tuple[Any, ...] = (vae, encoder, model)
    for part in parts:
        part.to(device)

    if after is None:
        train(autoencoder.joint(vae, recipe), recipe.autoencoder, run)
        train(autoencoder.decoder(vae, recipe), recipe.decoder, run)
    vae.requires_grad_(False).eval()
    encoded = make_latents(vae, recipe, run)
    if after is None:
        scale = statistics(encoded)
    else:  # what the transformer was trained with, not what these clips happen to have
        known = json.loads((after / "vae" / "config.json").read_text("utf-8"))
        scale = torch.tensor(known["latents_mean"]), torch.tensor(known["latents_std"])
    vae.register_to_config(**autoencoder.with_statistics(recipe.vae_config, *scale))
    make_trainee = transformer.trainee if recipe.pushes is None else contrast.trainee
    learner = make_trainee(model, encoder, tokenizer, encoded, scale, recipe)

    def check() -> Figures:
        figures = learner.check()
        return figures | native_figures(model, encoder, tokenizer, vae, recipe)

    train(replace(learner, check=check), recipe.transformer, run)
    figures = native_figures(model, encoder, tokenizer, vae, recipe, rounds=FINAL_ROUNDS)
    figures |= round_trip_figures(vae, recipe)
    write_checkpoint(run.folder / "model", model, encoder, tokenizer, vae)
    write_card(run, recipe, figures)
    run.log(done=True, **figures)
