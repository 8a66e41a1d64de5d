"""A worker that does nothing is killed, a machine that slept is let be, and no worker is left."""

from __future__ import annotations

import signal
import time
from typing import Any

from studio_process import StudioProcess, examine, kill, request_of, submission, until

from freeswim import paths
from freeswim.studio.client import Client

GONE_S = 2.0  # in which a worker follows its daemon
ASLEEP_S = 3.5  # longer than a worker may be silent


def begun(studio: StudioProcess) -> tuple[Client, dict[str, Any]]:
    """A client, and a job that has got as far as its third step."""
    client = studio.start()
    (job,) = client.submit(submission("koi", 1, key="the-only-job"))

    def is_under_way() -> bool:
        progress = client.get(f"/jobs/{job['id']}")["progress"]
        return progress is not None and progress["step"] >= 3

    until(is_under_way, "the job does not get on")
    return client, job


def done(studio: StudioProcess, client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """The job at its end, its take right."""

    def ended() -> dict[str, Any] | None:
        now = client.get(f"/jobs/{job['id']}")["job"]
        return now if now["state"] in ("done", "failed") else None

    now = until(ended, "the job does not end")
    assert now["state"] == "done", now["failure"]
    client.stop()
    until(lambda: not studio.is_alive and not studio.workers(), "a process is left")
    found = examine({job["id"]: request_of("koi", 1)})
    assert not any(found.counts.values()), found
    return now


def has_said_hung() -> bool:
    return "is hung" in (paths.logs() / "studio.log").read_text()


def test_a_worker_that_is_stopped_is_killed_and_its_job_made_by_another(studio: StudioProcess):
    studio.patience = {"beat_s": 1.0}
    studio.environment = {"FAKE_STEP_S": "0.1"}
    client, job = begun(studio)
    (worker,) = studio.workers()
    kill(worker, signal.SIGSTOP)
    until(lambda: worker not in studio.workers(), "the worker is left hanging", seconds=8)
    assert done(studio, client, job)["attempt"] == 2
    assert has_said_hung()


def test_a_machine_that_slept_is_not_taken_for_a_worker_that_hangs(studio: StudioProcess):
    studio.patience = {"beat_s": ASLEEP_S - 0.5, "step_s": ASLEEP_S - 0.5}
    studio.environment = {"FAKE_STEP_S": "0.1"}
    client, job = begun(studio)
    both = (studio.pid, *studio.workers())
    for pid in both:
        kill(pid, signal.SIGSTOP)
    time.sleep(ASLEEP_S)
    for pid in both:
        kill(pid, signal.SIGCONT)
    assert done(studio, client, job)["attempt"] == 1
    assert not has_said_hung()


def test_a_worker_is_gone_as_soon_as_its_daemon_is(studio: StudioProcess):
    studio.environment = {"FAKE_STEP_S": "0.3"}
    begun(studio)
    assert studio.workers()
    studio.kill()
    until(lambda: not studio.workers(), "a worker outlives its daemon", seconds=GONE_S)
