"""What the queue panel costs with thousands of rows: milliseconds of a frame, from a cause to pixels.

    QT_QPA_PLATFORM=offscreen python tests/bench/queue_scroll.py [--jobs 10000] [--frames 300]

A display with 60 Hz leaves 16 ms. A frame is everything from the cause (a turn of the wheel, a
message of the studio) until all rows that are seen are painted.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

from PySide6.QtWidgets import QApplication
from rich.console import Console
from rich.table import Table

from desktop import theme
from desktop.queue.panel import QueuePanel
from desktop.studio import Studio
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.studio.job import Changes, Job, JobState, QueueMode
from freeswim.studio.runner import JobProgress
from freeswim.studio.store import MOST_ROWS

GOAL_MS = 16.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=300)
    given = parser.parse_args()
    app = QApplication([])
    theme.apply(app)
    studio = Studio()
    panel = QueuePanel(studio)
    panel.resize(380, 900)
    panel.show()
    jobs = some_jobs(given.jobs)
    table = Table("", "p50", "p99", "p99 of the processor", "goal")

    def add(what: str, frames: list[tuple[float, float]]) -> None:
        passed, worked = (sorted(one) for one in zip(*frames, strict=True))
        at = min(len(frames) - 1, round(0.99 * len(frames)))
        said = (statistics.median(passed), passed[at], worked[at])
        table.add_row(what, *(f"{ms:.2f} ms" for ms in said), f"{GOAL_MS:.0f} ms")

    pages = [jobs[first : first + MOST_ROWS] for first in range(0, len(jobs), MOST_ROWS)]
    add(
        f"a page of {MOST_ROWS} arrives",
        [_frame(app, partial(tell, studio, page)) for page in pages],
    )
    panel.list.select([jobs[1].id])
    for what, causes in (
        ("scroll by the wheel", _scroll(panel, given.frames)),
        ("scroll to anywhere", _jump(panel, given.frames)),
        ("a progress event", _progress(studio, jobs[0], given.frames)),
        ("a job moves", _move(studio, jobs, given.frames)),
        ("a job ends and the next begins", _end(studio, jobs, given.frames)),
    ):
        add(what, [_frame(app, cause) for cause in causes])
    add("500 jobs are cancelled at once", [_frame(app, cause) for cause in _cancel(studio, jobs)])
    Console().print(table)
    studio.close()


def some_jobs(count: int) -> list[Job]:
    """Jobs of a queue; the first of them runs."""
    request = Request.parse(load_preset("demo").defaults | {"kind": "text", "prompt": "two koi"})
    fields = request.as_dict()
    return [
        Job(
            id=f"{number:016x}",
            number=number,
            shot_id="f" * 16,
            shot_name=f"SHOT_{number:04}",
            request=fields | {"seed": number},
            request_sha256=f"{number:064x}",
            prompt="two koi",
            state=JobState.QUEUED if number > 1 else JobState.RUNNING,
            rank=float(number),
            created_at=0.0,
            seq=number,
        )
        for number in range(1, count + 1)
    ]


def tell(studio: Studio, jobs: list[Job]) -> None:
    """The studio says that these jobs are so now."""
    studio._take_in(
        Changes(seq=1, is_whole=False, mode=QueueMode.RUN, shots=[], jobs=jobs, takes=[])
    )


def _frame(app: QApplication, cause: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds by the clock, and of this thread: others may keep it waiting."""
    began, worked = time.perf_counter(), time.thread_time()
    cause()
    app.processEvents()  # rows are laid out ...
    app.processEvents()  # ... and painted
    return 1000 * (time.perf_counter() - began), 1000 * (time.thread_time() - worked)


def _scroll(panel: QueuePanel, count: int) -> Iterator[Callable[[], object]]:
    bar = panel.list.verticalScrollBar()
    bar.setValue(bar.maximum() // 2)
    for _ in range(count):
        yield lambda: bar.setValue(bar.value() + 37)


def _jump(panel: QueuePanel, count: int) -> Iterator[Callable[[], object]]:
    bar, chance = panel.list.verticalScrollBar(), random.Random(0)
    for _ in range(count):
        to = chance.randrange(bar.maximum())
        yield partial(bar.setValue, to)
    bar.setValue(0)


def _progress(studio: Studio, job: Job, count: int) -> Iterator[Callable[[], object]]:
    for step in range(count):
        said = JobProgress(job_id=job.id, stage="refine", step=step, num_steps=count, change=step)
        yield partial(studio._take_progress, said)


def _move(studio: Studio, jobs: list[Job], count: int) -> Iterator[Callable[[], object]]:
    chance = random.Random(0)
    for number in range(count):
        job = jobs[chance.randrange(1, len(jobs))]
        place = {"rank": chance.random() * len(jobs), "seq": len(jobs) + number}
        yield partial(tell, studio, [job.model_copy(update=place)])


def _end(studio: Studio, jobs: list[Job], count: int) -> Iterator[Callable[[], object]]:
    for number in range(min(count, len(jobs) - 1)):
        ended = {"state": JobState.DONE, "ended_at": float(number)}
        begun = {"state": JobState.RUNNING}
        pair = [jobs[number].model_copy(update=ended), jobs[number + 1].model_copy(update=begun)]
        yield partial(tell, studio, pair)


def _cancel(studio: Studio, jobs: list[Job]) -> Iterator[Callable[[], object]]:
    waiting = [job for job in studio.jobs.values() if job.state == JobState.QUEUED]
    for first in range(0, len(waiting), MOST_ROWS):
        ended = {"state": JobState.CANCELLED, "ended_at": float(len(jobs) + first)}
        page = [job.model_copy(update=ended) for job in waiting[first : first + MOST_ROWS]]
        yield partial(tell, studio, page)


if __name__ == "__main__":
    main()
