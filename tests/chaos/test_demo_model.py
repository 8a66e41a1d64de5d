"""The real worker, killed in every stage, makes the bytes that it makes when nobody kills it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from studio_process import kill, until

from freeswim import paths
from freeswim.studio import client

REQUEST = {
    "prompt": "two orange koi swimming left in green water",
    "seed": 7,
    "width": 256,
    "height": 256,
    "frames": 9,
    "base": {"steps": 12},
    "refine": {"steps": 12, "strength": 0.5},
}
GONE_S = 2.0  # in which a worker follows its daemon


@pytest.fixture
def home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of its own, and no process left of it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield home
    for pid in processes():
        kill(pid)


def processes() -> list[int]:
    """Daemons and workers of this data folder, but not this process."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get("FREESWIM_HOME") == str(paths.home())
            if is_ours and process.pid != psutil.Process().pid:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def workers(daemon: int) -> list[int]:
    """Workers of this data folder."""
    return [pid for pid in processes() if pid != daemon]


def submitted(studio: client.Client) -> str:
    """The id of the job."""
    asked = {"preset": "demo", "request": REQUEST, "key": str(uuid.uuid4())}
    return studio.submit(asked)[0]["id"]


def kill_in(
    studio: client.Client, job_id: str, stage: str, *, after: int, is_daemon: bool = False
) -> int:
    """`kill -9` of the worker, or of the daemon, as soon as the job is at work in a stage.

    Args:
        after: the last attempt that was killed; another one must be under way.

    Returns:
        The attempt that was killed.
    """

    def under_way() -> int:
        said = studio.get(f"/jobs/{job_id}")
        job, progress = said["job"], said["progress"]
        assert job["state"] in ("queued", "running"), f"{stage} was missed: {job['state']}"
        is_there = progress is not None and progress["stage"] == stage and progress["step"] > 0
        return job["attempt"] if is_there and job["attempt"] > after else 0

    attempt = until(under_way, f"the job does not come to {stage}", seconds=300)
    killed = [studio.pid] if is_daemon else workers(studio.pid)
    for pid in killed:
        kill(pid)
    assert killed
    return attempt


def take_of(studio: client.Client, job_id: str) -> tuple[str, dict[str, Any]]:
    """The checksum of a job's video, and the job, when it is done."""

    def done() -> dict[str, Any] | None:
        job = studio.get(f"/jobs/{job_id}")["job"]
        assert job["state"] != "failed", job["failure"]
        return job if job["state"] == "done" else None

    job = until(done, "the job does not end", seconds=120)
    (take,) = [take for take in studio.get("/takes")["takes"] if take["job_id"] == job_id]
    content = (paths.takes() / take["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == take["sha256"]
    return take["sha256"], job


@pytest.mark.usefixtures("home")
def test_the_bytes_are_those_of_a_run_that_nobody_killed(report: Callable[..., None]):
    studio = client.connect_or_start()
    whole, job = take_of(studio, submitted(studio))
    assert job["attempt"] == 1

    job_id = submitted(studio)
    attempt = kill_in(studio, job_id, "base", after=0)
    attempt = kill_in(studio, job_id, "refine", after=attempt)
    attempt = kill_in(studio, job_id, "refine", after=attempt, is_daemon=True)
    until(lambda: not processes(), "a worker outlives its daemon", seconds=GONE_S)
    studio = client.connect_or_start()
    kill_in(studio, job_id, "write", after=attempt)
    again, job = take_of(studio, job_id)
    assert again == whole
    assert job["attempt"] == 5
    studio.stop()
    until(lambda: not processes(), "a process is left")
    left = [path.name for path in paths.takes().iterdir() if path.suffix not in (".mp4", ".json")]
    assert not left
    report(kills=4, attempts=job["attempt"], wrong=0)
