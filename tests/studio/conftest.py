"""A data folder of its own for each test."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from freeswim.studio import client


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREESWIM_HOME", str(home))
        patch.delenv("FREESWIM_TAKES", raising=False)
        patch.setenv("FAKE_STEP_S", "0.03")
        program = [sys.executable, str(Path(__file__).with_name("serve_fake.py"))]
        with subprocess.Popen(program) as process:
            deadline = time.monotonic() + 20
            while client.connect() is None:
                assert process.poll() is None, "the studio has ended"
                assert time.monotonic() < deadline, "the studio does not answer"
                time.sleep(0.05)
            yield home
            process.terminate()
            assert process.wait(20) == 0
