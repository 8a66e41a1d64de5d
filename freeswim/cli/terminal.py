"""What the command line shows: bars on a terminal, plain lines elsewhere, JSON for programs.

Progress and messages go to standard error, results to standard output; JSON events, one a line,
all go to standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from freeswim.errors import FreeswimError

if TYPE_CHECKING:
    from freeswim.plan import Plan
    from freeswim.sidecar import Take

SECONDS_BETWEEN_LINES = 10.0  # of a long stage, where there is no terminal
PLAIN_WIDTH = 160  # characters of a table, where there is no terminal


class Progress(Protocol):
    """How far a take is; `step` counts finished steps of the stage."""

    @property
    def stage(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def seconds(self) -> float: ...  # since the work began


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Stage:
    """A piece of work that counts what it has done."""

    stage: str
    step: int
    num_steps: int
    seconds: float = 0.0


def event(kind: str, **values: Any) -> None:
    """One JSON event."""
    _line(sys.stdout, json.dumps({"event": kind, **values}, ensure_ascii=False))


def result(text: str) -> None:
    """A line that the person asked for."""
    _line(sys.stdout, text)


def note(text: str) -> None:
    """A line that the person should know."""
    _line(sys.stderr, text)


def failure(error: FreeswimError, *, as_json: bool) -> None:
    """One sentence and one hint."""
    if as_json:
        event("error", **error.as_dict())
        return
    note(f"freeswim: {error.message}")
    if error.hint:
        note(f"  {error.hint}")


def finished(take: Take, *, as_json: bool) -> None:
    """A finished take."""
    from freeswim.sidecar import sidecar_path

    request = take.request
    width, height = request.take_size
    if as_json:
        event(
            "take",
            media=str(take.media),
            sidecar=str(sidecar_path(take.media)),
            width=width,
            height=height,
            frames=request.frames,
            frame_rate=str(take.frame_rate),
            seed=request.seed,
            seconds=take.seconds,
            notes=request.notes,
        )
        return
    for text in request.notes:
        note(f"Note: {text}")
    result(str(take.media))
    result(
        f"  {width}x{height}, {request.frames} frames at {take.frame_rate} fps, "
        f"seed {request.seed}, {take.seconds['all']:.1f} s"
    )


def planned(plan: Plan, *, as_json: bool) -> None:
    """The forecast of a take."""
    if as_json:
        event("plan", **plan.as_dict())
        return
    for text in plan.request.notes:
        note(f"Note: {text}")
    stages = [[stage, work, _duration(minutes)] for stage, work, minutes in plan.stages()]
    table(["stage", "work", "time"], [*stages, ["all", "", _duration(plan.all_minutes)]])
    if plan.machine.device_type == "cpu":
        needs = [[_gigabytes(need.host_bytes), plan.verdict(need)] for need in plan.needs]
        table(["memory needed", ""], needs)
    else:
        needs = [
            [
                str(need.policy),
                _gigabytes(need.device_bytes),
                _gigabytes(need.host_bytes),
                plan.verdict(need),
            ]
            for need in plan.needs
        ]
        table(["memory policy", plan.machine.name, "host memory", ""], needs)
    result(f"Tokens: {plan.tokens:,}. Disk, while it is made: {_gigabytes(plan.disk_bytes)}.")


def _duration(minutes: float | None) -> str:
    if minutes is None:
        return "not measured yet"
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


@contextmanager
def shown_progress(*, as_json: bool) -> Iterator[OnProgress]:
    """Shows progress while the block runs; yields what is to be called with it."""
    if as_json:
        yield _json_progress
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _plain_progress()


def _json_progress(progress: Progress) -> None:
    event(
        "progress",
        stage=progress.stage,
        step=progress.step,
        num_steps=progress.num_steps,
        seconds=round(progress.seconds, 3),
    )


def _plain_progress() -> OnProgress:
    """One line when a stage is done, and every few seconds of a long one."""
    began: dict[str, float] = {}  # of the stages under way; two can be, as frames are handed on
    last_line = 0.0

    def report(progress: Progress) -> None:
        nonlocal last_line
        if progress.step == 0 and progress.stage not in began:
            began[progress.stage] = last_line = progress.seconds
        is_done = progress.step == progress.num_steps
        is_due = progress.seconds - last_line >= SECONDS_BETWEEN_LINES
        if progress.stage not in began or not (is_done or is_due):
            return
        count = f" {progress.step}/{progress.num_steps}" if progress.num_steps > 1 else ""
        spent = progress.seconds - began[progress.stage]
        note(f"{progress.stage}{count} ({spent:.1f} s)")
        last_line = progress.seconds
        if is_done:
            del began[progress.stage]  # a stage ends once

    return report


@contextmanager
def _bars() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        under_way: dict[str, TaskID] = {}  # two can be, as frames are handed on

        def report(progress: Progress) -> None:
            if progress.stage not in under_way and progress.step == 0:
                under_way[progress.stage] = bars.add_task(progress.stage, total=progress.num_steps)
            if (task := under_way.get(progress.stage)) is None:
                return
            bars.update(task, completed=progress.step)
            if progress.step == progress.num_steps:
                bars.stop_task(under_way.pop(progress.stage))

        yield report


def table(headings: list[str], rows: list[list[str]], words: Collection[str] = ()) -> None:
    """A table of results; columns after the first are numbers, but those headed by `words`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*headings)
    for heading, column in zip(headings[1:], drawn.columns[1:], strict=True):
        column.justify = "left" if heading in words else "right"
    for row in rows:
        drawn.add_row(*(Text(plain(cell)) for cell in row))  # what people wrote is no markup
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(file=sys.stdout, width=width).print(drawn)


def verdict(is_good: bool, name: str, problem: str) -> None:
    """One thing that was looked at, green or red."""
    from rich.console import Console
    from rich.text import Text

    word = Text("good", style="green") if is_good else Text("BAD ", style="bold red")
    rest = f" {plain(name)}" + (f": {plain(problem)}" if problem else "")
    Console(file=sys.stdout, soft_wrap=True).print(word + Text(rest))


def plain(text: str) -> str:
    """Somebody's words on one line, with nothing in them that a terminal obeys."""
    return "".join(character if character.isprintable() else " " for character in text)


def clock(seconds: float | None) -> str:
    """A duration as editors read it: 0:45, 12:30, 1:05:12; empty where it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def time_of_day(moment: float | None) -> str:
    """A moment on this machine's clock, with its day where that is not today."""
    if moment is None:
        return ""
    then, now = time.localtime(moment), time.localtime()
    is_today = then[:3] == now[:3]
    return time.strftime("%H:%M" if is_today else "%d %b %H:%M", then)


def _line(stream: Any, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()
