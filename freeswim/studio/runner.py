"""Claim, run, publish: what becomes of the jobs in the queue.

Execution is at least once, the effect exactly once: an attempt writes into a folder of its own,
goes on from the checkpoints of those before it, and only a whole take is published (publish.py).
Nothing here relies on being stopped in an orderly way.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from freeswim import paths, protocol, sidecar
from freeswim.errors import (
    CheckpointMissing,
    Conflict,
    DiskFull,
    FreeswimError,
    MediaError,
    NotFound,
    OutputExists,
    StudioError,
    WorkerCrashed,
)
from freeswim.plan import disk_bytes
from freeswim.request import Request
from freeswim.studio.awake import Awake
from freeswim.studio.database import keep_reserve, release_reserve
from freeswim.studio.desk import Answer, Desk
from freeswim.studio.executors.local import Crashed, LocalSlot
from freeswim.studio.folders import JobFolder, Spec, all_folders
from freeswim.studio.job import (
    ENDED,
    Failure,
    Job,
    JobState,
    NewTake,
    QueueMode,
    Reason,
    Take,
    Wish,
)
from freeswim.studio.publish import TAKE, finished_attempt, name_take, put_in_place
from freeswim.studio.store import NewJob, NewShot, Store

log = logging.getLogger(__name__)

MOST_CRASHES = 3  # of a job's worker in a row, without the job getting further
MOST_ATTEMPTS = 50  # of a job, however far it gets
MOST_SAME = 3  # jobs that fail of the same thing, one after the other, before the queue pauses
MOST_STRIKES = 3  # different jobs that a slot's workers crashed on, one after the other
LOOK_EVERY_S = 2.0  # whether what jobs wait for is there
SPARE_BYTES = 2**20  # beside what a job needs

Outcome = protocol.Made | protocol.Stopped | protocol.Failed | Crashed


class JobProgress(BaseModel):
    """How far a job is that runs; in memory only."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    stage: str = ""
    step: int = 0
    num_steps: int = 1
    seconds: float = 0.0  # since the attempt began
    preview: int = 0  # number of the newest preview; 0: there is none yet
    change: int = 0  # counts up


@dataclass
class SlotState:
    """A slot and what is known of it."""

    slot: LocalSlot
    job_id: str = ""  # that runs in it
    strikes: list[str] = field(default_factory=list[str])  # jobs that its workers crashed on
    message: str = ""  # why it is disabled; empty: it is not


class Runner:
    """Serves the queue until it is stopped."""

    def __init__(self, desk: Desk, slots: Sequence[LocalSlot]) -> None:
        self._desk = desk
        self.slots = [SlotState(slot) for slot in slots]
        self.progress: dict[str, JobProgress] = {}  # by job id
        self.is_stopping = False
        self._same: list[str] = []  # codes of the last failures, with no take between them
        self._tasks: list[asyncio.Task[None]] = []
        self._publications: set[asyncio.Task[None]] = set()
        self._awake = Awake()
        self._one_publication = asyncio.Lock()  # at a time: a take's number is counted

    async def start(self) -> None:
        """Bring what was under way back into order, and serve the queue."""
        await self._adopt()
        for job in await self._desk.ask(Store.under_way):
            await self._recover(job)
        self._tasks = [asyncio.create_task(self._serve(state)) for state in self.slots]
        self._tasks.append(asyncio.create_task(self._look_after()))

    async def stop(self) -> None:
        """Begin nothing, stop what runs at its next step; jobs that ran are queued again."""
        self.is_stopping = True
        self._desk.ring()
        for state in self.slots:
            if state.job_id:
                await state.slot.stop()
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*self._publications, return_exceptions=True)
        await asyncio.gather(*(state.slot.exit() for state in self.slots))
        await asyncio.to_thread(self._awake.release)

    async def heed(self) -> None:
        """Look at what is wanted of the jobs that run, and of the queue."""
        mode = await self._desk.ask(lambda store: store.mode)
        for state in self.slots:
            if not state.job_id:
                continue
            job_id = state.job_id
            job = await self._desk.ask(lambda store, job_id=job_id: store.job(job_id))
            if job.wish != Wish.NONE or mode == QueueMode.PAUSE:
                await state.slot.stop()

    def enable(self, name: str) -> None:
        """Use a slot again that was disabled. Raises NotFound."""
        for state in self.slots:
            if state.slot.name == name:
                state.message = ""
                state.strikes.clear()
                self._desk.ring()
                return
        raise NotFound(f"There is no slot {name!r}.", hint="Ask for the machine.")

    # --------------------------------------------------------------------------- the loop

    async def _serve(self, state: SlotState) -> None:
        """Run one job after the other in a slot."""
        while not self.is_stopping:
            rings = self._desk.rings
            job = None if state.message else await self._persist(Store.claim)
            if job is None:
                if self._desk.rings == rings:
                    await self._desk.wait(self._desk.seq, LOOK_EVERY_S)
                continue
            state.job_id = job.id
            try:
                await self._attempt(state, job)
            except Conflict as error:
                log.error("job %d: %s", job.number, error.message)
            except (OSError, DiskFull, StudioError) as error:
                log.warning("job %d: %s", job.number, error)
                await self._wait_for_disk(job, 0)
            except FreeswimError as error:  # of a request that this version cannot make
                await self._end(job, JobState.FAILED, failure=_failure(error))
            finally:
                state.job_id = ""
                self.progress.pop(job.id, None)

    async def _attempt(self, state: SlotState, job: Job) -> None:
        folder = JobFolder(job.id)
        if media := await asyncio.to_thread(finished_attempt, folder, job):
            self._in_background(self._publish(job, media))
            return
        request = Request.parse(job.request)
        if await asyncio.to_thread(_free_bytes) < disk_bytes(request) + SPARE_BYTES:
            await self._wait_for_disk(job, 0)
            return
        mark = await asyncio.to_thread(folder.progress_mark)
        attempt = await asyncio.to_thread(folder.begin, job.attempt)
        run = protocol.Run(
            job_id=job.id,
            attempt=job.attempt,
            request=request.as_dict(),
            output=attempt / TAKE,
            checkpoints=folder.checkpoints,
            preview=folder.preview,
            log=folder.log,
            draft_latents=await self._draft_latents(job),
        )
        log.info("job %d attempt %d on %s", job.number, job.attempt, state.slot.name)
        await self.heed()  # something may have been wished since it was claimed
        outcome = await self._run(state.slot, run)
        job = await self._desk.ask(lambda store: store.job(job.id))
        match outcome:
            case protocol.Made():
                state.strikes.clear()
                if job.wish == Wish.CANCEL:  # before it was published: so be it
                    await self._end(job, JobState.CANCELLED)
                else:
                    self._in_background(self._publish(job, attempt / TAKE))
            case protocol.Stopped():
                await self._stopped(job)
            case protocol.Failed():
                await self._failed(state, job, outcome)
            case Crashed():
                has_progressed = await asyncio.to_thread(folder.progress_mark) != mark
                await self._crashed(state, job, outcome, has_progressed=has_progressed)

    async def _run(self, slot: LocalSlot, run: protocol.Run) -> Outcome:
        progress = JobProgress(job_id=run.job_id)
        async for event in slot.run(run):
            match event:
                case protocol.Step():
                    told = event.model_dump(include={"stage", "step", "num_steps", "seconds"})
                    progress = progress.model_copy(update=told | {"change": progress.change + 1})
                case protocol.Preview(number=number):
                    changes = {"preview": number, "change": progress.change + 1}
                    progress = progress.model_copy(update=changes)
                case protocol.Made() | protocol.Stopped() | protocol.Failed() | Crashed():
                    return event
                case _:
                    continue
            self.progress[run.job_id] = progress
            self._desk.ring()
        raise AssertionError("a slot's events end with an outcome")

    async def _draft_latents(self, job: Job) -> Path | None:
        """Latents of the draft that the job finishes; without them the base pass runs again."""
        if not job.draft_take:
            return None
        try:
            draft = await self._desk.ask(lambda store: store.take(job.draft_take))
            media = paths.takes() / draft.file
            return await asyncio.to_thread(
                lambda: sidecar.draft_latents(media, sidecar.read_sidecar(media))
            )
        except (NotFound, MediaError):
            return None

    # ----------------------------------------------------------------------- what came of it

    async def _stopped(self, job: Job) -> None:
        match job.wish:
            case Wish.CANCEL:
                await self._end(job, JobState.CANCELLED)
            case Wish.PAUSE:
                await self._move(job, JobState.PAUSED)
            case Wish.NONE:  # the queue is paused, or the daemon stops
                await self._move(job, JobState.QUEUED)

    async def _failed(self, state: SlotState, job: Job, failed: protocol.Failed) -> None:
        if job.wish == Wish.CANCEL:
            await self._end(job, JobState.CANCELLED)
        elif failed.code == DiskFull.code:
            needed = failed.details.get("needed_bytes", 0)
            await self._wait_for_disk(job, needed if isinstance(needed, int) else 0)
        elif failed.code == CheckpointMissing.code and not _is_installed(job):
            failure = Failure(**failed.model_dump(include=set(Failure.model_fields)))
            await self._move(job, JobState.WAITING, reason=Reason.MODEL, failure=failure)
        elif failed.code == protocol.DEVICE:  # the slot's fault, not the job's
            self._strike(state, f"{job.id} {job.attempt}", failed.message)
            await self._move(job, JobState.QUEUED)
        else:
            failure = Failure(**failed.model_dump(include=set(Failure.model_fields)))
            await self._end(job, JobState.FAILED, failure=failure)

    async def _crashed(
        self, state: SlotState, job: Job, crash: Crashed, *, has_progressed: bool
    ) -> None:
        if crash.was_to_stop:  # it was killed, for it did not
            await self._stopped(job)
            return
        crashes = 1 if has_progressed else job.crashes + 1
        what = "did nothing any more" if crash.is_hung else f"died ({crash.exit_code})"
        where = f" in {crash.stage}" if crash.stage else ""
        log.warning("job %d: its worker %s%s", job.number, what, where)
        self._strike(state, job.id, f"its worker {what}{where}")
        if crashes < MOST_CRASHES and job.attempt < MOST_ATTEMPTS:
            await self._move(job, JobState.QUEUED, crashes=crashes)
            return
        error = WorkerCrashed(
            f"The worker {what}{where}, {crashes} times without getting further.",
            hint=f"Look at its log: freeswim logs {job.number}.",
            details={"exit_code": crash.exit_code, "stage": crash.stage},
        )
        await self._end(job, JobState.FAILED, failure=_failure(error), crashes=crashes)

    def _strike(self, state: SlotState, who: str, what: str) -> None:
        """A slot whose workers die on one job after the other is to be left alone."""
        if who not in state.strikes:
            state.strikes.append(who)
        if len(state.strikes) >= MOST_STRIKES:
            state.message = f"{MOST_STRIKES} jobs in a row crashed here; the last time {what}."
            log.error("%s is disabled: %s", state.slot.name, state.message)

    async def _wait_for_disk(self, job: Job, needed: int) -> None:
        needed = max(needed, disk_bytes(Request.parse(job.request))) + SPARE_BYTES
        await self._move(job, JobState.WAITING, reason=Reason.DISK, needed_bytes=needed)

    async def _end(
        self, job: Job, state: JobState, *, failure: Failure | None = None, crashes: int = 0
    ) -> None:
        pauses = failure is not None and self._is_same_again(failure.code)

        def end(store: Store) -> None:
            store.change(job.id, state, only_from=job.state, failure=failure, crashes=crashes)
            if pauses:
                store.set_mode(QueueMode.STOP_AFTER)
            tidy_folder(store, job.id)

        await self._persist(end)

    def _is_same_again(self, code: str) -> bool:
        """Whether that is one failure too many of one kind: the next job would fail of it too."""
        self._same = [*(same for same in self._same if same == code), code]
        if len(self._same) < MOST_SAME:
            return False
        log.error("the queue stops: %d jobs in a row failed of %s", MOST_SAME, code)
        self._same.clear()
        return True

    async def _move(
        self,
        job: Job,
        state: JobState,
        *,
        reason: Reason = Reason.NONE,
        needed_bytes: int = 0,
        failure: Failure | None = None,
        crashes: int = 0,
        publishing: NewTake | None = None,
    ) -> Job:
        return await self._persist(
            lambda store: store.change(
                job.id,
                state,
                only_from=job.state,
                reason=reason,
                needed_bytes=needed_bytes,
                failure=failure,
                crashes=crashes,
                publishing=publishing,
            )
        )

    async def tidy(self, job_ids: Sequence[str]) -> None:
        """Bring the folders of jobs at their end in order."""
        for job_id in job_ids:
            await self._desk.ask(lambda store, job_id=job_id: tidy_folder(store, job_id))

    # ------------------------------------------------------------------------------ publishing

    async def _publish(self, job: Job, media: Path) -> None:
        """Give the take its name, and have it put in place while the slot goes on."""
        async with self._one_publication:
            number = await self._desk.ask(lambda store: store.next_take_number(job.shot_id))
            try:
                take = await self._name(job, media, number)
            except MediaError as error:
                await self._make_again(job, error)
                return
            job = await self._move(job, JobState.PUBLISHING, publishing=take, crashes=job.crashes)
            await self._put_in_place(job, take, media)

    async def _put_in_place(self, job: Job, take: NewTake, media: Path | None) -> None:
        """Until the take is there, or cannot be."""
        while True:
            try:
                await asyncio.to_thread(put_in_place, take, media)
                await asyncio.to_thread(JobFolder(job.id).write_manifest, take)
                break
            except OutputExists as error:
                if media is None:  # what was in place is gone, and another file has its name
                    await self._make_again(job, MediaError(error.message))
                    return
                take = await self._name(job, media, take.number)
                job = await self._move(
                    job, JobState.PUBLISHING, publishing=take, crashes=job.crashes
                )
            except MediaError as error:  # of a take that was damaged meanwhile
                await self._make_again(job, error)
                return
            except (OSError, FreeswimError) as error:
                log.warning("the take of job %d cannot be put in place: %s", job.number, error)
                if self.is_stopping:
                    return  # the next start goes on here
                if job.reason != Reason.DISK:
                    job = await self._move(
                        job,
                        JobState.PUBLISHING,
                        reason=Reason.DISK,
                        publishing=take,
                        crashes=job.crashes,
                    )
                await asyncio.sleep(LOOK_EVERY_S)

        def finish(store: Store) -> Take:
            done = store.finish(job.id, take)
            tidy_folder(store, job.id)
            return done

        done = await self._persist(finish)
        self._same.clear()
        log.info("job %d is done: take %d of its shot", job.number, done.number)

    async def _name(self, job: Job, media: Path, number: int) -> NewTake:
        known = await self._desk.ask(Store.take_files)
        return await asyncio.to_thread(name_take, job, media, number=number, known=known)

    async def _make_again(self, job: Job, error: MediaError) -> None:
        """A take was damaged before it was in place; whoever always damages it is a crash."""
        log.warning("the take of job %d cannot be used: %s", job.number, error.message)
        crashes = job.crashes + 1
        if crashes < MOST_CRASHES and job.attempt < MOST_ATTEMPTS:
            await self._move(job, JobState.QUEUED, crashes=crashes)
        else:
            await self._end(job, JobState.FAILED, failure=_failure(error), crashes=crashes)

    # ------------------------------------------------------------------------ after a restart

    async def _adopt(self) -> None:
        """Jobs whose folders the database does not know: it is a backup, or a new one."""
        known = await self._desk.ask(Store.known_ids)
        specs: list[Spec] = []
        for folder in await asyncio.to_thread(lambda: list(all_folders())):
            if folder.job_id in known:
                if await asyncio.to_thread(folder.is_untidy):
                    await self.tidy([folder.job_id])
            elif (spec := folder.read_spec()) is None:
                await asyncio.to_thread(folder.remove_unfinished)
            elif await asyncio.to_thread(_never_was, folder, spec):
                log.warning("job %s was never acknowledged and is removed", spec.id)
                await asyncio.to_thread(folder.remove)
            else:
                specs.append(spec)
        for spec in sorted(specs, key=lambda spec: spec.created_at):
            await self._adopt_one(spec)

    async def _adopt_one(self, spec: Spec) -> None:
        folder = JobFolder(spec.id)
        take, ended = folder.read_manifest(), folder.read_ended()
        state = JobState.QUEUED
        if take is not None:
            state = JobState.DONE
        elif ended is not None:
            state = ended.state
        try:
            request = Request.parse(spec.request)
        except FreeswimError as error:  # of another version
            log.error("the folder of job %s is passed over: %s", spec.id, error.message)
            return
        log.warning("job %s is adopted from its folder as %s", spec.id, state)
        await self._persist(
            lambda store: store.adopt(
                NewJob(spec.id, request.as_json(), spec.draft_take),
                shot=NewShot(spec.shot_id, spec.shot_name, spec.placement),
                state=state,
                failure=ended.failure if ended is not None else None,
                take=take,
                submission=(spec.key, spec.body_sha256, spec.job_ids) if spec.key else None,
                created_at=spec.created_at,
            )
        )

    async def _recover(self, job: Job) -> None:
        """A job that was under way when the daemon ended; its worker ended with it."""
        folder = JobFolder(job.id)
        media = await asyncio.to_thread(finished_attempt, folder, job)
        take = await self._desk.ask(lambda store: store.publishing(job.id))
        if job.state == JobState.PUBLISHING and take is not None:
            self._in_background(self._go_on_publishing(job, take, media))
        elif media is not None and job.wish != Wish.CANCEL:
            self._in_background(self._publish(job, media))
        elif job.attempt >= MOST_ATTEMPTS and job.wish == Wish.NONE:
            log.warning("job %d is paused: it was begun %d times", job.number, job.attempt)
            await self._move(job, JobState.PAUSED)
        else:
            await self._stopped(job)

    async def _go_on_publishing(self, job: Job, take: NewTake, media: Path | None) -> None:
        async with self._one_publication:
            await self._put_in_place(job, take, media)

    def _in_background(self, publication: Coroutine[Any, Any, None]) -> None:
        """The slot goes on meanwhile."""

        def done(task: asyncio.Task[None]) -> None:
            self._publications.discard(task)
            if not task.cancelled() and (error := task.exception()):
                log.error("a take was not published; the next start tries again", exc_info=error)

        task = asyncio.create_task(publication)
        self._publications.add(task)
        task.add_done_callback(done)

    # -------------------------------------------------------------------------- looking after

    async def _look_after(self) -> None:
        """Jobs that wait go on when what they wait for is there; idle workers are let go."""
        while not self.is_stopping:
            await asyncio.sleep(LOOK_EVERY_S / 2)
            is_busy = any(state.job_id for state in self.slots) or bool(self._publications)
            await asyncio.to_thread(self._awake.follow, is_busy)
            for state in self.slots:
                if not state.job_id:
                    await state.slot.recycle()
            try:
                await self._look_at_waiting()
            except (OSError, FreeswimError) as error:
                log.warning("jobs that wait go on waiting: %s", error)

    async def _look_at_waiting(self) -> None:
        for job in await self._desk.ask(Store.waiting):
            if await asyncio.to_thread(_is_there, job):
                await self._move(job, JobState.QUEUED)
        if await asyncio.to_thread(_free_bytes) > SPARE_BYTES:
            await asyncio.to_thread(keep_reserve)

    async def _persist(self, work: Callable[[Store], Answer]) -> Answer:
        """A change of the state, as soon as the disk takes it."""
        while True:
            try:
                return await self._desk.change(work)
            except (DiskFull, StudioError) as error:
                if isinstance(error, DiskFull) and release_reserve():
                    continue
                log.warning("the state cannot be written: %s", error.message)
                if self.is_stopping:
                    raise
                await asyncio.sleep(LOOK_EVERY_S)


def tidy_folder(store: Store, job_id: str) -> None:
    """Say in the folder of a job at its end how it ended, and remove what is not needed.

    In the store's thread, so that nobody begins the job again meanwhile.
    """
    job = store.job(job_id)
    if job.state not in ENDED:
        return
    folder = JobFolder(job_id)
    try:
        if job.state != JobState.DONE:
            folder.write_ended(job)
        folder.tidy(keep_log=job.state == JobState.FAILED)
    except OSError as error:
        log.warning("the folder of job %d is not tidied: %s", job.number, error)


def _never_was(folder: JobFolder, spec: Spec) -> bool:
    """Whether the daemon ended while it wrote the folders of a submission, before it said so."""
    return not folder.was_begun and not all(
        (JobFolder(job_id).path / "spec.json").exists() for job_id in spec.job_ids
    )


def _is_there(job: Job) -> bool:
    """Whether what a job waits for is there."""
    if job.reason == Reason.MODEL:
        return _is_installed(job)
    return _free_bytes() >= job.needed_bytes


def _free_bytes() -> int:
    folders = [folder for folder in (paths.home(), paths.takes()) if folder.is_dir()]
    return min(shutil.disk_usage(folder).free for folder in folders)


def _is_installed(job: Job) -> bool:
    return (paths.models() / str(job.request.get("checkpoint"))).is_dir()


def _failure(error: FreeswimError) -> Failure:
    return Failure(**error.as_dict())
