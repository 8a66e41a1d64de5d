"""The daemon and the plugin that people have, in the folders of a test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from freeswim import paths
from freeswim.studio import client
from freeswim.studio.client import Client

PLUGIN = Path(__file__).parents[2] / "resolve_plugin"
DEADLINE_S = 120.0

Found = TypeVar("Found")


@contextmanager
def living_in(folder: Path) -> Iterator[Client]:
    """A daemon started as clients start it, in a home of its own; it may not have stumbled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREESWIM_HOME", str(folder / "home"))
        patch.setenv("FREESWIM_FUSION", str(folder / "fusion"))
        patch.setenv("OMP_NUM_THREADS", "1")  # its worker inherits it: tests share the processor
        started = client.connect_or_start()
        try:
            yield started
        finally:
            if (running := client.connect()) is not None:  # a test may have started it anew
                running.stop()
        log = (paths.logs() / "studio.log").read_text("utf-8")
        assert "Traceback" not in log, log


def install_menu(folder: Path) -> Callable[[str], Path]:
    """Put the plugin into a folder; gives the menu script of a verb."""
    plugin = folder / "plugin"
    shutil.copytree(PLUGIN / "freeswim_resolve", plugin / "freeswim_resolve")
    template = (PLUGIN / "menu_script.py.txt").read_text("ascii")

    def script(verb: str) -> Path:
        path = folder / f"{verb}.py"
        path.write_text(
            template.replace("@FOLDER@", ascii(str(plugin))).replace("@VERB@", repr(verb))
        )
        return path

    return script


def until(look: Callable[[], Found | None], what: str) -> Found:
    """What `look` gives, once it gives something; `what`: that it should have been."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found
