"""What the daemon and a worker say to each other: JSON, one message a line, over pipes.

The worker's end of standard input is the end of its daemon: it exits at once.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

log = logging.getLogger(__name__)

VERSION = 1
LONGEST_LINE = 256 * 1024  # bytes; a longer one is not of ours
BEAT_S = 2.0  # between signs of life

# Code of a failure after which nothing can be computed in the process any more.
DEVICE = "device"

# What a worker exits with.
PARENT_GONE = 70
DEVICE_FAULT = 31


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class Run(_Message):
    """Make a take."""

    do: Literal["run"] = "run"
    job_id: str
    attempt: int
    request: dict[str, Any]
    output: Path  # the video file; the folder is the attempt's own
    checkpoints: Path  # folder
    preview: Path  # where the newest preview goes
    log: Path  # what libraries print meanwhile is added to it
    draft_latents: Path | None = None


class Stop(_Message):
    """Stop at the next step; checkpoints stay."""

    do: Literal["stop"] = "stop"
    job_id: str
    attempt: int


class Exit(_Message):
    """Exit."""

    do: Literal["exit"] = "exit"


class Hello(_Message):
    """The worker is there."""

    event: Literal["hello"] = "hello"
    protocol: int
    version: str
    pid: int


class Beat(_Message):
    """The process lives; that it gets on is said by steps."""

    event: Literal["beat"] = "beat"


class Step(_Message):
    """How far the take is; `step` counts finished steps of the stage."""

    event: Literal["step"] = "step"
    job_id: str
    stage: str
    step: int = Field(ge=0)
    num_steps: int = Field(ge=1)
    seconds: float  # since the attempt began


class Preview(_Message):
    """A new preview lies on the disk."""

    event: Literal["preview"] = "preview"
    job_id: str
    number: int = Field(ge=1)


class Made(_Message):
    """The take is finished, verified, and in the attempt's folder."""

    event: Literal["made"] = "made"
    job_id: str
    memory_bytes: int  # that the process holds now


class Stopped(_Message):
    """The attempt was stopped because that was asked for."""

    event: Literal["stopped"] = "stopped"
    job_id: str


class Failed(_Message):
    """No take will come of it."""

    event: Literal["failed"] = "failed"
    job_id: str
    code: str
    message: str
    hint: str = ""
    details: dict[str, JsonValue] = {}


Command = Run | Stop | Exit
Event = Hello | Beat | Step | Preview | Made | Stopped | Failed

_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="do")])
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def to_line(message: Command | Event) -> bytes:
    """A message as it goes over the pipe."""
    return message.model_dump_json().encode() + b"\n"


def read_command(line: bytes) -> Command | None:
    """A command; None: it is none that this version knows."""
    try:
        return _COMMAND.validate_json(line)
    except ValidationError:
        log.warning("no command: %r", line[:200])
        return None


class EventReader:
    """Events out of a stream that arrives in pieces; what is no event is passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._skips = False  # the rest of a line that is too long

    def feed(self, piece: bytes) -> list[Event]:
        """Events of the lines that `piece` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if self._skips and lines:
            del lines[0]
            self._skips = False
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._skips = b"", True
        return [event for line in lines if (event := _read_event(line)) is not None]


def _read_event(line: bytes) -> Event | None:
    if len(line) > LONGEST_LINE:
        return None
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        log.debug("no event: %r", line[:200])
        return None
