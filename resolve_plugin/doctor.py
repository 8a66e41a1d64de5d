"""How FreeSwim and DaVinci Resolve get on, and the one thing to do next."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from resolve_plugin import entries
from resolve_plugin.entries import Kind, State
from resolve_plugin.freeswim_resolve import process
from resolve_plugin.machine import Machine, numbers
from resolve_plugin.signs import Resolve, Seen, find_resolve, last_seen, preferences

OLDEST = (18, 5)
CONNECT = "Workspace > Scripts > FreeSwim > FreeSwim Connect"
NOT_LISTED = "Is it not listed? Start Resolve again."
PLAIN_FOLDER = (
    "On Windows Resolve may not read a folder whose name has letters like ä, as FreeSwim's has. "
    "Set FREESWIM_HOME to a folder named with the letters a to z alone, open FreeSwim, and install "
    "again."
)

ScriptState = Literal[State, "not needed"]


@dataclass(frozen=True)
class Health:
    """How FreeSwim and Resolve get on, and the one thing to do next."""

    resolve: Resolve
    store_edition: str
    scripts_folder: str
    scripts: dict[str, ScriptState]
    program: State
    seen: Seen | None
    is_heard: bool | None  # whether the studio heard the last Lua entry; None: the last was none
    is_connected: bool  # through Python; a Lua script says nothing of itself while it waits
    is_unreadable: bool  # Resolve on Windows may not read what Lua entries name
    lost_at: float  # seconds UTC; when a Lua entry did not find its program; 0: the last one did
    tier: str
    is_well: bool = False
    next_step: str = ""


def check(machine: Machine, home: Path) -> Health:
    """Look at everything that has to be right.

    Args:
        home: FreeSwim's own folder, as `freeswim.paths.home`.

    Raises:
        UnusableFolder: a Lua entry is needed, and cannot name `home`.
    """
    folder = machine.scripts() / entries.FOLDER
    resolve = find_resolve(machine, home)
    said, seen = preferences(machine), last_seen(machine, home)
    by_lua = seen is not None and seen.kind == ".lua"
    health = Health(
        resolve=resolve,
        store_edition=str(machine.store_edition() or ""),
        scripts_folder=str(folder),
        scripts=_scripts(folder, home, resolve.kinds),
        program=entries.program_state(home),
        seen=seen,
        is_heard=_was_heard(home, said.owner) if by_lua else None,
        is_connected=process.is_connected(home / "run"),
        is_unreadable=machine.platform == "win32" and not str(home).isascii(),
        lost_at=said.lost_at if said.is_lost else 0.0,
        tier=_tier(resolve),
    )
    is_well, step = _next_step(health)
    return replace(health, is_well=is_well, next_step=step)


def diagnostics(machine: Machine, health: Health, version: str) -> str:
    """Everything that helps somebody else to help, to be copied; nothing of the editor's work."""
    resolve = health.resolve
    lines = [
        f"FreeSwim {version}, {machine.platform}, Python {sys.version.split()[0]}",
        f"Resolve: {resolve.program or 'not found'}, version {resolve.version or 'unknown'}",
        f"Store edition: {health.store_edition or 'no'}",
        f"Tier: {health.tier}",
        f"Python for scripts: {resolve.python or 'not found'}",
        f"Scripts folder: {health.scripts_folder}",
        *(f"  {name}: {state}" for name, state in health.scripts.items()),
        f"Program: {health.program}",
        f"Last seen: {_words_of(health.seen)}",
        *([f"Program not found by an entry: {_ago(health.lost_at)}"] if health.lost_at else []),
        f"Connected: {_connection(health)}",
        f"Next: {health.next_step}",
    ]
    return "\n".join(line.replace(str(machine.user), "~") for line in lines) + "\n"


def _scripts(folder: Path, home: Path, kinds: Collection[Kind]) -> dict[str, ScriptState]:
    states: dict[str, ScriptState] = {
        name: entries.state_of(folder / name, content)
        for name, content in entries.menu(home, kinds).items()
    }
    for path in sorted(folder.glob("*")):
        if path.name not in states and entries.is_ours(path):
            states[path.name] = "not needed"
    return states


def _was_heard(home: Path, owner: str) -> bool:
    """Whether the studio has asked this script for what was chosen; it writes that down."""
    try:
        return (entries.mailbox(home) / "heard").read_text("ascii") == owner
    except (OSError, ValueError):
        return False


def _tier(resolve: Resolve) -> str:
    """The row of resolve.md's tier table."""
    version = numbers(resolve.version)
    if version and version < OLDEST:
        return "too old: 18.5 is the oldest that can place clips"
    if not version:
        return "not known yet"
    if resolve.lists_python is None:
        return "21.1 or newer: Python if it is Studio, the mailbox if it is free"
    edition = {"studio": "Studio", "free": "free", None: "up to 21.0"}[resolve.edition]
    return f"{edition}: {'Python' if resolve.lists_python else 'mailbox'}"


def _next_step(health: Health) -> tuple[bool, str]:
    """Whether all is well, and the one thing to do next."""
    resolve = health.resolve
    foreign = [name for name, state in health.scripts.items() if state == "foreign"]
    if not resolve.program and not resolve.version:
        if health.store_edition:
            return False, (
                "The Resolve of Apple's store takes no scripts. Install the one of Blackmagic's site."
            )
        return False, "Install DaVinci Resolve 18.5 or newer, and start it once."
    if health.tier.startswith("too old"):
        return False, f"Update Resolve: it is {resolve.version}, 18.5 is the oldest."
    if {health.program, *health.scripts.values()} & {"missing", "outdated", "not needed"}:
        return False, f"Install the menu entries{_why_again(health)}: freeswim resolve install."
    if foreign:
        where = health.scripts_folder
        return False, f"Rename {', '.join(foreign)} in {where}: somebody else wrote it."
    if health.is_connected:
        return True, "Connected: choose an entry of Workspace > Scripts > FreeSwim in Resolve."
    if ".lua" in resolve.kinds:
        return _next_step_of_lua(health)
    step = f"In Resolve choose {CONNECT}, once a session."
    if health.seen and health.seen.kind == ".py":
        return True, step
    return False, f"{step} {NOT_LISTED}"


def _why_again(health: Health) -> str:
    """Why they are to be installed though they were."""
    if "not needed" not in health.scripts.values():
        return ""
    if "missing" in health.scripts.values():
        return " again, for this Resolve lists another kind of them"
    return " again, for Resolve lists each of them twice"


def _next_step_of_lua(health: Health) -> tuple[bool, str]:
    """A Lua entry cannot open FreeSwim, and nothing that it says is shown: this says it instead."""
    seen = health.seen if health.seen and health.seen.kind in health.resolve.kinds else None
    if health.lost_at:
        told = PLAIN_FOLDER if health.is_unreadable else "Choose the entry again."
        return False, f"An entry did not find FreeSwim's program {_ago(health.lost_at)}. {told}"
    if seen and health.is_heard is False:
        return False, (
            f"Open FreeSwim: it has not heard yet what was chosen {_ago(seen.at)}. "
            "While Resolve stays open, that goes on by itself."
        )
    step = f"Open FreeSwim, then in Resolve choose {CONNECT}, once a session."
    if seen:
        return True, step
    does_nothing = f" Does nothing happen? {PLAIN_FOLDER}" if health.is_unreadable else ""
    return False, f"{step} {NOT_LISTED}{does_nothing}"


def _words_of(seen: Seen | None) -> str:
    if seen is None:
        return "never"
    language = f"Python {seen.python}" if seen.kind == ".py" else "Lua"
    return (
        f"{_ago(seen.at)} ({seen.verb}), {seen.product} {seen.version}, {language}, "
        f"plugin {seen.plugin}"
    )


def _connection(health: Health) -> str:
    if health.is_connected:
        return "yes"
    if health.is_heard is None:
        return "no"
    return f"through the mailbox; the studio has {'' if health.is_heard else 'not '}heard it"


def _ago(at: float) -> str:
    minutes = max(0, int(time.time() - at)) // 60
    if minutes < 2:
        return "just now"
    if minutes < 120:
        return f"{minutes} minutes ago"
    return f"{minutes // 60} hours ago" if minutes < 2880 else f"{minutes // 1440} days ago"
