"""How clients find the daemon: one for a data folder, at a port and with a token of its own.

The token is in a file that only this user can read, and nowhere else: not in an argument, a log or
an answer. A client first has the daemon prove that it knows the token, so that whoever sits on the
port of a dead one learns nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from freeswim import paths
from freeswim.errors import StudioError

API = 1
LARGEST = 4096  # bytes of the file

Who = Literal["client", "studio"]


@dataclass(frozen=True)
class Found:
    """Where a studio says it can be reached."""

    port: int
    token: str
    pid: int


@contextmanager
def lock() -> Generator[None]:
    """Hold the data folder's lock meanwhile; it is free when the process is gone, however it went.

    Raises:
        StudioError: another studio holds it, or the folder cannot be written.
    """
    path = paths.home() / "studio.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path)
        held.acquire(timeout=0)
    except Timeout as error:
        raise StudioError(
            f"A studio already serves {paths.home()}.", hint="Use it: freeswim queue list."
        ) from error
    except OSError as error:
        raise StudioError(
            f"{paths.home()} cannot be written: {error.strerror}.",
            hint="Make the folder writable, or name another with FREESWIM_HOME.",
        ) from error
    try:
        yield
    finally:
        held.release()


def announce(port: int, token: str) -> None:
    """Say where the studio can be reached, to this user alone.

    Raises:
        StudioError: the disk refused.
    """
    try:
        _announce(port, token)
    except OSError as error:
        raise StudioError(
            f"{paths.studio()} cannot be written: {error.strerror}.",
            hint="Free some space, or make the folder writable.",
        ) from error


def _announce(port: int, token: str) -> None:
    folder = paths.studio()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for old in folder.glob("part-*"):  # of one that died meanwhile
        old.unlink(missing_ok=True)
    part = folder / f"part-{secrets.token_hex(4)}"
    said = {"pid": os.getpid(), "started": time.time(), "port": port, "token": token, "api": API}
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(said, file)
        part.replace(_file())
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def withdraw() -> None:
    """Say nothing any more."""
    with suppress(OSError):
        _file().unlink(missing_ok=True)


def find() -> Found | None:
    """Where a studio says it can be reached; None: nowhere, or not in words to be trusted.

    It may be dead all the same: ask it for its proof.
    """
    try:
        with _file().open("rb") as file:
            if os.name == "posix" and not _is_ours(os.fstat(file.fileno())):
                return None
            said = json.loads(file.read(LARGEST))
        port, token, pid = said["port"], said["token"], said["pid"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_sound = (
        isinstance(port, int)
        and isinstance(pid, int)
        and isinstance(token, str)
        and 0 < port < 1 << 16
        and token.isascii()
        and token.isprintable()
        and len(token) >= 32
    )
    return Found(port, token, pid) if is_sound else None


def proof(token: str, who: Who, nonce: str, port: int) -> str:
    """That `who` knows the token, for this nonce and at this port only.

    With the port in it nobody can pass the question on to the real studio and the answer back.
    """
    words = f"{who}:{nonce}:{port}".encode()
    return hmac.new(token.encode(), words, hashlib.sha256).hexdigest()


def _is_ours(status: os.stat_result) -> bool:
    """Whether nobody else can have written or read it."""
    return status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077 == 0


def _file() -> Path:
    return paths.studio() / "studio.json"
