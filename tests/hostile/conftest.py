"""A studio in a process of its own, as a person has it, and folders around it that are watched."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from speaker import Place, Speaker

from freeswim.studio import client, discovery

_SERVE = Path(__file__).parents[1] / "studio" / "serve_fake.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The folders; this process looks for the studio there meanwhile."""
    place = Place(tmp_path_factory.mktemp("hostile"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREESWIM_HOME", str(place.home))
        patch.setenv("FREESWIM_TAKES", str(place.takes))
        patch.setenv("FAKE_STEP_S", "0.001")
        yield place


@pytest.fixture(scope="module")
def process(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """The studio's process. It was started with no care for who may read its files."""
    place.cwd.mkdir()
    with place.output.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(_SERVE)],
            cwd=place.cwd,
            umask=0,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    try:
        deadline = time.monotonic() + 120
        while client.connect() is None:
            assert process.poll() is None, place.output.read_text()
            assert time.monotonic() < deadline, "the studio does not answer"
            time.sleep(0.05)
        yield process
        assert process.poll() is None, "the studio has ended"
        assert "Traceback" not in (place.home / "logs" / "studio.log").read_text()
        assert "Traceback" not in place.output.read_text()
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def studio(process: subprocess.Popen[bytes], place: Place) -> Speaker:
    """Speaks to the studio."""
    found = discovery.find()
    assert found is not None and found.pid == process.pid
    return Speaker(found.port, found.token, place.home)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was tried."""
    if Speaker.sent:
        terminalreporter.write_line(f"hostile: {Speaker.sent} requests over bare sockets")
