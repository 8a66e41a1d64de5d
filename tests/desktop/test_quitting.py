from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton, QWidget
from pytestqt.qtbot import QtBot

from desktop.remembered import Remembered
from desktop.studio import Studio
from desktop.windows.quitting import OFFERED, Choice, QuitSheet, carry_out
from freeswim.studio import client
from freeswim.studio.client import Client
from freeswim.studio.job import Changes, Job, JobState, QueueMode

# The platform of the tests has no window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", "raise\\(\\)")


def job(number: int, state: JobState) -> Job:
    return Job(
        id=f"{number:016x}",
        number=number,
        shot_id="0" * 16,
        shot_name=f"SHOT_{number:03}",
        request={},
        request_sha256="",
        prompt="koi",
        state=state,
        rank=number,
        created_at=0,
        seq=number,
    )


def take_in(studio: Studio, *jobs: Job) -> None:
    changes = Changes(seq=1, is_whole=True, mode=QueueMode.RUN, shots=[], jobs=list(jobs), takes=[])
    studio._take_in(changes)


@pytest.fixture
def window(qtbot: QtBot, look: None) -> Iterator[QWidget]:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(800, 600)
    window.show()
    yield window


@pytest.fixture
def sheet(home: Any, offline: Studio, window: QWidget) -> QuitSheet:
    return QuitSheet(offline, window, Remembered())


def test_it_says_what_runs_and_follows(sheet: QuitSheet, offline: Studio):
    take_in(offline, job(1, S.RUNNING), job(2, S.QUEUED), job(3, S.PAUSED), job(4, S.DONE))
    sheet.ask(lambda: None)
    assert sheet.title.text() == "SHOT_001 is being made"
    assert sheet.facts.text() == "1 more job waits."
    take_in(offline, job(2, S.RUNNING))
    assert sheet.title.text() == "2 takes are being made"
    assert sheet.facts.text() == "No other job waits."
    take_in(offline, job(1, S.DONE), job(2, S.FAILED))
    assert sheet.title.text() == "Nothing runs any more"


S = JobState


def test_escape_and_stay_change_nothing(sheet: QuitSheet, offline: Studio, qtbot: QtBot):
    take_in(offline, job(1, S.RUNNING))
    called: list[str] = []
    for leave in (
        lambda: qtbot.keyClick(sheet, Qt.Key.Key_Escape),
        lambda: qtbot.mouseClick(sheet.stay, Qt.MouseButton.LeftButton),
    ):
        sheet.ask(lambda: called.append("closed"))
        assert sheet.isVisible() and sheet.isModal()
        leave()
        assert not sheet.isVisible() and called == []


def test_return_closes_the_window_and_the_studio_goes_on(
    sheet: QuitSheet, offline: Studio, qtbot: QtBot
):
    take_in(offline, job(1, S.RUNNING))
    called: list[str] = []
    refused: list[object] = []
    offline.refused.connect(refused.append)
    sheet.ask(lambda: called.append("closed"))
    qtbot.keyClick(sheet, Qt.Key.Key_Return)
    assert called == ["closed"] and not sheet.isVisible()
    assert refused == [] and sheet._remembered is not None
    assert sheet._remembered.preferences.ask_at_close


def test_who_does_not_want_to_be_asked_again_is_not(
    sheet: QuitSheet, offline: Studio, qtbot: QtBot
):
    sheet.ask(lambda: None)
    sheet.is_not_asked_again.setChecked(True)
    qtbot.mouseClick(sheet.buttons[Choice.CLOSE], Qt.MouseButton.LeftButton)
    assert sheet._remembered is not None
    assert not sheet._remembered.preferences.ask_at_close


def test_every_choice_is_reached_by_keyboard_and_has_its_words(sheet: QuitSheet):
    keys = [button.shortcut().toString() for button in sheet.findChildren(QAbstractButton)]
    keys = [key for key in keys if key]
    assert len(keys) == len(set(keys)) == len(Choice) + 1
    for choice, button in sheet.buttons.items():
        assert button.accessibleDescription() == OFFERED[choice][1]


# --------------------------------------------------------------------------- with a real studio


def queue_mode() -> str | None:
    running = client.connect()
    return None if running is None else running.get("/queue")["mode"]


def submit(studio: Studio, qtbot: QtBot) -> None:
    studio.order(lambda client: client.submit({"preset": "demo", "request": {"prompt": "two koi"}}))
    qtbot.waitUntil(lambda: bool(studio.running), timeout=120_000)


def test_to_finish_this_job_the_queue_stops_after_it(studio: Studio, qtbot: QtBot):
    submit(studio, qtbot)
    carry_out(Choice.FINISH, studio)
    studio.close()  # as the window does right after it
    qtbot.waitUntil(lambda: queue_mode() == "stop_after", timeout=60_000)
    running = client.connect()
    assert running is not None
    assert [job["state"] for job in running.get("/jobs")["jobs"]] == ["running"]


def test_to_stop_now_ends_the_studio_for_good_and_keeps_the_job(studio: Studio, qtbot: QtBot):
    submit(studio, qtbot)
    running: Client | None = client.connect()
    assert running is not None
    carry_out(Choice.STOP, studio)
    qtbot.waitUntil(lambda: client.connect() is None, timeout=180_000)
    qtbot.waitUntil(lambda: not client._is_served(), timeout=180_000)
    threads_end(studio, qtbot)
    assert client.connect() is None  # nobody started another one
    again = client.connect_or_start()
    [kept] = again.get("/jobs")["jobs"]
    assert kept["state"] in ("queued", "running")


def threads_end(studio: Studio, qtbot: QtBot) -> None:
    """Until the thread that follows a studio is gone: it starts none any more."""
    import threading

    qtbot.waitUntil(
        lambda: not any(one.name == "studio" for one in threading.enumerate()), timeout=180_000
    )
