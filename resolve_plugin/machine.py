"""What a machine has of DaVinci Resolve: its folders, the one that is installed, its Python."""

from __future__ import annotations

import os
import plistlib
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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
        return self._own_folder() / "Fusion" / "Scripts" / "Utility"

    def profiles(self) -> Path:
        """The folder of Fusion's profiles, as `freeswim.paths.fusion_profiles`."""
        moved = self.environment.get("FREESWIM_FUSION")
        return Path(moved) if moved else self._own_folder() / "Fusion" / "Profiles"

    def log(self) -> Path:
        """What Resolve writes down of itself."""
        return self._own_folder() / "logs" / "ResolveDebug.txt"

    def programs(self) -> list[Path]:
        """Where Resolve itself usually is."""
        if self.platform == "darwin":
            return [self.root / "Applications/DaVinci Resolve/DaVinci Resolve.app"]
        if self.platform == "win32":
            return [self._program_files() / "Blackmagic Design/DaVinci Resolve/Resolve.exe"]
        return [self.root / "opt/resolve/bin/resolve", self.root / "home/resolve/bin/resolve"]

    def program(self) -> Path | None:
        """Resolve itself; None: it is nowhere usual."""
        return next((path for path in self.programs() if path.exists()), None)

    def store_edition(self) -> Path | None:
        """The sandboxed edition of Apple's store, which takes no scripts from here (2.7)."""
        folder = self.user / "Library/Containers/com.blackmagic-design.DaVinciResolveLite"
        return folder if self.platform == "darwin" and folder.is_dir() else None

    def bundled_python(self) -> Path | None:
        """The interpreter that comes with 21.1 and newer, of both editions (1.1; M #203)."""
        program = self.program()
        if program is None:
            return None
        if self.platform == "darwin":
            places = [program / "Contents/Applications/ResolvePython"]
        elif self.platform == "win32":
            places = [program.parent / "ResolvePython/ResolvePython.exe"]
        else:
            above = program.parents[1]
            places = [above / "bin/ResolvePython", above / "ResolvePython"]
        return next((path for path in places if path.exists()), None)

    def python(self) -> str:
        """What Resolve would run a script with (2.7); empty: nothing was found."""
        if bundled := self.bundled_python():
            return str(bundled)
        if self.platform == "darwin":
            moved = self.environment.get("PYTHON3HOME")
            usual = [self.root / "usr/local/bin/python3"]
            named = [Path(moved) / "bin/python3"] if moved else []
            return next((str(path) for path in named + usual if path.exists()), "")
        if self.platform == "win32":
            local = Path(self.environment.get("LOCALAPPDATA", self.user / "AppData/Local"))
            found = [
                *self._program_files().glob("Python3*/python.exe"),
                *local.glob("Programs/Python/Python3*/python.exe"),
            ]
            return str(max(found, key=lambda path: numbers(path.parent.name))) if found else ""
        return shutil.which("python3", path=self.environment.get("PATH", os.defpath)) or ""

    def version(self) -> str:
        """What the program says of itself; empty: nothing, as everywhere but on macOS."""
        program = self.program()
        if program is None or self.platform != "darwin":
            return ""
        try:
            with (program / "Contents" / "Info.plist").open("rb") as file:
                return str(plistlib.load(file)["CFBundleShortVersionString"])
        except (OSError, KeyError, ValueError, plistlib.InvalidFileException):
            return ""

    def _program_files(self) -> Path:
        files = self.environment.get("PROGRAMFILES")
        return Path(files) if files else self.root / "Program Files"

    def _own_folder(self) -> Path:
        """Resolve's own folder of this user."""
        if self.platform == "darwin":
            return self.user / "Library/Application Support/Blackmagic Design/DaVinci Resolve"
        if self.platform == "win32":
            roaming = self.environment.get("APPDATA")
            above = Path(roaming) if roaming else self.user / "AppData/Roaming"
            # The vendor's own text leaves Support out for this user; it is there (resolve.md 3.1).
            return above / "Blackmagic Design/DaVinci Resolve/Support"
        return self.user / ".local/share/DaVinciResolve"


def numbers(words: str) -> tuple[int, ...]:
    """Those of a version, to be compared."""
    return tuple(int(number) for number in re.findall(r"\d+", words))
