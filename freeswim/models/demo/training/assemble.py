"""The parts of a run → a checkpoint on the disk, as `weights/` has it, and what the run was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from freeswim.models.demo.training.evaluation import make_scheduler
from freeswim.models.demo.training.recipe import Recipe
from freeswim.models.demo.training.stage import Figures, Run, save_whole, seconds_spent
from freeswim.output import workspace


def write_checkpoint(
    place: Path,
    transformer: WanTransformer3DModel,
    encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    vae: AutoencoderKLWan,
) -> None:
    """A folder that stock `WanPipeline.from_pretrained` loads; weights in float16.

    The parts are left in float16 as well: they are written, no more.
    """
    tokenizer.backend_tokenizer.no_padding()  # it keeps what it was last asked for
    tokenizer.backend_tokenizer.no_truncation()
    pipeline = WanPipeline(
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType] (any tokenizer does)
        text_encoder=encoder.half().eval(),
        vae=vae.half().eval(),
        scheduler=make_scheduler(),  # pyright: ignore[reportArgumentType] (any flow scheduler does)
        transformer=transformer.half().eval(),
    )
    with workspace(place) as folder:
        part = folder / place.name
        pipeline.save_pretrained(part, safe_serialization=True)
        shutil.rmtree(place, ignore_errors=True)
        part.rename(place)


def write_card(run: Run, recipe: Recipe, figures: Figures) -> Path:
    """card.json: all that the model card says about how it was made and how good it is."""
    stages = [path.stem for path in sorted(run.folder.glob("*.state"))]
    model = run.folder / "model"
    files = sorted(path for path in model.rglob("*") if path.is_file())
    card: dict[str, Any] = {
        "recipe": asdict(recipe),
        "seconds": {stage: round(seconds_spent(run.folder, stage)) for stage in stages},
        "machine": machine(),
        "figures": figures,
        "files": [
            {
                "name": path.relative_to(model).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
        ],
    }
    place = run.folder / "card.json"
    text = json.dumps(card, indent=1, default=str) + "\n"
    save_whole(place, lambda file: file.write_bytes(text.encode()))
    return place


def machine() -> dict[str, Any]:
    """What the run ran on."""
    names = ("torch", "diffusers", "transformers", "numpy")
    return {
        "processor": platform.processor() or platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }
