"""A data folder of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own."""
    home = tmp_path / "home"
    monkeypatch.setenv("FREESWIM_HOME", str(home))
    monkeypatch.delenv("FREESWIM_TAKES", raising=False)
    return home
