"""Runs a menu script as Resolve does: in a process of its own, with Resolve in its globals.

Usage: python fuscript.py SCRIPT. There is no `__file__`, as for code that a host was handed. Lives
as a child of the process that stands for Resolve.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

from DaVinciResolveScript import given  # noqa: E402


def main():
    code = compile(Path(sys.argv[1]).read_bytes(), sys.argv[1], "exec")
    exec(code, dict(given(), __name__="__main__"))


main()
