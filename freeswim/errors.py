"""Every failure a person may see.

* FreeswimError
  x RequestError          the request cannot be made; names the field
  x PresetError           a preset file is wrong; names file and key
  x CheckpointMissing     the weights are not on this machine
  x CheckpointCorrupt     the weights are there and cannot be used
  x DownloadError         the weights cannot be fetched, or not as they were published
  x LoraError             a LoRA file cannot be used, or not with this checkpoint
  x MediaError            a video or an image cannot be read, or a video cannot be encoded
  x OutOfMemory           the device was too small for the work
  x NumericalError        the model gave something that is no number
  x OutputError           the output folder or file cannot be written
    x OutputExists        the output file is already there
    x DiskFull            the disk has no room
  x WorkerCrashed         the process that made a take died, or did nothing any more
  x NotFound              there is no such job, shot or take
  x Conflict              it is not in a state in which this can be done
  x StudioError           the daemon cannot run, or cannot be reached
  x Cancelled             the person stopped the work

Raise where the fact is known, catch where something can be done: in the worker, in the daemon's
guard and in the command line. The message says what happened, with the values; the hint says what
to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class FreeswimError(Exception):
    """Base of all failures that a person may see.

    Attributes:
        message: what happened, one sentence, with the values.
        hint: what to do about it, one sentence; may be empty.
        details: values for programs, of JSON.
        code: stable name of the failure on every wire.
        exit_status: what the `freeswim` command exits with.
    """

    code = "error"
    exit_status = 1

    def __init__(
        self, message: str, *, hint: str = "", details: Mapping[str, int | str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, int | str] = dict(details or {})

    def as_dict(self) -> dict[str, Any]:
        """The failure as it travels in JSON."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }


class RequestError(FreeswimError):
    """The request asks for something that cannot be made."""

    code = "bad_request"
    exit_status = 2


class PresetError(FreeswimError):
    """A preset file cannot be used; the message names the file and the key."""

    code = "bad_preset"
    exit_status = 2


class MediaError(FreeswimError):
    """A video or an image cannot be read, or a video cannot be encoded."""

    code = "media"
    exit_status = 3


class CheckpointMissing(FreeswimError):
    """The weights are not on this machine."""

    code = "checkpoint_missing"
    exit_status = 4


class CheckpointCorrupt(FreeswimError):
    """The weights are on this machine and cannot be used."""

    code = "checkpoint_corrupt"
    exit_status = 4


class DownloadError(FreeswimError):
    """Weights cannot be fetched: no connection, no permission, or other bytes than published."""

    code = "download"
    exit_status = 4


class LoraError(FreeswimError):
    """A LoRA file cannot be used, or not with this checkpoint; names the file and what is wrong."""

    code = "bad_lora"
    exit_status = 4


class OutOfMemory(FreeswimError):
    """The device has less memory than the work needs."""

    code = "out_of_memory"
    exit_status = 5


class NumericalError(FreeswimError):
    """The model gave something that is no number; no picture can come of it."""

    code = "numerical"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint or "Try another seed, or check the checkpoint.")


class OutputError(FreeswimError):
    """The output folder or file cannot be written."""

    code = "output"
    exit_status = 6


class OutputExists(OutputError):
    """The output file is already there and nobody allowed to replace it."""

    code = "output_exists"


class DiskFull(OutputError):
    """The disk has no room for what is to be written."""

    code = "disk_full"


class WorkerCrashed(FreeswimError):
    """The process that made a take died, or did nothing any more."""

    code = "crash"


class NotFound(FreeswimError):
    """There is no such job, shot, take or preview."""

    code = "not_found"


class Conflict(FreeswimError):
    """A job or take is not in a state in which this can be done."""

    code = "conflict"


class StudioError(FreeswimError):
    """The daemon cannot run here, or cannot be reached."""

    code = "studio"
    exit_status = 7


class Cancelled(FreeswimError):
    """The person stopped the work; nothing new is left behind."""

    code = "cancelled"
    exit_status = 130

    def __init__(self, message: str = "Cancelled.", *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
