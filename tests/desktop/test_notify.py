from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget
from pytestqt.qtbot import QtBot

from desktop.notify import LONG_S, News, Notifier, Words, news, words_for
from desktop.remembered import Notify, Remembered
from desktop.studio import Studio
from freeswim.studio.job import Changes, Failure, Job, JobState, QueueMode

S = JobState


def job(number: int, state: JobState, **fields: Any) -> Job:
    known: dict[str, Any] = {
        "id": f"{number:016x}",
        "number": number,
        "shot_id": f"{number:016x}",
        "shot_name": f"SHOT_{number:03}",
        "request": {},
        "request_sha256": "",
        "prompt": "koi",
        "state": state,
        "rank": number,
        "created_at": 0.0,
        "seq": number,
    }
    return Job(**known | fields)


def done(number: int, seconds: float = 10.0) -> Job:
    return job(number, S.DONE, started_at=100.0, ended_at=100.0 + seconds)


def failed(number: int, message: str = "The disk is full.") -> Job:
    return job(number, S.FAILED, ended_at=100.0, failure=Failure(code="x", message=message))


def after(before: dict[int, JobState], *jobs: Job) -> News:
    return news({f"{number:016x}": state for number, state in before.items()}, jobs)


# --------------------------------------------------------------------------- what came of the jobs


def test_a_job_that_was_running_and_is_done_is_news():
    came = after({1: S.RUNNING, 2: S.QUEUED}, done(1), job(2, S.QUEUED))
    assert came == News(done=(done(1),))


@pytest.mark.parametrize("state", [S.DONE, S.FAILED, S.CANCELLED])
def test_what_was_at_its_end_before_or_was_not_known_is_no_news(state: JobState):
    assert after({1: state}, job(1, state)) == News()
    assert after({}, job(1, state)) == News()


def test_what_the_person_cancelled_is_no_news_and_finishes_nothing():
    assert after({1: S.RUNNING}, job(1, S.CANCELLED)) == News()
    came = after({1: S.RUNNING, 2: S.QUEUED}, done(1), job(2, S.CANCELLED))
    assert came == News(done=(done(1),), is_queue_finished=True)


@pytest.mark.parametrize("state", list(JobState))
def test_the_queue_is_finished_when_nothing_will_run_by_itself(state: JobState):
    came = after({1: S.PUBLISHING, 2: state}, done(1), job(2, state))
    will_run = {S.QUEUED, S.RUNNING, S.PUBLISHING, S.WAITING}
    assert came.is_queue_finished == (state not in will_run)


# ------------------------------------------------------------------------------ what is worth it


@pytest.mark.parametrize(
    "came, finished, every",
    [
        (News(), False, False),
        (News(done=(done(1),)), False, True),
        (News(done=(done(1, LONG_S),)), False, True),
        (News(done=(done(1, LONG_S + 1),)), True, True),
        (News(done=(done(1), done(2), done(3, LONG_S + 1))), True, True),
        (News(failed=(failed(1),)), True, True),
        (News(done=(done(1),), is_queue_finished=True), True, True),
    ],
)
def test_the_preference_decides(came: News, finished: bool, every: bool):
    assert words_for(came, Notify.OFF) is None
    assert (words_for(came, Notify.FINISHED) is not None) == finished
    assert (words_for(came, Notify.EVERY) is not None) == every


@pytest.mark.parametrize(
    "came, title, text",
    [
        (News((done(1),)), "A take is done", "SHOT_001 is done."),
        (
            News((done(1),), is_queue_finished=True),
            "The queue is finished",
            "SHOT_001 is done.",
        ),
        (News((), (failed(2),)), "A job failed", "SHOT_002 failed: The disk is full."),
        (
            News(tuple(done(number) for number in range(1, 6)), (failed(9),), True),
            "The queue is finished",
            "5 takes are done: SHOT_001, SHOT_002, SHOT_003 and 2 more."
            " SHOT_009 failed: The disk is full.",
        ),
        (
            News((), (failed(1), failed(2))),
            "2 jobs failed",
            "2 jobs failed: SHOT_001, SHOT_002.",
        ),
        (News((), (job(1, S.FAILED),)), "A job failed", "SHOT_001 failed."),
    ],
)
def test_many_are_one_message(came: News, title: str, text: str):
    assert words_for(came, Notify.EVERY) == Words(title, text)


@given(
    st.lists(st.tuples(st.sampled_from(JobState), st.sampled_from(JobState)), max_size=6),
    st.sampled_from(Notify),
)
def test_whatever_happens_nothing_is_told_of_what_did_not_end(
    moves: list[tuple[JobState, JobState]], wish: Notify
):
    jobs = [job(number, state) for number, (_, state) in enumerate(moves)]
    before = {job.id: state for job, (state, _) in zip(jobs, moves, strict=True)}
    came = news(before, jobs)
    words = words_for(came, wish)
    ended = [one for one in jobs if one.state in (S.DONE, S.FAILED) and before[one.id] != one.state]
    assert len(came.done) + len(came.failed) <= len(ended)
    assert words is None or (words.title and words.text and wish != Notify.OFF)


# ------------------------------------------------------------------------------ while it is shown


@pytest.fixture
def window(qtbot: QtBot, look: None) -> Iterator[QWidget]:
    window = QWidget()
    qtbot.addWidget(window)
    yield window
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    app.setBadgeNumber(0)


@pytest.fixture
def notifier(home: object, offline: Studio, window: QWidget) -> Notifier:
    return Notifier(offline, Remembered(), window)


def take_in(studio: Studio, *jobs: Job) -> None:
    studio._take_in(
        Changes(seq=1, is_whole=True, mode=QueueMode.RUN, shots=[], jobs=list(jobs), takes=[])
    )


def test_elsewhere_several_ends_are_one_message_and_a_number(
    notifier: Notifier, offline: Studio, qtbot: QtBot
):
    assert QApplication.activeWindow() is None
    assert not QSystemTrayIcon.isSystemTrayAvailable()  # here; it is asked before it is used
    take_in(offline, job(1, S.RUNNING), job(2, S.QUEUED), done(7))
    assert notifier.num_unseen == 0
    messages: list[Words] = []
    notifier.told.connect(messages.append)
    with qtbot.waitSignal(notifier.told):
        take_in(offline, done(1))
        take_in(offline, job(2, S.RUNNING))
        take_in(offline, failed(2))
        assert notifier.num_unseen == 2
    text = "SHOT_001 is done. SHOT_002 failed: The disk is full."
    assert messages == [Words("The queue is finished", text)]


def test_in_front_nothing_is_told(
    notifier: Notifier, offline: Studio, window: QWidget, qtbot: QtBot
):
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    take_in(offline, job(1, S.RUNNING))
    take_in(offline, done(1))
    assert notifier.num_unseen == 0 and not notifier._timer.isActive()


def test_who_comes_back_first_is_not_told_any_more(
    notifier: Notifier, offline: Studio, window: QWidget, qtbot: QtBot
):
    take_in(offline, job(1, S.RUNNING))
    take_in(offline, failed(1))
    assert notifier.num_unseen == 1 and notifier._timer.isActive()
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    qtbot.waitUntil(lambda: notifier.num_unseen == 0)
    assert not notifier._timer.isActive()


def test_what_ended_while_the_studio_was_lost_is_told(
    notifier: Notifier, offline: Studio, qtbot: QtBot
):
    take_in(offline, job(1, S.RUNNING))
    offline.is_connected = False
    with qtbot.waitSignal(notifier.told) as told:
        take_in(offline, failed(1))
    assert told.args is not None and told.args[0].title == "The queue is finished"


def test_off_is_off(home: object, offline: Studio, window: QWidget):
    kept = Remembered()
    kept.prefer(notifications=Notify.OFF)
    notifier = Notifier(offline, kept, window)
    messages: list[Words] = []
    notifier.told.connect(messages.append)
    take_in(offline, job(1, S.RUNNING))
    take_in(offline, failed(1))
    notifier._timer.timeout.emit()
    assert messages == []


@pytest.mark.qt_log_ignore("systemTrayWindowChanged")  # the platform of the tests has none
def test_where_there_is_a_tray_it_shows_the_message_and_goes_when_it_was_seen(
    notifier: Notifier,
    offline: Studio,
    window: QWidget,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
):
    shown: list[tuple[str, str]] = []
    for name in ("isSystemTrayAvailable", "supportsMessages"):
        monkeypatch.setattr(QSystemTrayIcon, name, staticmethod(lambda: True))
    monkeypatch.setattr(QSystemTrayIcon, "showMessage", lambda _, *said: shown.append(said[:2]))
    take_in(offline, job(1, S.RUNNING))
    with qtbot.waitSignal(notifier.told):
        take_in(offline, done(1))
    assert shown == [("The queue is finished", "SHOT_001 is done.")]
    tray = notifier.findChild(QSystemTrayIcon)
    assert tray is not None and tray.isVisible() and not tray.icon().isNull()
    with qtbot.waitSignal(notifier.clicked):
        tray.messageClicked.emit()
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    qtbot.waitUntil(lambda: not tray.isVisible())
