"""The process a script runs in: whose child it is, and that there is one of us.

Resolve runs a Python script as a child process, so that it may take its time (resolve.md 2.6). It
has to end with Resolve by itself: orphans hold what they hold, on Windows for ever.
"""

import contextlib
import os
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional

from . import places

if sys.platform == "win32":
    import ctypes
    import msvcrt
else:
    import fcntl

LOOK_S = 1.0  # between two looks at the parent
BEAT_S = 5.0  # between two signs of life while Resolve takes its time with an operation
TAKE_OVER_S = 10.0  # for the one before to end
GRACE_S = 5.0  # for an operation of one that was replaced

_SYNCHRONIZE = 0x00100000
_ANSWERED = 0  # WAIT_OBJECT_0: the process has ended


def is_resolve_itself() -> bool:
    """Whether this code runs inside Resolve's own process, where nothing may take its time.

    No version is known to do that; if one does, it is to be no more than a short pause.
    """
    name = Path(_program()).stem.lower()
    return name in ("resolve", "davinci resolve")


def _program() -> str:
    """The program of this process; an interpreter that is part of another says nothing true of it."""
    try:
        if sys.platform == "win32":
            words = ctypes.create_unicode_buffer(32768)
            ctypes.windll.kernel32.GetModuleFileNameW(None, words, len(words))
            return words.value
        if sys.platform == "darwin":
            import ctypes as c

            size = c.c_uint32(4096)
            path = c.create_string_buffer(4096)
            c.CDLL(None)._NSGetExecutablePath(path, c.byref(size))
            return os.fsdecode(path.value)
        return os.readlink("/proc/self/exe")
    except (OSError, AttributeError):
        return sys.executable or ""


class Parent:
    """The process that started this one."""

    def __init__(self) -> None:
        self._pid = os.getppid()
        self._handle: Any = None
        if sys.platform == "win32":
            # A parent's number stays when the parent is gone; a handle of it tells (resolve.md 2.6).
            self._handle = ctypes.windll.kernel32.OpenProcess(_SYNCHRONIZE, False, self._pid)

    @property
    def is_there(self) -> bool:
        if sys.platform == "win32":
            if not self._handle:
                return True
            kernel = ctypes.windll.kernel32
            return bool(kernel.WaitForSingleObject(self._handle, 0) != _ANSWERED)
        return os.getppid() == self._pid


class Lock:
    """That one of us at a time does what the studio asks. Free when its process is gone."""

    def __init__(self) -> None:
        self._me = secrets.token_hex(8)
        self._file: Any = None

    def take(self) -> bool:
        """Take it, if nobody has it."""
        try:
            places.run().mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (places.run() / "resolve.lock").open("ab")
        except OSError:
            return False
        for rest_s in (0.05, 0.0):  # the doctor may have it for an instant
            if _locked(file):
                self._file = file
                self._sign()
                return True
            time.sleep(rest_s)
        file.close()
        return False

    def take_over(self) -> bool:
        """Take it from whoever has it: the one before sees that and ends, even in a call that hangs."""
        self._sign()
        deadline = time.monotonic() + TAKE_OVER_S
        while not self.take():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    @property
    def is_ours(self) -> bool:
        """Whether nobody wants to have it instead."""
        try:
            return (places.run() / "resolve.owner").read_text("ascii") == self._me
        except (OSError, ValueError):
            return True  # nobody has said so

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _sign(self) -> None:
        with contextlib.suppress(OSError):
            (places.run() / "resolve.owner").write_text(self._me, "ascii")


def is_connected(run: Path) -> bool:
    """Whether one of us stays, for the doctor. `run`: as `places.run`."""
    try:
        with (run / "resolve.lock").open("ab") as file:
            return not _locked(file)
    except OSError:
        return False


def _locked(file: Any) -> bool:
    """Lock a file that is open; whether nobody else had. Closing it unlocks."""
    try:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Watch:
    """Ends this process when Resolve is gone or another of us takes over, whatever it is doing.

    A call to Resolve cannot be interrupted (resolve.md 2.5): a thread looks, and touches nothing of
    Resolve's, which answers the main thread alone.
    """

    def __init__(self, lock: Lock, beat: Callable[[str, float], None]) -> None:
        self._lock = lock
        self._beat = beat
        self._parent = Parent()
        self._busy = threading.Lock()
        self._operation = ""
        self._since = 0.0
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def begin(self, operation: str) -> None:
        """An operation begins, and may take long."""
        with self._busy:
            self._operation, self._since = operation, time.monotonic()

    def end(self) -> None:
        """It is over."""
        with self._busy:
            self._operation = ""

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        replaced_at: Optional[float] = None
        spoke = time.monotonic()
        while not self._stop.wait(LOOK_S):
            now = time.monotonic()
            if not self._parent.is_there:
                self._leave()
            if not self._lock.is_ours:
                replaced_at = replaced_at or now
                with self._busy:
                    if not self._operation or now - replaced_at > GRACE_S:
                        self._leave()
            with self._busy:
                operation, since = self._operation, self._since
            if operation and now - max(spoke, since) >= BEAT_S:
                spoke = now
                self._beat(operation, now - since)

    def _leave(self) -> None:
        if not is_resolve_itself():  # it would take the editor's work with it
            os._exit(0)
