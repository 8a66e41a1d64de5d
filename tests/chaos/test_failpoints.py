"""At every place where the daemon or a worker changes the disk: killed there, or the disk refuses.

The places are recorded first (failpoints.py), so a new one is tested as soon as it is there. A
sample of them is taken unless pytest is told `--all-failpoints`.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from failpoints import ACTIONS
from studio_process import HERE, StudioProcess, examine, request_of, until
from studio_process import submission as submission_of

from freeswim import paths
from freeswim.errors import FreeswimError, StudioError
from freeswim.request import Request
from freeswim.studio.client import Client

SAMPLED = 4  # one of so many failpoints is taken: no multiple of the number of actions
TYPED = {"output", "studio", "crash", "media"}  # what a job may fail of; a full disk is waited for


class Point(NamedTuple):
    """A failpoint, and what happens there."""

    label: str
    count: int  # which time it is come to
    action: str


@dataclass
class Bench:
    """A studio with failpoints, and the jobs it was given."""

    studio: StudioProcess
    folder: Path  # of its failpoints
    wanted: dict[str, Request] = field(default_factory=dict[str, Request])
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def arm(self, point: Point | None, *, records: bool = False) -> None:
        """From now on hits are counted anew, and one of them is the one."""
        (self.folder / "fired").unlink(missing_ok=True)
        (self.folder / "hits").unlink(missing_ok=True)
        label, count, action = point or ("", 0, "")
        armed = {"generation": next(self._numbers), "records": records}
        armed |= {"label": label, "count": count, "action": action}
        part = self.folder / "armed.part"
        part.write_text(json.dumps(armed))
        part.replace(self.folder / "armed")

    @property
    def has_fired(self) -> bool:
        """Whether it has happened."""
        return (self.folder / "fired").exists()

    def hits(self) -> list[tuple[str, int]]:
        """What was recorded: (label, which time), in order."""
        counts = Counter[str]()
        found: list[tuple[str, int]] = []
        for label in (self.folder / "hits").read_text().splitlines():
            counts[label] += 1
            found.append((label, counts[label]))
        return found

    def client(self) -> Client:
        """Of the daemon, which is started again where it was killed."""
        while True:
            try:
                return self.studio.start()
            except AssertionError:
                if self.studio.is_alive or not self.has_fired:
                    raise

    def make(self, *seeds: int) -> None:
        """Submit jobs and have them made, whatever happens once meanwhile."""
        for job_id in self.submit(*seeds):
            self.finish(job_id)

    def submit(self, *seeds: int) -> list[str]:
        """Submit jobs, with the same key again where that fails; their ids."""
        asked = submission_of("koi", 0, key=str(uuid.uuid4())) | {"seeds": list(seeds)}
        try:
            jobs = self.client().submit(asked)
        except FreeswimError as error:
            assert self.has_fired, f"refused without a reason: {error.message}"
            until(self._is_settled, "the daemon neither answers nor is dead")
            jobs = self.client().submit(asked)
        job_ids = [job["id"] for job in jobs]
        assert len(job_ids) == len(seeds), f"{len(seeds)} jobs became {len(job_ids)}"
        requests = [request_of("koi", seed) for seed in seeds]
        self.wanted |= dict(zip(job_ids, requests, strict=True))
        return job_ids

    def finish(self, job_id: str) -> None:
        """Wait until a job is done; where the disk refused it may have to be tried again."""

        def ended() -> dict[str, Any] | None:
            try:
                job = self.client().get(f"/jobs/{job_id}")["job"]
            except StudioError:
                return None
            return job if job["state"] in ("done", "failed") else None

        job = until(ended, "the job does not end", seconds=60)
        if job["state"] == "failed":
            failure = job["failure"]
            assert failure["code"] in TYPED and failure["message"] and self.has_fired, failure
            assert job_id not in {take["job_id"] for take in self.client().get("/takes")["takes"]}
            self.client().post(f"/jobs/{job_id}/retry")
            job = until(ended, "the job does not end when it is tried again", seconds=60)
        assert job["state"] == "done", job["failure"]

    def renew(self) -> None:
        """Begin again with an empty data folder."""
        self.studio.end()
        shutil.rmtree(paths.home(), ignore_errors=True)
        self.wanted.clear()
        self.arm(None)

    def _is_settled(self) -> bool:
        """Whether a daemon that is being killed is dead."""
        return not self.studio.is_alive or self.client().is_there()


@pytest.fixture
def bench(studio: StudioProcess, tmp_path: Path) -> Bench:
    """Not started yet; nothing is armed."""
    folder = tmp_path / "failpoints"
    folder.mkdir()
    studio.failpoints = folder
    studio.worker = (studio.worker[0], str(HERE / "failpoints.py"), str(folder))
    studio.environment = {"FAKE_STEP_S": "0"}
    bench = Bench(studio, folder)
    bench.arm(None)
    return bench


def every(hits: Iterable[tuple[str, int]]) -> list[Point]:
    """All that can happen at these hits; after a COMMIT it is too late for a fault."""
    return [
        Point(label, count, action)
        for label, count in hits
        for action in ACTIONS
        if action == "kill" or "after COMMIT" not in label
    ]


def check(bench: Bench) -> None:
    """Everything is as if nothing had happened, after the next start at the latest."""
    if any(examine(bench.wanted).counts.values()):
        bench.studio.kill()
        bench.client()
        deadline = time.monotonic() + 30  # for a backup that is being made
        while any((found := examine(bench.wanted)).counts.values()):
            assert time.monotonic() < deadline, str(found)
            time.sleep(0.05)


def try_each(
    bench: Bench,
    points: Sequence[Point],
    attempt: Callable[[Point], None],
    report: Callable[..., None],
    config: pytest.Config,
) -> None:
    """Have each of the points happen, or a sample of them, and say how many went wrong."""
    taken = points if config.getoption("--all-failpoints") else points[::SAMPLED]
    wrong: list[str] = []
    for point in taken:
        said = len(bench.studio.said())
        try:
            attempt(point)
            assert bench.has_fired, "it was not come to"
            assert "Traceback" not in bench.studio.said()[said:], bench.studio.said()[said:]
            check(bench)
        except (AssertionError, FreeswimError, LookupError) as error:
            words = str(error).splitlines() or [type(error).__name__]
            wrong.append(f"{' '.join(map(str, point))}: {words[0]}")
            bench.renew()
    report(failpoints=len(points), tried=len(taken), wrong=len(wrong))
    assert not wrong, "\n" + "\n".join(wrong)


def test_a_job_survives_a_fault_at_every_place(
    bench: Bench, report: Callable[..., None], pytestconfig: pytest.Config
):
    seeds = itertools.count()
    first, usual = (record_job(bench, next(seeds)) for _ in range(2))

    def attempt(point: Point) -> None:
        if point[:2] not in usual:  # only an empty data folder, or a new worker, comes there
            bench.renew()
        bench.client()
        until(backups, "there is no backup")
        bench.arm(point)
        bench.make(next(seeds))

    points = every([*usual, *(hit for hit in first if hit not in usual)])
    try_each(bench, points, attempt, report, pytestconfig)


def backups() -> set[str]:
    """Names of the database's backups: one is made a moment after each start."""
    return {path.name for path in paths.backups().glob("*.db")}


def record_job(bench: Bench, seed: int) -> list[tuple[str, int]]:
    """The places that a job comes to."""
    bench.client()
    until(backups, "there is no backup")
    bench.arm(None, records=True)
    bench.make(seed)
    return [hit for hit in bench.hits() if "/backups" not in hit[0]]


def test_a_submission_of_two_jobs_survives_a_fault_at_every_place(
    bench: Bench, report: Callable[..., None], pytestconfig: pytest.Config
):
    seeds = itertools.count()

    def submit(point: Point | None, *, records: bool = False) -> list[str]:
        bench.client().patch("/queue", {"mode": "stop_after"})
        until(backups, "there is no backup")
        bench.arm(point, records=records)
        return bench.submit(next(seeds), next(seeds))

    def attempt(point: Point) -> None:
        job_ids = submit(point)
        bench.client().patch("/queue", {"mode": "run"})
        for job_id in job_ids:
            bench.finish(job_id)

    submit(None)
    submit(None, records=True)
    points = every(bench.hits())
    bench.renew()
    try_each(bench, points, attempt, report, pytestconfig)


@pytest.mark.parametrize("is_new", [True, False], ids=["new folder", "old folder"])
def test_a_start_survives_a_fault_at_every_place(
    bench: Bench, report: Callable[..., None], pytestconfig: pytest.Config, is_new: bool
):
    seeds = itertools.count()

    def start_anew() -> None:
        if is_new:
            bench.renew()
        elif not bench.wanted:
            bench.make(next(seeds))
        bench.studio.end()

    def start() -> None:
        before = backups()
        bench.client()
        until(lambda: backups() - before or bench.has_fired, "no backup is made")

    start_anew()
    bench.arm(None, records=True)
    start()
    points = every(bench.hits())

    def attempt(point: Point) -> None:
        start_anew()
        bench.arm(point)
        start()
        bench.make(next(seeds))

    try_each(bench, points, attempt, report, pytestconfig)
