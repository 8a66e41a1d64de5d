"""Make the demo checkpoint from nothing: `python -m freeswim.models.demo.train --folder FOLDER`.

Four stages, each a file or a folder of files in FOLDER: autoencoder.state, decoder.state,
latents/, transformer.state. Then FOLDER/model is the checkpoint, in the format of weights/, and
FOLDER/card.json says how it was made and what it can do. log.jsonl grows all the while.

A run may be killed at any moment; with --resume the same command goes on, to the same weights.

With --after CHECKPOINT its autoencoder is kept, and its transformer goes through another round on
other clips: latents/ and transformer.state are all that is made. With --layers it grows first;
with --counts the round is a short one, in which it learns to keep to the count it is asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from filelock import FileLock, Timeout

from freeswim.models.demo.training.recipe import (
    AGAIN,
    COUNTS,
    FULL,
    QUICK,
    QUICK_AGAIN,
    QUICK_COUNTS,
    Recipe,
)
from freeswim.output import publish, workspace
from freeswim.quiet import quiet_libraries

RECIPE = "recipe.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 done, 2 refused, 3 out of time."""
    options = _parser().parse_args(arguments)
    if options.after is None:
        if options.layers is not None:
            return _refuse("--layers grows a finished checkpoint; name it with --after.")
        if options.counts:
            return _refuse("--counts teaches a finished checkpoint; name it with --after.")
        recipe = QUICK if options.quick else FULL
    else:
        again, counts = (QUICK_AGAIN, QUICK_COUNTS) if options.quick else (AGAIN, COUNTS)
        recipe = counts if options.counts else again
        if options.layers is not None:
            shape = {**recipe.transformer_config, "num_layers": options.layers}
            recipe = replace(recipe, transformer_config=shape)
    folder: Path = options.folder.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):  # the system lets go of it, whatever kills us
            return _train(folder, recipe, options)
    except Timeout:
        return _refuse(f"Another process trains in {folder}.")


def _train(folder: Path, recipe: Recipe, options: argparse.Namespace) -> int:
    if refusal := _refusal(folder, recipe, options.after, options.resume):
        return _refuse(refusal)
    for part in folder.rglob(".*.part"):  # what a kill left half written
        shutil.rmtree(part)
    quiet_libraries()
    import torch

    from freeswim.models.demo.training.run import make_checkpoint
    from freeswim.models.demo.training.stage import OutOfTime, Run

    torch.set_num_threads(options.threads)
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    run = Run(folder, deadline)
    try:
        make_checkpoint(recipe, run, torch.device(options.device), after=options.after)
    except OutOfTime:
        run.log(out_of_time=True, minutes=options.minutes)
        return 3
    return 0


def _refuse(why: str) -> int:
    sys.stderr.write(f"train: {why}\n")
    return 2


def _refusal(folder: Path, recipe: Recipe, after: Path | None, resume: bool) -> str:
    """Why the run cannot begin in this folder; empty where it can, and the recipe is in it then."""
    place, content = folder / RECIPE, asdict(recipe)
    if after is not None:
        weights = after / "transformer" / "diffusion_pytorch_model.safetensors"
        if not weights.is_file():
            return f"{after} holds no checkpoint; name one, as freeswim/models/demo/weights is."
        known = json.loads((after / "transformer" / "config.json").read_text("utf-8"))["num_layers"]
        if recipe.transformer_config["num_layers"] < known:
            return f"{after} has {known} layers; ask for as many with --layers, or for more."
        content["after"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    text = json.dumps(content, indent=1) + "\n"
    if not place.exists():
        with workspace(place) as parts:
            (parts / RECIPE).write_text(text, "utf-8")
            publish(parts / RECIPE, place, overwrite=False)
        return ""
    if not resume:
        return f"{folder} holds a run; go on with --resume, or name another folder."
    if place.read_text("utf-8") != text:
        return f"{folder} holds a run of another recipe; name another folder."
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m freeswim.models.demo.train",
        description="Make the demo checkpoint from nothing.",
    )
    parser.add_argument("--folder", type=Path, required=True, help="for everything that is made")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument(
        "--after", type=Path, metavar="CHECKPOINT", help="train its transformer for another round"
    )
    parser.add_argument("--layers", type=int, help="with --after: what its transformer grows to")
    parser.add_argument(
        "--counts", action="store_true", help="with --after: the round that is about counts"
    )
    parser.add_argument("--minutes", type=float, help="stop after so long; --resume goes on")
    parser.add_argument("--threads", type=int, default=1, help="of a processor; default 1")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    parser.add_argument("--quick", action="store_true", help="shows that it runs, no more")
    return parser


if __name__ == "__main__":
    sys.exit(main())
