"""`Fusion.prefs`, the one file that a sandboxed script of free 21.1 can have written (0.2, 3.3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_resolve.world import World


def write(world: World) -> None:
    """SavePrefs: into the profile that is in use; another one keeps what it had (6.2 mailbox)."""
    if world.profiles:
        path(world.profiles[0]).write_bytes(as_bytes(world.prefs))


def path(profile: Path) -> Path:
    """The file of a profile."""
    return profile / "Fusion.prefs"


def as_bytes(prefs: dict[str, Any], *, cut_at: float = 1.0) -> bytes:
    """The file's content; a part of it, as a reader may find it while it is written (3.3.4).

    In an ANSI code page, as on Windows (3.3.4): names of the editor's are not UTF-8.
    """
    tree: dict[str, Any] = {"Global": {"Paths": {"Map": "C:\\Übung\\"}}}
    for name, value in prefs.items():
        *parents, last = name.split(".")
        here = tree
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = value
    content = _table(tree, 0).encode("cp1252")
    return content[: int(len(content) * cut_at)]


def _table(tree: dict[str, Any], depth: int) -> str:
    inner = "\t" * (depth + 1)
    lines = [f"{inner}{name} = {_value(value, depth + 1)},\n" for name, value in tree.items()]
    return "{\n" + "".join(lines) + "\t" * depth + "}"


def _value(value: Any, depth: int) -> str:
    if isinstance(value, dict):
        return _table(value, depth)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
