"""The menu entries in Resolve and the program behind them, as files: which, whose, in what state.

An entry is a few lines that name the program, which lies in FreeSwim's own folder. There are two
kinds with the same names: Python, and Lua for a Resolve that lists no Python scripts.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from resolve_plugin.freeswim_resolve import places

PACKAGE = Path(places.__file__).parent
EXECUTOR = Path(__file__).with_name("lua") / "executor.lua"
TEMPLATES = {
    ".py": Path(__file__).with_name("menu_script.py.txt"),
    ".lua": EXECUTOR.with_name("menu_script.lua.txt"),
}
FOLDER = "FreeSwim"  # in Scripts/Utility, whose entries are listed on every page: a submenu
MENU = {
    "FreeSwim Connect": "connect",
    "Generate at playhead": "generate_at_playhead",
    "Regenerate selection": "regenerate_selection",
    "Generate from markers": "generate_from_markers",
    "Fill gap": "fill_gap",
    "Extend clip": "extend_clip",
    "Place finished takes": "place_finished_takes",
}
LARGEST = 65536  # bytes of an entry that is looked at

Kind = Literal[".py", ".lua"]
State = Literal["current", "outdated", "missing", "foreign"]

# What stands in a template's place, by kind and name: anything that `menu` can have put there.
_FILLED = {
    ".py": dict.fromkeys(("FOLDER", "VERB"), r"""(?:'[^'\n]*'|"[^"\n]*")"""),
    ".lua": {
        "EXECUTOR": r"\[(?P<program>=+)\[[^\n]*\](?P=program)\]",
        "MAILBOX": r"\[(?P<mailbox>=+)\[[^\n]*\](?P=mailbox)\]",
        "VERB": r'"[a-z_]*"',
    },
}


class UnusableFolder(Exception):
    """FreeSwim's own folder has a name that a script in Resolve cannot be told."""


# ----------------------------------------------------------------------------------- the entries


def menu(home: Path, kinds: Collection[Kind]) -> dict[str, bytes]:
    """Menu entries by file name, which is what the editor reads.

    Args:
        home: FreeSwim's own folder, as `freeswim.paths.home`.

    Raises:
        UnusableFolder: a Lua entry cannot name it.
    """
    made: dict[str, bytes] = {}
    for kind in kinds:
        for name, verb in MENU.items():
            made[name + kind] = _filled(kind, _told(kind, home, verb))
    return made


def mailbox(home: Path) -> Path:
    """Where Lua entries look for what to do, as `freeswim.paths.mailbox`."""
    return home / "mailbox"


def state_of(path: Path, content: bytes) -> State:
    """How an entry is that should have this content."""
    if not path.exists() and not path.is_symlink():
        return "missing"
    if not is_ours(path):
        return "foreign"
    return "current" if path.read_bytes() == content else "outdated"


def is_ours(path: Path) -> bool:
    """Whether it is our template with some folder and some verb in it; a changed one is not."""
    if path.stem not in MENU or path.suffix not in _FILLED:
        return False
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            words = file.read(LARGEST).decode("utf-8", "surrogateescape")
    except OSError:
        return False
    pattern = re.escape(TEMPLATES[path.suffix].read_text("ascii"))
    for name, filled in _FILLED[path.suffix].items():
        pattern = pattern.replace(f"@{name}@", filled)
    return re.fullmatch(pattern, words.replace("\r\n", "\n")) is not None


def write(path: Path, content: bytes) -> None:
    """Put an entry in place, in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)  # may not be there before Resolve's first start
    # A name that Resolve does not list, should it look in between.
    part = path.with_name(f".{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def lua_string(words: str) -> str:
    """A line of text as Lua reads it: between long brackets, which know no escapes.

    Raises:
        UnusableFolder: it is more than one line.
    """
    if any(letter in words for letter in "\n\r\0"):
        raise UnusableFolder(
            f"FreeSwim's folder has a line break in its name: {words!r}. "
            "Set FREESWIM_HOME to another folder, and install again."
        )
    ends = (f"]{'=' * level}]" for level in itertools.count(1))
    # The first one is to be the last one: a name may end with half of it.
    end = next(end for end in ends if (words + end).index(end) == len(words))
    return f"{end.replace(']', '[')}{words}{end}"


def _told(kind: Kind, home: Path, verb: str) -> dict[str, str]:
    if kind == ".py":  # read by any Python, in any code page
        return {"FOLDER": ascii(str(program(home).parent)), "VERB": repr(verb)}
    return {
        "EXECUTOR": lua_string(str(program(home) / EXECUTOR.name)),
        "MAILBOX": lua_string(str(mailbox(home))),
        "VERB": f'"{verb}"',
    }


def _filled(kind: Kind, told: Mapping[str, str]) -> bytes:
    words = re.sub("@([A-Z]+)@", lambda name: told[name[1]], TEMPLATES[kind].read_text("ascii"))
    return words.encode("utf-8", "surrogateescape")  # names of files need not be text on Linux


# ----------------------------------------------------------------------------------- the program


def program(home: Path) -> Path:
    """The folder of the program."""
    return home / "resolve" / "plugin" / PACKAGE.name


def program_state(home: Path) -> State:
    """How the program is."""
    folder = program(home)
    if not folder.is_dir():
        return "missing"
    said = folder / "installation.json"
    kept = {said.name: said.read_bytes()} if said.is_file() else {}
    return "current" if kept and _holds(folder, {**_program_files(), **kept}) else "outdated"


def write_program(home: Path, start: list[str], version: str) -> bool:
    """Write the program, or renew it; whether that was needed.

    Beside, and then in its place: a script that runs has loaded all of the one before.

    Args:
        start: program and arguments that open the desktop app.
        version: of FreeSwim.

    Raises:
        OSError: the disk refused.
    """
    target = program(home).parent
    said = {"home": str(home), "start": start, "version": version}
    files = {**_program_files(), "installation.json": json.dumps(said).encode()}
    if _holds(program(home), files):
        return False
    part = target.with_name(f"plugin-{secrets.token_hex(4)}.part")
    old = target.with_name(f"plugin-{secrets.token_hex(4)}.old")
    for left in target.parent.glob("plugin-*"):  # of a try that was cut short
        shutil.rmtree(left, ignore_errors=True)
    try:
        for name, content in files.items():
            path = part / PACKAGE.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if target.exists():
            target.replace(old)
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return True


def _program_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [*sorted(PACKAGE.glob("*.py")), EXECUTOR]}


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    try:
        there = {path.name for path in folder.iterdir() if path.is_file()}
        return there == set(files) and all(
            (folder / name).read_bytes() == content for name, content in files.items()
        )
    except OSError:
        return False
