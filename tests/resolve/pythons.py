"""The Pythons of this machine that Resolve could take: menu scripts have to run under each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

WANTED = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")  # 2.7: 3.6 and up


def find(wanted: tuple[str, ...] = WANTED) -> dict[str, str]:
    """Programs by version: this one, and others where they usually are."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in wanted:
        built = sorted(root.glob(f"{version}.*/bin/python3"))
        on_path = shutil.which(f"python{version}")
        for program in [*map(str, built), *([on_path] if on_path else [])]:
            if version not in found and _is(program, version):
                found[version] = program
    return found


def _is(program: str, version: str) -> bool:
    asked = [program, "-c", "import sys; print(sys.version)"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return bool(re.match(rf"{re.escape(version)}\.", done.stdout))
