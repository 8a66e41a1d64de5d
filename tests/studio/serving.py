"""A studio in a process of its own, with the fake worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freeswim.studio import client


@contextmanager
def serving(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Its process, for as long as the block runs; this process's clients find it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREESWIM_HOME", str(home))
        patch.delenv("FREESWIM_TAKES", raising=False)
        patch.setenv("FAKE_STEP_S", "0.03")
        program = [sys.executable, str(Path(__file__).with_name("serve_fake.py"))]
        with subprocess.Popen(program) as process:
            try:
                deadline = time.monotonic() + 120
                while client.connect() is None:
                    assert process.poll() is None, "the studio has ended"
                    assert time.monotonic() < deadline, "the studio does not answer"
                    time.sleep(0.05)
                yield process
                process.terminate()
                assert process.wait(30) == 0
            finally:
                process.kill()
