"""A studio in processes of its own, to be killed and started again, and what must be true of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
from fake_worker import STEPS, chain_of

from freeswim import paths
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.studio import client
from freeswim.studio.folders import JobFolder

HERE = Path(__file__).parent
FAKE_WORKER = (sys.executable, str(HERE.parent / "studio" / "fake_worker.py"))
INTERVAL = 2  # steps between two of the fake worker's checkpoints
LEFT = {"spec.json", "manifest.json", "steps.txt"}  # of a job that is done

Answer = TypeVar("Answer")


def until(holds: Callable[[], Answer | None], what: str, seconds: float = 120.0) -> Answer:
    """What `holds` gives as soon as that is something."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := holds():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s: {what}")
        time.sleep(0.005)


class Zygote:
    """Forks daemons (zygote.py)."""

    def __init__(self) -> None:
        path = os.pathsep.join(map(str, (HERE, HERE.parent / "studio", HERE.parents[1])))
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )

    def fork(self, order: Mapping[str, Any]) -> int:
        """The process id of a new daemon."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Daemons that live die."""
        self._process.communicate(timeout=60)


@dataclass
class StudioProcess:
    """The daemon of the data folder that FREESWIM_HOME names, and its workers."""

    zygote: Zygote
    log: Path  # outside of the data folder
    worker: Sequence[str] = FAKE_WORKER
    patience: Mapping[str, float] = field(default_factory=dict[str, float])
    failpoints: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    look_every_s: float = 0.05
    pid: int = 0

    def fork(self) -> None:
        """Start the daemon, and do not wait until it is there."""
        assert not self.is_alive
        moved = {"FREESWIM_HOME": str(paths.home())}
        self.pid = self.zygote.fork(
            {
                "log": str(self.log),
                "environment": {**moved, **self.environment},
                "worker": list(self.worker),
                "patience": dict(self.patience),
                "failpoints": None if self.failpoints is None else str(self.failpoints),
                "look_every_s": self.look_every_s,
                "patience_s": 5.0,
            }
        )

    def start(self) -> client.Client:
        """A client of the daemon, which is started where none lives."""
        if not self.is_alive:
            self.fork()

        def connected() -> client.Client | None:
            assert self.is_alive, f"the daemon died by itself: {self.said()[-2000:]}"
            found = client.connect()
            return found if found is not None and found.pid == self.pid else None

        return until(connected, "the daemon does not answer")

    def said(self) -> str:
        """What the daemon printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def is_alive(self) -> bool:
        """Whether the daemon is; one with a thread that is not dead yet still holds its lock."""
        return self.pid != 0 and psutil.pid_exists(self.pid)

    def workers(self) -> list[int]:
        """Workers of this data folder, whoever started them."""
        home = str(paths.home())
        found: list[int] = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get("FREESWIM_HOME") != home:
                    continue
                if any("worker" in part for part in process.cmdline()):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def kill(self, *, worker: bool = False) -> None:
        """`kill -9` of the daemon, and at the same moment of its workers."""
        workers = self.workers() if worker else []
        for pid in (self.pid, *workers):
            kill(pid)
        until(lambda: not self.is_alive, "the daemon outlives kill -9")

    def end(self) -> None:
        """No process is left of it, whatever happened."""
        for pid in (self.pid, *self.workers()):
            kill(pid)
        until(lambda: not self.is_alive and not self.workers(), "a process is left")


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """A signal to a process that may be gone."""
    if pid and psutil.pid_exists(pid):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


# ------------------------------------------------------------------------- what must be true


def request_of(prompt: str, seed: int) -> Request:
    """What a submission of the demo preset becomes, made without the studio."""
    fields = {"kind": "text", **load_preset("demo").defaults, "prompt": prompt, "seed": seed}
    return Request.parse(fields)


def submission(prompt: str, seed: int, key: str) -> dict[str, Any]:
    """One job of the demo preset."""
    return {"preset": "demo", "request": {"prompt": prompt, "seed": seed}, "key": key}


@dataclass(frozen=True)
class Findings:
    """What is wrong with a studio's folders, of which nothing runs."""

    lost: list[str]  # jobs that are not done
    duplicate: list[str]  # jobs, or takes, that nobody asked for or that are there twice
    wrong: list[str]  # takes that hold something else than they should
    leftover: list[str]  # files that nobody needs any more

    @property
    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {name: len(found) for name, found in vars(self).items()}


def examine(wanted: Mapping[str, Request]) -> Findings:
    """Compare a data folder with what was wanted: the request of each job by its id."""
    with closing(sqlite3.connect(paths.database())) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
        states = dict(connection.execute("SELECT id, state FROM jobs").fetchall())
        takes = connection.execute("SELECT job_id, file, sha256 FROM takes").fetchall()
    files = {job_id: file for job_id, file, _ in takes}
    lost = [f"{job_id} {states.get(job_id)}" for job_id in wanted if states.get(job_id) != "done"]
    lost += [f"{job_id} has no take" for job_id in wanted if job_id not in files]
    duplicate = [job_id for job_id in states if job_id not in wanted]
    duplicate += [file for job_id, file, _ in takes if job_id not in wanted]
    wrong = [file for job_id, file, sha in takes if not _is_right(file, sha, wanted.get(job_id))]
    expected = {name for file in files.values() for name in (file, f"{file[:-4]}.json")}
    return Findings(lost, duplicate, wrong, _leftovers(wanted, expected))


def _is_right(file: str, sha256: str, request: Request | None) -> bool:
    media = paths.takes() / file
    if request is None or not media.is_file():
        return False
    sidecar = json.loads(media.with_suffix(".json").read_bytes())
    content = chain_of(request).encode()
    return (
        media.read_bytes() == content
        and sha256 == sidecar["media"]["sha256"] == hashlib.sha256(content).hexdigest()
        and sidecar["media"]["file"] == file
        and sidecar["request_sha256"] == request.digest()
    )


def _leftovers(wanted: Mapping[str, Request], expected: set[str]) -> list[str]:
    takes, jobs = (
        {path.name for path in folder.glob("*")} for folder in (paths.takes(), paths.jobs())
    )
    found = [f"takes/{name}" for name in takes ^ expected]
    found += [f"jobs/{name}" for name in jobs ^ set(wanted)]
    for job_id in jobs & set(wanted):
        left = {path.name for path in JobFolder(job_id).path.iterdir()}
        found += [f"jobs/{job_id}/{name}" for name in left - LEFT]
        found += [f"jobs/{job_id}/{name} is missing" for name in LEFT - {"steps.txt"} - left]
    for path in paths.home().rglob("*"):
        name = path.name
        if name.endswith((".part", ".tmp", "-journal", ".new")) or name.startswith("part"):
            found.append(str(path.relative_to(paths.home())))
    return sorted(set(found))


def repeated_steps(job_id: str) -> int:
    """Steps of a job that were computed more than once."""
    text = (JobFolder(job_id).path / "steps.txt").read_text()
    steps = [int(line) for line in text.split()]
    assert sorted(set(steps)) == list(range(STEPS))
    return len(steps) - STEPS
