"""What a person asks of one shot: all that was typed for it, and the request that comes of it.

Without Qt. A sheet holds what differs from its preset and nothing else, so that it can be saved at
every keystroke and sent as the command line sends it: a preset and the changes to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from freeswim.cli.options import DEFAULT_PRESETS
from freeswim.method.settings import BaseSettings, RefineSettings
from freeswim.models.catalog import Checkpoint, find_checkpoint
from freeswim.request import MAX_PROMPT, MAX_SEED, Expert, Kind
from freeswim.studio.wire import PresetSaid

Flat = dict[str, Any]  # field of a request -> value; those of a pass as refine.strength

MEDIA = ("first_image", "last_image", "clip")
_PARTS = ("base", "refine")
NOT_INSTALLED = "not installed"
NO_CHECKSUM = "0" * 64  # of a file that is only planned with: a forecast reads none


def flat(fields: Mapping[str, Any]) -> Flat:
    """A request's fields on one level, files without their checksums."""
    result: Flat = {}
    for name, value in fields.items():
        if name in _PARTS:
            result |= {f"{name}.{key}": _plain(inner) for key, inner in value.items()}
        elif name in MEDIA and value is not None:
            result[name] = {"path": str(value["path"])}
        elif name == "loras":
            loras = cast("list[dict[str, Any]]", value)
            result[name] = [lora | {"file": {"path": str(lora["file"]["path"])}} for lora in loras]
        else:
            result[name] = value
    return result


def nested(fields: Flat) -> dict[str, Any]:
    """Fields on one level as a request has them."""
    result: dict[str, Any] = {}
    for name, value in fields.items():
        part, dot, key = name.partition(".")
        if dot:
            result.setdefault(part, {})[key] = value
        else:
            result[name] = value
    return result


def _plain(value: Any) -> Any:
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


# What a request is that says nothing of these.
_UNSAID: Flat = flat(
    {
        "kind": "text",
        "prompt": "",
        "negative_prompt": "",
        "draft": False,
        "weights": "plain",
        "clip_start": 0,
        "loras": [],
        "base": asdict(BaseSettings()),
        "refine": asdict(RefineSettings()),
    }
    | dict.fromkeys(MEDIA)
)
_SIZES = {"checkpoint": "", "width": 0, "height": 0, "frames": 0, "draft": False, "weights": ""}
# What presets set and a person can change, with a value of its type; None: of several.
TUNABLE: Flat = _SIZES | {name: value for name, value in _UNSAID.items() if "." in name}


class ClipFacts(BaseModel):
    """What is known of a clip that is to be remade."""

    width: int = Field(gt=0)  # px
    height: int = Field(gt=0)
    num_frames: int = Field(gt=0)
    frame_rate: Fraction = Field(gt=0)
    start_timecode: str = ""


class LoraChoice(BaseModel):
    """A LoRA that was added."""

    path: str
    weight: float = 1.0
    expert: Expert = "both"

    @property
    def field(self) -> dict[str, Any]:
        """As a request is asked for it."""
        return {"file": {"path": self.path}, "weight": self.weight, "expert": self.expert}


class Sheet(BaseModel):
    """All that was typed for a shot."""

    model_config = ConfigDict(extra="ignore")  # one that was saved by a newer program

    preset: str = ""  # "": the first that can be used
    kind: Kind = "text"
    prompt: str = ""
    negative_prompt: str | None = None  # None: the preset's
    first_image: str = ""
    last_image: str = ""
    clip: str = ""
    clip_start: int = Field(default=0, ge=0)
    clip_facts: ClipFacts | None = None  # None: the file was not looked at yet
    loras: list[LoraChoice] = []
    seed: int = Field(default=0, ge=0, le=MAX_SEED)  # the last one, or the one to use
    is_seed_locked: bool = False
    # Of each preset what was changed in it: who comes back to one finds it as it was left.
    tuned: dict[str, dict[str, JsonValue]] = {}

    @field_validator("tuned")
    @classmethod
    def _drop_unknown(cls, tuned: dict[str, Flat]) -> dict[str, Flat]:
        return {
            preset: {name: value for name, value in changes.items() if _is_like(name, value)}
            for preset, changes in tuned.items()
        }

    @property
    def changes(self) -> Flat:
        """What is changed in the preset; to be changed in place."""
        return cast(Flat, self.tuned.setdefault(self.preset, {}))

    def with_preset(self, preset: str) -> Sheet:
        """The same with another preset."""
        return self.model_copy(update={"preset": preset}, deep=True)


def _is_like(name: str, value: Any) -> bool:
    if name not in TUNABLE:
        return False
    pattern = TUNABLE[name]
    if pattern is None:
        return value is None or isinstance(value, int | float)
    if isinstance(pattern, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(pattern)


class Library:
    """The presets there are, and which of them can be used now."""

    def __init__(
        self,
        presets: Iterable[PresetSaid] = (),
        installed: Collection[str] = (),
        from_files: Mapping[str, PresetSaid] | None = None,
    ) -> None:
        self.presets = {preset.name: preset for preset in presets}
        self.installed = frozenset(installed)  # checkpoints
        self.from_files = dict(from_files or {})  # of the person's; the studio does not know them

    def __bool__(self) -> bool:
        return bool(self.presets)

    def all(self) -> dict[str, PresetSaid]:
        """Presets by the name that a sheet has for them."""
        return self.presets | self.from_files

    def preset_of(self, sheet: Sheet) -> PresetSaid:
        """A sheet's preset; where that is gone, the first that can be used."""
        return self.all().get(sheet.preset) or self.presets[self.default()]

    def default(self) -> str:
        """The first preset whose checkpoint is on this machine."""
        for name in DEFAULT_PRESETS:
            if name in self.presets and self.is_installed(self.presets[name]):
                return name
        return next(iter(self.presets))

    def is_installed(self, preset: PresetSaid) -> bool:
        """Whether a preset's checkpoint is on this machine."""
        return preset.defaults["checkpoint"] in self.installed

    def obstacle_of(self, preset: PresetSaid, sheet: Sheet) -> str:
        """In few words, what keeps a preset from being used for a sheet; empty: nothing."""
        checkpoint = find_checkpoint(preset.defaults["checkpoint"])
        if sheet.kind == "image" and not checkpoint.takes_image:
            return "no start from an image"
        if sheet.kind == "text" and not checkpoint.takes_text:
            return "needs a first image"
        if preset.needs_lora and not sheet.loras:
            return "needs a LoRA"
        return "" if self.is_installed(preset) else NOT_INSTALLED

    def can_wait(self, preset: PresetSaid, sheet: Sheet) -> bool:
        """Whether jobs can be added with a preset, though its checkpoint may not be here yet."""
        return self.obstacle_of(preset, sheet) in ("", NOT_INSTALLED)

    def instead(self, sheet: Sheet) -> PresetSaid | None:
        """A preset for a sheet that its own cannot be used for, best an installed one."""
        if self.can_wait(self.preset_of(sheet), sheet):
            return None
        can = [preset for preset in self.presets.values() if self.can_wait(preset, sheet)]
        return min(can, key=lambda preset: not self.is_installed(preset), default=None)

    # ---------------------------------------------------------------------------- the request

    def baseline(self, sheet: Sheet) -> Flat:
        """What holds where nothing is changed: the preset, and for a clip twice its size."""
        fields = _UNSAID | flat(self.preset_of(sheet).defaults)
        if sheet.kind == "clip":
            fields["draft"] = False
            if (clip := sheet.clip_facts) is not None:
                fields |= {"width": 2 * clip.width, "height": 2 * clip.height}
                fields["frames"] = max(1, clip.num_frames - sheet.clip_start)
        return fields

    def values(self, sheet: Sheet) -> Flat:
        """All fields of the request that a sheet asks for, but its seed where that is not locked."""
        fields = self.baseline(sheet) | sheet.tuned.get(sheet.preset, {})
        fields |= {"kind": sheet.kind, "prompt": sheet.prompt.strip()}
        if sheet.negative_prompt is not None:
            fields["negative_prompt"] = sheet.negative_prompt.strip()
        if sheet.kind == "clip":
            fields |= {"draft": False, "clip_start": sheet.clip_start}
        for name in media_of(sheet.kind):
            if path := getattr(sheet, name):
                fields[name] = {"path": path}
        fields["loras"] = [lora.field for lora in sheet.loras]
        if sheet.is_seed_locked:
            fields["seed"] = sheet.seed
        return fields

    def submission(self, sheet: Sheet) -> dict[str, Any]:
        """The preset and what differs from it, as the studio is asked."""
        preset = self.preset_of(sheet)
        known = dict(_UNSAID)
        if preset.name in self.presets:
            known |= flat(preset.defaults)
        changes = _difference(self.values(sheet), known)
        is_known = preset.name in self.presets
        return {"preset": preset.name if is_known else "", "request": nested(changes)}

    def forecast(self, sheet: Sheet) -> dict[str, Any]:
        """As `submission`, with something in place of what is still missing: neither words nor
        files decide what a take costs."""
        asked = self.submission(sheet)
        request: dict[str, Any] = asked["request"]
        request["prompt"] = "-"
        request.pop("negative_prompt", None)
        request.pop("loras", None)
        for name in {"text": (), "image": ("first_image",), "clip": ("clip",)}[sheet.kind]:
            request.setdefault(name, {"path": __file__})
        for name in MEDIA:
            if request.get(name):
                request[name] = request[name] | {"sha256": NO_CHECKSUM}
        return asked

    def edits(self, sheet: Sheet, request: Mapping[str, Any]) -> dict[str, Any]:
        """What differs from a request that is there."""
        return nested(_difference(self.values(sheet), _UNSAID | flat(request)))

    def sheet_of(self, request: Mapping[str, Any], *, is_seed_locked: bool) -> Sheet:
        """A request that was made before, as a sheet: with the preset that is nearest to it."""
        said = _UNSAID | flat(request)
        name = min(self.all(), key=lambda name: self._distance(said, name))
        return self._sheet(name, said, is_seed_locked=is_seed_locked)

    def sheet_of_changes(self, preset: str, changes: Mapping[str, Any]) -> Sheet:
        """A preset and what differs from it, as a sheet; an unknown preset's place the first takes."""
        name = preset if preset in self.all() else self.default()
        said = _UNSAID | flat(self.all()[name].defaults) | {"seed": 0} | flat(changes)
        return self._sheet(name, said, is_seed_locked="seed" in changes)

    def _sheet(self, name: str, said: Flat, *, is_seed_locked: bool) -> Sheet:
        preset = self.all()[name]
        usual = _UNSAID | flat(preset.defaults)
        changes = {key: said[key] for key in TUNABLE if said[key] != usual[key] or key in _ALWAYS}
        if said["kind"] != "clip":
            changes = {key: value for key, value in changes.items() if value != usual[key]}
        negative = said["negative_prompt"]
        return Sheet(
            preset=name,
            kind=said["kind"],
            prompt=said["prompt"],
            negative_prompt=None if negative == usual["negative_prompt"] else negative,
            clip_start=said["clip_start"],
            loras=[LoraChoice(**lora | {"path": lora["file"]["path"]}) for lora in said["loras"]],
            seed=said["seed"],
            is_seed_locked=is_seed_locked,
            tuned={name: changes},
            **{media: said[media]["path"] for media in MEDIA if said[media]},
        )

    def _distance(self, said: Flat, name: str) -> tuple[bool, int]:
        usual = _UNSAID | flat(self.all()[name].defaults)
        differing = sum(said[key] != usual[key] for key in TUNABLE)
        return said["checkpoint"] != usual["checkpoint"], differing

    # --------------------------------------------------------------------------------- words

    def obstacle(self, sheet: Sheet) -> str:
        """What is missing before a sheet can be sent, in words; empty: nothing."""
        length = len(sheet.prompt.strip())
        if sheet.kind != "clip" and not length:
            return "Say in the prompt what the shot shows."
        if length > MAX_PROMPT:
            return f"The prompt has {length:,} characters; {MAX_PROMPT:,} are the most."
        if sheet.kind == "image" and not sheet.first_image:
            return "Give the image that the shot starts from."
        if sheet.kind == "clip":
            return self._clip_obstacle(sheet)
        return self._lora_obstacle(sheet)

    def _clip_obstacle(self, sheet: Sheet) -> str:
        if not sheet.clip:
            return "Give the clip that is to be remade."
        if (clip := sheet.clip_facts) is None:
            return "The clip is being read."
        frames = self.values(sheet)["frames"]
        if sheet.clip_start + frames > clip.num_frames:
            return (
                f"The clip has {clip.num_frames} frames; {frames} from frame {sheet.clip_start} on "
                "are not in it."
            )
        return self._lora_obstacle(sheet)

    def _lora_obstacle(self, sheet: Sheet) -> str:
        if self.preset_of(sheet).needs_lora and not sheet.loras:
            return "This preset needs a LoRA: add one under Advanced."
        return ""

    def checkpoint_of(self, sheet: Sheet) -> Checkpoint:
        """What the take is made with."""
        return find_checkpoint(self.values(sheet)["checkpoint"])

    def rate_of(self, sheet: Sheet) -> Fraction:
        """Frames per second of the take."""
        if sheet.kind == "clip" and sheet.clip_facts is not None:
            return sheet.clip_facts.frame_rate
        return self.checkpoint_of(sheet).frame_rate


_ALWAYS = ("width", "height", "frames")  # of a clip, whose own depend on a file not yet looked at


def media_of(kind: Kind) -> tuple[str, ...]:
    """The files that a request of a kind is made from."""
    return {"text": (), "image": ("first_image", "last_image"), "clip": ("clip",)}[kind]


def _difference(fields: Flat, known: Flat) -> Flat:
    nothing = object()
    return {name: value for name, value in fields.items() if value != known.get(name, nothing)}


# ------------------------------------------------------------------------------ time and changes


def seconds_of(frames: int, rate: Fraction) -> float:
    """How long that many frames are shown."""
    return float(frames / rate)


def frames_of(seconds: float, rate: Fraction) -> int:
    """The number of frames nearest to a time; one at least."""
    return max(1, round(Fraction(seconds) * rate))


class Fix(NamedTuple):
    """A change that makes a take fit."""

    words: str
    changes: Flat


_FIXES = (
    (r"--weights int8", lambda _: Fix("Store weights in 8 bits", {"weights": "int8"})),
    (
        r"--full-branch native",
        lambda _: Fix("Full branch at native size", {"refine.guidance": "native"}),
    ),
    (r"\b(\d+) frames\b", lambda m: Fix(f"Use {m[1]} frames", {"frames": int(m[1])})),
    (
        r"\b(\d+)x(\d+)\b",
        lambda m: Fix(f"Use {m[1]} × {m[2]}", {"width": int(m[1]), "height": int(m[2])}),
    ),
)


def fixes_in(hint: str) -> list[Fix]:
    """The changes that a refused forecast says would fit, each of them alone."""
    fitting = re.search(r"This would fit: ([^.]*)\.", hint)
    if fitting is None:
        return []
    found = ((re.search(pattern, fitting[1]), make) for pattern, make in _FIXES)
    return [make(match) for match, make in found if match]
