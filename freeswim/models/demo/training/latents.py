"""Clips rendered and encoded once: a file of latents and captions for every `shard` clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from freeswim.models.demo.training.autoencoder import as_video
from freeswim.models.demo.training.recipe import Bucket, Recipe
from freeswim.models.demo.training.samples import captioned_clip
from freeswim.models.demo.training.stage import Run, save_whole


@dataclass(frozen=True)
class Encoded:
    """All clips of a bucket."""

    bucket: Bucket
    latents: Tensor  # (clips, C, T, h, w), float16, as the encoder gives them
    captions: list[str]


def make_latents(vae: AutoencoderKLWan, recipe: Recipe, run: Run) -> list[Encoded]:
    """Every bucket, encoded: what is on the disk is read, the rest is made.

    Raises:
        OutOfTime: another run has to go on.
    """
    folder = run.folder / "latents"
    folder.mkdir(exist_ok=True)
    encoded = []
    for number, bucket in enumerate(recipe.buckets):
        parts: list[tuple[Tensor, list[str]]] = []
        for first in range(0, bucket.clips, recipe.shard):
            place = folder / f"{bucket.name}-{first // recipe.shard:03}.safetensors"
            count = min(recipe.shard, bucket.clips - first)
            if not place.exists():
                _make_shard(vae, recipe, number, range(first, first + count), place)
                run.log(stage="latents", bucket=bucket.name, clips=first + count)
                run.check_time()
            parts.append(_read_shard(place))
        latents = torch.cat([part for part, _ in parts])
        encoded.append(Encoded(bucket, latents, [text for _, texts in parts for text in texts]))
    return encoded


def statistics(encoded: list[Encoded]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, (C,), over the first bucket: native clips."""
    values = encoded[0].latents.float()
    return values.mean((0, 2, 3, 4)), values.std((0, 2, 3, 4))


@torch.no_grad()
def _make_shard(
    vae: AutoencoderKLWan, recipe: Recipe, number: int, clips: range, place: Path
) -> None:
    bucket, parts, captions = recipe.buckets[number], [], []
    for video, texts in _batches(recipe, number, clips, 4 if bucket.frames > 1 else 32):
        with torch.autocast(vae.device.type, torch.bfloat16):
            found = vae.encode(video.to(vae.device)).latent_dist  # pyright: ignore
        parts.append(found.mode().half().cpu())
        captions += texts
    content = {"latents": torch.cat(parts)}
    metadata = {"captions": json.dumps(captions)}
    save_whole(place, lambda file: save_file(content, file, metadata=metadata))


def _batches(
    recipe: Recipe, number: int, clips: range, size: int
) -> Iterator[tuple[Tensor, list[str]]]:
    """The next batch is drawn, by as many threads as torch has, while one is encoded."""
    bucket = recipe.buckets[number]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:

        def begun(first: int) -> list[Future[tuple[NDArray[np.float32], str]]]:
            return [
                pool.submit(
                    captioned_clip, recipe.seed, number, index,
                    bucket.rows, bucket.columns, bucket.frames,
                )
                for index in range(first, min(first + size, clips.stop))
            ]  # fmt: skip

        coming = begun(clips.start)
        for first in range(clips.start, clips.stop, size):
            made, coming = [clip.result() for clip in coming], begun(first + size)
            yield as_video(frames for frames, _ in made), [text for _, text in made]


def _read_shard(place: Path) -> tuple[Tensor, list[str]]:
    with safe_open(place, framework="pt") as file:
        return file.get_tensor("latents"), json.loads(file.metadata()["captions"])
