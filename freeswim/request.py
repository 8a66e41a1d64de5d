"""A request: everything that decides the pixels of a take.

It travels unchanged from the person to the sidecar of the finished take. The same request, with
the same versions on the same kind of device, gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from freeswim.errors import MediaError, RequestError
from freeswim.method.settings import BaseSettings, RefineSettings
from freeswim.method.window import InwardWindow
from freeswim.models.catalog import Checkpoint, find_checkpoint
from freeswim.models.memory import Precision

MAX_PROMPT = 10_000  # characters; the longest text encoder reads 512 tokens
MAX_SEED = 2**32 - 1
MAX_LORAS = 8

Kind = Literal["text", "image", "clip"]
Expert = Literal["both", "high", "low"]


class Media(BaseModel):
    """A file of the person's that a request is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path  # absolute
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of its bytes when the request was made

    @classmethod
    def of(cls, path: Path) -> Self:
        """The file at `path` as it is now.

        Raises:
            MediaError: it is not a file that can be read.
        """
        path = path.expanduser().resolve()
        return cls(path=path, sha256=_sha256(path))

    def check_unchanged(self) -> None:
        """Raise MediaError where the file is no longer the one the request was made from."""
        if _sha256(self.path) != self.sha256:
            raise MediaError(
                f"{self.path.name} has changed since the request was made.",
                hint="Make the request again with the file as it is now.",
            )


class Lora(BaseModel):
    """A LoRA file of the person's, added to the weights of the transformer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Media
    weight: float = Field(default=1.0, ge=-4, le=4, allow_inf_nan=False)  # 0 adds nothing
    expert: Expert = "both"  # of a checkpoint with two: by the noise that the expert removes


class Request(BaseModel):
    """Everything that decides the pixels of one take."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    kind: Kind  # made from a prompt; from a first frame; or a clip remade
    checkpoint: str  # name in the catalog
    prompt: str = Field(default="", max_length=MAX_PROMPT)
    negative_prompt: str = Field(default="", max_length=MAX_PROMPT)
    first_image: Media | None = None  # of an `image` request
    last_image: Media | None = None  # of an `image` request, optional
    clip: Media | None = None  # of a `clip` request
    clip_start: int = Field(default=0, ge=0)  # first frame of the clip that is remade
    width: int  # pixels of the finished take
    height: int
    frames: int  # of the finished take
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    draft: bool = False  # stop after the base pass, at native size
    weights: Precision = "plain"  # how the transformers' weights are stored; all but plain is near
    loras: tuple[Lora, ...] = ()  # in the order in which they are added, MAX_LORAS at most
    base: BaseSettings = BaseSettings()
    refine: RefineSettings = RefineSettings()

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """The request that `fields` describe, Python values or what `as_dict` gave.

        Raises:
            RequestError: it cannot be made; names the first field that is wrong.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            raise _first_error(error) from error

    @classmethod
    def parse_text(cls, text: str) -> Self:
        """The request that `as_json` gave."""
        return cls.parse(json.loads(text))

    @property
    def model(self) -> Checkpoint:
        """The checkpoint's row of the catalog."""
        return find_checkpoint(self.checkpoint)

    @property
    def computed_size(self) -> tuple[int, int]:
        """(width, height) that is computed; the take is cropped out of it."""
        return self.model.computed_size(self.width, self.height)

    @property
    def computed_frames(self) -> int:
        """Frames that are computed; the take is the first of them."""
        return self.model.computed_frames(self.frames)

    @property
    def base_size(self) -> tuple[int, int]:
        """(width, height) of the base pass, or what it would be; the window is made for it."""
        return self.model.base_size(self.width, self.height)

    @property
    def needs_refine(self) -> bool:
        """Whether a refine pass runs: for a clip always, else above native size."""
        return self.kind == "clip" or not (self.draft or self.base_size == self.computed_size)

    @property
    def canvas_size(self) -> tuple[int, int]:
        """(width, height) that the last pass computes."""
        return self.computed_size if self.needs_refine else self.base_size

    @property
    def window(self) -> InwardWindow:
        """The inward window of the refine pass; 4 frames are one latent frame after the first."""
        (width, height), (base_width, base_height) = self.computed_size, self.base_size
        multiple = self.model.multiple
        return InwardWindow(
            frames=(self.computed_frames - 1) // 4 + 1,
            rows=height // multiple,
            columns=width // multiple,
            native_rows=base_height // multiple,
            native_columns=base_width // multiple,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done that was not asked for, in words."""
        notes: list[str] = []
        if self.canvas_size != self.take_size:
            (width, height), (take_width, take_height) = self.canvas_size, self.take_size
            notes.append(f"{width}x{height} is computed and cropped to {take_width}x{take_height}.")
        if self.computed_frames != self.frames:
            kept = f"the first {self.frames} kept"
            notes.append(f"{self.computed_frames} frames are computed, {kept}.")
        if not (self.needs_refine or self.draft):
            notes.append("The size is native: the base pass is the take, nothing to refine.")
        return tuple(notes)

    @property
    def take_size(self) -> tuple[int, int]:
        """(width, height) of the finished take: a draft of a larger take has native size."""
        if self.draft and self.base_size != self.computed_size:
            return self.base_size
        return self.width, self.height

    def changed(self, **fields: Any) -> Self:
        """The same request with other values for `fields`."""
        return self.parse(self.as_dict() | fields)

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values; without `loras` where there are none.

        So a request without LoRA is what it was, to the byte, before requests had any.
        """
        fields = self.model_dump(mode="json")
        if not self.loras:
            del fields["loras"]
        return fields

    def as_json(self) -> str:
        """All fields as one line of JSON, the same for equal requests."""
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of what decides the pixels: files count by their bytes, not their place."""
        fields = self.as_dict()
        files = [fields[name] for name in ("first_image", "last_image", "clip") if fields[name]]
        for file in files + [lora["file"] for lora in fields.get("loras", ())]:
            del file["path"]
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def weights_key(self) -> str:
        """What decides the weights that are loaded for it: the same for requests that share them."""
        loras = [[lora.file.sha256, lora.weight, lora.expert] for lora in self.loras]
        return json.dumps([self.checkpoint, self.weights, loras])

    @model_validator(mode="after")
    def _check(self) -> Self:
        checkpoint = self.model
        self._check_size(checkpoint)
        self._check_loras(checkpoint)
        for name in ("prompt", "negative_prompt"):
            if "\0" in getattr(self, name):
                raise RequestError(f"The {name} holds a NUL character.", hint="Remove it.")
        check_kind = {
            "text": self._check_text,
            "image": self._check_image,
            "clip": self._check_clip,
        }
        check_kind[self.kind](checkpoint)
        return self

    def _check_size(self, checkpoint: Checkpoint) -> None:
        if not (
            16 <= self.width <= checkpoint.max_side and 16 <= self.height <= checkpoint.max_side
        ):
            raise RequestError(
                f"A size of {self.width}x{self.height} cannot be made.",
                hint=f"{checkpoint.title} makes 16x16 to {checkpoint.max_side}x{checkpoint.max_side}.",
            )
        if not 1 <= self.frames <= checkpoint.max_frames:
            raise RequestError(
                f"A clip of {self.frames} frames cannot be made.",
                hint=f"{checkpoint.title} makes 1 to {checkpoint.max_frames} frames.",
            )

    def _check_loras(self, checkpoint: Checkpoint) -> None:
        if len(self.loras) > MAX_LORAS:
            raise RequestError(
                f"A request cannot have {len(self.loras)} LoRAs.",
                hint=f"Give {MAX_LORAS} or fewer.",
            )
        for lora in self.loras:
            if lora.expert != "both" and checkpoint.num_experts == 1:
                raise RequestError(
                    f"{checkpoint.title} has one expert, none for {lora.expert} noise alone.",
                    hint=f"Give {lora.file.path.name} without {lora.expert}.",
                )

    def _check_text(self, checkpoint: Checkpoint) -> None:
        self._need_prompt()
        self._refuse("first_image", "last_image", "clip")
        if not checkpoint.takes_text:
            raise RequestError(
                f"{checkpoint.title} needs a first frame.", hint="Give one with --image."
            )

    def _check_image(self, checkpoint: Checkpoint) -> None:
        self._need_prompt()
        self._refuse("clip")
        if self.first_image is None:
            raise RequestError("An image request needs a first frame.", hint="Give first_image.")
        if not checkpoint.takes_image:
            raise RequestError(
                f"{checkpoint.title} cannot start from an image.",
                hint="Use a checkpoint that can: wan2.2-ti2v-5b, wan2.1-i2v-14b-480p, "
                "wan2.1-i2v-14b-720p or wan2.2-i2v-a14b.",
            )
        if self.last_image is not None and not checkpoint.takes_last_image:
            raise RequestError(
                f"{checkpoint.title} cannot end on an image.", hint="Use wan2.2-i2v-a14b."
            )

    def _check_clip(self, checkpoint: Checkpoint) -> None:
        self._refuse("first_image", "last_image")
        if self.clip is None:
            raise RequestError("A clip request needs a clip.", hint="Give the video file.")
        if self.draft:
            raise RequestError(
                "A clip that is remade has no draft.", hint="Ask for the whole take."
            )
        if not 0.1 <= self.refine.strength <= 0.9:
            raise RequestError(
                f"strength cannot be {self.refine.strength} where a clip is remade.",
                hint="Use 0.1 (keeps nearly everything) to 0.9 (keeps the layout).",
            )

    def _need_prompt(self) -> None:
        if not self.prompt.strip():
            raise RequestError("The prompt is empty.", hint="Say what the shot shows.")

    def _refuse(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise RequestError(
                    f"A request of kind {self.kind} has no {name}.", hint="Leave it out."
                )


def _sha256(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before open: a pipe or a device has no end
            raise MediaError(f"{path.name} is not a file.", hint="Name one media file.")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(
            f"{path.name} cannot be read: {error.strerror}.", hint="Check the path."
        ) from error


def _first_error(error: ValidationError) -> RequestError:
    """The first thing that is wrong, in one sentence."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return RequestError(f"The request has no {field}.", hint=f"Give {field}.")
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return RequestError(
            f"A request has no field {field!r}.",
            hint=f"Fields are: {', '.join(Request.model_fields)}.",
        )
    given = reprlib.repr(first["input"])
    message = f"{field} cannot be {given}: {first['msg'].lower()}."
    return RequestError(message, hint=f"Change {field}.")
