"""Encoded prompts on the disk: the same prompt is not read by an 11 GB text encoder twice.

A file each, named by a hash of everything that decides the numbers in it, with a checksum over
them. What is missing, damaged or foreign is encoded again; a disk that refuses costs nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from freeswim import paths
from freeswim.models.catalog import Checkpoint
from freeswim.models.loading import checkpoint_folder
from freeswim.output import publish, workspace

log = logging.getLogger(__name__)

KEPT = 64  # texts; 4 MB each for Wan


def read(checkpoint: Checkpoint, text: str, dtype: torch.dtype) -> Tensor | None:
    """The encoded text, (1, text tokens, D), if it is there and whole."""
    path = _path(checkpoint, text, dtype)
    try:
        with safe_open(path, framework="pt") as file:
            checksum, embeds = (file.metadata() or {})["sha256"], file.get_tensor("embeds")
        if checksum != _checksum(embeds):
            raise ValueError("its checksum is wrong")
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        log.warning("%s is passed over: %s", path.name, error)
        return None
    return embeds


def write(checkpoint: Checkpoint, text: str, embeds: Tensor) -> None:
    """Keep an encoded text, (1, text tokens, D) on the CPU, and let the oldest ones go."""
    path = _path(checkpoint, text, embeds.dtype)
    content = save({"embeds": embeds.contiguous()}, metadata={"sha256": _checksum(embeds)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with workspace(path) as parts:
            (parts / path.name).write_bytes(content)
            publish(parts / path.name, path, overwrite=True)
        kept = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
        for old in kept[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("an encoded prompt is not kept: %s", error)


def _path(checkpoint: Checkpoint, text: str, dtype: torch.dtype) -> Path:
    """Where a text is kept; another text encoder, or other libraries, mean another place."""
    folder = checkpoint_folder(checkpoint)
    files = [
        (f"{part}/{file.name}", file.stat().st_size, file.stat().st_mtime_ns)
        for part in ("text_encoder", "tokenizer")
        for file in sorted((folder / part).glob("*"))
    ]
    libraries = [version(name) for name in ("torch", "transformers", "diffusers", "ftfy")]
    key = [str(folder), files, libraries, str(dtype), checkpoint.max_text_tokens, text]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return paths.text_embeds() / f"{name}.safetensors"


def _checksum(embeds: Tensor) -> str:
    said = f"{embeds.dtype} {tuple(embeds.shape)}".encode()
    return hashlib.sha256(
        said + embeds.contiguous().view(torch.uint8).numpy().tobytes()
    ).hexdigest()
