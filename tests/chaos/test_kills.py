"""Jobs are made once, whole and right, however often the worker and the daemon are killed."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from studio_process import INTERVAL, StudioProcess, examine, kill, repeated_steps, request_of, until
from studio_process import submission as submission_of

from freeswim.errors import StudioError
from freeswim.request import Request
from freeswim.studio.folders import JobFolder

JOBS_A_KILL = 0.4
ACTIONS = {"worker": 40, "daemon": 15, "both": 10, "start": 15, "acknowledged": 10, "submit": 10}


class Chaos:
    """Submits jobs and kills processes, by dice that fall the same way each time."""

    def __init__(self, studio: StudioProcess, dice: random.Random) -> None:
        self.studio = studio
        self.dice = dice
        self.wanted: dict[str, Request] = {}
        self.kills = Counter[str]()
        self._marks: dict[str, str] = {}  # how far jobs were when their worker was killed

    def submit(self, *, is_killed: bool = False) -> str:
        """Submit a job until that is acknowledged, the daemon killed meanwhile or not; its id."""
        number = len(self.wanted)
        asked = submission_of(f"koi {number}", number, key=str(uuid.UUID(int=number)))
        client = self.studio.start()
        killer = threading.Timer(self.dice.uniform(0, 0.02), kill, [self.studio.pid])
        if is_killed:
            killer.start()
        try:
            (job,) = client.submit(asked)
        except StudioError:
            if not is_killed:
                raise
        if is_killed:
            killer.join()
            self.studio.kill()
            (job,) = self.studio.start().submit(asked)
        self.wanted[job["id"]] = request_of(f"koi {number}", number)
        return job["id"]

    def act(self, action: str) -> None:
        """Kill what `action` says."""
        match action:
            case "worker":
                self._kill_worker()
            case "daemon":
                self.studio.start()
                self._rest(0.25)
                self.studio.kill()
            case "both":
                self.studio.start()
                self._rest(0.25)
                self.studio.kill(worker=True)
            case "start":
                if self.studio.is_alive:
                    self.studio.kill()
                    self.kills["daemon"] += 1
                self.studio.fork()
                self._rest(0.15)
                self.studio.kill()
            case "acknowledged":
                job_id = self.submit()
                self._rest(0.002)
                self.studio.kill()
                self.studio.start().get(f"/jobs/{job_id}")
            case "submit":
                self.submit(is_killed=True)
            case _:
                raise AssertionError(action)
        self.kills[action] += 1

    def _kill_worker(self) -> None:
        """The worker of a job that was not killed at this point of it already.

        Three times without getting further is a job that breaks its worker.
        """
        client = self.studio.start()
        self._rest(0.15)

        def killable() -> dict[str, Any] | None:
            for job in client.get("/jobs", limit=1)["jobs"]:
                mark = JobFolder(job["id"]).progress_mark()
                is_further = self._marks.get(job["id"]) != mark
                if job["state"] == "running" and job["crashes"] < 2 and is_further:
                    self._marks[job["id"]] = mark
                    return job
            if not any(client.get("/queue")["counts"][state] for state in ("queued", "running")):
                self.submit()
            return None

        until(killable, "no job runs")
        for pid in until(self.studio.workers, "no worker lives"):
            kill(pid)

    def _rest(self, most: float) -> None:
        time.sleep(self.dice.uniform(0, most))


def test_no_job_is_lost_doubled_or_wrong_however_often_processes_are_killed(
    studio: StudioProcess, report: Callable[..., None], pytestconfig: pytest.Config
):
    num_kills = pytestconfig.getoption("--kills")
    num_jobs = round(num_kills * JOBS_A_KILL)
    dice = random.Random(pytestconfig.getoption("--chaos-seed"))
    chaos = Chaos(studio, dice)
    while chaos.kills.total() < num_kills:
        while len(chaos.wanted) < num_jobs * (chaos.kills.total() + 1) / num_kills:
            chaos.submit()
        (action,) = dice.choices(list(ACTIONS), list(ACTIONS.values()))
        chaos.act(action)
    client = studio.start()

    def is_quiet() -> bool:
        counts = client.get("/queue")["counts"]
        return not any(counts[state] for state in ("queued", "running", "publishing", "waiting"))

    until(is_quiet, "jobs are not made", seconds=180 + num_kills / 5)
    client.stop()
    until(lambda: not studio.is_alive and not studio.workers(), "a process is left", seconds=30)
    found = examine(chaos.wanted)
    repeated = sum(repeated_steps(job_id) for job_id in chaos.wanted)
    report(
        jobs=len(chaos.wanted),
        kills=dict(chaos.kills),
        **found.counts,
        repeated_steps=repeated,
    )
    assert not any(found.counts.values()), found
    assert repeated <= chaos.kills.total() * INTERVAL
    assert "Traceback" not in studio.said() and "refused" not in studio.said()
