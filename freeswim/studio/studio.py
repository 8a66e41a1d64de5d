"""The studio: everything a client can ask of the queue, in one place.

The API hands each route to one method here; what a person can do, all clients can do.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from freeswim import paths
from freeswim.errors import Conflict, FreeswimError, RequestError
from freeswim.history import past_runs
from freeswim.output import as_output_error
from freeswim.plan import admit, make_plan
from freeswim.presets import load_preset
from freeswim.request import MAX_SEED, Media, Request
from freeswim.studio import hardware
from freeswim.studio.desk import Answer, Desk
from freeswim.studio.downloads import Downloads
from freeswim.studio.eta import seconds_left
from freeswim.studio.executors.local import LocalSlot
from freeswim.studio.folders import JobFolder, Spec
from freeswim.studio.job import ENDED, Job, JobState, Queue, QueueMode, Take, Verdict, Wish
from freeswim.studio.mailbox import Mailbox
from freeswim.studio.publish import move_to_trash
from freeswim.studio.resolve.placer import ResolveDesk
from freeswim.studio.runner import JobProgress, Runner
from freeswim.studio.store import NewJob, NewShot, Store

MOST_SEEDS = 64
MOST_TIMED = 200  # jobs of the queue that are given a time
_MEDIA_FIELDS = ("clip", "first_image", "last_image")
_PARTS = ("base", "refine")  # fields of a request that have fields

Seed = Field(ge=0, le=MAX_SEED)


class ShotFields(BaseModel):
    """A new shot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    placement: dict[str, JsonValue] = {}  # where it goes: kept and given back, never looked into


class Submission(BaseModel):
    """What is asked to be made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(default="", pattern=r"^([0-9A-Za-z-]{8,64})?$")  # the client's, to ask twice
    shot: ShotFields | None = None
    shot_id: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")  # of one that is there
    preset: str = Field(default="", max_length=100)
    request: dict[str, JsonValue]  # fields of a Request that differ from the preset's
    seeds: list[int] = Field(default=[], max_length=MOST_SEEDS)  # one job each
    front: bool = False


class Studio:
    """The queue, its runner, and what is asked of them."""

    def __init__(self, store: Store, slots: Sequence[LocalSlot]) -> None:
        self._desk = Desk(store)
        self._runner = Runner(self._desk, slots)
        self.downloads = Downloads(self._ring)
        self.resolve = ResolveDesk(self._desk, self._submit_shot)
        self._mailbox = Mailbox(self.resolve)
        self.is_stopping = False  # clients are to be let go

    async def start(self) -> None:
        """Bring what was under way back into order, and serve the queue."""
        self._loop = asyncio.get_running_loop()
        await self._runner.start()
        await asyncio.to_thread(self.downloads.start)
        await self.resolve.start()
        await self._mailbox.start()

    def let_go(self) -> None:
        """Answer at once whoever waits for something: a server stops when it has answered all."""
        self.is_stopping = True
        self.resolve.links.stop()
        self._desk.ring()

    async def stop(self) -> None:
        """Stop what runs at its next step, and close the database."""
        self.let_go()
        await self._mailbox.stop()
        await self.resolve.stop()
        stopped = asyncio.to_thread(self.downloads.stop)
        await asyncio.gather(self._runner.stop(), stopped)
        await self._desk.close()

    @property
    def progress(self) -> Mapping[str, JobProgress]:
        """How far jobs are that run, by their ids."""
        return self._runner.progress

    @property
    def seq(self) -> int:
        """Number of the last change."""
        return self._desk.seq

    async def ask(self, work: Callable[[Store], Answer]) -> Answer:
        """What `work` reads from the store."""
        return await self._desk.ask(work)

    async def change(self, work: Callable[[Store], Answer]) -> Answer:
        """What `work` gives after its change is on the disk."""
        return await self._desk.change(work)

    async def wait(self, after: int, timeout: float) -> None:
        """Until something has changed after change `after`, a job got further, or it is time."""
        await self._desk.wait(after, timeout)

    # -------------------------------------------------------------------------------- adding

    async def submit(self, submission: Submission) -> tuple[list[Job], bool]:
        """Add the jobs; (jobs, whether they are new). The same key again adds nothing.

        Raises:
            RequestError, PresetError, MediaError: they cannot be made.
            OutOfMemory: this machine could never make them.
            Conflict: the key was used for something else.
            NotFound: there is no such shot.
        """
        body = hashlib.sha256(submission.model_dump_json().encode()).hexdigest()
        key = submission.key
        if key and (before := await self.ask(lambda store: store.submitted(key, body))):
            return before, False
        fields = await asyncio.to_thread(_request_fields, submission.preset, submission.request)
        request = Request.parse(fields)
        seeds = submission.seeds or [
            request.seed if "seed" in submission.request else random.randrange(MAX_SEED + 1)
        ]
        requests = [request.changed(seed=seed) for seed in seeds]
        await asyncio.to_thread(_admit_for_good, request)
        shot = await self._shot(submission, request)
        jobs = await self._add(
            requests, shot=shot, key=key, body_sha256=body, front=submission.front
        )
        return jobs, True

    async def _submit_shot(
        self,
        shot_id: str,
        *,
        key: str,
        preset: str,
        request: Mapping[str, JsonValue],
        seeds: Sequence[int],
    ) -> list[Job]:
        """Add jobs for a shot that was asked for inside Resolve."""
        submission = Submission(
            shot_id=shot_id, key=key, preset=preset, request=dict(request), seeds=list(seeds)
        )
        return (await self.submit(submission))[0]

    async def again(self, job_id: str, *, new_seed: bool) -> Job:
        """A new job like one that was, for the same shot."""
        job = await self.ask(lambda store: store.job(job_id))
        request = Request.parse(job.request)
        if new_seed:
            request = request.changed(seed=random.randrange(MAX_SEED + 1))
        draft = "" if new_seed else job.draft_take
        return await self._add_like(job.shot_id, request, draft_take=draft)

    async def finish(self, take_id: str, changes: Mapping[str, JsonValue]) -> Job:
        """A draft carried on to its full size: a new job."""
        take = await self.ask(lambda store: store.take(take_id))
        if not take.is_draft:
            raise Conflict(f"{take.file} is no draft.", hint="Only a draft can be finished.")
        job = await self.ask(lambda store: store.job(take.job_id))
        fields = await asyncio.to_thread(_merged, job.request, {**changes, "draft": False})
        return await self._add_like(take.shot_id, Request.parse(fields), draft_take=take_id)

    async def trash(self, take_id: str) -> Take:
        """A take's files in the system's trash; the take stays known, its number is not used again.

        Raises:
            Conflict: it is there already.
            OutputError: the system has no trash for the takes' volume; nothing was moved.
        """
        take = await self.ask(lambda store: store.take(take_id))
        await asyncio.to_thread(move_to_trash, paths.takes() / take.file)
        return await self.change(lambda store: store.judge(take_id, Verdict.TRASHED))

    async def _add_like(self, shot_id: str, request: Request, *, draft_take: str) -> Job:
        shot = await self.ask(lambda store: store.shot(shot_id))
        known = NewShot(shot.id, shot.name, shot.placement)
        return (await self._add([request], shot=known, draft_take=draft_take))[0]

    async def _shot(self, submission: Submission, request: Request) -> NewShot:
        if submission.shot_id:
            if submission.shot is not None:
                raise RequestError("Give a new shot or the id of one, not both.")
            shot = await self.ask(lambda store: store.shot(submission.shot_id))
            return NewShot(shot.id, shot.name, shot.placement)
        if submission.shot is None:
            name = request.prompt or (request.clip.path.stem if request.clip else "")
            return NewShot(secrets.token_hex(8), _plain_name(name))
        if not submission.shot.name.isprintable() or not submission.shot.name.strip():
            raise RequestError(
                "The shot's name holds characters that cannot be shown.", hint="Name it again."
            )
        return NewShot(secrets.token_hex(8), submission.shot.name, submission.shot.placement)

    async def _add(
        self,
        requests: Sequence[Request],
        *,
        shot: NewShot,
        key: str = "",
        body_sha256: str = "",
        front: bool = False,
        draft_take: str = "",
    ) -> list[Job]:
        """First the folders, then the rows: an acknowledged job is in two places."""
        jobs = [NewJob(secrets.token_hex(8), one.as_json(), draft_take) for one in requests]
        job_ids = [job.id for job in jobs]

        def write() -> None:
            for job, request in zip(jobs, requests, strict=True):
                spec = Spec(
                    id=job.id,
                    shot_id=shot.id,
                    shot_name=shot.name,
                    placement=dict(shot.placement),
                    request=request.as_dict(),
                    draft_take=draft_take,
                    key=key,
                    body_sha256=body_sha256,
                    job_ids=job_ids,
                    created_at=time.time(),
                )
                with as_output_error(JobFolder(job.id).path):
                    JobFolder(job.id).write_spec(spec)

        try:
            await asyncio.to_thread(write)
            added = await self.change(
                lambda store: store.add(
                    jobs, shot=shot, key=key, body_sha256=body_sha256, front=front
                )
            )
        except BaseException:
            await asyncio.to_thread(_remove, job_ids)
            raise
        if not set(job_ids) & {
            job.id for job in added
        }:  # another submission with the key was first
            await asyncio.to_thread(_remove, job_ids)
        return added

    # ------------------------------------------------------------------------------ changing

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once, or at its next step."""
        return await self._wish(job_id, Wish.CANCEL)

    async def pause(self, job_id: str) -> Job:
        """Pause a job: at once, or at its next step; it goes on from there."""
        return await self._wish(job_id, Wish.PAUSE)

    async def _wish(self, job_id: str, wish: Wish) -> Job:
        job = await self.change(lambda store: store.wish(job_id, wish))
        if job.state == JobState.RUNNING:
            await self._runner.heed()
        elif job.state in ENDED:
            await self._runner.tidy([job_id])
        return job

    async def resume(self, job_id: str) -> Job:
        """A paused or waiting job goes on; one that is to be paused is not."""
        job = await self.ask(lambda store: store.job(job_id))
        if job.state not in (JobState.PAUSED, JobState.WAITING):
            raise Conflict(f"Job {job.number} is {job.state}, not paused.")
        return await self.change(lambda store: store.change(job_id, JobState.QUEUED))

    async def retry(self, job_id: str) -> Job:
        """A job that failed or was cancelled is queued again."""
        job = await self.ask(lambda store: store.job(job_id))
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise Conflict(
                f"Job {job.number} is {job.state}: there is nothing to try again.",
                hint="Make a new one like it with: again.",
            )
        await asyncio.to_thread(JobFolder(job_id).forget_end)
        return await self.change(
            lambda store: store.change(job_id, JobState.QUEUED, only_from=job.state, crashes=0)
        )

    async def edit(self, job_id: str, changes: Mapping[str, JsonValue]) -> Job:
        """Change the request of a job that does not run."""
        job = await self.ask(lambda store: store.job(job_id))
        request = Request.parse(await asyncio.to_thread(_merged, job.request, changes))
        await asyncio.to_thread(_admit_for_good, request)
        job = await self.change(lambda store: store.edit(job_id, request.as_json()))
        await asyncio.to_thread(_write_request, job_id, request)
        return job

    async def set_mode(self, mode: QueueMode) -> Queue:
        """Run the queue, stop it after the jobs that run, or at once."""
        queue = await self.change(lambda store: store.set_mode(mode))
        await self._runner.heed()
        return queue

    async def cancel_waiting(self) -> int:
        """Cancel all jobs of the queue that do not run; how many."""
        waiting = await self.ask(lambda store: store.queued(limit=-1))
        count = await self.change(Store.cancel_waiting)
        await self._runner.tidy([job.id for job in waiting])
        return count

    # -------------------------------------------------------------------------------- models

    async def delete_model(self, name: str) -> None:
        """Remove a checkpoint that no job runs with. Raises NotFound, Conflict, OutputError."""
        for job in await self.ask(Store.under_way):
            if job.request.get("checkpoint") == name:
                raise Conflict(f"Job {job.number} is being made with it.", hint="Cancel it first.")
        await asyncio.to_thread(self.downloads.delete, name)

    def _ring(self) -> None:
        """Wake everybody who waits, from any thread."""
        self._loop.call_soon_threadsafe(self._desk.ring)

    # ---------------------------------------------------------------------------- forecasting

    async def plan(self, preset: str, changes: Mapping[str, JsonValue]) -> dict[str, Any]:
        """The forecast of a request on this machine as it is now."""

        def make() -> dict[str, Any]:
            request = Request.parse(_request_fields(preset, changes, with_lora=False))
            made = make_plan(request, hardware.free_machine(self._workers), past_runs())
            try:
                admit(made)
            except FreeswimError as error:
                return made.as_dict() | {"is_admitted": False, "hint": error.hint}
            return made.as_dict() | {"is_admitted": True, "hint": ""}

        return await asyncio.to_thread(make)

    async def machine(self) -> dict[str, Any]:
        """Slots, GPUs, memory and disk."""
        gpus = await asyncio.to_thread(hardware.gpus, self._workers)
        return {
            "slots": [
                {
                    "name": state.slot.name,
                    "device": state.slot.gpu or "cpu",
                    "state": _slot_word(state.message, state.job_id),
                    "job_id": state.job_id,
                    "message": state.message,
                }
                for state in self._runner.slots
            ],
            "gpus": [gpu.model_dump() for gpu in gpus],
            "host": hardware.host_memory().model_dump(),
            "disk": hardware.disk().model_dump(),
        }

    def enable_slot(self, name: str) -> None:
        """Use a slot again that was disabled. Raises NotFound."""
        self._runner.enable(name)

    async def etas(self) -> dict[str, Any]:
        """Seconds left of each job of the queue's beginning, and of the whole queue.

        None where a job's kind was not made on this machine yet.
        """
        jobs = await self.ask(lambda store: store.queued(limit=MOST_TIMED + 1))
        progress = dict(self.progress)

        def forecast() -> dict[str, Any]:
            runs, machine = past_runs(), hardware.whole_machine()

            @cache
            def minutes(text: str) -> dict[str, float | None]:
                return make_plan(Request.parse_text(text), machine, runs).minutes

            left: dict[str, float | None] = {}
            for job in jobs[:MOST_TIMED]:
                try:
                    request = Request.parse(job.request).changed(seed=0, prompt="-")
                except FreeswimError:
                    continue
                left[job.id] = seconds_left(minutes(request.as_json()), progress.get(job.id))
            waits = [left.get(job.id) for job in jobs if job.state != JobState.PAUSED]
            known = [seconds for seconds in waits if seconds is not None]
            is_known = len(known) == len(waits) and len(jobs) <= MOST_TIMED
            slots = max(1, len(self._runner.slots))
            return {"jobs": left, "queue": sum(known) / slots if is_known else None}

        return await asyncio.to_thread(forecast)

    @property
    def _workers(self) -> list[int]:
        return [state.slot.pid for state in self._runner.slots if state.slot.pid is not None]


# ----------------------------------------------------------------------- from words to a request


def _request_fields(
    preset: str, changes: Mapping[str, JsonValue], *, with_lora: bool = True
) -> dict[str, Any]:
    """A preset's defaults with `changes` on top, media with their checksums."""
    fields: dict[str, Any] = {}
    if preset:
        loaded = load_preset(preset)
        fields = dict(loaded.defaults)
        loras = changes.get("loras")
        if with_lora:
            loaded.check_loras(len(loras) if isinstance(loras, list) else 0)
    fields.setdefault("kind", "text")
    return _merged(fields, changes)


def _merged(fields: Mapping[str, Any], changes: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Fields of a request with others in their place; those of a pass are changed one by one."""
    merged = dict(fields)
    for name, value in changes.items():
        before = merged.get(name)
        if name in _PARTS and isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = {**before, **value}
        else:
            merged[name] = _with_checksum(value) if name in _MEDIA_FIELDS else value
    loras: Any = merged.get("loras")
    if isinstance(loras, list):
        merged["loras"] = [_lora_with_checksum(lora) for lora in cast("list[Any]", loras)]
    return merged


def _lora_with_checksum(lora: Any) -> Any:
    if not isinstance(lora, dict):
        return lora
    fields = cast("dict[str, Any]", lora)
    return fields | {"file": _with_checksum(fields.get("file"))}


def _with_checksum(value: Any) -> Any:
    """A file as a request has it; its checksum is computed where it was not given."""
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    path = Path(str(fields.get("path")))
    if not path.is_absolute() or str(path).startswith(("\\\\", "//")):
        raise RequestError(
            f"{path.name} is not a file of this machine.", hint="Give its whole path."
        )
    return fields if set(fields) != {"path"} else Media.of(path).model_dump(mode="json")


def _admit_for_good(request: Request) -> None:
    """Refuse what this machine could not make with nothing else on it."""
    admit(make_plan(request, hardware.whole_machine()))


def _plain_name(words: str) -> str:
    """A shot's name out of a prompt."""
    plain = "".join(character if character.isprintable() else " " for character in words)
    return " ".join(plain.split())[:60].strip() or "Shot"


def _write_request(job_id: str, request: Request) -> None:
    folder = JobFolder(job_id)
    spec = folder.read_spec()
    if spec is not None:
        folder.write_spec(spec.model_copy(update={"request": request.as_dict()}))


def _remove(job_ids: Sequence[str]) -> None:
    for job_id in job_ids:
        JobFolder(job_id).remove()


def _slot_word(message: str, job_id: str) -> str:
    if message:
        return "disabled"
    return "busy" if job_id else "idle"
