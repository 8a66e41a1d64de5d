"""One `freeswim` command in a process of its own: it can be watched, and stopped without a trace."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from PySide6.QtCore import (
    QObject,
    QProcess,
    QProcessEnvironment,
    QTimer,
    Signal,
)

from freeswim import paths
from freeswim.errors import Cancelled, FreeswimError, StudioError
from freeswim.studio.client import error_of

log = logging.getLogger(__name__)

LONGEST_LINE = 2**20  # bytes; a longer one is not of ours
CAN_SIGNAL = os.name == "posix"  # a program without a console hears none on Windows
LEFT_S = 10.0  # for the rest of a killed process to go away
ASK_MS = 2000  # between two times that a process is asked to stop: libraries may miss one
MOST_ASKED = 5  # times, before it is killed


class Command(QObject):
    """One `freeswim` command in a process of its own."""

    said = Signal(object)  # dict: one event
    ended = Signal(object)  # FreeswimError; None: it did what it was asked

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
        self._patience = QTimer(self, interval=ASK_MS)
        self._patience.timeout.connect(self._ask_to_stop)
        self._rest = b""
        self._error: FreeswimError | None = None
        self._is_cancelled = False
        self._times_asked = 0  # to stop
        self._folder: Path | None = None
        self._others: set[Path] = set()  # workspaces that were there before

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.state() != QProcess.ProcessState.NotRunning

    def start(self, arguments: Sequence[str], folder: Path | None = None) -> None:
        """Begin. Only where nothing runs.

        Args:
            folder: that it writes to.
        """
        self._rest, self._error, self._is_cancelled = b"", None, False
        self._folder, self._others = folder, _workspaces(folder)
        # Words that the person chose could name a file of the folder that the app was started in.
        folder = paths.home()
        self._process.setWorkingDirectory(str(folder) if folder.is_dir() else "")
        # -P: no modules of that folder
        self._process.start(sys.executable, ["-P", "-m", "freeswim.cli", *arguments])

    def cancel(self) -> None:
        """Ask the process to stop and to clean up behind itself; `ended` follows."""
        if not self.is_running or self._is_cancelled:
            return
        self._is_cancelled = True
        self._times_asked = 0
        self._ask_to_stop()
        self._patience.start()

    def close(self) -> None:
        """Stop the process and wait until it is gone."""
        self.cancel()
        while self.is_running and not self._process.waitForFinished(ASK_MS):
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        self._times_asked += 1
        if CAN_SIGNAL and self._times_asked <= MOST_ASKED:
            self._process.terminate()  # to the command the same as Ctrl-C
        else:
            self._process.kill()

    def _read(self) -> None:
        *lines, self._rest = (self._rest + self._process.readAllStandardOutput().data()).split(
            b"\n"
        )
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
        for line in lines:
            self._take_in(line)

    def _take_in(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            log.debug("no event: %r", line[:200])
        elif event.get("event") == "error":
            self._error = error_of(event)
        else:
            self.said.emit(event)

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:  # of the others, `finished` tells
            words = f"Python cannot be started: {self._process.errorString()}."
            self._error = StudioError(words, hint="Install FreeSwim again.")
            self._end(1)

    def _end(self, status: int, how: QProcess.ExitStatus = QProcess.ExitStatus.NormalExit) -> None:
        self._patience.stop()
        self._read()
        if self._is_cancelled or how == QProcess.ExitStatus.CrashExit:
            left = _workspaces(self._folder) - self._others
            threading.Thread(target=_remove, args=[left], name="leftovers").start()
        if self._is_cancelled and status:  # else it was done before it heard of it
            self.ended.emit(Cancelled())
        elif self._error is None and status:
            hint = "Try again; if it happens again, run it in a terminal to see why."
            self.ended.emit(StudioError("The export stopped before its end.", hint=hint))
        else:
            self.ended.emit(self._error)


def _workspaces(folder: Path | None) -> set[Path]:
    """Hidden folders in which something is being made."""
    return set() if folder is None else set(folder.glob(".*.part"))


def _remove(folders: Iterable[Path]) -> None:
    """What a process leaves that was killed; the encoder that it ran may need a moment to end."""
    for folder in folders:
        deadline = time.monotonic() + LEFT_S
        while folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.05)
