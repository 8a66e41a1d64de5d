"""Shots, jobs and takes, and the states a job goes through.

A shot is what the editor wants; a job is one request for it in the queue; a take is one finished
result. These are also what travels over the API, field for field.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class JobState(StrEnum):
    """Where a job is. Done is for ever; failed and cancelled until somebody wants it again."""

    QUEUED = "queued"
    RUNNING = "running"
    PUBLISHING = "publishing"  # made; its files are on their way into the takes folder
    DONE = "done"
    PAUSED = "paused"  # by the person, until they resume it
    WAITING = "waiting"  # for what `reason` says; goes on by itself
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})
IN_QUEUE = frozenset(JobState) - ENDED

# What may follow a state. `store` refuses everything else.
NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {
            JobState.PUBLISHING,
            JobState.QUEUED,
            JobState.PAUSED,
            JobState.WAITING,
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.PUBLISHING: frozenset(
        # publishing again: under another name, or held up by a full disk
        {JobState.DONE, JobState.PUBLISHING, JobState.QUEUED, JobState.FAILED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.WAITING: frozenset({JobState.QUEUED, JobState.PAUSED, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
    JobState.DONE: frozenset(),
}


class Wish(StrEnum):
    """What the person wants of a job that runs; it is done at the job's next step."""

    NONE = ""
    CANCEL = "cancel"
    PAUSE = "pause"


class Reason(StrEnum):
    """What a waiting job waits for."""

    NONE = ""
    DISK = "disk"  # room on the disk
    MODEL = "model"  # its checkpoint, to be installed


class QueueMode(StrEnum):
    """What the queue does with the jobs in it."""

    RUN = "run"
    STOP_AFTER = "stop_after"  # jobs that run are finished, none is begun
    PAUSE = "pause"  # jobs that run are stopped at their next step, none is begun


class Verdict(StrEnum):
    """What the editor says of a take."""

    NEW = "new"
    APPROVED = "approved"
    REJECTED = "rejected"
    TRASHED = "trashed"  # its files are in the system's trash; for ever


class PlacingState(StrEnum):
    """Where a take is on its way into the editor's timeline."""

    WANTED = "wanted"
    WAITING = "waiting"  # for what its message says; goes on by itself
    PLACED = "placed"
    POOL = "pool"  # in the media pool only; its message says why
    FAILED = "failed"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Failure(_Record):
    """What happened, and what to do about it."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, JsonValue] = {}


class Placing(_Record):
    """What became of a take inside the editor's program, in a sentence for the person."""

    state: PlacingState
    message: str = ""
    track: int | None = None  # where it was placed
    record_frame: int | None = None
    item: str = ""  # unique id of the clip that it is, or is a take of
    attempt: int = 1  # counts up when the person asks again
    asked_in: str = ""  # session in which something was asked for that must not be done twice


class Shot(_Record):
    """A range of a clip, or a gap, that the editor wants made."""

    id: str
    name: str
    placement: dict[str, JsonValue] = {}  # where it goes: the words of whoever asked for it
    created_at: float  # seconds UTC
    seq: int


class Job(_Record):
    """One request for a shot, in the queue or at its end."""

    id: str
    number: int  # counts up; for people
    shot_id: str
    shot_name: str
    request: dict[str, Any]
    request_sha256: str
    prompt: str
    draft_take: str = ""  # id of the draft that this job finishes
    state: JobState
    reason: Reason = Reason.NONE
    needed_bytes: int = 0  # of disk, where it waits for that
    failure: Failure | None = None
    wish: Wish = Wish.NONE
    rank: float  # the queue's order, the lowest first
    attempt: int = 0  # how often it was begun
    crashes: int = 0  # of its worker, since it last got further
    take_id: str = ""
    is_cleared: bool = False  # out of the person's sight
    created_at: float  # seconds UTC
    started_at: float | None = None  # of the last attempt
    ended_at: float | None = None
    seq: int  # of its last change


class Take(_Record):
    """One finished result: a video file in the takes folder, its sidecar beside it."""

    id: str
    shot_id: str
    shot_name: str
    job_id: str
    number: int  # within the shot, from 1
    file: str  # name in the takes folder
    sha256: str
    width: int  # pixels
    height: int
    frames: int
    frame_rate: str  # a fraction, frames per second
    seed: int
    prompt: str
    is_draft: bool
    verdict: Verdict = Verdict.NEW
    placing: Placing | None = None  # None: it goes to no timeline by itself
    created_at: float  # seconds UTC
    seq: int


class Queue(_Record):
    """The queue as a whole."""

    mode: QueueMode
    counts: dict[JobState, int]
    seq: int  # of the last change of anything


class Changes(_Record):
    """Everything that changed after a point, as it is now."""

    seq: int  # ask again with this one
    is_whole: bool  # whether there is no more
    mode: QueueMode
    shots: list[Shot]
    jobs: list[Job]
    takes: list[Take]


class NewTake(_Record):
    """A finished result on its way into the takes folder."""

    id: str
    file: str
    sha256: str
    width: int
    height: int
    frames: int
    frame_rate: str
    seed: int
    is_draft: bool
    number: int = Field(ge=1)


MoveTo = Literal["front", "end"]
