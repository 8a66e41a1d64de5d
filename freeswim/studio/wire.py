"""What the API is asked and answers, beside shots, jobs and takes themselves (job.py)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from freeswim.studio.job import Changes, Job, Queue, QueueMode, Shot, Take
from freeswim.studio.resolve.links import LONGEST_WAIT_S, Now, SessionId, Words
from freeswim.studio.resolve.planner import Verb
from freeswim.studio.runner import JobProgress
from freeswim.studio.store import MOST_ROWS

SomeId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Error(_Answer):
    """What went wrong, and what to do about it."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, JsonValue] = {}


class Hello(_Answer):
    """Who answers, and that it knows the token."""

    api: int
    version: str
    pid: int
    proof: str


class QueueNow(Queue):
    """The queue, with the time that it will take."""

    eta_seconds: float | None  # None: a kind of job was not made on this machine yet
    running: list[str]  # ids of jobs


class Jobs(_Answer):
    jobs: list[Job]


class JobNow(_Answer):
    """A job, and how far it is."""

    job: Job
    progress: JobProgress | None
    eta_seconds: float | None


class Count(_Answer):
    count: int


class Shots(_Answer):
    shots: list[Shot]


class ShotWithTakes(_Answer):
    shot: Shot
    takes: list[Take]


class Takes(_Answer):
    takes: list[Take]


class TakeWithFile(_Answer):
    """A take, where its file is, and what its sidecar says."""

    take: Take
    path: str
    sidecar: dict[str, JsonValue]


class PresetSaid(_Answer):
    name: str
    title: str
    description: str
    needs_lora: bool
    defaults: dict[str, Any]


class Presets(_Answer):
    presets: list[PresetSaid]


class CheckpointSaid(_Answer):
    name: str
    title: str
    licence: str
    native_width: int
    native_height: int
    frame_rate: str
    takes_text: bool
    takes_image: bool
    is_installed: bool


class Catalog(_Answer):
    checkpoints: list[CheckpointSaid]


class Adoption(_Asked):
    """A folder of this machine that may hold models."""

    folder: str = Field(min_length=1, max_length=4096)


class Forecast(_Answer):
    """What a request would take."""

    model_config = ConfigDict(frozen=True, extra="allow")

    is_admitted: bool
    hint: str


class Slot(_Answer):
    name: str
    device: str
    state: Literal["idle", "busy", "disabled"]
    job_id: str
    message: str


class MachineNow(_Answer):
    """What takes are made on."""

    slots: list[Slot]
    gpus: list[dict[str, JsonValue]]
    host: dict[str, int]
    disk: dict[str, int]


class LogEnd(_Answer):
    text: str


class ChangesNow(Changes):
    """What changed, and how far jobs are that run."""

    progress: list[JobProgress]


class NewMode(_Asked):
    mode: QueueMode


class Move(_Asked):
    ids: list[SomeId] = Field(min_length=1, max_length=MOST_ROWS)
    to: Literal["front", "end"] = "front"
    before: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")


class ToClear(_Asked):
    ids: list[SomeId] | None = Field(default=None, max_length=MOST_ROWS)


class RequestChanges(_Asked):
    request: dict[str, JsonValue] = {}


class Again(_Asked):
    new_seed: bool = True


class NewVerdict(_Asked):
    verdict: Literal["new", "approved", "rejected"]


class Asked(_Asked):
    """A request as it is asked for."""

    preset: str = Field(default="", max_length=100)
    request: dict[str, JsonValue]


class VerbAsked(_Asked):
    """What a menu entry inside Resolve does, asked for by a client."""

    verb: Verb
    key: str = Field(pattern=r"^[0-9a-f]{32}$")  # the client's; the same again is not done again


class Poll(_Answer):
    """An executor inside Resolve asks what to do; a newer one may say more."""

    session: SessionId
    wait: float = Field(ge=0, le=LONGEST_WAIT_S)
    now: Now = Now()


class Beat(_Answer):
    """Resolve takes its time over an operation."""

    session: SessionId
    operation: Words = ""
    busy_s: float = Field(ge=0, le=10**9)


class Bye(_Answer):
    """An executor ends."""

    session: SessionId
    why: Words = ""


class Nothing(_Asked):
    """A body with nothing in it."""
