"""The computer stays awake while a job runs; its display may sleep.

Held by a child process that lives as long as a pipe of this one is open (Linux, macOS), or by a
thread (Windows): either way it is let go when the daemon is gone, however it went. A computer that
cannot be held, or will not be, makes takes all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from freeswim import paths

log = logging.getLogger(__name__)

SWITCH = "FREESWIM_KEEP_AWAKE"  # in the environment; 0: never

# Hold the computer until `cat` has read the end of a pipe.
if sys.platform == "darwin":
    HOLDER = ("caffeinate", "-i", "cat")
elif sys.platform == "win32":
    HOLDER = ()
else:
    HOLDER = (
        *("systemd-inhibit", "--what=sleep", "--mode=block"),
        *("--who=FreeSwim", "--why=A take is being made", "cat"),
    )


def is_wanted() -> bool:
    """Whether the computer is to be kept awake: unless the environment or the person says no."""
    return os.environ.get(SWITCH, "1") != "0" and not _refusal().exists()


def want(is_wanted: bool) -> None:
    """Say for this data folder whether its studio may keep the computer awake; heeded at once.

    Raises:
        OSError: the folder cannot be written.
    """
    if is_wanted:
        _refusal().unlink(missing_ok=True)
    else:
        _refusal().parent.mkdir(parents=True, exist_ok=True)
        _refusal().touch()


class Awake:
    """Holds the computer awake, or does not. Never raises; called from one thread at a time."""

    def __init__(self, holder: Sequence[str] = HOLDER) -> None:
        """
        Args:
            holder: command that holds the computer until its standard input ends; empty: Windows'
                own way.
        """
        self._command = holder
        self._held: _Process | _Thread | None = None
        self._is_told = False  # in the log, that it cannot be held

    def follow(self, is_busy: bool) -> None:
        """Hold the computer while there is work to be awake for."""
        try:
            if not (is_busy and is_wanted()):
                self.release()
            elif self._held is None:
                self._held = _Process(self._command) if self._command else _Thread()
            elif (said := self._held.failure()) is not None:
                self._tell(said)  # it is tried again for the next work, not for ever
        except Exception as error:  # whatever it is: a job must not die of it
            self._tell(str(error))

    def release(self) -> None:
        """Let the computer sleep."""
        if self._held is not None:
            held, self._held = self._held, None
            held.release()

    def _tell(self, why: str) -> None:
        if not self._is_told:
            log.info("the computer is not kept awake: %s", why.strip() or "no reason is given")
        self._is_told = True


class _Process:
    def __init__(self, command: Sequence[str]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._said = ""
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # what is typed at a terminal is for the daemon
            )
        except OSError as error:
            self._said = f"{command[0]}: {error.strerror or error}"

    def failure(self) -> str | None:
        """Why nothing is held; None: something is."""
        if self._process is not None and self._process.poll() is not None:
            assert self._process.stderr is not None
            self._said = self._process.stderr.read(1000).decode("utf-8", errors="replace")
            self._end(self._process)
        return self._said if self._process is None else None

    def release(self) -> None:
        if self._process is not None:
            self._end(self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        for pipe in (process.stdin, process.stderr):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Thread:
    """Windows holds a thread's wish for as long as the thread lives."""

    def __init__(self) -> None:
        self._end = threading.Event()
        threading.Thread(target=self._hold, name="awake", daemon=True).start()

    def failure(self) -> str | None:
        return None

    def release(self) -> None:
        self._end.set()

    def _hold(self) -> None:
        if sys.platform == "win32":
            import ctypes

            continuous, system_required = 0x80000000, 0x00000001
            ctypes.windll.kernel32.SetThreadExecutionState(continuous | system_required)
            self._end.wait()
            ctypes.windll.kernel32.SetThreadExecutionState(continuous)


def _refusal() -> Path:
    return paths.home() / "let-sleep"
