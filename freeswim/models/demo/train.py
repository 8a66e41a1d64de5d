"""Make the demo checkpoint from nothing: `python -m freeswim.models.demo.train --folder FOLDER`.

Four stages, each a file or a folder of files in FOLDER: autoencoder.state, decoder.state,
latents/, transformer.state. Then FOLDER/model is the checkpoint, in the format of weights/, and
FOLDER/card.json says how it was made and what it can do. log.jsonl grows all the while.

A run may be killed at any moment; with --resume the same command goes on, to the same weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file

from freeswim.models.demo.training import autoencoder, transformer
from freeswim.models.demo.training.assemble import machine, write_card, write_checkpoint
from freeswim.models.demo.training.evaluation import native_figures, round_trip_figures
from freeswim.models.demo.training.latents import make_latents, statistics
from freeswim.models.demo.training.recipe import FULL, QUICK, Recipe
from freeswim.models.demo.training.stage import Figures, OutOfTime, Run, Trainee, save_whole, train
from freeswim.models.demo.training.text import make_encoder, make_tokenizer
from freeswim.quiet import quiet_libraries

RECIPE = "recipe.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 done, 3 out of time."""
    options = _parser().parse_args(arguments)
    quiet_libraries()
    torch.set_num_threads(options.threads)
    recipe: Recipe = QUICK if options.quick else FULL
    folder: Path = options.folder.expanduser().absolute()
    if refusal := _check_folder(folder, recipe, options.resume):
        sys.stderr.write(f"train: {refusal}\n")
        return 2
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    run = Run(folder, deadline)
    run.log(begin=recipe.reference, seed=recipe.seed, device=options.device, **machine())
    try:
        make_checkpoint(recipe, run, torch.device(options.device))
    except OutOfTime:
        run.log(out_of_time=True, minutes=options.minutes)
        return 3
    return 0


def make_checkpoint(recipe: Recipe, run: Run, device: torch.device) -> None:
    """All stages, or what is left of them.

    Raises:
        OutOfTime: another run has to go on.
    """
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
    vae.register_to_config(
        **autoencoder.with_statistics(recipe.vae_config, *statistics(encoded))
    )
    learner = transformer.trainee(model, encoder, tokenizer, encoded, recipe)

    def check() -> Figures:
        figures = learner.check()
        return figures | native_figures(model, encoder, tokenizer, vae, recipe)

    train(
        Trainee(learner.name, learner.optimiser, learner.loss, check, learner.memory),
        recipe.transformer,
        run,
    )
    figures = native_figures(model, encoder, tokenizer, vae, recipe)
    figures |= round_trip_figures(vae, recipe)
    write_checkpoint(run.folder / "model", model, encoder, tokenizer, vae)
    write_card(run, recipe, figures)
    run.log(done=True, **figures)


def _check_folder(folder: Path, recipe: Recipe, resume: bool) -> str:
    """Why the run cannot begin in this folder; empty where it can. Notes the recipe in it."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / RECIPE
    text = json.dumps(asdict(recipe), indent=1)
    if place.exists():
        if not resume:
            return f"{folder} holds a run; go on with --resume, or name another folder."
        if place.read_text("utf-8") != text:
            return f"{folder} holds a run of another recipe; name another folder."
        return ""
    save_whole(place, lambda file: file.write_text(text, "utf-8") and None)
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m freeswim.models.demo.train",
        description="Make the demo checkpoint from nothing.",
    )
    parser.add_argument("--folder", type=Path, required=True, help="for everything that is made")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--minutes", type=float, help="stop after so long; --resume goes on")
    parser.add_argument("--threads", type=int, default=1, help="of a processor; default 1")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    parser.add_argument("--quick", action="store_true", help="shows that it runs, no more")
    return parser


if __name__ == "__main__":
    sys.exit(main())
