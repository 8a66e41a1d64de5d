"""Step checkpoints of a take: an interrupted run goes on from the last one, to the same bytes.

A checkpoint is a safetensors file with a resume point of a pass, a checksum over all of it, and
the key of the run it belongs to. Two are kept of each pass, so that a damaged last one costs a few
steps and never a wrong picture.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from freeswim.method.schedule import ResumePoint
from freeswim.output import publish, workspace

log = logging.getLogger(__name__)

KEPT = 2  # of each pass


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run in a folder of its own."""

    folder: Path
    key: str  # of request, versions and device: another run's checkpoints are not this one's

    def save(self, name: str, point: ResumePoint) -> None:
        """Put a resume point of pass `name` on the disk, whole or not at all.

        A disk that refuses costs the checkpoint, not the run.
        """
        content = _to_bytes(self.key, name, point)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{name}-{point.step:05d}.safetensors"
            with workspace(path) as parts:
                (parts / path.name).write_bytes(content)
                publish(parts / path.name, path, overwrite=True)
            for old in self._files(name)[KEPT:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("no checkpoint of %s at step %d: %s", name, point.step, error)

    def latest(self, name: str) -> ResumePoint | None:
        """The last resume point of pass `name` that is whole and of this run."""
        for path in self._files(name):
            try:
                return _from_file(path, self.key, name)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
                log.warning("%s is passed over: %s", path.name, error)
        return None

    def clear(self) -> None:
        """Remove what the finished run no longer needs."""
        for path in self.folder.glob("*.safetensors"):
            if re.fullmatch(r"[a-z]+-\d{5}\.safetensors", path.name):
                path.unlink(missing_ok=True)

    def _files(self, name: str) -> list[Path]:
        """Files of pass `name`, the last step first."""
        return sorted(self.folder.glob(f"{name}-[0-9]*.safetensors"), reverse=True)


def _to_bytes(key: str, name: str, point: ResumePoint) -> bytes:
    tensors = {"latents": point.latents, "last_sample": point.last_sample}
    for index, output in enumerate(point.model_outputs):
        tensors[f"model_output_{index}"] = output
    for index, timestep in enumerate(point.timesteps):
        tensors[f"timestep_{index}"] = timestep
    present = {
        tensor_name: tensor.detach().cpu().contiguous().clone()
        for tensor_name, tensor in tensors.items()
        if tensor is not None
    }
    facts = {
        "key": key,
        "pass": name,
        "step": point.step,
        "lower_order_nums": point.lower_order_nums,
        "order": point.order,
        "history": len(point.model_outputs),
    }
    said = {"facts": json.dumps(facts), "sha256": _checksum(facts, present)}
    return save(present, metadata=said)


def _from_file(path: Path, key: str, name: str) -> ResumePoint:
    """The resume point in a file; raises where the file is damaged or of another run."""
    with safe_open(path, framework="pt") as file:
        said = file.metadata() or {}
        tensors: dict[str, Tensor] = {one: file.get_tensor(one) for one in file.keys()}  # noqa: SIM118
    facts = json.loads(said["facts"])
    if said["sha256"] != _checksum(facts, tensors):
        raise ValueError("its checksum is wrong")
    if (facts["key"], facts["pass"]) != (key, name):
        raise ValueError("it is of another run")
    history = range(facts["history"])
    return ResumePoint(
        step=facts["step"],
        latents=tensors["latents"],
        last_sample=tensors.get("last_sample"),
        model_outputs=tuple(tensors.get(f"model_output_{index}") for index in history),
        timesteps=tuple(tensors.get(f"timestep_{index}") for index in history),
        lower_order_nums=facts["lower_order_nums"],
        order=facts["order"],
    )


def _checksum(facts: dict[str, object], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).numpy().tobytes())
    return digest.hexdigest()
