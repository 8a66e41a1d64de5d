"""Where FreeSwim is on this machine, and what the installer said of it.

`freeswim.paths` is not there to be asked: Resolve's Python has none of our packages.
"""

import json
import os
import sys
from pathlib import Path
from typing import List

LARGEST = 65536  # bytes of the installer's file


class Installation:
    """What the installer wrote down beside this package."""

    def __init__(self, home: str = "", start: "List[str] | None" = None, version: str = "") -> None:
        self.home = home  # FreeSwim's folder; empty: the usual one
        self.start = start or []  # program and arguments that open the desktop app
        self.version = version


def installation() -> Installation:
    """What the installer said; nothing where it cannot be read."""
    try:
        with (Path(__file__).parent / "installation.json").open("rb") as file:
            said = json.loads(file.read(LARGEST).decode("utf-8"))
        start = said["start"]
        home, version = said["home"], said["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return Installation()
    is_sound = (
        isinstance(home, str)
        and isinstance(version, str)
        and isinstance(start, list)
        and all(isinstance(word, str) for word in start)
    )
    return Installation(home, start, version) if is_sound else Installation()


def home() -> Path:
    """FreeSwim's own folder, as `freeswim.paths.home` finds it.

    Resolve is seldom started from a shell, so that FREESWIM_HOME is not known to it; what the
    installer wrote down is.
    """
    moved = os.environ.get("FREESWIM_HOME") or installation().home
    if moved:
        return Path(moved).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "FreeSwim"
    # platformdirs, which freeswim.paths asks, looks at this on Linux and macOS alike.
    shared = os.environ.get("XDG_DATA_HOME", "").strip()
    if shared:
        return Path(shared).expanduser() / "FreeSwim"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "FreeSwim"
    return Path.home() / ".local" / "share" / "FreeSwim"


def run() -> Path:
    """The folder, of this user alone, in which the studio says where it can be reached."""
    return home() / "run"


def seen() -> Path:
    """What says when something of ours last ran inside Resolve; the doctor reads it."""
    return home() / "resolve" / "seen.json"


def log() -> Path:
    """The log of what runs inside Resolve."""
    return home() / "logs" / "resolve.log"
