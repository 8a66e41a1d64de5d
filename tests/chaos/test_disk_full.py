"""A full disk corrupts nothing and fails nothing: jobs wait, and go on by themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_process import StudioProcess, examine, request_of, submission, until

from freeswim import paths
from freeswim.errors import DiskFull
from freeswim.studio.client import connect

DISK_BYTES = 6 * 2**20
LITTLE_BYTES = 128 * 1024  # far less than a job needs
INSIDE = "FREESWIM_TEST_IN_NAMESPACE"  # set where this file is run again with rights to mount


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder on a disk of its own, of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-o", f"size={DISK_BYTES}"]
    mounted = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a disk")
    home = disk / "home"
    monkeypatch.setenv("FREESWIM_HOME", str(home))
    monkeypatch.delenv("FREESWIM_TAKES", raising=False)
    yield home
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(path: Path) -> None:
    """Take all the room that is left on the disk; what the file had stays taken meanwhile."""
    path.parent.mkdir(exist_ok=True)
    size = 1 << 16
    with path.open("ab", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    assert shutil.disk_usage(path.parent).free == 0


def test_jobs_wait_for_a_full_disk_and_end_by_themselves(
    studio: StudioProcess, report: Callable[..., None]
):
    studio.environment = {"FAKE_STEP_S": "0.2"}
    client = studio.start()
    jobs: list[dict[str, Any]] = []
    for seed in range(3):
        jobs += client.submit(submission("koi", seed, key=f"full-disk-{seed}"))
    until(lambda: client.get("/queue")["running"], "no job runs")
    ballast = paths.home() / "ballast"
    fill(ballast)

    def all_wait() -> bool:
        now = client.get("/jobs")["jobs"]
        return len(now) > 0 and all(job["state"] == "waiting" for job in now)

    until(all_wait, "jobs do not wait")
    for job in client.get("/jobs")["jobs"]:
        assert job["reason"] == "disk" and job["needed_bytes"] > 0 and job["failure"] is None
    fill(ballast)
    with pytest.raises(DiskFull):
        client.submit(submission("koi", 9, key="refused-for-now"))
    assert len(client.get("/jobs", view="history")["jobs"]) == 3

    # One that dies now can say nowhere that it is back; with a little room it starts. The first
    # to start may free some: what the dead one was about to write.
    for _ in range(3):
        studio.kill()
        fill(ballast)
        studio.fork()
        until(lambda: not studio.is_alive or connect(), "a daemon that nobody can find stays")
        if not studio.is_alive:
            break
    assert not studio.is_alive, "a daemon writes on a full disk"
    assert "refused: " in studio.said()
    os.truncate(ballast, ballast.stat().st_size - LITTLE_BYTES)
    client = studio.start()
    until(all_wait, "jobs do not wait")

    ballast.unlink()
    until(lambda: client.get("/queue")["counts"]["done"] == 3, "jobs do not go on")
    client.stop()
    until(lambda: not studio.is_alive and not studio.workers(), "a process is left")
    found = examine({job["id"]: request_of("koi", seed) for seed, job in enumerate(jobs)})
    report(jobs=3, **found.counts)
    assert not any(found.counts.values()), found
    assert "Traceback" not in studio.said()


@pytest.mark.skipif(INSIDE in os.environ, reason="this is where it leads to")
def test_it_is_tried_with_rights_of_its_own_where_this_user_has_none():
    """Nothing is mounted in vain: in CI the test above has run, here or in a namespace."""
    if _can_mount([]):
        return
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if not _can_mount(alone):
        assert not os.environ.get("CI"), "CI can mount no disk: P10 is not tested"
        pytest.skip("neither mount nor unshare works here")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(
        [*alone, *words], env={**os.environ, INSIDE: "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout


def _can_mount(before: list[str]) -> bool:
    script = 'd=$(mktemp -d) && mount -t tmpfs -o size=1m tmpfs "$d" && umount "$d" && rmdir "$d"'
    try:
        return subprocess.run([*before, "sh", "-c", script], capture_output=True).returncode == 0
    except OSError:
        return False
