"""LoRA files -> changes of a transformer's weights.

A LoRA is a low-rank change of weights: `up @ down`, scaled. Files of it come from many trainers
under many names; here each is brought to the parameter that it changes, and the change is added to
the parameter itself. A transformer with a LoRA is therefore an unmodified transformer, as fast as
without.

The names are diffusers': original Wan names are mapped by the table that diffusers converts Wan's
own checkpoints with. Its converters of LoRA files are not used, and peft neither. They leave out
norms and modulations, which the few-step LoRAs of LightX2V change; they need every layer of a
musubi-tuner file; a missing factor starts at random; and layers are built as a file's metadata
says. Here every key of a file ends up in a weight, or the file is refused.

Everything is checked before the first weight changes, and nothing of a file is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors import SafetensorError, safe_open
from torch import Tensor

from freeswim.errors import LoraError
from freeswim.request import Lora

LARGEST_HEADER = 16 * 2**20  # bytes; that of a LoRA for Wan 14B has 0.2 MB, and trainers' notes
LARGEST_CHANGE = 1e30  # of a weight; beyond it sums overflow

# How trainers write that a name is one of the transformer: diffusers, ComfyUI and its like, peft,
# DiffSynth.
PREFIX = re.compile(
    r"(?:(?:transformer|(?:model\.)?diffusion_model|base_model\.model|pipe\.dit)\.)+"
)
KOHYA_PREFIX = re.compile(r"lora_unet__?")  # of names whose dots became underscores
KOHYA_DOT = re.compile(r"(?<=attn)_|(?<=\d)_|_(?=\d)|(?<=head)_|(?<=emb)_(?=proj)")  # was a dot

ENDINGS = {  # of a key: the part of a change that it holds
    "lora_A.weight": "down",
    "lora_A.default.weight": "down",
    "lora_down.weight": "down",
    "lora_B.weight": "up",
    "lora_B.default.weight": "up",
    "lora_up.weight": "up",
    "lora_B.bias": "up_bias",
    "alpha": "alpha",
    "diff": "weight",  # these three are added as they are
    "diff_b": "bias",
    "diff_m": "modulation",
}
UNREADABLE = ("use_dora", "use_rslora", "alpha_pattern")  # peft settings that change the sum


@dataclass(frozen=True)
class Change:
    """What one LoRA adds to one parameter: `scale * part`, or `scale * up @ down`."""

    file: LoraFile
    keys: tuple[str, ...]  # of the file: (part,) or (up, down)
    scale: float

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of what is added; None: the two factors do not fit each other."""
        if len(self.keys) == 1:
            return self.file.shape(self.keys[0])
        up, down = (list(self.file.shape(key)) for key in self.keys)
        fits = len(up) >= 2 and len(down) >= 2 and up[1] == down[0] > 0 and {*up[2:]} <= {1}
        return (up[0], *down[1:]) if fits else None

    def is_sound(self) -> bool:
        """Whether what is added is finite numbers."""
        parts = [self.file.read(key) for key in self.keys]
        if not all(part.is_floating_point() for part in parts):
            return False
        bound = abs(self.scale) * (parts[-1].shape[0] if len(parts) == 2 else 1)
        for part in parts:
            low, high = part.float().aminmax()
            bound *= max(-low.item(), high.item())
        return bound < LARGEST_CHANGE  # false where it is no number

    def add_to(self, weight: Tensor) -> None:
        """Add it to `weight`, float32, in place."""
        parts = [self.file.read(key).to(weight.device, torch.float32) for key in self.keys]
        if len(parts) == 2:
            up, down = (part.flatten(1) for part in parts)
            weight.add_((up @ down).view_as(weight), alpha=self.scale)
        else:
            weight.add_(parts[0], alpha=self.scale)


Changes = Mapping[str, Sequence[Change]]  # parameter -> what is added to it, in the LoRAs' order


def plan_changes(loras: Iterable[Lora], shapes: Mapping[str, tuple[int, ...]]) -> Changes:
    """What `loras` change in a transformer.

    Args:
        loras: in the order in which they are added.
        shapes: of all parameters of the transformer, by name.

    Raises:
        LoraError: a file cannot be used, or not with this transformer; names what is wrong in it.
    """
    changes: dict[str, list[Change]] = {}
    for lora in loras:
        for name, change in LoraFile.open(lora.file.path).changes(shapes, lora.weight):
            if lora.weight != 0:  # a file that adds nothing is checked as well
                changes.setdefault(name, []).append(change)
    return changes


@torch.no_grad()
def apply_changes(
    transformer: WanTransformer3DModel, changes: Changes, device: torch.device
) -> None:
    """Add `changes` to the weights of `transformer`, in place, wherever these are.

    All changes of a weight are added in float32 and rounded once to the weight's dtype. They are
    computed on `device`: a take depends on the kind of that one, not on the host beside it.
    """
    parameters = dict(transformer.named_parameters())
    for name, added in changes.items():
        weight = parameters[name].to(device, torch.float32, copy=True)
        for change in added:
            change.add_to(weight)
        parameters[name].copy_(weight)


# ------------------------------------------------------------------------------------- the file


class LoraFile:
    """An open LoRA file. Nothing of it is in memory but its header."""

    def __init__(self, path: Path, tensors: Any) -> None:
        self.path = path
        self.keys: list[str] = sorted(tensors.keys())
        self._tensors = tensors

    @classmethod
    def open(cls, path: Path) -> LoraFile:
        """The LoRA at `path`.

        Raises:
            LoraError: it is not safetensors, or damaged, or holds something else than a LoRA.
        """
        if path.suffix.lower() != ".safetensors":
            raise _no_safetensors(path)
        start = b""
        try:
            with path.open("rb") as binary:
                start = binary.read(8)
            if int.from_bytes(start, "little") > LARGEST_HEADER:
                raise ValueError("its header is too large")
            file = cls(path, safe_open(path, framework="pt"))  # compares the header to the size
        except (OSError, ValueError, SafetensorError) as error:
            if start.startswith((b"PK\3\4", b"\x80")):  # a zip with a pickle in it, or a pickle
                raise _no_safetensors(path) from error
            raise LoraError(
                f"{path.name} is damaged, or no safetensors file ({error}).",
                hint="Download it again.",
            ) from error
        if not any(_part_of(key) for key in file.keys):
            found = f"its first key is {file.keys[0][:80]!r}" if file.keys else "it is empty"
            raise LoraError(
                f"{path.name} holds no LoRA: {found}.",
                hint="Whole checkpoints, LoKr and LoHa files are no LoRA.",
            )
        return file

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return tuple(self._tensors.get_slice(key).get_shape())

    def read(self, key: str) -> Tensor:
        """A tensor of the file, on the CPU."""
        try:
            return self._tensors.get_tensor(key)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoraError(
                f"{self.path.name}: {key[:100]} cannot be read ({error}).",
                hint="Take a LoRA in float32, float16, bfloat16 or float8.",
            ) from error

    def changes(
        self, shapes: Mapping[str, tuple[int, ...]], weight: float
    ) -> list[tuple[str, Change]]:
        """(parameter, what is added to it) for the whole file, checked, at a person's `weight`.

        Raises:
            LoraError: a key is of no parameter, or what it holds cannot be added to it.
        """
        usual_alpha = self._alpha_of_metadata()
        changes: list[tuple[str, Change]] = []
        unused = set(self.keys)
        for stem, keys in self._modules().items():
            scale = weight * self._scale(keys, usual_alpha)
            for part, added in _groups(keys):
                name = _parameter(_without_prefix(stem), part, shapes)
                if name is None:
                    continue
                unused -= {*added}
                if len(added) == 2:
                    unused.discard(keys.get("alpha", ""))
                is_scaled = len(added) == 2 or part == "up_bias"
                changes.append((name, Change(self, added, scale if is_scaled else weight)))
        if unused:
            first = ", ".join(key[:100] for key in sorted(unused)[:3])
            raise LoraError(
                f"{self.path.name} does not fit: {len(unused)} of its {len(self.keys)} keys are of "
                f"no weight of this checkpoint, such as {first}.",
                hint="Take a LoRA that was made for this checkpoint, as plain LoRA without DoRA.",
            )
        for name, change in changes:
            self._check(name, change, shapes[name])
        return changes

    def _modules(self) -> dict[str, dict[str, str]]:
        """Keys of each module that the file is about, by the part that they hold."""
        modules: dict[str, dict[str, str]] = {}
        for key in self.keys:
            if found := _part_of(key):
                stem, part = found
                modules.setdefault(stem, {}).setdefault(part, key)
        return modules

    def _scale(self, keys: Mapping[str, str], usual_alpha: float | None) -> float:
        """alpha / rank of a module; 1 where the file has no alpha."""
        rank = self.shape(keys["down"])[:1] if "down" in keys else ()
        if not rank or rank[0] == 0:
            return 1.0  # it has no factors, or such as fit nowhere
        if "alpha" not in keys:
            return 1.0 if usual_alpha is None else usual_alpha / rank[0]
        alpha = self.read(keys["alpha"])
        if alpha.numel() != 1 or alpha.is_complex():
            raise LoraError(
                f"{self.path.name}: {keys['alpha'][:100]} is not one number.",
                hint="Download it again, or take another LoRA.",
            )
        return alpha.item() / rank[0]

    def _alpha_of_metadata(self) -> float | None:
        """Alpha of all modules, where the file says it as diffusers does: beside the weights."""
        text = (self._tensors.metadata() or {}).get("lora_adapter_metadata")
        if text is None:
            return None
        try:
            said = {key.rpartition(".")[2]: value for key, value in json.loads(text).items()}
            if unreadable := [name for name in UNREADABLE if said.get(name)]:
                raise ValueError(f"it has {unreadable[0]}")
            return None if said.get("lora_alpha") is None else float(said["lora_alpha"])
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise LoraError(
                f"{self.path.name}: its lora_adapter_metadata cannot be followed ({error}).",
                hint="Save the LoRA as plain LoRA, with one alpha for all weights.",
            ) from error

    def _check(self, name: str, change: Change, shape: tuple[int, ...]) -> None:
        """Check that a change fits its parameter, and that it is numbers."""
        if change.shape != tuple(shape):
            found = [change.shape] if change.shape else [self.shape(key) for key in change.keys]
            raise LoraError(
                f"{self.path.name} does not fit: {change.keys[0]} is for a weight of "
                f"{' and '.join(map(_size, found))}, but {name} is {_size(shape)}.",
                hint="Take a LoRA that was made for this checkpoint: Wan 1.3B, 5B and 14B differ.",
            )
        if not change.is_sound():
            raise LoraError(
                f"{self.path.name}: {' or '.join(change.keys)} holds something else than finite "
                "floating-point numbers.",
                hint="Download it again, or take another LoRA.",
            )


# ------------------------------------------------------------------------------------- the names


def _part_of(key: str) -> tuple[str, str] | None:
    """(what the key is about, the part of a change that it holds)."""
    for ending, part in ENDINGS.items():
        if key.endswith(f".{ending}"):
            return key.removesuffix(f".{ending}"), part
    return None


def _without_prefix(stem: str) -> str:
    if match := KOHYA_PREFIX.match(stem):
        return KOHYA_DOT.sub(".", stem[match.end() :])
    match = PREFIX.match(stem)
    return stem[match.end() :] if match else stem


def _groups(keys: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """(part, its keys) for each parameter that the keys of a module change; factors go together."""
    groups: list[tuple[str, tuple[str, ...]]] = []
    if "up" in keys and "down" in keys:
        groups.append(("weight", (keys["up"], keys["down"])))
    added = ("weight", "bias", "up_bias", "modulation")
    return groups + [(part, (key,)) for part, key in keys.items() if part in added]


def _parameter(name: str, part: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The parameter of a transformer that `part` of module `name` changes, if there is one."""
    candidates = {
        "weight": [f"{name}.weight", name],
        "bias": [f"{name}.bias"],
        "up_bias": [f"{name}.bias"],
        "modulation": [f"{name}.modulation"],
    }
    for candidate in candidates[part]:
        # Wan's own name or diffusers': where both are possible, only one is a parameter.
        for known in (_diffusers_name(candidate), candidate):
            if known in shapes:
                return known
    return None


def _diffusers_name(name: str) -> str:
    """The name that diffusers gives to a parameter of Wan's own checkpoints."""
    placeholder = torch.empty(2, 1, 1, 1)  # diffusers reshapes some of other models' weights
    return next(iter(convert_wan_transformer_to_diffusers({name: placeholder})))


def _no_safetensors(path: Path) -> LoraError:
    return LoraError(
        f"{path.name} is not a safetensors file; a pickle can run any program.",
        hint="FreeSwim takes LoRAs as safetensors only.",
    )


def _size(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape) or "one number"
