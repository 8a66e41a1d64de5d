"""A Resolve, a studio and a home of their own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_resolve import Host, World
from living import install_menu, living_in
from stand_in import StandIn

from freeswim.studio.client import Client

_number = itertools.count(1)  # of Resolves: one studio may know several


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
        folder = tmp_path / f"resolve-{len(hosts)}"
        folder.mkdir()
        world = World(**{"number": next(_number), **of_world})  # type: ignore[arg-type]
        hosts.append(Host(world, folder))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()
        assert host.world.misuses == []


@pytest.fixture
def menu(tmp_path: Path) -> Callable[[str], Path]:
    """The menu script of a verb, as it is installed."""
    return install_menu(tmp_path)


@pytest.fixture(scope="module")
def real_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The daemon that people have, with their worker, for all tests of a file."""
    with living_in(tmp_path_factory.mktemp("studio")) as studio:
        yield studio
