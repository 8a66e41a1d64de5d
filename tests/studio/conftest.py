"""A data folder of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import serving


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own."""
    home = tmp_path / "home"
    monkeypatch.setenv("FREESWIM_HOME", str(home))
    monkeypatch.delenv("FREESWIM_TAKES", raising=False)
    return home


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a studio that runs in a process of its own, with the fake worker."""
    home = tmp_path_factory.mktemp("served")
    with serving(home):
        yield home
