"""Jobs and takes to put into a store."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence

from freeswim.studio.job import Job, JobState, NewTake, Take
from freeswim.studio.store import NewJob, NewShot, Store

_numbers = itertools.count(1)

SHOT = NewShot("5" * 16, "SC 010", {"track": 1})


def new_id() -> str:
    """An id that nothing else has."""
    return f"{next(_numbers):016x}"


def request(prompt: str) -> str:
    """A request as a row has it."""
    return json.dumps({"kind": "text", "prompt": prompt, "seed": 1})


def body(said: str) -> str:
    """The checksum of a submission's body."""
    return hashlib.sha256(said.encode()).hexdigest()


def add(store: Store, *prompts: str, shot: NewShot = SHOT, front: bool = False) -> list[Job]:
    """Jobs with these prompts, in the queue."""
    jobs = [NewJob(new_id(), request(prompt)) for prompt in prompts]
    return store.add(jobs, shot=shot, front=front)


def new_take(number: int = 1, file: str = "") -> NewTake:
    """A take that fits any job."""
    return NewTake(
        id=new_id(), file=file or f"take-{next(_numbers)}.mp4", sha256="0" * 64, width=1920,
        height=1080, frames=17, frame_rate="24000/1001", seed=1, is_draft=False, number=number,
    )  # fmt: skip


def make(store: Store, file: str = "") -> Take:
    """The take of the queue's first job, which is done then."""
    job = store.claim()
    assert job is not None
    take = new_take(store.next_take_number(job.shot_id), file)
    store.change(job.id, JobState.PUBLISHING, publishing=take)
    return store.finish(job.id, take)


def prompts(jobs: Sequence[Job]) -> list[str]:
    return [job.prompt for job in jobs]
