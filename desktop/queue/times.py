"""How long jobs will take: asked of the studio now and then, counted down in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from desktop.queue.words import kind_of
from desktop.studio import Changed, Studio
from freeswim.errors import FreeswimError
from freeswim.studio.job import Job, JobState, QueueMode

TICK_MS = 1000  # between two looks at the clock
ASK_MS = 5000  # between two questions while a job runs
SETTLE_MS = 300  # after a change, until it is asked; what changes meanwhile is asked with it
MOST_ASKED = 20  # kinds of waiting jobs at a time


class _Countdown:
    """Seconds that were left when it was asked, less what has passed since."""

    def __init__(self, seconds: float, now: float) -> None:
        self._ends = now + seconds
        self.is_slower = False

    def left(self, now: float) -> float:
        return max(0.0, self._ends - now)

    def set(self, seconds: float, now: float) -> None:
        """It takes so long by what is known now; much longer than was said is said."""
        left = self.left(now)
        self.is_slower = seconds > 1.2 * left + 10 or (self.is_slower and seconds > 0.95 * left)
        self._ends = now + seconds


class Times(QObject):
    """Time left of jobs and of the whole queue. Nothing is asked of the studio once a second."""

    ticked = Signal()  # what is said of time may be something else by now

    def __init__(
        self,
        studio: Studio,
        parent: QObject | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(parent)
        self._studio = studio
        self._clock = clock
        self._under_way: set[str] = set()  # jobs that run ...
        self._running: dict[str, _Countdown] = {}  # ... and those of them that have a forecast
        self._queue: _Countdown | None = None
        self._kinds: dict[str, float | None] = {}  # seconds that a waiting job of a kind will take
        self._stale: set[str] = set()  # kinds of which the machine knows more by now
        self._wanted: dict[str, str] = {}  # kinds that somebody looks at -> a job of each
        self._is_stopped = False
        self._tick = QTimer(self, interval=TICK_MS)
        self._again = QTimer(self, interval=ASK_MS)
        self._soon = QTimer(self, interval=SETTLE_MS, singleShot=True)
        self._tick.timeout.connect(self.ticked)
        self._again.timeout.connect(self._ask)
        self._soon.timeout.connect(self._ask)
        studio.changed.connect(self._on_change)
        studio.connected.connect(self._soon.start)
        studio.lost.connect(self._on_lost)
        self._look_at(studio.jobs)

    @property
    def queue_left(self) -> float | None:
        """Seconds until the queue is empty; None: nobody knows."""
        return None if self._queue is None else self._queue.left(self._clock())

    def left(self, job: Job) -> float | None:
        """Seconds until the take is there; None: nobody knows."""
        if job.state == JobState.RUNNING:
            countdown = self._running.get(job.id)
            return None if countdown is None else countdown.left(self._clock())
        kind = kind_of(job).key
        if (kind not in self._kinds or kind in self._stale) and kind not in self._wanted:
            self._wanted[kind] = job.id
            if not self._soon.isActive():
                self._soon.start()
        return self._kinds.get(kind)

    def is_slower(self, job_id: str) -> bool:
        """Whether it will take longer than was said before."""
        countdown = self._running.get(job_id)
        return countdown is not None and countdown.is_slower

    def stop(self) -> None:
        """Ask nothing more: the studio is about to be closed."""
        self._is_stopped = True

    # ---------------------------------------------------------------------------------- asking

    def _on_change(self, changed: Changed) -> None:
        self._look_at(changed.jobs)

    def _look_at(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            state = self._studio.jobs[job_id].state
            if state == JobState.RUNNING:
                self._under_way.add(job_id)
                continue
            self._under_way.discard(job_id)
            self._running.pop(job_id, None)
            if state == JobState.DONE:
                self._stale = set(self._kinds)
        is_busy = bool(self._under_way) and self._studio.mode != QueueMode.PAUSE
        for timer in (self._tick, self._again):
            if is_busy != timer.isActive():
                timer.start() if is_busy else timer.stop()
        if not self._soon.isActive():
            self._soon.start()

    def _on_lost(self, _: FreeswimError) -> None:
        for timer in (self._tick, self._again, self._soon):
            timer.stop()
        self._running.clear()
        self._queue = None
        self._wanted.clear()

    def _ask(self) -> None:
        if self._is_stopped or not self._studio.is_connected:
            return
        self._put("/queue", self._learn_queue)
        for job_id in self._under_way:
            self._put(f"/jobs/{job_id}", partial(self._learn_job, job_id))
        for kind in list(self._wanted)[:MOST_ASKED]:
            self._put(f"/jobs/{self._wanted[kind]}", partial(self._learn_kind, kind))

    def _put(self, path: str, learn: Callable[[dict[str, Any]], None]) -> None:
        self._studio.ask(lambda client: client.get(path), learn, lambda _: None)

    def _learn_queue(self, said: dict[str, Any]) -> None:
        seconds = said["eta_seconds"]
        self._queue = None if seconds is None else _Countdown(seconds, self._clock())
        self.ticked.emit()

    def _learn_job(self, job_id: str, said: dict[str, Any]) -> None:
        seconds, now = said["eta_seconds"], self._clock()
        if job_id not in self._under_way:
            return
        if seconds is None:
            self._running.pop(job_id, None)
        elif job_id in self._running:
            self._running[job_id].set(seconds, now)
        else:
            self._running[job_id] = _Countdown(seconds, now)
        self.ticked.emit()

    def _learn_kind(self, kind: str, said: dict[str, Any]) -> None:
        self._wanted.pop(kind, None)
        if said["progress"] is None:  # else it is of the job that runs, not of its kind
            self._kinds[kind] = said["eta_seconds"]
            self._stale.discard(kind)
        self.ticked.emit()
