"""Weights on disk -> components on a device.

The only place that loads weights, those of LoRA files with lora.py. The class of each component
comes from the table below, never from a file; weights are safetensors; nothing is fetched.

The text encoder is larger than most transformers and speaks once: it is loaded apart, on the CPU,
and its caller lets it go before the rest comes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload_with_hook
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
    UMT5Config,
    UMT5EncoderModel,
)

from freeswim import paths
from freeswim.errors import CheckpointCorrupt, CheckpointMissing, RequestError
from freeswim.method.denoise import LowNoiseExpert
from freeswim.models.catalog import Checkpoint
from freeswim.models.lora import Changes, apply_changes, plan_changes
from freeswim.models.memory import MemoryPolicy, Precision
from freeswim.request import Lora

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
LARGEST_JSON = 8 * 2**20  # bytes of an index or a configuration

CLASSES: dict[str, Any] = {  # of the models in a checkpoint's folder, by subfolder
    "text_encoder": UMT5EncoderModel,
    "vae": AutoencoderKLWan,
    "transformer": WanTransformer3DModel,
    "transformer_2": WanTransformer3DModel,
    "image_encoder": CLIPVisionModel,
}
ALWAYS_FLOAT32 = ("vae", "image_encoder")
EXPERTS = {"transformer": "high", "transformer_2": "low"}  # by the noise that they remove
NO_CHANGES: Mapping[str, Changes] = {}


@dataclass(frozen=True)
class Components:
    """A checkpoint on a device, without its text encoder.

    `pipeline` is diffusers' image-to-video pipeline, whose steps (encode an image, prepare a
    condition) serve text-to-video checkpoints as well; its loop is not used.
    """

    checkpoint: Checkpoint
    pipeline: WanImageToVideoPipeline
    device: torch.device

    def modules(self) -> list[torch.nn.Module]:
        """All that has weights."""
        parts = self.pipeline.components.values()
        return [part for part in parts if isinstance(part, torch.nn.Module)]

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


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Check that the weights are all there and whole, as far as their headers say.

    Raises:
        CheckpointMissing, CheckpointCorrupt: as `load`.
    """
    _check_folder(checkpoint, checkpoint_folder(checkpoint))


def compute_dtype(device: torch.device) -> torch.dtype:
    """What transformers and text encoders compute in for a take that is made on `device`."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load(
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    changes: Mapping[str, Changes] = NO_CHANGES,
    precision: Precision = "plain",
    policy: MemoryPolicy = MemoryPolicy(),  # noqa: B008 (frozen)
) -> Components:
    """The components of `checkpoint` on `device`.

    Transformers compute in `compute_dtype`; the autoencoder and the image encoder, which stays on
    the CPU for its one picture, always in float32, as in diffusers' own examples.

    Args:
        changes: what LoRAs add to the weights of each transformer; of `plan_loras`.
        precision: how the transformers' weights are stored.
        policy: where they live.

    Raises:
        RequestError: `precision` needs a package that is not installed.
        CheckpointMissing: weights, or a part of them, are not on this machine.
        CheckpointCorrupt: a file is damaged, not safetensors, or of another checkpoint.
    """
    folder = checkpoint_folder(checkpoint)
    index, models = _check_folder(checkpoint, folder)
    parts: dict[str, Any] = {"tokenizer": None, "text_encoder": None}
    for name in models:
        dtype = torch.float32 if name in ALWAYS_FLOAT32 else compute_dtype(device)
        parts[name] = _load_part(checkpoint, name, dtype)
    with _named(checkpoint, "scheduler"):
        parts["scheduler"] = UniPCMultistepScheduler.from_pretrained(
            folder / "scheduler", local_files_only=True
        )
    if "image_encoder" in models:
        with _named(checkpoint, "image_processor"):
            parts["image_processor"] = CLIPImageProcessorPil.from_pretrained(
                folder / "image_processor", local_files_only=True
            )
    with _named(checkpoint, "text_encoder"):
        text_width = UMT5Config.from_pretrained(folder / "text_encoder").d_model
    with _named(checkpoint, "model_index.json"):
        pipeline = WanImageToVideoPipeline(
            **parts,
            boundary_ratio=index.get("boundary_ratio"),
            expand_timesteps=bool(index.get("expand_timesteps")),
        )
        _check_fit(checkpoint, pipeline, text_width)
    experts = [pipeline.transformer, pipeline.transformer_2][: checkpoint.num_experts]
    for name, changes_of_expert in changes.items():  # before the weights are rounded to `precision`
        apply_changes(getattr(pipeline, name), changes_of_expert, device)
    for expert in experts:
        _store(expert, precision, compute_dtype(device))
    pipeline.vae.to(device)
    _place_experts(experts, device, policy)
    return Components(checkpoint, pipeline, device)


def plan_loras(checkpoint: Checkpoint, loras: Sequence[Lora]) -> dict[str, Changes]:
    """What `loras` change in each transformer of `checkpoint`, for `load`; no weights are loaded.

    Raises:
        LoraError: a LoRA cannot be used, or not with this checkpoint.
        CheckpointMissing, CheckpointCorrupt: as `load`.
    """
    if not loras:
        return {}
    folder = checkpoint_folder(checkpoint)
    _check_folder(checkpoint, folder)
    changes: dict[str, Changes] = {}
    for name in list(EXPERTS)[: checkpoint.num_experts]:
        config = _read_json(checkpoint, folder / name / "config.json")
        with _named(checkpoint, name), torch.device("meta"):  # shapes without weights
            transformer: Any = WanTransformer3DModel.from_config(config)
        shapes = {key: tuple(weight.shape) for key, weight in transformer.named_parameters()}
        its_loras = [lora for lora in loras if lora.expert in ("both", EXPERTS[name])]
        changes[name] = plan_changes(its_loras, shapes)
    return changes


def load_text_encoder(checkpoint: Checkpoint, dtype: torch.dtype) -> WanImageToVideoPipeline:
    """Tokenizer and text encoder on the CPU, in a pipeline that has nothing else.

    Raises:
        CheckpointMissing, CheckpointCorrupt: as `load`, of any part: what cannot be loaded later
            is better known now.
    """
    check_checkpoint(checkpoint)
    folder = checkpoint_folder(checkpoint)
    text_encoder = _load_part(checkpoint, "text_encoder", dtype)
    with _named(checkpoint, "tokenizer"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            folder / "tokenizer", local_files_only=True
        )
        _check_facts(
            [("tokenizer pad_token_id", tokenizer.pad_token_id, text_encoder.config.pad_token_id)]
        )
    nothing: Any = None
    return WanImageToVideoPipeline(tokenizer, text_encoder, vae=nothing, scheduler=nothing)


# ---------------------------------------------------------------------------- the parts, loaded


@contextmanager
def _named(checkpoint: Checkpoint, part: str) -> Iterator[None]:
    """An error of the libraries becomes one that says which part it is about."""
    try:
        yield
    # A file can be wrong in as many ways as the libraries have checks, and lack of them.
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise  # the machine is too small; the files are sound
        if "DefaultCPUAllocator" in str(error):
            raise  # torch has no class of its own for the same on a CPU
        raise CheckpointCorrupt(
            f"{checkpoint.title}: {part} cannot be loaded ({_first_sentence(error)}).",
            hint=_refetch(checkpoint),
        ) from error


def _store(expert: WanTransformer3DModel, precision: Precision, dtype: torch.dtype) -> None:
    """Keep the weights of the blocks, nearly all there are, in `precision`."""
    if precision == "fp8-cast":
        expert.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    elif precision != "plain":
        try:
            from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
        except ImportError as error:
            raise RequestError(
                f"Weights in {precision} need the package torchao, which is not installed.",
                hint="Install it with: pip install 'freeswim[quantised]'; or use fp8-cast.",
            ) from error
        kind = {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}[precision]
        quantize_(expert.blocks, kind())


def _place_experts(
    experts: list[WanTransformer3DModel], device: torch.device, policy: MemoryPolicy
) -> None:
    """Put the transformers where `policy` wants them."""
    if policy.weights == "whole":
        for expert in experts:
            expert.to(device)  # pyright: ignore[reportArgumentType] (diffusers decorates it)
    elif policy.weights == "swapped":
        hooks = [cpu_offload_with_hook(expert, device)[1] for expert in experts]
        for hook, other in zip(hooks, reversed(hooks), strict=True):
            hook.hook.prev_module_hook = other  # whichever runs sends the other away
    else:
        has_streams = device.type == "cuda"
        for expert in experts:
            expert.enable_group_offload(
                onload_device=device,
                offload_type="block_level",
                num_blocks_per_group=1,
                use_stream=has_streams,
                record_stream=has_streams,
            )


def _load_part(checkpoint: Checkpoint, name: str, dtype: torch.dtype) -> Any:
    """A model of the checkpoint, on the CPU."""
    with _named(checkpoint, name):
        return _load_model(CLASSES[name], checkpoint_folder(checkpoint) / name, dtype)


def _load_model(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model of class `kind`, whole: a weight that the file lacks is an error, not noise."""
    model, report = kind.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        ignore_mismatched_sizes=kind in (UMT5EncoderModel, CLIPVisionModel),  # told below instead
        output_loading_info=True,
    )
    troubles = {"missing_keys": "not there", "mismatched_keys": "of another shape"}
    # An encoder may come with a head that Wan does not use; the rest holds nothing to spare.
    if kind in (AutoencoderKLWan, WanTransformer3DModel):
        troubles["unexpected_keys"] = "of another model"
    for trouble, words in troubles.items():
        for weight in sorted(report[trouble], key=str):
            name = weight if isinstance(weight, str) else weight[0]  # else its shapes come with it
            raise ValueError(f"weight {name} is {words}")
    return model.eval()


def _check_fit(checkpoint: Checkpoint, pipeline: WanImageToVideoPipeline, text_width: int) -> None:
    """Check that the parts are this checkpoint's: a folder can hold another one, or a mixture."""
    facts = _facts_of_passes(checkpoint, pipeline)
    for name in ("transformer", "transformer_2")[: checkpoint.num_experts]:
        facts += _facts_of_expert(checkpoint, pipeline, name)
        facts.append((f"{name} text_dim", getattr(pipeline, name).config["text_dim"], text_width))
    if pipeline.image_encoder is not None:
        encoder, processor = pipeline.image_encoder.config, pipeline.image_processor
        side = encoder.image_size
        facts += [
            ("image_processor crop_size", dict(processor.crop_size), {"height": side, "width": side}),
            ("image_dim", pipeline.transformer.config["image_dim"], encoder.hidden_size),
        ]  # fmt: skip
    _check_facts(facts)


def _check_facts(facts: list[Fact]) -> None:
    for name, found, needed in facts:
        if found != needed:
            raise ValueError(f"{name} is {found!r} where {needed!r} is needed")


Fact = tuple[str, Any, Any]  # name, what the files say, what is needed


def _facts_of_passes(checkpoint: Checkpoint, pipeline: WanImageToVideoPipeline) -> list[Fact]:
    scheduler = pipeline.scheduler.config
    first_frame_is_known = checkpoint.takes_text and checkpoint.takes_image
    return [
        ("scheduler prediction_type", scheduler["prediction_type"], "flow_prediction"),
        ("scheduler use_flow_sigmas", scheduler["use_flow_sigmas"], True),
        ("expand_timesteps", pipeline.config["expand_timesteps"], first_frame_is_known),
    ]


def _facts_of_expert(
    checkpoint: Checkpoint, pipeline: WanImageToVideoPipeline, name: str
) -> list[Fact]:
    expert, vae = getattr(pipeline, name).config, pipeline.vae.config
    channels = vae["z_dim"]
    if not checkpoint.takes_text:  # an encoded image and its mask are joined to the latents
        channels += vae["z_dim"] + vae["scale_factor_temporal"]
    multiple = vae["scale_factor_spatial"] * expert["patch_size"][1]
    return [
        (f"{name} in_channels", expert["in_channels"], channels),
        (f"{name} out_channels", expert["out_channels"], vae["z_dim"]),
        ("multiple of the sizes", multiple, checkpoint.multiple),
    ]


# --------------------------------------------------------------------------- the files, checked


def _check_folder(checkpoint: Checkpoint, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Check that everything is there and sound.

    Returns:
        (content of model_index.json, names of the models beside the text encoder).
    """
    if not folder.is_dir():
        raise CheckpointMissing(
            f"{checkpoint.title} is not on this machine.", hint=_refetch(checkpoint)
        )
    index = _read_json(checkpoint, folder / "model_index.json")
    _check_boundary(checkpoint, index)
    models = ["vae", "transformer"]
    if checkpoint.num_experts == 2:
        models.append("transformer_2")
    if _read_json(checkpoint, folder / "transformer/config.json").get("image_dim") is not None:
        models.append("image_encoder")
        _read_json(checkpoint, folder / "image_processor/preprocessor_config.json")
    for name in ("text_encoder", *models):
        _check_class(checkpoint, folder / name / "config.json", CLASSES[name])
        _check_weights(checkpoint, folder / name)
    _check_class(checkpoint, folder / "scheduler/scheduler_config.json", UniPCMultistepScheduler)
    _need(checkpoint, folder / "tokenizer/tokenizer.json")
    _read_json(checkpoint, folder / "tokenizer/tokenizer_config.json")
    return index, models


def _check_boundary(checkpoint: Checkpoint, index: dict[str, Any]) -> None:
    """Check that there is an expert boundary where there are two experts, and else none."""
    ratio = index.get("boundary_ratio")
    is_sound = ratio is None
    if checkpoint.num_experts == 2:
        is_sound = isinstance(ratio, float) and 0 < ratio < 1
    if not is_sound:
        raise CheckpointCorrupt(
            f"{checkpoint.title}: model_index.json has {ratio!r} for its expert boundary.",
            hint=_refetch(checkpoint),
        )


def _check_class(checkpoint: Checkpoint, file: Path, kind: Any) -> None:
    """Check that a configuration is of class `kind`; it never chooses the class."""
    said = _read_json(checkpoint, file)
    if hasattr(kind, "config_class"):  # of transformers
        found, needed = said.get("model_type"), kind.config_class.model_type
    else:
        found, needed = said.get("_class_name"), kind.__name__
    if found != needed:
        raise CheckpointCorrupt(
            f"{checkpoint.title}: {_place(file)} is of {str(found)[:80]!r} and not of {needed!r}.",
            hint=_refetch(checkpoint),
        )


def _check_weights(checkpoint: Checkpoint, folder: Path) -> None:
    """Check that the safetensors of one model are all there and whole."""
    files = sorted(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        files = [folder / shard for shard in _shards(checkpoint, index)]
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
            raise _damaged(checkpoint, file, error) from error


def _shards(checkpoint: Checkpoint, index: Path) -> list[str]:
    """File names that the index of a sharded model lists; none of them leads elsewhere."""
    weight_map = _read_json(checkpoint, index).get("weight_map")
    shards: list[Any] = list(weight_map.values()) if isinstance(weight_map, dict) else [weight_map]
    for shard in shards:
        if not isinstance(shard, str) or not re.fullmatch(r"[\w.-]+\.safetensors", shard):
            raise _damaged(checkpoint, index, f"{str(shard)[:80]!r} is not the name of a shard")
    return sorted(set(shards))


def _need(checkpoint: Checkpoint, file: Path) -> None:
    if not file.is_file():
        raise CheckpointMissing(
            f"{checkpoint.title} is not complete: {_place(file)} is missing.",
            hint=_refetch(checkpoint),
        )


def _read_json(checkpoint: Checkpoint, file: Path) -> dict[str, Any]:
    _need(checkpoint, file)
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError("it is too large")
        content = json.loads(file.read_text("utf-8"))
        if not isinstance(content, dict):  # diffusers takes a text for a name on the hub
            raise ValueError("it holds no object")
    except (ValueError, OSError, RecursionError) as error:
        raise _damaged(checkpoint, file, error) from error
    return content


def _damaged(checkpoint: Checkpoint, file: Path, reason: Exception | str) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"{checkpoint.title}: {_place(file)} is damaged ({_first_sentence(reason)}).",
        hint=_refetch(checkpoint),
    )


def _place(file: Path) -> str:
    """The file as a person finds it in the checkpoint's folder."""
    return f"{file.parent.name}/{file.name}"


def _refetch(checkpoint: Checkpoint) -> str:
    if checkpoint.repository is None:
        return "Install FreeSwim again: this checkpoint comes with it."
    return f'Run: hf download {checkpoint.repository} --local-dir "{checkpoint_folder(checkpoint)}"'


def _first_sentence(error: Exception | str) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].partition(". ")[0].rstrip(".:")
