"""All stages of a training run, one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from freeswim.models.demo.training import autoencoder, transformer
from freeswim.models.demo.training.assemble import machine, write_card, write_checkpoint
from freeswim.models.demo.training.evaluation import native_figures, round_trip_figures
from freeswim.models.demo.training.latents import make_latents, statistics
from freeswim.models.demo.training.recipe import Recipe
from freeswim.models.demo.training.stage import Figures, Run, train
from freeswim.models.demo.training.text import make_encoder, make_tokenizer

FINAL_ROUNDS = 4  # of prompts, that the card's figures are of


def make_checkpoint(recipe: Recipe, run: Run, device: torch.device) -> None:
    """All stages, or what is left of them.

    Raises:
        OutOfTime: another run has to go on.
    """
    run.log(begin=recipe.name, seed=recipe.seed, device=str(device), **machine())
    torch.manual_seed(recipe.seed)  # of the weights that training starts from
    vae: Any = AutoencoderKLWan(**recipe.vae_config)
    tokenizer = make_tokenizer()
    encoder = make_encoder(recipe.text_config, tokenizer).to(device)  # pyright: ignore
    model: Any = WanTransformer3DModel(**recipe.transformer_config)
    transformer.start(model)
    vae.to(device)
    model.to(device)

    train(autoencoder.joint(vae, recipe), recipe.autoencoder, run)
    train(autoencoder.decoder(vae, recipe), recipe.decoder, run)
    vae.requires_grad_(False).eval()
    encoded = make_latents(vae, recipe, run)
    vae.register_to_config(**autoencoder.with_statistics(recipe.vae_config, *statistics(encoded)))
    learner = transformer.trainee(model, encoder, tokenizer, encoded, recipe)

    def check() -> Figures:
        figures = learner.check()
        return figures | native_figures(model, encoder, tokenizer, vae, recipe)

    train(replace(learner, check=check), recipe.transformer, run)
    figures = native_figures(model, encoder, tokenizer, vae, recipe, rounds=FINAL_ROUNDS)
    figures |= round_trip_figures(vae, recipe)
    write_checkpoint(run.folder / "model", model, encoder, tokenizer, vae)
    write_card(run, recipe, figures)
    run.log(done=True, **figures)
