"""Puts FreeSwim's menu entries where DaVinci Resolve lists them, and takes them away.

For this user alone, so that nobody has to be asked for a password. Nothing that FreeSwim did not
write is ever changed: a file is ours where its words are those of our template. The program itself
goes into FreeSwim's own folder; the menu entries are a few lines that name it. Resolve lists Python
scripts or only Lua ones, by its version and edition: signs.py finds out which it does.

`python -m resolve_plugin.install install|uninstall|doctor` (also `--json`).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from resolve_plugin import doctor, entries, signs
from resolve_plugin.freeswim_resolve import places
from resolve_plugin.machine import Machine


@dataclass(frozen=True)
class Report:
    """What was done: paths, and what to do next."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # not ours
    next_step: str = ""


def install(machine: Machine, home: Path, start: Sequence[str], version: str) -> Report:
    """Write the program and the menu entries that this Resolve needs, or renew them.

    Args:
        home: FreeSwim's own folder, as `freeswim.paths.home`.
        start: program and arguments that open the desktop app.
        version: of FreeSwim.

    Raises:
        UnusableFolder: a Lua entry is needed, and cannot name `home`; nothing was written.
        OSError: the disk refused; a second try begins anew.
    """
    report = Report()
    kinds = signs.find_resolve(machine, home).kinds
    needed = entries.menu(home, kinds)
    if entries.write_program(home, list(start), version):
        report.written.append(str(entries.program(home).parent))
    if ".lua" in kinds:
        entries.mailbox(home).mkdir(mode=0o700, parents=True, exist_ok=True)
        entries.mailbox(home).chmod(0o700)
    folder = machine.scripts() / entries.FOLDER
    for name, content in needed.items():
        path = folder / name
        state = entries.state_of(path, content)
        if state == "foreign":
            report.left.append(str(path))
        elif state != "current":
            entries.write(path, content)
            report.written.append(str(path))
    for path in sorted(folder.glob("*")):
        if path.name not in needed and entries.is_ours(path):
            path.unlink()
            report.removed.append(str(path))
    step = doctor.check(machine, home).next_step
    return Report(report.written, report.removed, report.left, step)


def uninstall(machine: Machine, home: Path) -> Report:
    """Take away what `install` wrote, of both kinds, and nothing else. Raises OSError."""
    report = Report()
    folder = machine.scripts() / entries.FOLDER
    for path in sorted(folder.glob("*")):
        if entries.is_ours(path):
            path.unlink()
            report.removed.append(str(path))
        else:
            report.left.append(str(path))
    program = entries.program(home)
    if program.is_dir() and not program.is_symlink():
        shutil.rmtree(program.parent)
        report.removed.append(str(program.parent))
    seen = home / "resolve" / "seen.json"
    if seen.is_file():
        seen.unlink()
        report.removed.append(str(seen))
    for emptied in (folder, entries.mailbox(home), home / "resolve"):
        with suppress(OSError):
            emptied.rmdir()  # only if nothing is in it
    step = "Files that are not FreeSwim's were left." if report.left else "Nothing is left to do."
    return Report(report.written, report.removed, report.left, step)


# -------------------------------------------------------------------------------------- by hand


def start_command() -> list[str]:
    """What opens the desktop app of this installation."""
    name = "freeswim-desktop.exe" if sys.platform == "win32" else "freeswim-desktop"
    program = Path(sys.executable).with_name(name)
    if program.is_file():
        return [str(program)]
    return [sys.executable, "-I", "-c", "from desktop.app import main; main()"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, uninstall or look, and say what came of it."""
    parser = argparse.ArgumentParser(prog="freeswim resolve", description=__doc__)
    parser.add_argument("action", choices=["install", "uninstall", "doctor"])
    parser.add_argument("--json", action="store_true", help="for programs")
    asked = parser.parse_args(arguments)
    home = places.home().expanduser().resolve()
    try:
        words, is_well = _done(asked.action, Machine.this(), home, asked.json)
    except entries.UnusableFolder as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename or home}: {error.strerror}\n")
        return 1
    sys.stdout.write(words.rstrip("\n") + "\n")
    return 0 if is_well else 1


def _done(action: str, machine: Machine, home: Path, is_json: bool) -> tuple[str, bool]:
    """What there is to say of an action that was done, and whether all is well."""
    version = _version()
    if action == "doctor":
        health = doctor.check(machine, home)
        words = doctor.diagnostics(machine, health, version)
        return json.dumps(asdict(health)) if is_json else words, health.is_well
    if action == "install":
        report = install(machine, home, start_command(), version)
    else:
        report = uninstall(machine, home)
    return json.dumps(asdict(report)) if is_json else _told(report), not report.left


def _version() -> str:
    try:
        return importlib.metadata.version("freeswim")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _told(report: Report) -> str:
    lines = [f"written: {path}" for path in report.written]
    lines += [f"removed: {path}" for path in report.removed]
    lines += [f"left, not FreeSwim's: {path}" for path in report.left]
    return "\n".join([*lines, report.next_step])


if __name__ == "__main__":
    sys.exit(main())
