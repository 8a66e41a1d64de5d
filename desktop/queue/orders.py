"""What people order of jobs: told to the studio, shown in the rows at once, taken back if refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from PySide6.QtCore import QObject, Signal

from desktop.queue.model import QueueModel
from desktop.queue.notice import Notice
from desktop.studio import Studio
from freeswim.errors import Conflict, FreeswimError, NotFound
from freeswim.studio.client import Client, Json
from freeswim.studio.job import Job, JobState, QueueMode
from freeswim.studio.store import MOST_ROWS

AT_ONCE = 20  # jobs that are changed before other orders come in between


@dataclass
class _Batch:
    """Jobs that the same is ordered for, a few at a time."""

    rest: deque[str]
    asked: list[str]


class Orders(QObject):
    """Orders on their way; what the studio refuses is said in the notice.

    Signals:
        undone: jobs that were removed are put back.
        mode_refused: the queue goes on as it did.
    """

    undone = Signal()
    mode_refused = Signal()

    def __init__(
        self, studio: Studio, queue: QueueModel, notice: Notice, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._studio = studio
        self._queue = queue
        self._notice = notice

    def move(self, job_ids: list[str], before: str) -> None:
        """Move jobs that wait before another one; `before` empty: to the end."""
        place = {"before": before} if before else {"to": "end"}
        move = self._queue.place(job_ids, before)

        def refused(error: FreeswimError) -> None:
            self._queue.take_back(move)
            self._notice.complain(error)

        def call(client: Client) -> list[Job]:
            said: list[Json] = []
            for first in range(0, len(job_ids), MOST_ROWS):
                some = {"ids": job_ids[first : first + MOST_ROWS]}
                said += client.post("/jobs/move", some | place)["jobs"]
            return [Job.model_validate(job) for job in said]

        self._studio.order(call, partial(self._queue.settle, move), refused)

    def each(self, job_ids: Iterable[str], verb: str, state: str) -> None:
        """Order something of each job; `state` is what their rows say meanwhile."""
        self._order(_Batch(deque(job_ids), []), verb, state)

    def one_more(self, job: Job) -> None:
        """The same request with another seed, at the end of the queue."""
        again = partial(_post, f"/jobs/{job.id}/again", {"new_seed": True})
        self._studio.order(again, None, self._notice.complain)

    def cancel(self, waiting: Sequence[Job], running: Sequence[Job]) -> None:
        """Stop jobs that run, and remove jobs that wait; these can be put back."""
        self.each([job.id for job in running], "cancel", "Cancelling")
        if not waiting:
            return
        batch = _Batch(deque(job.id for job in waiting), [])
        name = waiting[0].shot_name if len(waiting) == 1 else f"{len(waiting)} jobs"
        undo = partial(self._put_back, batch, _paused(waiting))
        self._notice.offer_undo(f"{name} removed.", undo)
        self._order(batch, "cancel", "Removing")

    def cancel_all(self, waiting: Sequence[Job]) -> None:
        """Remove all jobs that wait, in one step; they can be put back."""
        job_ids = [job.id for job in waiting]
        self._queue.ask(job_ids, "Removing")

        def refused(error: FreeswimError) -> None:
            self._queue.ask(job_ids, "")
            self._notice.complain(error)

        undo = partial(self._put_back, _Batch(deque(), job_ids), _paused(waiting))
        words = "1 job removed." if len(waiting) == 1 else f"{len(waiting)} jobs removed."
        self._notice.offer_undo(words, undo)
        self._studio.order(partial(_post, "/jobs/cancel", {}), None, refused)

    def clear(self, job_ids: Sequence[str]) -> None:
        """Jobs at their end are listed no more."""
        for first in range(0, len(job_ids), MOST_ROWS):
            asked = {"ids": list(job_ids[first : first + MOST_ROWS])}
            self._studio.order(partial(_post, "/jobs/clear", asked), None, self._notice.complain)

    def set_mode(self, mode: QueueMode) -> None:
        """Let the queue run, pause it, or stop it after the job that runs."""

        def refused(error: FreeswimError) -> None:
            self.mode_refused.emit()
            self._notice.complain(error)

        self._studio.order(
            lambda client: client.patch("/queue", {"mode": mode.value}), None, refused
        )

    def _order(self, batch: _Batch, verb: str, state: str) -> None:
        """A few at a time, so that other orders come in between."""
        self._queue.ask(list(batch.rest), state)
        self._order_some(batch, verb)

    def _order_some(self, batch: _Batch, verb: str) -> None:
        some = [batch.rest.popleft() for _ in range(min(AT_ONCE, len(batch.rest)))]
        batch.asked += some

        def call(client: Client) -> FreeswimError | None:
            refused = None
            for job_id in some:
                try:
                    client.post(f"/jobs/{job_id}/{verb}")
                except (Conflict, NotFound) as error:  # of a job that has changed meanwhile
                    refused = error
            return refused

        def done(refused: FreeswimError | None) -> None:
            if refused is not None:
                self._queue.ask(some, "")
                self._notice.complain(refused)
            if batch.rest:
                self._order_some(batch, verb)

        def failed(error: FreeswimError) -> None:
            self._queue.ask([*some, *batch.rest], "")
            self._notice.complain(error)

        if some:
            self._studio.order(call, done, failed)

    def _put_back(self, batch: _Batch, paused: set[str]) -> None:
        """Undo a removal; what was not removed yet stays."""
        self._queue.ask(list(batch.rest), "")
        batch.rest.clear()
        self.each(batch.asked, "retry", "")
        self.each([job_id for job_id in batch.asked if job_id in paused], "pause", "")
        self.undone.emit()


def _paused(jobs: Iterable[Job]) -> set[str]:
    return {job.id for job in jobs if job.state == JobState.PAUSED}


def _post(path: str, body: Json, client: Client) -> Json:
    return client.post(path, body)
