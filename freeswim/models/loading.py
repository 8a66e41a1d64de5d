"""Weights on disk -> components on a device.

The only place that loads weights. The class of each component comes from the table below, never
from a file; weights are safetensors; nothing is fetched.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from safetensors import SafetensorError, safe_open
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5EncoderModel,
)

from freeswim import paths
from freeswim.errors import CheckpointCorrupt, CheckpointMissing, RequestError
from freeswim.method.denoise import LowNoiseExpert
from freeswim.models.catalog import Checkpoint

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
LARGEST_JSON = 8 * 2**20  # bytes of an index or a configuration


@dataclass(frozen=True)
class Components:
    """A checkpoint on a device.

    `pipeline` is diffusers' image-to-video pipeline, whose steps (encode a prompt, encode an
    image, prepare a condition) serve text-to-video checkpoints as well; its loop is not used.
    """

    checkpoint: Checkpoint
    pipeline: WanImageToVideoPipeline
    device: torch.device

    @property
    def transformer(self) -> WanTransformer3DModel:
        """The transformer; the high-noise expert where there are two."""
        return self.pipeline.transformer

    @property
    def low_noise(self) -> LowNoiseExpert | None:
        """The second expert, if there is one."""
        ratio = self.pipeline.config["boundary_ratio"]
        if ratio is None:
            return None
        steps = self.scheduler.config["num_train_timesteps"]
        return LowNoiseExpert(self.pipeline.transformer_2, boundary=ratio * steps)

    @property
    def vae(self) -> AutoencoderKLWan:
        """The autoencoder."""
        return self.pipeline.vae

    @property
    def scheduler(self) -> UniPCMultistepScheduler:
        """The checkpoint's own scheduler, of the base pass."""
        return self.pipeline.scheduler  # pyright: ignore[reportReturnType]


def checkpoint_folder(checkpoint: Checkpoint) -> Path:
    """Where the weights of `checkpoint` are, or have to be put."""
    if checkpoint.repository is None:
        return paths.demo_weights()
    return paths.models() / checkpoint.name


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` takes a GPU where there is one.

    Raises:
        RequestError: there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RequestError(
            f"There is no device {name!r} on this machine.", hint="Use auto, cpu, cuda or cuda:1."
        ) from error
    return device


def load(checkpoint: Checkpoint, device: torch.device) -> Components:
    """The components of `checkpoint` on `device`.

    Transformers and text encoder compute in bfloat16 on a GPU and float32 on a CPU; autoencoder
    and image encoder always in float32, as in diffusers' own examples.

    Raises:
        CheckpointMissing: weights, or a part of them, are not on this machine.
        CheckpointCorrupt: a file is damaged, not safetensors, or of another checkpoint.
    """
    folder = checkpoint_folder(checkpoint)
    index = _check_folder(checkpoint, folder)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        parts: dict[str, Any] = {
            "tokenizer": PreTrainedTokenizerFast.from_pretrained(
                folder / "tokenizer", local_files_only=True
            ),
            "text_encoder": _load(UMT5EncoderModel, folder / "text_encoder", dtype),
            "vae": _load(AutoencoderKLWan, folder / "vae", torch.float32),
            "scheduler": UniPCMultistepScheduler.from_pretrained(folder / "scheduler"),
            "transformer": _load(WanTransformer3DModel, folder / "transformer", dtype),
        }
        if checkpoint.num_experts == 2:
            parts["transformer_2"] = _load(WanTransformer3DModel, folder / "transformer_2", dtype)
        if (folder / "image_encoder").is_dir():
            parts["image_encoder"] = _load(CLIPVisionModel, folder / "image_encoder", torch.float32)
            parts["image_processor"] = CLIPImageProcessorPil.from_pretrained(
                folder / "image_processor", local_files_only=True
            )
        pipeline = WanImageToVideoPipeline(
            **parts,
            boundary_ratio=index.get("boundary_ratio"),
            expand_timesteps=bool(index.get("expand_timesteps")),
        )
    # A configuration can be wrong in as many ways as the libraries have checks.
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise CheckpointCorrupt(
            f"{checkpoint.title} cannot be loaded: {_first_line(error)}", hint=_refetch(checkpoint)
        ) from error
    return Components(checkpoint, pipeline.to(device), device)


def _load(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model of class `kind`, whole: a weight that the file lacks is an error, not noise."""
    model, report = kind.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{folder.name} lacks {len(missing)} weights, {missing[0]} among them")
    return model.eval()


def _check_folder(checkpoint: Checkpoint, folder: Path) -> dict[str, Any]:
    """Check that everything is there and sound; returns the content of model_index.json."""
    if not folder.is_dir():
        raise CheckpointMissing(
            f"{checkpoint.title} is not on this machine.", hint=_refetch(checkpoint)
        )
    index = _read_json(checkpoint, folder / "model_index.json")
    components = ["transformer", "text_encoder", "vae"]
    if checkpoint.num_experts == 2:
        components.append("transformer_2")
        if not isinstance(index.get("boundary_ratio"), float):
            raise CheckpointCorrupt(
                f"{checkpoint.title}: model_index.json names no expert boundary.",
                hint=_refetch(checkpoint),
            )
    if (folder / "image_encoder").is_dir():
        components.append("image_encoder")
    for component in components:
        _check_weights(checkpoint, folder / component)
    for part in ("tokenizer/tokenizer.json", "scheduler/scheduler_config.json"):
        _need(checkpoint, folder / part)
    return index


def _check_weights(checkpoint: Checkpoint, folder: Path) -> None:
    """Check that the safetensors of one component are all there and whole."""
    _need(checkpoint, folder / "config.json")
    files = sorted(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(_read_json(checkpoint, index).get("weight_map", {}).values())
        files = [folder / Path(shard).name for shard in sorted(shards)]
    if not files:
        if any(path.suffix in PICKLES for path in folder.iterdir()):
            raise CheckpointCorrupt(
                f"{checkpoint.title}: {folder.name} is a pickle, which can run any program.",
                hint=f"FreeSwim loads safetensors only. {_refetch(checkpoint)}",
            )
        raise CheckpointMissing(
            f"{checkpoint.title}: {folder.name} holds no weights.", hint=_refetch(checkpoint)
        )
    for file in files:
        _need(checkpoint, file)
        try:
            with safe_open(file, framework="pt"):  # reads the header, compares it to the size
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointCorrupt(
                f"{checkpoint.title}: {folder.name}/{file.name} is damaged ({_first_line(error)}).",
                hint=_refetch(checkpoint),
            ) from error


def _need(checkpoint: Checkpoint, file: Path) -> None:
    if not file.is_file():
        raise CheckpointMissing(
            f"{checkpoint.title} is not complete: {file.parent.name}/{file.name} is missing.",
            hint=_refetch(checkpoint),
        )


def _read_json(checkpoint: Checkpoint, file: Path) -> dict[str, Any]:
    _need(checkpoint, file)
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError("it is too large")
        content = json.loads(file.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
    except (ValueError, OSError) as error:
        raise CheckpointCorrupt(
            f"{checkpoint.title}: {file.name} is damaged ({_first_line(error)}).",
            hint=_refetch(checkpoint),
        ) from error
    return content


def _refetch(checkpoint: Checkpoint) -> str:
    if checkpoint.repository is None:
        return "Install FreeSwim again: this checkpoint comes with it."
    return f'Run: hf download {checkpoint.repository} --local-dir "{checkpoint_folder(checkpoint)}"'


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
