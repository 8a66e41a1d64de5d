"""A Resolve with the real plugin in it, for tests of those who ask things of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fake_resolve import Host, World


class Inside:
    """A Resolve that runs, and the editor at its menu."""

    def __init__(self, host: Host, user: Path) -> None:
        self._host, self._user = host, user

    @property
    def world(self) -> World:
        """What is open in it."""
        return self._host.world

    def choose(self, entry: str) -> None:
        """A menu entry, as the installer put it there: `FreeSwim Connect`."""
        (script,) = self._user.rglob(f"{entry}.py")
        self._host.run(script, sys.executable)

    def quit(self) -> None:
        """It is gone, and its scripts with it."""
        self._host.close()


@contextmanager
def resolve(folder: Path, user: Path, **of_world: object) -> Iterator[Inside]:
    """A Resolve; what no script may do must not have been done in it.

    Args:
        folder: for what scripts print.
        user: home folder of the person.
    """
    host = Host(World(**of_world), folder)  # pyright: ignore[reportArgumentType]
    try:
        yield Inside(host, user)
    finally:
        if host.world.is_running:
            host.close()
    assert host.world.misuses == []


def install(user: Path) -> None:
    """Put the menu entries into the person's Resolve."""
    command = [sys.executable, "-m", "resolve_plugin.install", "install"]
    done = subprocess.run(command, env=os.environ | {"HOME": str(user)}, capture_output=True)
    assert list(user.rglob("FreeSwim Connect.py")), done.stderr
