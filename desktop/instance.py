"""One app for a data folder: a second start hands what it was given to the first, and ends.

The lock decides who is first; it is free when its process is gone, however it went. The socket only
carries words. It is this user's alone, and whatever arrives on it that is not a short list of
files is dropped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from PySide6.QtCore import QLockFile, QObject, QTimer, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

from freeswim.errors import StudioError

log = logging.getLogger(__name__)

MOST_BYTES = 2**20  # of what is handed over
MOST_CALLERS = 16  # at a time
SILENCE_MS = 5_000  # of a caller, after which it is dropped
PATIENCE_S = 10.0  # with a first start that does not answer
REST_S = 0.05  # between two tries
MOST_SOCKET_PATH = 100  # bytes; systems end at 104 or 108

_TAKEN = b"taken\n"


class Instance(QObject):
    """The first start. Keep it for as long as the app lives."""

    called = Signal(list)  # list[Path] of files to open, maybe none; raise the window

    def __init__(self, lock: QLockFile, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = lock
        self._heard: dict[QLocalSocket, bytes] = {}
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.setMaxPendingConnections(MOST_CALLERS)
        self._server.newConnection.connect(self._greet)
        QLocalServer.removeServer(name)  # of a start that was killed: the lock is ours
        if not self._server.listen(name):
            log.warning("a second start cannot be heard: %s", self._server.errorString())

    def close(self) -> None:
        """Let the next start be the first."""
        self._server.close()
        self._lock.unlock()

    def _greet(self) -> None:
        while (caller := self._server.nextPendingConnection()) is not None:
            if len(self._heard) >= MOST_CALLERS:
                caller.abort()
                caller.deleteLater()
                continue
            self._heard[caller] = b""
            caller.readyRead.connect(lambda caller=caller: self._hear(caller))
            caller.disconnected.connect(lambda caller=caller: self._drop(caller))
            QTimer.singleShot(SILENCE_MS, caller, caller.abort)
            self._hear(caller)

    def _hear(self, caller: QLocalSocket) -> None:
        if caller not in self._heard:
            return
        self._heard[caller] += bytes(caller.read(MOST_BYTES + 1).data())
        words, has_ended, _ = self._heard[caller].partition(b"\n")
        if has_ended and (files := _files(words)) is not None:
            caller.write(_TAKEN)
            caller.flush()
            self._heard[caller] = b""
            self.called.emit(files)
            caller.disconnectFromServer()
        elif has_ended or len(self._heard[caller]) > MOST_BYTES:
            log.warning("what another start says is not understood")
            caller.abort()

    def _drop(self, caller: QLocalSocket) -> None:
        self._heard.pop(caller, None)
        caller.deleteLater()


def first_or_hand_over(folder: Path, files: Sequence[str] = ()) -> Instance | None:
    """Be the first app of a data folder; None: another one was, and has been given the files.

    Raises:
        StudioError: another one is open and does not answer, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudioError(
            f"{folder} cannot be written: {error.strerror}.",
            hint="Make the folder writable, or name another with FREESWIM_HOME.",
        ) from error
    lock = QLockFile(str(folder / "app.lock"))
    lock.setStaleLockTime(0)
    name = _socket_name(folder)
    words = json.dumps({"files": [str(Path(file).absolute()) for file in files]}).encode() + b"\n"
    deadline = time.monotonic() + PATIENCE_S
    while True:
        if lock.tryLock(0):
            return Instance(lock, name)
        if lock.error() == QLockFile.LockError.PermissionError:
            raise StudioError(
                f"{folder} cannot be written.",
                hint="Make the folder writable, or name another with FREESWIM_HOME.",
            )
        # The first may not listen yet, or may be on its way out.
        if _hand_over(name, words):
            return None
        if time.monotonic() > deadline:
            raise StudioError(
                f"FreeSwim is open already and does not answer{_whose(lock)}.",
                hint="End it, then start FreeSwim again. Jobs go on meanwhile.",
            )
        time.sleep(REST_S)


def _hand_over(name: str, words: bytes) -> bool:
    """Whether somebody listens, and has taken the words."""
    socket = QLocalSocket()
    socket.connectToServer(name)
    if not socket.waitForConnected(1_000):
        return False
    socket.write(words)
    answer = b""
    deadline = time.monotonic() + SILENCE_MS / 1000
    while not answer.endswith(b"\n") and time.monotonic() < deadline:
        if not socket.bytesAvailable() and not socket.waitForReadyRead(200):
            if socket.state() != QLocalSocket.LocalSocketState.ConnectedState:
                break
            continue
        answer += bytes(socket.readAll().data())
    socket.abort()
    return answer == _TAKEN


def _files(words: bytes) -> list[Path] | None:
    """The files that another start names; None: these are not its words."""
    try:
        said: object = json.loads(words)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    named = cast("dict[str, object]", said).get("files")
    if not isinstance(named, list):
        return None
    files = [
        Path(one)
        for one in cast("list[object]", named)
        if isinstance(one, str) and "\0" not in one and Path(one).is_absolute()
    ]
    return files if len(files) == len(cast("list[object]", named)) else None


def _socket_name(folder: Path) -> str:
    """In the folder, which is this user's; where such a path is too long, or on Windows, a name."""
    path = folder.resolve() / "app.socket"
    if sys.platform != "win32" and len(os.fsencode(path)) <= MOST_SOCKET_PATH:
        return str(path)
    whose = f"{Path.home()}|{folder.resolve()}".encode(errors="surrogateescape")
    return f"freeswim-{hashlib.sha256(whose).hexdigest()[:24]}"


def _whose(lock: QLockFile) -> str:
    found = cast("tuple[object, ...]", lock.getLockInfo())
    pids = [one for one in found if isinstance(one, int) and not isinstance(one, bool)]
    return f" (process {pids[0]})" if pids else ""
