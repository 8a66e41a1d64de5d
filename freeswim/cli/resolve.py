"""`freeswim resolve`: the menu entries in DaVinci Resolve."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

from freeswim.cli.options import add_command

ACTIONS = (
    ("install", "put the menu entries into Resolve, for this user"),
    ("uninstall", "take them out again"),
    ("doctor", "what is installed, what Resolve sees of it, and what to do next"),
)


def add_resolve_commands(commands: Any) -> None:
    """Add `resolve` to the parser's commands."""
    text = "menu entries in DaVinci Resolve"
    group = commands.add_parser("resolve", help=text, description=f"{text[0].upper()}{text[1:]}.")
    actions = group.add_subparsers(required=True, metavar="COMMAND")
    for name, about in ACTIONS:
        add_command(actions, name, _run, about).set_defaults(action=name)


def _run(options: argparse.Namespace) -> None:
    """The plugin installs itself: it stands beside FreeSwim and is never imported by it."""
    command = [sys.executable, "-m", "resolve_plugin.install", options.action]
    ended = subprocess.run([*command, *(["--json"] if options.json else [])], check=False)
    if ended.returncode:
        raise SystemExit(ended.returncode)
