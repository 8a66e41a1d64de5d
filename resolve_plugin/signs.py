"""Which Resolve it is, of the signs that are left: by our entries when they run, by its own log.

Nothing else says it: a program has its version where it can be read on macOS alone, and its edition
nowhere.
"""

from __future__ import annotations

import json
import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resolve_plugin.entries import Kind
from resolve_plugin.machine import Machine, numbers

NO_FREE_PYTHON = (21, 1)  # from here on Python scripts are Studio's alone (resolve.md 0.1)
LARGEST = 65536  # bytes of a sign that is looked at
LONGEST_PREFS = 8 << 20
LONGEST_LOG = 32 << 20  # from its end

Edition = Literal["free", "studio"]

# Of every start. Free: NixOS/nixpkgs #152113 and #169901; Studio: seen of 21.0.4 and 21.1.0.
_STARTED = re.compile(
    rb"\| (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ \| Running DaVinci Resolve( Studio)? v([\d.]+)"
)
_TABLE = re.compile(rb"\bFreeSwim\s*=\s*(?:\w+\(\)\s*)?\{([^}]*)\}")
_VALUE = re.compile(rb'(\w+)\s*=\s*"([^"\\]*)"')
_SEEN = re.compile(r"(\d{1,12}) (\w+) (\w+) (free|studio) ([\w.]*)")


@dataclass(frozen=True)
class Seen:
    """What an entry of ours said when one last ran inside Resolve."""

    kind: Kind
    at: float  # seconds UTC
    verb: str
    product: str
    version: str
    edition: Edition
    python: str  # empty: it was Lua
    plugin: str


@dataclass(frozen=True)
class Preferences:
    """What Lua entries have left in Fusion's preferences, the one thing that they can write."""

    seen: Seen | None = None
    owner: str = ""  # token of the script that was started last
    lost_at: float = 0.0  # seconds UTC; when one did not find its program, and could do no more

    @property
    def last_at(self) -> float:
        """When one ran last, seconds UTC."""
        return max(self.lost_at, self.seen.at if self.seen else 0.0)

    @property
    def is_lost(self) -> bool:
        """Whether the last one did not find its program."""
        return self.lost_at > (self.seen.at if self.seen else 0.0)


@dataclass(frozen=True)
class Resolve:
    """Which Resolve it is, as far as can be told."""

    program: str  # where it was found; empty: nowhere usual
    version: str  # empty: not known
    edition: Edition | None  # None: not known
    python: str  # that it would take for scripts; empty: none was found

    @property
    def lists_python(self) -> bool | None:
        """Whether Python scripts are in its menu (resolve.md 0.1, 2.7). None: not known."""
        version = numbers(self.version)
        if not version:
            return None
        if version >= NO_FREE_PYTHON and self.edition != "studio":
            return None if self.edition is None else False
        return bool(self.python)

    @property
    def kinds(self) -> list[Kind]:
        """Which entries it needs: those that it lists, and no other, or each would be there twice.

        Where that is not known, both: twice is better than not at all.
        """
        if self.lists_python is None:
            return [".py", ".lua"]
        return [".py"] if self.lists_python else [".lua"]


@dataclass(frozen=True)
class Start:
    """What Resolve said of itself when it started last."""

    at: float  # seconds UTC
    version: str
    edition: Edition


def last_start(machine: Machine) -> Start | None:
    """Resolve's last start, of its own log; None: it does not say."""
    try:
        with machine.log().open("rb") as file:
            file.seek(max(0, machine.log().stat().st_size - LONGEST_LOG))
            starts = _STARTED.findall(file.read(LONGEST_LOG))
        when, studio, version = starts[-1]
        at = time.mktime(time.strptime(when.decode("ascii"), "%Y-%m-%d %H:%M:%S"))
    except (OSError, IndexError, ValueError, OverflowError):
        return None
    words = ".".join(str(number) for number in numbers(version.decode("ascii")))
    return Start(at, words, "studio" if studio else "free")


def find_resolve(machine: Machine, home: Path) -> Resolve:
    """Which Resolve it is: of its own log or of our entries' signs, whatever is newest."""
    seen, start = last_seen(machine, home), last_start(machine)
    newest = max((one for one in (seen, start) if one), key=lambda one: one.at, default=None)
    version = machine.version() or (newest.version if newest else "")
    if machine.bundled_python() and numbers(version) < NO_FREE_PYTHON:
        version = "21.1 or newer"  # it was updated, and not started since
    python = machine.python()
    if not python and seen and seen.kind == ".py":
        python = f"Python {seen.python}"  # wherever Resolve has found it
    return Resolve(
        program=str(machine.program() or ""),
        version=version,
        edition=newest.edition if newest else None,
        python=python,
    )


def last_seen(machine: Machine, home: Path) -> Seen | None:
    """What an entry of either kind said last; None: none ever ran."""
    signs = [_python_sign(home), preferences(machine).seen]
    return max((sign for sign in signs if sign), key=lambda sign: sign.at, default=None)


def preferences(machine: Machine) -> Preferences:
    """What Lua entries have left in the profile in which one ran last."""
    found = [Preferences()]
    for path in machine.profiles().glob("*/Fusion.prefs"):
        with suppress(OSError), path.open("rb") as file:
            if table := _TABLE.search(file.read(LONGEST_PREFS)):
                found.append(_read(table[1]))
    return max(found, key=lambda one: one.last_at)


def _read(table: bytes) -> Preferences:
    values = {
        name.decode("ascii"): value.decode("ascii", "replace")
        for name, value in _VALUE.findall(table)
    }
    said = _SEEN.fullmatch(values.get("Seen", ""))
    lost = values.get("Lost", "")
    return Preferences(
        seen=Seen(
            kind=".lua",
            at=float(said[1]),
            verb=said[2],
            product="DaVinci Resolve Studio" if said[4] == "studio" else "DaVinci Resolve",
            version=said[5],
            edition="studio" if said[4] == "studio" else "free",
            python="",
            plugin=said[3],
        )
        if said
        else None,
        owner=values.get("Owner", ""),
        lost_at=float(lost) if re.fullmatch(r"\d{1,12}", lost) else 0.0,
    )


def _python_sign(home: Path) -> Seen | None:
    try:
        with (home / "resolve" / "seen.json").open("rb") as file:
            said: Any = json.loads(file.read(LARGEST))
        if not math.isfinite(said["at"]):
            return None
        return Seen(
            kind=".py",
            at=float(said["at"]),
            verb=str(said["verb"]),
            product=str(said["product"]),
            version=str(said["version_words"]),
            edition="studio" if said["edition"] == "studio" else "free",
            python=str(said["python"]),
            plugin=str(said["plugin"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
