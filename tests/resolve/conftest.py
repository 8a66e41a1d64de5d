"""A Resolve, a studio and a home of their own for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_resolve import Host, World
from stand_in import StandIn

PLUGIN = Path(__file__).parents[2] / "resolve_plugin"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FreeSwim's own folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("FREESWIM_HOME", str(home))
    return home


@pytest.fixture
def studio(home: Path) -> Iterator[StandIn]:
    """A studio that runs; nothing it was told may have been out of order."""
    with StandIn().open() as studio:
        yield studio
    assert studio.faults == []


@pytest.fixture
def start_resolve(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Starts a Resolve; what no script may do must not have been done."""
    hosts: list[Host] = []

    def start(**of_world: object) -> Host:
        hosts.append(Host(World(**of_world), tmp_path))  # type: ignore[arg-type]
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()
        assert host.world.misuses == []


@pytest.fixture
def menu(tmp_path: Path) -> Callable[[str], Path]:
    """The menu script of a verb, as it is installed."""
    folder = tmp_path / "plugin"
    shutil.copytree(PLUGIN / "freeswim_resolve", folder / "freeswim_resolve")
    template = (PLUGIN / "menu_script.py.txt").read_text("ascii")

    def script(verb: str) -> Path:
        path = tmp_path / f"{verb}.py"
        path.write_text(
            template.replace("@FOLDER@", ascii(str(folder))).replace("@VERB@", repr(verb))
        )
        return path

    return script
