"""The sidecar of a take: a JSON file beside the video that says what it is and how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from freeswim.errors import MediaError
from freeswim.request import Request

SCHEMA = 1
LARGEST = 8 * 2**20  # bytes; a sidecar holds a request, not a film


@dataclass(frozen=True)
class Take:
    """One finished result of a request, and how it was made."""

    media: Path  # the video file
    request: Request
    frame_rate: Fraction  # of the video, frames per second, exact
    attention_backend: str | None  # what really ran; None: there was no refine pass
    device: str
    dtype: str  # of the transformer
    memory_policy: str  # where weights were; changes no pixel
    out_of_memory: tuple[str, ...]  # memory policies that ran out of it before
    seconds: dict[str, float]  # per stage; `all` by the clock, for stages can overlap
    versions: dict[str, str]
    latents: Path | None = None  # of a draft: what finishing it starts from


def sidecar_path(media: Path) -> Path:
    """Where the sidecar of `media` is."""
    return media.with_suffix(".json")


def latents_path(media: Path) -> Path:
    """Where the latents of the draft `media` are."""
    return media.with_suffix(".latents.safetensors")


def sidecar_text(take: Take, media: Path, latents: Path | None) -> str:
    """What the sidecar of `take` says; `media` and `latents` are where its files are by now."""
    request = take.request
    width, height = request.take_size
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "media": {
            "file": take.media.name,
            "sha256": file_sha256(media),
            "width": width,
            "height": height,
            "frames": request.frames,
            "frame_rate": str(take.frame_rate),
        },
        "request": request.as_dict(),
        "request_sha256": request.digest(),
        "computed": {
            "size": request.canvas_size,
            "frames": request.computed_frames,
            "base_size": None if request.kind == "clip" else request.base_size,
            "attention_backend": take.attention_backend,
            "device": take.device,
            "dtype": take.dtype,
            "memory_policy": take.memory_policy,
            "out_of_memory": take.out_of_memory,
        },
        "seed": request.seed,
        "seconds": take.seconds,
        "notes": request.notes,
        "versions": take.versions,
    }
    if take.latents is not None and latents is not None:
        content["latents"] = {"file": take.latents.name, "sha256": file_sha256(latents)}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def read_sidecar(take: Path) -> dict[str, Any]:
    """The sidecar of a take, given the video or the sidecar itself.

    Raises:
        MediaError: there is none, or it is not one of ours.
    """
    path = sidecar_path(take)
    hint = "Give a take that FreeSwim made, with its .json beside it."
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA or not isinstance(content["request"], dict):
            raise ValueError("another schema")
    except OSError as error:
        raise MediaError(f"{take.name} has no sidecar {path.name}.", hint=hint) from error
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError(f"{path.name} is not a sidecar of FreeSwim.", hint=hint) from error
    return content


def draft_latents(media: Path, sidecar: Mapping[str, Any]) -> Path | None:
    """The latents of a draft, if they are still there and the ones that were written."""
    path = latents_path(media)
    said = sidecar.get("latents")
    if not isinstance(said, dict) or not path.is_file():
        return None
    return path if file_sha256(path) == said.get("sha256") else None


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
