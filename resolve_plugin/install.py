"""Puts FreeSwim's menu entries where DaVinci Resolve lists them, takes them away, says how it is.

For this user alone, so that nobody has to be asked for a password. Nothing that FreeSwim did not
write is ever changed: a file is ours where its words are those of our template. The program itself
goes into FreeSwim's own folder; the menu entries are a few lines that name it.

`python -m resolve_plugin.install install|uninstall|doctor` (also `--json`).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import plistlib
import re
import secrets
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from resolve_plugin.freeswim_resolve import places, process

PACKAGE = Path(places.__file__).parent
TEMPLATE = Path(__file__).with_name("menu_script.py.txt")
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
OLDEST = (18, 5)
NO_FREE_PYTHON = (21, 1)  # from here on Python scripts are Studio's alone (resolve.md 0.1)
LARGEST = 65536  # bytes of a file that is looked at

ScriptState = Literal["current", "outdated", "missing", "foreign"]


@dataclass(frozen=True)
class Machine:
    """The system and the user that things are installed for."""

    platform: str
    user: Path  # the home folder
    environment: Mapping[str, str]
    root: Path = Path("/")  # below which programs are; another one for tests

    @classmethod
    def this(cls) -> Machine:
        """The one that this runs on."""
        return cls(sys.platform, Path.home(), os.environ, Path(Path.cwd().anchor))

    def scripts(self) -> Path:
        """The folder of this user's scripts that are listed on every page (resolve.md 3.1)."""
        if self.platform == "darwin":
            folder = self.user / "Library/Application Support/Blackmagic Design/DaVinci Resolve"
        elif self.platform == "win32":
            roaming = self.environment.get("APPDATA")
            above = Path(roaming) if roaming else self.user / "AppData/Roaming"
            # The vendor's own text leaves Support out for this user; it is there (resolve.md 3.1).
            folder = above / "Blackmagic Design/DaVinci Resolve/Support"
        else:
            folder = self.user / ".local/share/DaVinciResolve"
        return folder / "Fusion" / "Scripts" / "Utility"

    def programs(self) -> list[Path]:
        """Where Resolve itself usually is."""
        if self.platform == "darwin":
            return [self.root / "Applications/DaVinci Resolve/DaVinci Resolve.app"]
        if self.platform == "win32":
            files = self.environment.get("PROGRAMFILES")
            above = Path(files) if files else self.root / "Program Files"
            return [above / "Blackmagic Design/DaVinci Resolve/Resolve.exe"]
        return [self.root / "opt/resolve/bin/resolve", self.root / "home/resolve/bin/resolve"]

    def store_edition(self) -> Path | None:
        """The sandboxed edition of Apple's store, which takes no scripts from here (2.7)."""
        folder = self.user / "Library/Containers/com.blackmagic-design.DaVinciResolveLite"
        return folder if self.platform == "darwin" and folder.is_dir() else None


@dataclass(frozen=True)
class Seen:
    """What a script of ours said when it last ran inside Resolve."""

    at: float  # seconds UTC
    verb: str
    product: str
    version: str
    edition: str
    python: str
    plugin: str


@dataclass(frozen=True)
class Report:
    """What was done: paths, and what to do next."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # not ours
    next_step: str = ""


@dataclass(frozen=True)
class Health:
    """How FreeSwim and Resolve get on, and the one thing to do next."""

    resolve: str  # where it was found; empty: nowhere usual
    resolve_version: str  # empty: not known
    has_bundled_python: bool  # only 21.1 and newer
    store_edition: str
    scripts_folder: str
    scripts: dict[str, ScriptState]
    program: ScriptState
    python: str  # that Resolve would take for scripts; empty: none was found
    seen: Seen | None
    is_connected: bool
    tier: str
    is_well: bool
    next_step: str


def install(machine: Machine, home: Path, start: Sequence[str], version: str) -> Report:
    """Write the program and the menu entries, or renew them.

    Args:
        home: FreeSwim's own folder, as `freeswim.paths.home`.
        start: program and arguments that open the desktop app.
        version: of FreeSwim.

    Raises:
        OSError: the disk refused; a second try begins anew.
    """
    report = Report()
    _write_program(home, list(start), version, report)
    folder = machine.scripts() / FOLDER
    for name, content in _menu(home).items():
        path = folder / name
        state = _state(path, content)
        if state == "foreign":
            report.left.append(str(path))
        elif state != "current":
            _write(path, content)
            report.written.append(str(path))
    return Report(report.written, report.removed, report.left, check(machine, home).next_step)


def uninstall(machine: Machine, home: Path) -> Report:
    """Take away what `install` wrote, and nothing else."""
    report = Report()
    folder = machine.scripts() / FOLDER
    for path in sorted(folder.glob("*")):
        if path.name in _menu(home) and _is_ours(path):
            path.unlink()
            report.removed.append(str(path))
        else:
            report.left.append(str(path))
    with suppress(OSError):
        folder.rmdir()  # only if it is empty
    program = _program(home)
    if program.is_dir() and not program.is_symlink():
        shutil.rmtree(program.parent)
        report.removed.append(str(program.parent))
    seen = home / "resolve" / "seen.json"
    if seen.is_file():
        seen.unlink()
        report.removed.append(str(seen))
    step = "Files that are not FreeSwim's were left." if report.left else "Nothing is left to do."
    return Report(report.written, report.removed, report.left, step)


def check(machine: Machine, home: Path) -> Health:
    """Look at everything that has to be right."""
    program = next((path for path in machine.programs() if path.exists()), None)
    store = machine.store_edition()
    scripts: dict[str, ScriptState] = {
        name: _state(machine.scripts() / FOLDER / name, content)
        for name, content in _menu(home).items()
    }
    seen = _seen(home)
    bundled = bool(program) and _bundled_python(machine, program) is not None
    health = Health(
        resolve=str(program or ""),
        resolve_version=_version(machine, program, seen),
        has_bundled_python=bundled,
        store_edition=str(store or ""),
        scripts_folder=str(machine.scripts() / FOLDER),
        scripts=scripts,
        program=_program_state(home),
        python=_python(machine, program),
        seen=seen,
        is_connected=process.is_connected(home / "run"),
        tier="",
        is_well=False,
        next_step="",
    )
    health = replace(health, tier=_tier(health))
    is_well, step = _next_step(health, machine)
    return replace(health, is_well=is_well, next_step=step)


def diagnostics(machine: Machine, health: Health, version: str) -> str:
    """Everything that helps somebody else to help, to be copied; nothing of the editor's work."""
    seen = health.seen
    lines = [
        f"FreeSwim {version}, {machine.platform}, Python {sys.version.split()[0]}",
        f"Resolve: {health.resolve or 'not found'}, version {health.resolve_version or 'unknown'}",
        f"Store edition: {health.store_edition or 'no'}",
        f"Tier: {health.tier}",
        f"Python for scripts: {health.python or 'not found'}",
        f"Scripts folder: {health.scripts_folder}",
        *(f"  {name}: {state}" for name, state in health.scripts.items()),
        f"Program: {health.program}",
        f"Last seen: {_ago(seen.at)} ({seen.verb}), {seen.product} {seen.version}, "
        f"Python {seen.python}, plugin {seen.plugin}"
        if seen
        else "Last seen: never",
        f"Connected: {'yes' if health.is_connected else 'no'}",
        f"Next: {health.next_step}",
    ]
    return "\n".join(line.replace(str(machine.user), "~") for line in lines) + "\n"


# ------------------------------------------------------------------------------------- the files


def _program(home: Path) -> Path:
    return home / "resolve" / "plugin" / PACKAGE.name


def _program_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(PACKAGE.glob("*.py"))}


def _write_program(home: Path, start: list[str], version: str, report: Report) -> None:
    """Beside, and then in its place: a script that runs has loaded all of the one before."""
    target = _program(home).parent
    said = {"home": str(home), "start": start, "version": version}
    files = {**_program_files(), "installation.json": json.dumps(said).encode()}
    if _holds(_program(home), files):
        return
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
    report.written.append(str(target))


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    try:
        there = {path.name for path in folder.iterdir() if path.is_file()}
        return there == set(files) and all(
            (folder / name).read_bytes() == content for name, content in files.items()
        )
    except OSError:
        return False


def _program_state(home: Path) -> ScriptState:
    folder = _program(home)
    if not folder.is_dir():
        return "missing"
    said = folder / "installation.json"
    kept = {said.name: said.read_bytes()} if said.is_file() else {}
    return "current" if kept and _holds(folder, {**_program_files(), **kept}) else "outdated"


def _menu(home: Path) -> dict[str, str]:
    """Menu entries by file name. Their names are what the editor reads."""
    template = TEMPLATE.read_text("ascii")
    folder = ascii(str(_program(home).parent))  # read by any Python, in any code page
    return {
        f"{name}.py": template.replace("@FOLDER@", folder).replace("@VERB@", repr(verb))
        for name, verb in MENU.items()
    }


def _state(path: Path, content: str) -> ScriptState:
    if not path.exists() and not path.is_symlink():
        return "missing"
    if not _is_ours(path):
        return "foreign"
    return "current" if path.read_text("utf-8") == content else "outdated"


def _is_ours(path: Path) -> bool:
    """Whether it is our template with some folder and some verb in it; a changed one is not."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST).decode("utf-8")
    except (OSError, ValueError):
        return False
    pattern = re.escape(TEMPLATE.read_text("ascii"))
    for name in ("FOLDER", "VERB"):
        pattern = pattern.replace(f"@{name}@", r"""(?:'[^'\n]*'|"[^"\n]*")""")
    return re.fullmatch(pattern, content.replace("\r\n", "\n")) is not None


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)  # may not be there before Resolve's first start
    # A name that Resolve does not list, should it look in between.
    part = path.with_name(f".{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(content.encode("ascii"))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------- what is there


def _seen(home: Path) -> Seen | None:
    try:
        with (home / "resolve" / "seen.json").open("rb") as file:
            said: Any = json.loads(file.read(LARGEST))
        return Seen(
            at=float(said["at"]),
            verb=str(said["verb"]),
            product=str(said["product"]),
            version=str(said["version_words"]),
            edition=str(said["edition"]),
            python=str(said["python"]),
            plugin=str(said["plugin"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _version(machine: Machine, program: Path | None, seen: Seen | None) -> str:
    """Of the Resolve that is installed, or else of the one that was last seen."""
    if program is not None and machine.platform == "darwin":
        try:
            with (program / "Contents" / "Info.plist").open("rb") as file:
                return str(plistlib.load(file)["CFBundleShortVersionString"])
        except (OSError, KeyError, ValueError, plistlib.InvalidFileException):
            pass
    return seen.version if seen else ""


def _bundled_python(machine: Machine, program: Path) -> Path | None:
    """The interpreter that comes with 21.1 and newer (resolve.md 1.1; M #203)."""
    if machine.platform == "darwin":
        places_of_it = [program / "Contents/Applications/ResolvePython"]
    elif machine.platform == "win32":
        places_of_it = [program.parent / "ResolvePython/ResolvePython.exe"]
    else:
        above = program.parents[1]
        places_of_it = [above / "bin/ResolvePython", above / "ResolvePython/ResolvePython"]
    return next((path for path in places_of_it if path.exists()), None)


def _python(machine: Machine, program: Path | None) -> str:
    """What Resolve would run a script with (resolve.md 2.7); empty: nothing was found."""
    if program is not None and (bundled := _bundled_python(machine, program)):
        return str(bundled)
    if machine.platform == "darwin":
        # Elsewhere it is found only through PYTHON3HOME.
        usual = machine.root / "usr/local/bin/python3"
        return str(usual) if usual.exists() else ""
    if machine.platform == "win32":
        local = Path(machine.environment.get("LOCALAPPDATA", machine.user / "AppData/Local"))
        found = sorted(local.glob("Programs/Python/Python3*/python.exe"))
        return str(found[-1]) if found else ""
    return shutil.which("python3", path=machine.environment.get("PATH", os.defpath)) or ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _tier(health: Health) -> str:
    """The row of resolve.md's tier table."""
    version = _numbers(health.resolve_version)
    edition = health.seen.edition if health.seen else ""
    if version and version < OLDEST:
        return "too old: 18.5 is the oldest that can place clips"
    if edition == "studio":
        return "Studio: Python"
    if edition == "free":
        return "free: mailbox" if version >= NO_FREE_PYTHON else "free: Python"
    if version >= NO_FREE_PYTHON or health.has_bundled_python:
        return "21.1 or newer: Python if it is Studio, the mailbox if it is free"
    return "up to 21.0: Python" if version else "not known yet"


def _next_step(health: Health, machine: Machine) -> tuple[bool, str]:
    """Whether all is well, and the one thing to do next."""
    foreign = [name for name, state in health.scripts.items() if state == "foreign"]
    states = {health.program, *health.scripts.values()}
    if not health.resolve and health.store_edition and not health.seen:
        return False, (
            "The Resolve of Apple's store takes no scripts. Install the one of Blackmagic's site."
        )
    if not health.resolve and not health.seen:
        return False, "Install DaVinci Resolve 18.5 or newer, and start it once."
    if health.tier.startswith("too old"):
        return False, f"Update Resolve: it is {health.resolve_version}, 18.5 is the oldest."
    if states & {"missing", "outdated"}:
        return False, "Install the menu entries: freeswim resolve install."
    if foreign:
        where = health.scripts_folder
        return False, f"Rename {', '.join(foreign)} in {where}: somebody else wrote it."
    if health.is_connected:
        return True, "Connected: choose an entry of Workspace > Scripts > FreeSwim in Resolve."
    step = "In Resolve choose Workspace > Scripts > FreeSwim > FreeSwim Connect, once a session."
    if health.seen:
        return True, step
    return False, f"{step} {_where_it_is_not_listed(health, machine)}"


def _where_it_is_not_listed(health: Health, machine: Machine) -> str:
    """What it is when the menu does not have it: said before anybody has to ask."""
    if health.has_bundled_python or _numbers(health.resolve_version) >= NO_FREE_PYTHON:
        return "Is it not listed? The free edition lists no Python scripts from 21.1 on."
    if not health.python and machine.platform == "darwin":
        return "Is it not listed? Resolve finds no Python: install one from python.org."
    if not health.python:
        return "Is it not listed? Resolve finds no Python: install Python 3, 64 bit."
    return "Is it not listed? Start Resolve again."


def _ago(at: float) -> str:
    minutes = max(0, int(time.time() - at)) // 60
    if minutes < 120:
        return f"{minutes} minutes ago"
    return f"{minutes // 60} hours ago" if minutes < 2880 else f"{minutes // 1440} days ago"


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
    machine, home = Machine.this(), places.home().expanduser().resolve()
    try:
        version = importlib.metadata.version("freeswim")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    try:
        if asked.action == "doctor":
            health = check(machine, home)
            words = (
                json.dumps(asdict(health)) if asked.json else diagnostics(machine, health, version)
            )
            is_well = health.is_well
        else:
            if asked.action == "install":
                report = install(machine, home, start_command(), version)
            else:
                report = uninstall(machine, home)
            words = json.dumps(asdict(report)) if asked.json else _told(report)
            is_well = not report.left
    except OSError as error:
        sys.stderr.write(f"{error.filename or home}: {error.strerror}\n")
        return 1
    sys.stdout.write(words.rstrip("\n") + "\n")
    return 0 if is_well else 1


def _told(report: Report) -> str:
    lines = [f"written: {path}" for path in report.written]
    lines += [f"removed: {path}" for path in report.removed]
    lines += [f"left, not FreeSwim's: {path}" for path in report.left]
    return "\n".join([*lines, report.next_step])


if __name__ == "__main__":
    sys.exit(main())
