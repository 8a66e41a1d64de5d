"""Failpoints: every place where the daemon or a worker changes the disk, by name.

Nothing in the product knows of them. An audit hook sees files that are opened for writing, renamed,
linked and removed, and folders that are made and removed; os.fsync and COMMIT are wrapped. A hit is
told before the thing is done, so what comes after one is what comes before the next; of COMMIT both
sides are hits. Names hold no ids, numbers or random parts.

A folder says what is to happen at hits: `armed` (JSON) names one, `hits` is written where it says
so, and `fired` is there once it has happened: it happens once.

    python failpoints.py FOLDER        is the fake worker with its failpoints
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sqlite3
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

ACTIONS = ("kill", "EIO", "ENOSPC")

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NAMES = (
    (r"\b[0-9a-f]{16}\b", "ID"),
    (r"attempt-\d+", "attempt-N"),
    (r"part-[0-9a-f]{8}", "part-X"),
    (r"studio-\d{20}", "studio-TIME"),
    (r"(_take)\d+(-\d+)?", r"\1NN"),
    (r"/\.[^/]*\.part\b", "/.WORKSPACE"),
    (r"/tmp[a-z0-9_]{8}\b", "/TEMPORARY"),
    (r"chain-\d+", "chain-NN"),
)
_SQLITE = {  # what SQLite says to these faults at a COMMIT
    errno.EIO: ("disk I/O error", "SQLITE_IOERR_FSYNC"),
    errno.ENOSPC: ("database or disk is full", "SQLITE_FULL"),
}


class Failpoints:
    """Of one process."""

    def __init__(self, who: str, folder: Path) -> None:
        self._who = who
        self.home = Path(os.environ["FREESWIM_HOME"]).resolve()
        self._armed, self._hits, self._fired = (
            folder / name for name in ("armed", "hits", "fired")
        )
        self._inside = threading.local()
        self._lock = threading.Lock()
        self._generation = -1
        self._counts: Counter[str] = Counter()

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Of the interpreter, before it does something."""
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & _WRITES:
                self.hit("open", path)
        elif event in ("os.rename", "os.link"):
            self.hit(event, args[1], args[3])
        elif event in ("os.remove", "os.rmdir"):
            self.hit(event, args[0], args[1])
        elif event == "os.mkdir":
            self.hit(event, args[0], args[2])

    def hit(self, what: str, path: Any, folder: int = -1) -> None:
        """Something is about to be done to `path`: kill the process, raise, or let it be done."""
        if getattr(self._inside, "is_busy", False):
            return  # what is done here is no hit
        self._inside.is_busy = True
        try:
            where = self._relative(path, folder)
            if where is not None:
                self._act(f"{self._who} {what} {where}")
        finally:
            self._inside.is_busy = False

    def _relative(self, path: Any, folder: int) -> str | None:
        """The path in the data folder without what is random in it; None: it is not in it."""
        try:
            descriptor = path if isinstance(path, int) else folder
            where = Path() if isinstance(path, int) else Path(os.fsdecode(path))
        except TypeError:
            return None
        if descriptor >= 0:
            where = Path(f"/proc/self/fd/{descriptor}").readlink() / where
        where = where.parent.resolve() / where.name
        if not where.is_relative_to(self.home):
            return None
        said = f"/{where.relative_to(self.home)}"
        for pattern, name in _NAMES:
            said = re.sub(pattern, name, said)
        return said

    def _act(self, label: str) -> None:
        armed = json.loads(self._armed.read_bytes())
        with self._lock:
            if armed["generation"] != self._generation:
                self._generation = armed["generation"]
                self._counts.clear()
            self._counts[label] += 1
            count = self._counts[label]
        if armed["records"]:
            with self._hits.open("a") as file:
                file.write(f"{label}\n")
        if (label, count) == (armed["label"], armed["count"]) and _is_first(self._fired):
            _fire(armed["action"], is_commit="COMMIT" in label)


def _is_first(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _fire(action: str, *, is_commit: bool) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    fault = getattr(errno, action)
    if not is_commit:
        raise OSError(fault, os.strerror(fault))
    message, name = _SQLITE[fault]
    error = sqlite3.OperationalError(message)
    error.sqlite_errorname = name
    raise error


def install(who: str, folder: Path) -> None:
    """Have the failpoints of this process, from now on and for good."""
    points = Failpoints(who, folder)
    fsync = os.fsync

    def fsync_with_failpoint(descriptor: int) -> None:
        points.hit("fsync", descriptor)
        fsync(descriptor)

    class Connection(sqlite3.Connection):
        _change = ""  # of the transaction, its first; empty: it has changed nothing

        def execute(self, text: str, *values: Any) -> sqlite3.Cursor:
            if text == "COMMIT" and self._change:
                points.hit(f"before COMMIT of {self._change}", points.home)
                cursor = super().execute(text)
                points.hit(f"after COMMIT of {self._change}", points.home)
                return cursor
            if text.startswith("BEGIN"):
                self._change = ""
            elif text.startswith(("INSERT", "UPDATE")):
                self._change = self._change or text[:40]
            return super().execute(text, *values)

    os.fsync = fsync_with_failpoint
    sqlite3.connect = partial(sqlite3.connect, factory=Connection)
    sys.addaudithook(points.audit)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "studio"))
    import fake_worker

    install("worker", Path(sys.argv[1]))
    fake_worker.main()
