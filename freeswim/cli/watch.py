"""The studio's jobs as they come along: one that is waited for, and the queue as a live view.

All that is shown is derived from what the studio says now; whoever stops looking changes nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from freeswim.cli import terminal
from freeswim.errors import StudioError
from freeswim.studio.client import Client, Json, Lost

if TYPE_CHECKING:
    from rich.console import RenderableType

PATIENCE_S = 15.0  # for a studio that was lost to come back
REST_S = 0.2  # between two looks
FORECAST_S = 5.0  # between two questions for the time left
SECONDS_BETWEEN_LINES = 10.0  # of a long stage, where there is no terminal
MOST_ENDED = 5  # jobs that stay in the live view after their end

ENDED = ("done", "failed", "cancelled")
UNDER_WAY = ("running", "publishing")
WILL_RUN = (*UNDER_WAY, "queued", "waiting")


class Listener:
    """What happens in the studio after a change, also past its being started anew."""

    def __init__(self, client: Client, after: int) -> None:
        self._client = client
        self._after = after
        self._heard = time.monotonic()

    def hear(self) -> Json:
        """What happened since; waits a second for something to happen.

        Raises:
            StudioError: the studio is gone and does not come back.
        """
        time.sleep(REST_S)
        try:
            said = self._client.get("/changes", after=self._after, wait=1)
        except Lost:
            if time.monotonic() - self._heard > PATIENCE_S:
                raise
            return {"jobs": [], "takes": [], "progress": []}
        self._after = said["seq"]
        self._heard = time.monotonic()
        return said


# ------------------------------------------------------------------------------------ the queue


class Board:
    """The jobs of the queue, and those that ended meanwhile."""

    def __init__(self, client: Client) -> None:
        self._client = client
        queue = client.get("/queue")
        self._listener = Listener(client, queue["seq"])
        self.mode: str = queue["mode"]
        self.jobs: dict[str, Json] = {job["id"]: job for job in jobs_in_queue(client)}
        self.progress: dict[str, Json] = {}
        self.disabled: list[str] = []  # in words: where nothing is made, and why
        self._left: dict[str, float | None] = {}  # seconds of each job, and "" of all
        self._forecast_at = float("-inf")

    def hear(self) -> Json:
        """What happened since, waiting a second for it; the board is as it is now."""
        heard = self._listener.hear()
        self.seconds_left()  # asked for now and then, with what is disabled
        self.mode = heard.get("mode", self.mode)
        self.jobs |= {job["id"]: job for job in heard["jobs"]}
        self.progress = {one["job_id"]: one for one in heard["progress"]}
        return heard

    @property
    def will_run(self) -> bool:
        """Whether a job is left that runs, or will by itself."""
        return any(job["state"] in WILL_RUN for job in self.jobs.values())

    def in_order(self) -> list[Json]:
        """Some that ended, then those that run, then the queue."""
        jobs = list(self.jobs.values())
        ended = [job for job in jobs if job["state"] in ENDED and not job["is_cleared"]]
        ended.sort(key=lambda job: job["ended_at"] or 0)
        rest = [job for job in jobs if job["state"] not in ENDED]
        rest.sort(key=lambda job: (job["state"] not in UNDER_WAY, job["rank"]))
        return [*ended[-MOST_ENDED:], *rest]

    def seconds_left(self, job_id: str = "") -> float | None:
        """Of a job that runs, or of the whole queue; None: not known."""
        now = time.monotonic()
        if now - self._forecast_at > FORECAST_S:
            with suppress(StudioError):
                self.disabled = disabled_slots(self._client)
                self._left = {"": self._client.get("/queue")["eta_seconds"]}
                for running in self.progress:
                    self._left[running] = self._client.get(f"/jobs/{running}")["eta_seconds"]
            self._forecast_at = now
        left = self._left.get(job_id)
        return None if left is None else max(0.0, left - (now - self._forecast_at))


def disabled_slots(client: Client) -> list[str]:
    """In words, the GPUs on which the studio makes nothing any more, and why."""
    slots = client.get("/machine")["slots"]
    return [
        f"{slot['name']} is disabled: {terminal.plain(slot['message'])} "
        "Use it again: freeswim queue enable."
        for slot in slots
        if slot["state"] == "disabled"
    ]


def jobs_in_queue(client: Client) -> list[Json]:
    """All jobs that are not at their end, in the queue's order."""
    jobs: list[Json] = []
    while page := client.get("/jobs", view="queue", after=jobs[-1]["id"] if jobs else "")["jobs"]:
        jobs += page
    return jobs


def watch(client: Client, *, until_empty: bool, as_json: bool) -> None:
    """Show the queue until Ctrl-C, or until no job is left that will run."""
    board = Board(client)
    with suppress(KeyboardInterrupt), _view(as_json) as show:
        heard: Json = {"jobs": board.in_order(), "takes": [], "progress": []}
        while True:
            show(board, heard)
            if until_empty and not board.will_run:
                return
            heard = board.hear()


Show = Callable[[Board, Json], None]


@contextmanager
def _view(as_json: bool) -> Generator[Show]:
    if as_json:
        yield _Events().show
    elif sys.stdout.isatty():
        with _live() as show:
            yield show
    else:
        yield _Lines().show


class _Events:
    """Everything that happens as events for programs."""

    def __init__(self) -> None:
        self._mode = ""
        self._told: dict[str, int] = {}  # change of each job's progress

    def show(self, board: Board, heard: Json) -> None:
        if board.mode != self._mode:
            self._mode = board.mode
            terminal.event("queue", mode=board.mode)
        for job in heard["jobs"]:
            terminal.event("job", **job)
        for take in heard["takes"]:
            terminal.event("take", **take)
        for progress in heard["progress"]:
            if self._told.get(progress["job_id"]) != progress["change"]:
                self._told[progress["job_id"]] = progress["change"]
                terminal.event("progress", **progress)


class _Lines:
    """A line where a job's state or stage is another, and now and then of a long stage."""

    def __init__(self) -> None:
        self._mode = ""
        self._states: dict[str, str] = {}
        self._stages: dict[str, tuple[str, float]] = {}  # of each job, and when it was told
        self._disabled: list[str] = []

    def show(self, board: Board, heard: Json) -> None:
        if board.mode != self._mode:
            self._mode = board.mode
            terminal.result(MODES[board.mode])
        if board.disabled != self._disabled:
            self._disabled = board.disabled
            for words in board.disabled:
                terminal.result(words)
        for progress in heard["progress"]:
            self._show_progress(board, progress)
        for job in heard["jobs"]:
            words = state_words(job)
            if self._states.get(job["id"]) != words:
                self._states[job["id"]] = words
                terminal.result(f"{_name(job)}: {words}")
        for take in heard["takes"]:
            if take["verdict"] == "new":
                terminal.result(f"{terminal.plain(take['shot_name'])}: take {take['file']}")

    def _show_progress(self, board: Board, progress: Json) -> None:
        job = board.jobs.get(progress["job_id"])
        if job is None or not progress["stage"]:
            return
        now = time.monotonic()
        stage, told = self._stages.get(job["id"], ("", 0.0))
        if stage == progress["stage"] and now - told < SECONDS_BETWEEN_LINES:
            return
        self._stages[job["id"]] = progress["stage"], now
        left = board.seconds_left(job["id"])
        rest = "" if left is None else f", {terminal.clock(left)} left"
        terminal.result(f"{_name(job)}: {stage_words(progress)}{rest}")


@contextmanager
def _live() -> Generator[Show]:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False, screen=False) as live:

        def show(board: Board, heard: Json) -> None:
            live.update(_drawn(board, most=max(3, console.height - 6)), refresh=True)

        yield show


def _drawn(board: Board, *, most: int) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table("job", "shot", "state", "stage", "", "left", box=None, pad_edge=False)
    for column, justify in zip(table.columns, ("right", "left", "left", "left"), strict=False):
        column.justify = justify
    table.columns[-1].justify = "right"
    jobs = board.in_order()
    for job in jobs[:most]:
        progress = board.progress.get(job["id"]) if job["state"] in UNDER_WAY else None
        bar: RenderableType = ""
        if progress and progress["stage"]:
            bar = ProgressBar(progress["num_steps"], progress["step"], width=24)
        table.add_row(
            str(job["number"]),
            Text(terminal.plain(job["shot_name"]), overflow="ellipsis", no_wrap=True),
            state_words(job),
            stage_words(progress) if progress else "",
            bar,
            terminal.clock(board.seconds_left(job["id"])) if progress else "",
        )
    lines = [MODES[board.mode]]
    if len(jobs) > most:
        lines.append(f"{len(jobs) - most} more.")
    if (left := board.seconds_left()) is not None and board.will_run:
        lines.append(f"{terminal.clock(left)} left.")
    lines.append("Ctrl-C leaves; the queue goes on.")
    disabled = [Text(words, style="bold red") for words in board.disabled]
    return Group(table, *disabled, Text(" ".join(lines), style="dim"))


# ------------------------------------------------------------------------------------ in words

MODES = {
    "run": "The queue runs.",
    "stop_after": "The queue stops after the jobs that run.",
    "pause": "The queue is paused.",
}


def state_words(job: Mapping[str, Any]) -> str:
    """A job's state, with what it waits for or what becomes of it."""
    if job["wish"] and job["state"] in UNDER_WAY:
        return {"cancel": "stopping", "pause": "pausing"}[job["wish"]]
    if job["state"] == "waiting":
        reasons = {"disk": "waiting for room on the disk", "model": "waiting for its checkpoint"}
        return reasons.get(job["reason"], "waiting")
    if job["state"] == "failed" and job["failure"]:
        return f"failed: {terminal.plain(job['failure']['message'])}"
    return job["state"]


def stage_words(progress: Mapping[str, Any]) -> str:
    """How far a job is, as `refine 3/20`."""
    if progress["num_steps"] <= 1:
        return progress["stage"]
    return f"{progress['stage']} {progress['step']}/{progress['num_steps']}"


def _name(job: Mapping[str, Any]) -> str:
    return f"{job['number']} {terminal.plain(job['shot_name'])}"


def jobs_table(jobs: Sequence[Mapping[str, Any]], progress: Mapping[str, Json]) -> None:
    """Jobs as a table."""
    rows: list[list[str]] = []
    for job in jobs:
        request, now = job["request"], progress.get(job["id"])
        state = stage_words(now) if now and now["stage"] and not job["wish"] else state_words(job)
        rows.append(
            [
                str(job["number"]),
                job["shot_name"],
                f"{request['width']}x{request['height']}",
                str(request["frames"]),
                str(request["seed"]),
                f"{state} (draft)" if request["draft"] else state,
                terminal.time_of_day(job["ended_at"] or job["started_at"] or job["created_at"]),
            ]
        )
    headings = ["job", "shot", "size", "frames", "seed", "state", "since"]
    terminal.table(headings, rows, words=("shot", "state"))
