"""One generation: the `freeswim` command in a process of its own, its JSON lines as Qt signals."""

from __future__ import annotations

import logging
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from freeswim.errors import Cancelled

log = logging.getLogger(__name__)

LONGEST_LINE = 2**20  # bytes; a longer one is not of ours
PATIENCE_MS = 10_000  # for a step to end after a cancel, before the process is killed

# Stages in their order, each with its share of the time; a draft has no `upsample` and `refine`.
STAGES = (
    *(("encode prompt", 2), ("load", 3), ("base", 27)),
    *(("upsample", 6), ("refine", 50), ("write", 12)),
)


class Progress(BaseModel):
    """How far the work is; `step` counts finished steps of the stage."""

    event: Literal["progress"]
    stage: str
    step: int = Field(ge=0)
    num_steps: int = Field(ge=1)


class FinishedTake(BaseModel):
    """A take that lies on the disk."""

    event: Literal["take"]
    media: Path
    width: int  # pixels
    height: int
    frames: int
    frame_rate: Fraction  # frames per second, exact
    seed: int
    seconds: dict[str, float]  # per stage
    notes: list[str] = []


class Failure(BaseModel):
    """What happened, and what to do about it."""

    event: Literal["error"]
    code: str
    message: str
    hint: str = ""


Event = Progress | FinishedTake | Failure
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class EventReader:
    """Events out of a stream that arrives in pieces; what is no event is passed over."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[Event]:
        """Events of the lines that `piece` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
        return [event for line in lines if (event := _parse(line)) is not None]


def _parse(line: bytes) -> Event | None:
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        log.debug("no event: %r", line[:200])
        return None


class Course:
    """How much of the whole work is done, 0 to 1; never goes back."""

    def __init__(self, *, is_draft: bool) -> None:
        self._stages = [*STAGES[:3], STAGES[-1]] if is_draft else list(STAGES)
        self._index = 0
        self._done = 0.0

    def follow(self, progress: Progress) -> float:
        """The share that is done at `progress`; of an unknown stage, what was done before it."""
        names = [name for name, _ in self._stages]
        if progress.stage in names[self._index :]:
            self._index = names.index(progress.stage, self._index)
            shares = [share for _, share in self._stages]
            of_stage = shares[self._index] * min(1.0, progress.step / progress.num_steps)
            done = (sum(shares[: self._index]) + of_stage) / sum(shares)
            self._done = max(self._done, done)
        return self._done


class Generation(QObject):
    """The process that makes one take at a time.

    Signals:
        progressed: Progress.
        made: FinishedTake.
        failed: Failure.
        cancelled: nothing new is left behind.
    """

    progressed = Signal(object)
    made = Signal(object)
    failed = Signal(object)
    cancelled = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        environment.insert("PYTHONUTF8", "1")  # Windows writes to pipes in another code page
        self._process.setProcessEnvironment(environment)
        self._process.setProcessChannelMode(QProcess.ProcessChannelMode.ForwardedErrorChannel)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.errorOccurred.connect(self._on_error)
        self._process.finished.connect(self._end)
        self._patience = QTimer(self, singleShot=True, interval=PATIENCE_MS)
        self._patience.timeout.connect(self._process.kill)
        self._reader = EventReader()
        self._outcome: FinishedTake | Failure | None = None
        self._is_cancelled = False

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.state() != QProcess.ProcessState.NotRunning

    @property
    def is_stopping(self) -> bool:
        """Whether it lives and was asked to stop."""
        return self.is_running and self._is_cancelled

    def start(self, *, prompt: str, preset: str, seed: int, is_draft: bool, output: Path) -> None:
        """Make a take at `output`. Only where none is being made."""
        self._reader = EventReader()
        self._outcome = None
        self._is_cancelled = False
        arguments = ["-P", "-m", "freeswim.cli", "generate"]  # -P: no modules of the current folder
        arguments += ["--json", "--preset", preset, "--seed", str(seed), "--out", str(output)]
        arguments += ["--draft"] if is_draft else []
        self._process.start(sys.executable, [*arguments, "--", prompt])

    def cancel(self) -> None:
        """Ask the process to stop; `cancelled` follows."""
        if not self.is_running:
            return
        self._is_cancelled = True
        if os.name == "posix":
            self._process.terminate()  # to the command the same as Ctrl-C, which it may not hear
            self._patience.start()
        else:
            self._process.kill()  # Windows has no signal for a program without a console

    def close(self) -> None:
        """Stop the process and wait until it is gone."""
        self.cancel()
        if self.is_running and not self._process.waitForFinished(PATIENCE_MS):
            self._process.kill()
            self._process.waitForFinished()

    def _read(self, last: bytes = b"") -> None:
        for event in self._reader.feed(bytes(self._process.readAllStandardOutput().data()) + last):
            if isinstance(event, Progress):
                self.progressed.emit(event)
            else:
                self._outcome = event

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:  # of the others, `finished` tells
            self._outcome = _failure(f"Python cannot be started: {self._process.errorString()}.")
            self._end()

    def _end(self) -> None:
        self._patience.stop()
        self._read(last=b"\n")
        match self._outcome:
            case FinishedTake():
                self.made.emit(self._outcome)
            case Failure(code=Cancelled.code):
                self.cancelled.emit()
            case _ if self._is_cancelled:
                self.cancelled.emit()
            case Failure():
                self.failed.emit(self._outcome)
            case None:
                self.failed.emit(_failure("The generation stopped before its end."))


def _failure(message: str) -> Failure:
    hint = "Try again; if it happens again, run freeswim generate in a terminal to see why."
    return Failure(event="error", code="error", message=message, hint=hint)
