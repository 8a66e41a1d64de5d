"""A studio at work, with a worker that makes checksums instead of pictures."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from freeswim.studio.database import open_database
from freeswim.studio.executors.local import LocalSlot, Patience
from freeswim.studio.job import IN_QUEUE, Job, JobState
from freeswim.studio.studio import Studio, Submission

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
PATIENCE = Patience(beat_s=120.0, step_s=120.0, first_step_s=120.0)  # of tests of anything else


@asynccontextmanager
async def running_studio(
    *, slots: int = 1, worker: Sequence[str] = FAKE_WORKER, patience: Patience = PATIENCE
) -> AsyncIterator[Studio]:
    """A studio at work, stopped at the end of the block."""
    places = [LocalSlot(f"slot-{index}", "", worker, patience) for index in range(slots)]
    studio = Studio(open_database().store, places)
    await studio.start()
    try:
        yield studio
    finally:
        await studio.stop()


async def until(studio: Studio, holds: Callable[[list[Job]], bool], timeout: float = 120.0) -> None:
    """Wait until something holds of all jobs."""
    async with asyncio.timeout(timeout):
        while not holds(await studio.ask(lambda store: store.history())):
            await studio.wait(studio.seq, 0.2)


def all_in(*states: JobState) -> Callable[[list[Job]], bool]:
    """That every job is in one of these states."""
    return lambda jobs: all(job.state in states for job in jobs)


def is_quiet(jobs: list[Job]) -> bool:
    """Whether nothing is left that runs by itself."""
    return all(job.state not in IN_QUEUE - {JobState.PAUSED} for job in jobs)


async def submitted(studio: Studio, prompt: str = "koi", **fields: object) -> Job:
    """One job of the demo preset."""
    submission = Submission.model_validate(
        {"preset": "demo", "request": {"prompt": prompt, "seed": 1}} | fields
    )
    jobs, _ = await studio.submit(submission)
    return jobs[0]
