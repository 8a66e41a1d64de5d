"""Tells a person who is elsewhere that something is done, or went wrong. Quietly, and once.

What is worth telling is decided by functions of plain values (`news`, `words_for`); `Notifier` only
watches the studio and asks the system to show it. No sound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QIcon, QWindow
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from desktop import theme
from desktop.remembered import Notify, Remembered
from desktop.studio import Studio
from freeswim.studio.job import IN_QUEUE, Job, JobState

LONG_S = 300.0  # a job that took longer is worth telling of by itself
GATHER_MS = 1_500  # what happens within it is one message
SHOWN_MS = 8_000

WILL_RUN = IN_QUEUE - {JobState.PAUSED}  # by themselves


@dataclass(frozen=True)
class News:
    """What became of jobs since somebody last looked."""

    done: tuple[Job, ...] = ()
    failed: tuple[Job, ...] = ()
    is_queue_finished: bool = False

    def with_earlier(self, earlier: News) -> News:
        """Both, as one."""
        return News(
            earlier.done + self.done,
            earlier.failed + self.failed,
            earlier.is_queue_finished or self.is_queue_finished,
        )


@dataclass(frozen=True)
class Words:
    """What a message says."""

    title: str
    text: str


def news(before: Mapping[str, JobState], jobs: Collection[Job]) -> News:
    """What became of jobs that were known and not at their end before.

    Args:
        before: states by job id, as they were known.
        jobs: all of them, as they are now.
    """
    ended = sorted(
        (job for job in jobs if before.get(job.id) in IN_QUEUE and before[job.id] != job.state),
        key=lambda job: (job.ended_at or 0, job.number),
    )
    done = tuple(job for job in ended if job.state == JobState.DONE)
    failed = tuple(job for job in ended if job.state == JobState.FAILED)
    is_through = not any(job.state in WILL_RUN for job in jobs)
    return News(done, failed, is_queue_finished=bool(done or failed) and is_through)


def words_for(news: News, wish: Notify) -> Words | None:
    """The message for news, where the person wishes to have one."""
    if wish == Notify.OFF:
        return None
    if wish == Notify.EVERY:
        is_told = bool(news.done or news.failed)
    else:
        is_long = any(seconds_of(job) > LONG_S for job in news.done)
        is_told = news.is_queue_finished or bool(news.failed) or is_long
    return Words(_title(news), _text(news)) if is_told else None


def seconds_of(job: Job) -> float:
    """How long its last attempt took."""
    if job.started_at is None or job.ended_at is None:
        return 0.0
    return job.ended_at - job.started_at


def _title(news: News) -> str:
    if news.is_queue_finished:
        return "The queue is finished"
    if news.failed:
        return "A job failed" if len(news.failed) == 1 else f"{len(news.failed)} jobs failed"
    return "A take is done" if len(news.done) == 1 else f"{len(news.done)} takes are done"


def _text(news: News) -> str:
    sentences: list[str] = []
    if len(news.done) == 1:
        sentences.append(f"{news.done[0].shot_name} is done.")
    elif news.done:
        sentences.append(f"{len(news.done)} takes are done: {_names(news.done)}.")
    if len(news.failed) == 1:
        failure = news.failed[0].failure
        why = failure.message if failure else ""
        sentences.append(f"{news.failed[0].shot_name} failed{f': {why}' if why else '.'}")
    elif news.failed:
        sentences.append(f"{len(news.failed)} jobs failed: {_names(news.failed)}.")
    return " ".join(sentences)


def _names(jobs: Iterable[Job], most: int = 3) -> str:
    names = list(dict.fromkeys(job.shot_name for job in jobs))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Notifier(QObject):
    """Watches the studio; while no window of the app is in front, the system tells of it."""

    told = Signal(object)  # Words, as they were shown
    clicked = Signal()  # on the message: raise the window

    def __init__(self, studio: Studio, remembered: Remembered, window: QWidget) -> None:
        super().__init__(window)
        self._studio, self._remembered, self._window = studio, remembered, window
        self._before: dict[str, JobState] = {}
        self._news = News()
        self._num_unseen = 0
        self._tray: QSystemTrayIcon | None = None
        self._timer = QTimer(self, interval=GATHER_MS, singleShot=True)
        self._timer.timeout.connect(self._tell)
        studio.changed.connect(self._look)
        _app().focusWindowChanged.connect(self._be_seen)

    @property
    def num_unseen(self) -> int:
        """Of the takes and failures that came while the window was not in front: its badge."""
        return self._num_unseen

    def _look(self) -> None:
        jobs = self._studio.jobs
        came = news(self._before, jobs.values())
        self._before = {job.id: job.state for job in jobs.values()}
        if _is_in_front() or not (came.done or came.failed):
            return
        self._news = came.with_earlier(self._news)
        self._set_unseen(self._num_unseen + len(came.done) + len(came.failed))
        self._timer.start()

    def _tell(self) -> None:
        came, self._news = self._news, News()
        words = words_for(came, self._remembered.preferences.notifications)
        if words is None or _is_in_front():
            return
        if QSystemTrayIcon.isSystemTrayAvailable() and QSystemTrayIcon.supportsMessages():
            tray = self._tray = self._tray or self._make_tray()
            tray.show()
            tray.showMessage(words.title, words.text, tray.icon(), SHOWN_MS)
        QApplication.alert(self._window)
        self.told.emit(words)

    def _make_tray(self) -> QSystemTrayIcon:
        icon = self._window.windowIcon()
        tray = QSystemTrayIcon(theme.icon("film") if icon.isNull() else QIcon(icon), self)
        tray.setToolTip("FreeSwim")
        tray.messageClicked.connect(self.clicked)
        tray.activated.connect(self.clicked)
        return tray

    def _be_seen(self, focused: QWindow | None) -> None:
        if focused is None:
            return
        self._news = News()
        self._timer.stop()
        self._set_unseen(0)
        if self._tray is not None:
            self._tray.hide()

    def _set_unseen(self, number: int) -> None:
        is_off = self._remembered.preferences.notifications == Notify.OFF
        self._num_unseen = number
        _app().setBadgeNumber(0 if is_off else number)


def _is_in_front() -> bool:
    return QApplication.activeWindow() is not None


def _app() -> QGuiApplication:
    app = QApplication.instance()
    assert isinstance(app, QGuiApplication)
    return app
