"""Studios in processes of their own, which are gone at the end of each test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from studio_process import StudioProcess, Zygote

ROWS = pytest.StashKey[list[str]]()

Report = Callable[..., None]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own."""
    home = tmp_path / "home"
    monkeypatch.setenv("FREESWIM_HOME", str(home))
    monkeypatch.delenv("FREESWIM_TAKES", raising=False)
    return home


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Where daemons come from."""
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def studio(home: Path, tmp_path: Path, zygote: Zygote) -> Iterator[StudioProcess]:
    """A studio that is not started yet."""
    studio = StudioProcess(zygote, tmp_path / "daemon.log")
    yield studio
    studio.end()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Says a row of results at the end of the session; seconds are added."""
    began = time.monotonic()
    rows = request.config.stash.setdefault(ROWS, [])

    def add(**facts: object) -> None:
        facts["seconds"] = f"{time.monotonic() - began:.1f}"
        words = ", ".join(f"{name} {fact}" for name, fact in facts.items())
        rows.append(f"{request.node.name}: {words}")

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests found, in numbers."""
    if rows := terminalreporter.config.stash.get(ROWS, []):
        terminalreporter.section("chaos")
        for row in rows:
            terminalreporter.write_line(row)
