"""The studio, as the window knows it: what it said last, and a way to have things done.

The only room of the app that talks to the daemon. Talking blocks, so it is done on threads; what
was said arrives as signals on the window's own thread. There is no second source of truth: the
dictionaries here are written by what the studio says and by nothing else.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from PySide6.QtCore import QObject, Qt, Signal

from freeswim.errors import FreeswimError, StudioError
from freeswim.studio.client import Client, connect, connect_or_start
from freeswim.studio.job import Changes, Job, JobState, QueueMode, Shot, Take
from freeswim.studio.runner import JobProgress

REST_S = 2.0  # between two tries to reach a studio
NUM_QUESTIONS = 3  # that are asked at a time

T = TypeVar("T")


@dataclass(frozen=True)
class Changed:
    """What is new: keys of `Studio.shots`, `.jobs` and `.takes`."""

    shots: frozenset[str]
    jobs: frozenset[str]
    takes: frozenset[str]


class Studio(QObject):
    """One per app. `start` finds the daemon, or starts it, and follows it until `close`."""

    connected = Signal()  # everything it knows has been told; again after `lost`
    lost = Signal(object)  # FreeswimError: nobody answers; it is tried again and again
    changed = Signal(object)  # Changed; all dictionaries are as they are now
    progressed = Signal(object)  # JobProgress
    resolve_changed = Signal()  # something is new inside DaVinci Resolve: /resolve says what
    refused = Signal(object)  # FreeswimError of a call for which nobody else wanted to know

    _arrived = Signal(object)  # a function, to be called on this object's thread

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.shots: dict[str, Shot] = {}
        self.jobs: dict[str, Job] = {}
        self.takes: dict[str, Take] = {}
        self.progress: dict[str, JobProgress] = {}  # of jobs that run, by their ids
        self.running: set[str] = set()  # ids of jobs
        self.mode = QueueMode.RUN
        self.is_connected = False
        self.is_new = False  # whether the daemon was started by this app, and not found
        self._client: Client | None = None
        self._is_closed = threading.Event()
        self._numbers = itertools.count()
        self._waiting: dict[
            int, tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]
        ] = {}
        self._orders = ThreadPoolExecutor(1, "orders")
        self._questions = ThreadPoolExecutor(NUM_QUESTIONS, "questions")
        self._arrived.connect(lambda function: function(), Qt.ConnectionType.QueuedConnection)

    def start(self) -> None:
        """Begin to follow the studio; returns at once."""
        threading.Thread(target=self._follow, name="studio", daemon=True).start()

    def close(self) -> None:
        """Hear and ask nothing more; the studio goes on. Orders given are still carried out."""
        self._is_closed.set()
        self.is_connected = False
        self._orders.shutdown(wait=True)
        self._questions.shutdown(wait=False, cancel_futures=True)

    def order(
        self,
        call: Callable[[Client], T],
        then: Callable[[T], Any] | None = None,
        failed: Callable[[FreeswimError], Any] | None = None,
    ) -> None:
        """Have something done. Orders are carried out one after the other, as they were given.

        Args:
            call: what to ask, on another thread: `lambda client: client.post(...)`.
            then: gets the answer, on this object's thread.
            failed: gets the failure, on this object's thread; None: `refused` tells of it.
        """
        self._send(self._orders, call, then, failed)

    def ask(
        self,
        call: Callable[[Client], T],
        then: Callable[[T], Any],
        failed: Callable[[FreeswimError], Any] | None = None,
    ) -> None:
        """Find something out. Answers may overtake each other, and orders. As `order` else."""
        self._send(self._questions, call, then, failed)

    # -------------------------------------------------------------------------------- inside

    def _send(
        self,
        pool: ThreadPoolExecutor,
        call: Callable[[Client], T],
        then: Callable[[T], Any] | None,
        failed: Callable[[FreeswimError], Any] | None,
    ) -> None:
        if self._is_closed.is_set():  # a timer of a window that is on its way out
            return
        number = next(self._numbers)
        # Who waits stays on this thread: one that let go of a widget last would delete it there.
        self._waiting[number] = (then, failed)
        pool.submit(self._ask, call).add_done_callback(partial(self._report, number))

    def _ask(self, call: Callable[[Client], T]) -> T:
        if self._client is None:
            raise StudioError("The studio is not there yet.", hint="Try again in a moment.")
        return call(self._client)

    def _report(self, number: int, future: Future[Any]) -> None:
        if not future.cancelled():
            self._post(partial(self._answer, number, future))

    def _answer(self, number: int, future: Future[Any]) -> None:
        then, failed = self._waiting.pop(number)
        error = future.exception()
        if isinstance(error, FreeswimError):
            (failed or self.refused.emit)(error)
        elif error is not None:
            raise error
        elif then is not None:
            then(future.result())

    def _post(self, function: Callable[[], Any]) -> None:
        """Have a function called on this object's thread."""
        if not self._is_closed.is_set():
            self._arrived.emit(function)

    def _follow(self) -> None:
        while not self._is_closed.is_set():
            try:
                found = connect()
                self.is_new = found is None
                self._client = client = found or connect_or_start()
                for event in client.events(0):
                    if self._is_closed.is_set():
                        return
                    if event.kind == "changes":
                        changes = Changes.model_validate(event.content)
                        self._post(partial(self._take_in, changes))
                    elif event.kind == "progress":
                        progress = JobProgress.model_validate(event.content)
                        self._post(partial(self._take_progress, progress))
                    elif event.kind == "resolve":
                        self._post(self.resolve_changed.emit)
            except FreeswimError as error:
                self._post(partial(self._lose, error))
                self._is_closed.wait(REST_S)

    def _take_in(self, changes: Changes) -> None:
        self.mode = changes.mode
        self.shots |= {shot.id: shot for shot in changes.shots}
        self.jobs |= {job.id: job for job in changes.jobs}
        self.takes |= {take.id: take for take in changes.takes}
        for job in changes.jobs:
            if job.state == JobState.RUNNING:
                self.running.add(job.id)
            else:
                self.running.discard(job.id)
                self.progress.pop(job.id, None)
        self.changed.emit(
            Changed(
                frozenset(shot.id for shot in changes.shots),
                frozenset(job.id for job in changes.jobs),
                frozenset(take.id for take in changes.takes),
            )
        )
        if changes.is_whole and not self.is_connected:
            self.is_connected = True
            self.connected.emit()

    def _take_progress(self, progress: JobProgress) -> None:
        if progress.job_id in self.running:
            self.progress[progress.job_id] = progress
            self.progressed.emit(progress)

    def _lose(self, error: FreeswimError) -> None:
        self.is_connected = False
        self.progress.clear()
        self.lost.emit(error)
