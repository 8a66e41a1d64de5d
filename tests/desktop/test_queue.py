from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

try:
    import PySide6.QtWidgets  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from PySide6.QtCore import QItemSelectionModel, QMimeData, QModelIndex, QPointF, Qt
from PySide6.QtGui import QDropEvent, QGuiApplication
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QStyleOptionViewItem,
    QWidget,
)
from pytestqt.qtbot import QtBot

from desktop.queue.model import DRAGGED, STAGES, Course
from desktop.queue.notice import UNDO_S
from desktop.queue.panel import QueuePanel
from desktop.queue.row import RowDelegate
from desktop.queue.times import Times
from desktop.queue.view import JobView
from desktop.queue.words import clock, duration, spoken_time, time_left
from desktop.studio import Studio
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.studio.job import Changes, Failure, Job, JobState, QueueMode, Reason, Take, Wish
from freeswim.studio.runner import JobProgress

# What a window manager would do.
pytestmark = pytest.mark.qt_log_ignore(
    "does not support (propagateSizeHints|raise|grabbing the keyboard)"
)

LEFT, CONTROL = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier
Key = Qt.Key
DEMO = Request.parse(
    load_preset("demo").defaults | {"kind": "text", "prompt": "two koi", "seed": 7}
).as_dict()


def some_job(number: int, state: JobState = JobState.QUEUED, **fields: Any) -> Job:
    """A job as the studio tells of it."""
    known = {
        "id": f"{number:016x}",
        "number": number,
        "shot_id": "f" * 16,
        "shot_name": f"SHOT_{number:03}",
        "request": DEMO,
        "request_sha256": f"{number:064x}",
        "prompt": "two koi",
        "rank": float(number),
        "created_at": 1000.0,
        "seq": number,
    }
    return Job(**(known | {"state": state} | fields))


def a_take(job: Job) -> Take:
    """The take of a job that is done."""
    return Take(
        id="a" * 16,
        shot_id=job.shot_id,
        shot_name=job.shot_name,
        job_id=job.id,
        number=2,
        file="x.mp4",
        sha256="0" * 64,
        width=512,
        height=512,
        frames=9,
        frame_rate="8",
        seed=7,
        prompt="two koi",
        is_draft=False,
        created_at=1000.0,
        seq=1,
    )


def tell(studio: Studio, *jobs: Job, mode: QueueMode = QueueMode.RUN, takes: Any = ()) -> None:
    """The studio says that it is so now."""
    studio._take_in(
        Changes(seq=1, is_whole=True, mode=mode, shots=[], jobs=list(jobs), takes=list(takes))
    )


def step(studio: Studio, job: Job, stage: str, number: int, count: int, **fields: Any) -> None:
    """The studio says how far a job is."""
    said = {"job_id": job.id, "stage": stage, "step": number, "num_steps": count}
    studio._take_progress(JobProgress(**(said | fields)))


def opened(qtbot: QtBot, studio: Studio) -> QueuePanel:
    """The panel on the screen."""
    panel = QueuePanel(studio)
    panel.resize(380, 700)
    qtbot.addWidget(panel)
    with qtbot.waitActive(panel):
        panel.show()
        panel.activateWindow()
    return panel


@pytest.fixture
def shown(qtbot: QtBot, offline: Studio) -> Iterator[QueuePanel]:
    """The panel of a studio that says only what a test says."""
    panel = opened(qtbot, offline)
    yield panel
    panel.times.stop()


@pytest.fixture
def panel(qtbot: QtBot, studio: Studio) -> Iterator[QueuePanel]:
    """The panel of a studio that runs, and whose queue is paused."""
    panel = opened(qtbot, studio)
    studio.order(lambda client: client.patch("/queue", {"mode": "pause"}))
    qtbot.waitUntil(lambda: studio.mode == QueueMode.PAUSE)
    yield panel
    panel.times.stop()


def add(qtbot: QtBot, panel: QueuePanel, *names: str) -> list[str]:
    """Jobs in the queue, a shot each; their ids in the order of the names."""
    for name in names:
        asked = {"preset": "demo", "shot": {"name": name}, "request": {"prompt": name}}
        panel.studio.order(lambda client, asked=asked: client.submit(asked))
    ids: dict[str, str] = {}

    def are_there() -> bool:
        ids.update({job.shot_name: job.id for job in panel.studio.jobs.values()})
        return set(names) <= set(ids)

    qtbot.waitUntil(are_there)
    return [ids[name] for name in names]


def names(panel: QueuePanel) -> list[str]:
    """Of the shots in the list, from above."""
    return [panel.queue.job(row).shot_name for row in range(panel.queue.rowCount())]


def in_studio(panel: QueuePanel) -> list[str]:
    """Of the shots in the queue, as the studio has them."""
    client = panel.studio._client
    assert client is not None
    return [job["shot_name"] for job in client.get("/jobs")["jobs"]]


def has_settled(panel: QueuePanel) -> Callable[[], bool]:
    """Whether the list says what the studio says, and not more."""
    return lambda: not panel.queue._placed and not panel.queue._asked


def states_seen(panel: QueuePanel, job: Job) -> list[str]:
    """The states that a job's row says, one after the other, from now on."""
    seen: list[str] = []
    panel.queue.dataChanged.connect(lambda *_: seen.append(panel.queue.words_of(job).state))
    return seen


def state_of(panel: QueuePanel, job_id: str) -> JobState:
    return panel.studio.jobs[job_id].state


# ---------------------------------------------------------------------------------- the order


@pytest.mark.parametrize(
    "chosen, key, expected",
    [
        ("c", Key.Key_Up, "acbd"),
        ("b", Key.Key_Down, "acbd"),
        ("d", Key.Key_Home, "dabc"),
        ("a", Key.Key_End, "bcda"),
        ("bd", Key.Key_Home, "bdac"),
        ("ac", Key.Key_Down, "bdac"),
        ("a", Key.Key_Up, "abcd"),
    ],
)
def test_keys_move_what_is_selected_and_it_stays_so(
    qtbot: QtBot, panel: QueuePanel, chosen: str, key: Qt.Key, expected: str
):
    ids = dict(zip("abcd", add(qtbot, panel, *"abcd"), strict=True))
    panel.list.setFocus()
    panel.list.select([ids[name] for name in chosen])
    qtbot.keyClick(panel.list, key, CONTROL)
    assert names(panel) == list(expected)  # at once
    qtbot.waitUntil(has_settled(panel))
    assert names(panel) == list(expected) == in_studio(panel)
    assert panel.list.selected == [ids[name] for name in expected if name in chosen]
    assert panel.list.currentIndex().data() in chosen


def test_a_key_held_down_goes_on_from_where_the_job_is_shown(qtbot: QtBot, panel: QueuePanel):
    ids = add(qtbot, panel, *"abcdef")
    panel.list.setFocus()
    panel.list.select([ids[0]])
    for _ in range(4):  # faster than the studio answers
        qtbot.keyClick(panel.list, Key.Key_Down, CONTROL)
    assert names(panel) == list("bcdeaf")
    qtbot.waitUntil(has_settled(panel))
    assert names(panel) == list("bcdeaf") == in_studio(panel)


def drop(view: JobView, job_ids: list[str], at: QPointF) -> None:
    """What a drag of these jobs ends with."""
    carried = QMimeData()
    carried.setData(DRAGGED, "\n".join(job_ids).encode())
    move, keys = Qt.DropAction.MoveAction, Qt.KeyboardModifier.NoModifier
    view.dropEvent(QDropEvent(at, move, carried, LEFT, keys))


def test_rows_are_dragged_between_others(qtbot: QtBot, panel: QueuePanel):
    ids = add(qtbot, panel, *"abcd")
    view = panel.list
    view.select([ids[0], ids[1]])
    below_c = QPointF(view.visualRect(panel.queue.index(2)).bottomLeft()) + QPointF(50, -5)
    drop(view, view.selected, below_c)
    qtbot.waitUntil(has_settled(panel))
    assert names(panel) == list("cabd") == in_studio(panel)
    drop(view, [ids[2]], QPointF(50, view.viewport().height() - 5))  # below all rows
    qtbot.waitUntil(has_settled(panel))
    assert names(panel) == list("abdc") == in_studio(panel)
    assert view.selected == [ids[0], ids[1]]


def test_what_is_dragged_are_jobs_that_wait(shown: QueuePanel, offline: Studio):
    tell(offline, some_job(1, JobState.RUNNING), some_job(2), some_job(3, JobState.FAILED))
    model = shown.queue
    can_drag = [
        bool(model.flags(model.index(row)) & Qt.ItemFlag.ItemIsDragEnabled) for row in range(3)
    ]
    assert can_drag == [False, True, False]
    carried = model.mimeData([model.index(row) for row in range(3)])
    assert bytes(carried.data(DRAGGED).data()).decode() == some_job(2).id
    move, nowhere = Qt.DropAction.MoveAction, QModelIndex()
    fits = [model.canDropMimeData(carried, move, row, 0, nowhere) for row in range(4)]
    assert fits == [False, True, True, False]


def test_a_move_that_is_refused_is_taken_back(qtbot: QtBot, panel: QueuePanel):
    ids = add(qtbot, panel, *"abc")
    # Cancelled where this app does not know it yet: the order comes before the news.
    panel.studio.order(lambda client: client.post(f"/jobs/{ids[2]}/cancel"))
    panel.list.setFocus()
    panel.list.select([ids[2]])
    qtbot.keyClick(panel.list, Key.Key_Home, CONTROL)
    assert names(panel) == list("cab")
    qtbot.waitUntil(lambda: panel.notice.isVisible())
    qtbot.waitUntil(lambda: names(panel) == list("ab"))
    assert "it is not in the queue" in panel.notice.words.text()
    assert panel.notice.property("role") == "error"


# -------------------------------------------------------------------------- removing, cancelling


def test_delete_removes_and_undo_puts_back_where_it_was(qtbot: QtBot, panel: QueuePanel):
    ids = add(qtbot, panel, *"abcd")
    panel.studio.order(lambda client: client.post(f"/jobs/{ids[2]}/pause"))
    qtbot.waitUntil(lambda: state_of(panel, ids[2]) == JobState.PAUSED)
    panel.list.setFocus()
    panel.list.select(ids[1:3])
    qtbot.keyClick(panel.list, Key.Key_Delete)
    assert panel.notice.words.text() == "2 jobs removed."
    assert panel.notice.timer.interval() == 1000 * UNDO_S == 8000
    qtbot.waitUntil(lambda: names(panel) == ["a", "d"])
    assert panel.finished.rowCount() == 2
    qtbot.keyClick(panel.list, Key.Key_Z, CONTROL)
    qtbot.waitUntil(lambda: names(panel) == list("abcd"))
    qtbot.waitUntil(lambda: state_of(panel, ids[2]) == JobState.PAUSED)
    assert state_of(panel, ids[1]) == JobState.QUEUED
    assert not panel.notice.isVisible() and not panel.undo.isEnabled()


def test_undo_is_offered_for_a_while(qtbot: QtBot, panel: QueuePanel):
    ids = add(qtbot, panel, "a")
    panel.list.select(ids)
    panel.remove.trigger()
    assert panel.undo.isEnabled()
    panel.notice.timer.start(1)
    qtbot.waitUntil(lambda: not panel.notice.isVisible())
    assert not panel.undo.isEnabled()


def test_many_are_removed_and_undo_stops_that(qtbot: QtBot, panel: QueuePanel):
    asked = {"preset": "demo", "request": {"prompt": "koi"}, "seeds": list(range(60))}
    panel.studio.order(lambda client: client.submit(asked))
    qtbot.waitUntil(lambda: panel.queue.rowCount() == 60)
    panel.list.selectAll()
    panel.remove.trigger()
    qtbot.waitUntil(lambda: panel.queue.rowCount() < 60)
    panel.undo.trigger()
    qtbot.waitUntil(lambda: panel.queue.rowCount() == 60 and has_settled(panel)())
    assert len(in_studio(panel)) == 60


def test_all_that_waits_is_cancelled_and_comes_back(qtbot: QtBot, panel: QueuePanel):
    add(qtbot, panel, *"abc")
    panel.cancel_waiting.trigger()
    qtbot.waitUntil(lambda: panel.queue.rowCount() == 0)
    assert panel.notice.words.text() == "3 jobs removed."
    qtbot.mouseClick(panel.notice.act, LEFT)
    qtbot.waitUntil(lambda: names(panel) == list("abc"))


def test_cancelling_all_keeps_the_job_that_runs(qtbot: QtBot, shown: QueuePanel, offline: Studio):
    tell(offline, some_job(1, JobState.RUNNING, attempt=1), some_job(2), some_job(3))
    running, waiting = (states_seen(shown, shown.queue.job(row)) for row in range(2))
    shown.cancel_waiting.trigger()
    assert running[0] == "Running" and waiting[0] == "Removing"
    # Nobody answers: it is said, and the rows say what they are.
    qtbot.waitUntil(lambda: shown.notice.property("role") == "error")
    assert shown.queue.words_of(some_job(2)).state == "Queued"


def test_a_job_that_runs_is_cancelled_at_its_next_step(qtbot: QtBot, panel: QueuePanel):
    (job_id,) = add(qtbot, panel, "a")
    panel.pause_queue.trigger()
    qtbot.waitUntil(lambda: job_id in panel.studio.progress, timeout=120_000)
    assert panel.studio.mode == QueueMode.RUN and panel.pause_queue.text() == "&Pause queue"
    panel.list.setFocus()
    panel.list.select([job_id])
    qtbot.keyClick(panel.list, Key.Key_Delete)
    assert panel.queue.words_of(panel.studio.jobs[job_id]).state == "Cancelling"
    qtbot.waitUntil(lambda: state_of(panel, job_id) == JobState.CANCELLED, timeout=120_000)
    assert panel.queue.rowCount() == 0 and panel.finished.rowCount() == 1


def test_much_work_is_not_thrown_away_without_asking(
    qtbot: QtBot, shown: QueuePanel, offline: Studio
):
    job = some_job(1, JobState.RUNNING, attempt=1, started_at=time.time() - 300)
    tell(offline, job, some_job(2))
    shown.list.setFocus()
    shown.list.select([job.id])
    qtbot.keyClick(shown.list, Key.Key_Delete)
    assert shown.notice.words.text() == "SHOT_001 has run for 5 min. Cancel it?"
    assert shown.notice.act.hasFocus() and not QGuiApplication.modalWindow()
    qtbot.keyClick(shown.notice.act, Key.Key_Escape)
    assert not shown.notice.isVisible() and shown.list.hasFocus()
    assert shown.queue.words_of(job).state == "Running"
    seen = states_seen(shown, job)
    shown.cancel_running.trigger()
    assert not seen
    qtbot.mouseClick(shown.notice.act, LEFT)
    assert seen[0] == "Cancelling"


def test_little_work_is_cancelled_without_asking(shown: QueuePanel, offline: Studio):
    job = some_job(1, JobState.RUNNING, attempt=1, started_at=time.time() - 60)
    tell(offline, job)
    seen = states_seen(shown, job)
    shown.cancel_running.trigger()
    assert seen[0] == "Cancelling"


def test_what_was_begun_is_not_removed_without_asking(shown: QueuePanel, offline: Studio):
    tell(offline, some_job(1, attempt=1), some_job(2))
    shown.list.selectAll()
    shown.remove.trigger()
    assert shown.notice.words.text() == "SHOT_001 was begun. Remove it and what is made of it?"
    assert shown.queue.words_of(some_job(2)).state == "Queued"
    shown.cancel_waiting.trigger()
    assert shown.notice.words.text() == (
        "1 of 2 waiting jobs were begun. Cancel them all the same?"
    )


# --------------------------------------------------------------------- pausing, trying again


def test_the_queue_is_paused_stopped_after_a_job_and_resumed(qtbot: QtBot, panel: QueuePanel):
    assert panel.state_words.text().startswith("Paused.")
    qtbot.mouseClick(panel.resume, LEFT)
    qtbot.waitUntil(lambda: panel.studio.mode == QueueMode.RUN)
    qtbot.waitUntil(lambda: not panel.state_line.isVisible())
    qtbot.mouseClick(panel.stop_button, LEFT)
    qtbot.waitUntil(lambda: panel.studio.mode == QueueMode.STOP_AFTER)
    qtbot.waitUntil(lambda: panel.state_words.text() == "Stopped after the last job.")
    assert panel.stop_button.isChecked() and panel.pause_button.text() == "Resume queue"
    qtbot.mouseClick(panel.stop_button, LEFT)
    qtbot.waitUntil(lambda: panel.studio.mode == QueueMode.RUN)
    qtbot.keyClick(panel, Key.Key_P, CONTROL)
    qtbot.waitUntil(lambda: panel.studio.mode == QueueMode.PAUSE)


def test_one_job_is_paused_and_resumed(qtbot: QtBot, panel: QueuePanel):
    first, second = add(qtbot, panel, "a", "b")
    panel.list.select([first])
    panel.pause_job.trigger()
    qtbot.waitUntil(lambda: state_of(panel, first) == JobState.PAUSED)
    qtbot.waitUntil(lambda: panel.pause_job.text() == "Resume &job")
    assert names(panel) == ["a", "b"] and state_of(panel, second) == JobState.QUEUED
    panel.pause_job.trigger()
    qtbot.waitUntil(lambda: state_of(panel, first) == JobState.QUEUED)


def test_what_was_cancelled_is_run_again_and_one_more_is_another(qtbot: QtBot, panel: QueuePanel):
    (job_id,) = add(qtbot, panel, "a")
    panel.list.select([job_id])
    panel.remove.trigger()
    qtbot.waitUntil(lambda: panel.finished.rowCount() == 1)
    panel.show_finished.trigger()
    panel.finished_list.setFocus()
    panel.finished_list.select([job_id])
    panel.retry.trigger()
    qtbot.waitUntil(lambda: names(panel) == ["a"])
    assert panel.queue.words_of(panel.studio.jobs[job_id]).state == "Queued again"
    panel.list.setFocus()
    panel.list.select([job_id])
    panel.one_more.trigger()
    qtbot.waitUntil(lambda: names(panel) == ["a", "a"])
    seeds = {job.request["seed"] for job in panel.studio.jobs.values()}
    assert len(seeds) == 2


def test_a_waiting_job_is_edited_elsewhere(qtbot: QtBot, panel: QueuePanel):
    ids = add(qtbot, panel, "a", "b")
    panel.list.setFocus()
    panel.list.select(ids)
    assert not panel.edit.isEnabled()  # one at a time
    panel.list.select([ids[1]])
    with qtbot.waitSignal(panel.edit_requested) as told:
        qtbot.keyClick(panel.list, Key.Key_F2)
    assert told.args == [ids[1]]


# ------------------------------------------------------------------------------- at their end


def test_finished_jobs_are_folded_away_and_failed_ones_stay(
    qtbot: QtBot, shown: QueuePanel, offline: Studio
):
    failure = Failure(code="out_of_memory", message="Out of GPU memory.", hint="Try a draft.")
    done = some_job(1, JobState.DONE, take_id="a" * 16, started_at=5.0, ended_at=353.0)
    failed = some_job(2, JobState.FAILED, failure=failure, ended_at=9.0)
    tell(offline, done, failed, some_job(3), takes=[a_take(done)])
    qtbot.waitUntil(lambda: shown.finished_button.text() == "Finished (1)")
    assert names(shown) == ["SHOT_003", "SHOT_002"]
    assert not shown.finished_list.isVisible()
    qtbot.mouseClick(shown.finished_button, LEFT)
    assert shown.finished_list.isVisible()
    assert shown.finished.words_of(done).facts == "Take 2 · 5 min 48 s"

    qtbot.mouseClick(shown.clear_button, LEFT)
    assert shown.finished.rowCount() == 0 and not shown.finished_bar.isVisible()
    assert names(shown) == ["SHOT_003", "SHOT_002"]  # nobody has removed what failed
    assert shown.failed_link.text() == "1 failed"
    qtbot.mouseClick(shown.failed_link, LEFT)
    qtbot.keyClick(shown.list, Key.Key_Delete)
    assert names(shown) == ["SHOT_003"]
    tell(offline, failed.model_copy(update={"state": JobState.QUEUED, "seq": 9}))
    assert names(shown) == ["SHOT_002", "SHOT_003"]  # it is back, and so in sight


def test_what_is_cleared_is_so_for_the_studio(qtbot: QtBot, panel: QueuePanel):
    ids = add(qtbot, panel, "a", "b")
    panel.list.select(ids[:1])
    panel.remove.trigger()
    qtbot.waitUntil(lambda: panel.finished.rowCount() == 1)
    panel.clear_finished.trigger()
    qtbot.waitUntil(lambda: panel.studio.jobs[ids[0]].is_cleared)
    assert names(panel) == ["b"]


def test_a_finished_take_is_chosen_by_double_click_and_by_enter(
    qtbot: QtBot, shown: QueuePanel, offline: Studio
):
    done = some_job(1, JobState.DONE, take_id="a" * 16, ended_at=3.0)
    tell(offline, done)
    shown._say()
    shown.show_finished.trigger()
    view = shown.finished_list
    at = view.visualRect(shown.finished.index(0)).center()
    with qtbot.waitSignal(shown.take_chosen) as told:
        qtbot.mouseClick(view.viewport(), LEFT, pos=at)
        qtbot.mouseDClick(view.viewport(), LEFT, pos=at)
    assert told.args == ["a" * 16]
    with qtbot.waitSignal(shown.take_chosen):
        qtbot.keyClick(view, Key.Key_Return)


def test_a_row_that_failed_has_what_to_do_in_it(qtbot: QtBot, shown: QueuePanel, offline: Studio):
    failure = Failure(
        code="out_of_memory",
        message="Out of GPU memory at refine 3/50.",
        hint="Try a draft.",
        details={"needed_bytes": 21_300_000_000},
    )
    failed = some_job(1, JobState.FAILED, failure=failure, ended_at=9.0)
    tell(offline, failed)
    row = shown.queue.words_of(failed)
    assert row.status == "Failed · Out of GPU memory at refine 3/50."
    view = shown.list

    def click(zone: str) -> None:
        qtbot.mouseClick(view.viewport(), LEFT, pos=view.place(failed.id, zone))

    click("copy")
    said = QGuiApplication.clipboard().text()
    assert said.endswith("Out of GPU memory at refine 3/50.\nTry a draft.\nNeeded: 21.3 GB")
    click("menu")
    texts = [action.text().replace("&", "") for action in shown.menu.actions()]
    expected = ["Edit and run", "Run again", "One more", "Details", "Copy as text", "", "Remove"]
    assert [text for text in texts if text] == [text for text in expected if text]
    shown.menu.close()
    click("details")
    window = shown.details[failed.id]
    assert window.isVisible() and not window.isModal()
    assert "Out of GPU memory" in window.failure.text() and "two koi" in window.text()
    window.close()
    seen = states_seen(shown, failed)
    click("retry")
    qtbot.waitUntil(lambda: seen == ["Queueing", "Failed"])  # nobody answers


# --------------------------------------------------------------------------------- a real job


def test_a_job_is_watched_to_its_take(qtbot: QtBot, panel: QueuePanel):
    """Progress that never goes back, its picture, its time, its log, and the take at the end."""
    (job_id,) = add(qtbot, panel, "two koi")
    model, shares = panel.queue, []
    panel.studio.progressed.connect(lambda _: shares.append(model.words_of(model.job(0)).share))
    with qtbot.waitSignal(panel.job_chosen, timeout=120_000) as told:
        panel.pause_queue.trigger()
        qtbot.waitUntil(lambda: state_of(panel, job_id) == JobState.RUNNING, timeout=120_000)
        panel.list.setFocus()
        qtbot.keyClick(panel.list, Key.Key_Return)
    assert told.args == [job_id]
    panel.list.select([job_id])
    qtbot.keyClick(panel.list, Key.Key_I, CONTROL)
    window = panel.details[job_id]
    qtbot.waitUntil(lambda: job_id in model._pictures, timeout=180_000)
    assert model._pictures[job_id].height() >= 72
    qtbot.waitUntil(lambda: state_of(panel, job_id) == JobState.DONE, timeout=100_000)
    assert shares == sorted(shares) and shares[-1] > 0.9
    qtbot.waitUntil(lambda: panel.finished_button.text() == "Finished (1)")
    assert not panel.list.jobs.rowCount() and panel.list.empty[0] == "All done"
    qtbot.waitUntil(lambda: "Refining: " in window.text())
    assert window.state.text() == "Done" and "Demo" in window.heading.text()
    qtbot.mouseClick(window.copy_button, LEFT)
    assert QGuiApplication.clipboard().text() == window.text()
    take_id = panel.studio.jobs[job_id].take_id
    with qtbot.waitActive(panel):
        window.close()
        panel.activateWindow()
    qtbot.waitUntil(lambda: not panel.details)
    panel.show_finished.trigger()
    panel.finished_list.setFocus()
    with qtbot.waitSignal(panel.take_chosen) as told:
        qtbot.keyClick(panel.finished_list, Key.Key_Return)
    assert told.args == [take_id]
    # The next one of its kind is given a time, by what this one took.
    role = Qt.ItemDataRole.AccessibleTextRole
    panel.studio.order(lambda client: client.patch("/queue", {"mode": "pause"}))
    panel.finished_list.select([job_id])
    panel.one_more.trigger()
    qtbot.waitUntil(lambda: panel.queue.rowCount() == 1)
    qtbot.waitUntil(lambda: "about" in panel.queue.index(0).data(role))
    assert panel.summary.text().startswith("1 left")


# -------------------------------------------------------------------------- words and progress


def test_each_state_says_what_it_is(shown: QueuePanel, offline: Studio):
    running = some_job(1, JobState.RUNNING, attempt=1)
    tell(offline, running)
    step(offline, running, "refine", 6, 50)
    shown.times._learn_job(running.id, {"eta_seconds": 301.0})
    words = shown.queue.words_of
    assert words(running).status == "Running · refining 6/50 · 5 min left"
    assert words(running).facts == "9 frames · 512 × 512 · seed 7"
    said = {
        words(running.model_copy(update={"wish": Wish.CANCEL})).status,
        words(running.model_copy(update={"wish": Wish.PAUSE})).status,
        words(some_job(2)).status,
        words(some_job(3, attempt=1)).status,
        words(some_job(4, attempt=1, crashes=1)).status,
        words(some_job(5, JobState.PAUSED)).status,
        words(some_job(6, JobState.WAITING, reason=Reason.DISK, needed_bytes=9 * 10**8)).status,
        words(some_job(7, JobState.WAITING, reason=Reason.MODEL)).status,
        words(some_job(8, JobState.PUBLISHING)).status,
        words(some_job(9, JobState.CANCELLED)).status,
        words(some_job(10, JobState.DONE)).status,
    }
    assert said == {
        "Cancelling · ends with this step",
        "Pausing · stops with this step",
        "Queued",
        "Interrupted · goes on by itself",
        "Interrupted · the generator stopped; it is tried again",
        "Paused",
        "Waiting for disk · needs 900 MB free",
        "Waiting for model · not installed yet",
        "Running · putting the take in its place",
        "Cancelled",
        "Done",
    }


def test_the_bar_never_goes_back(shown: QueuePanel, offline: Studio):
    job = some_job(1, JobState.RUNNING, attempt=1)
    tell(offline, job)
    shares: list[float | None] = []
    for stage, number, count in (
        ("load", 0, 1),
        ("base", 25, 25),
        ("refine", 10, 20),
        ("encode prompt", 0, 1),  # another attempt
        ("of another version", 3, 4),
        ("refine", 11, 20),
        ("write", 9, 9),
    ):
        step(offline, job, stage, number, count)
        shares.append(shown.queue.words_of(job).share)
    assert shares == sorted(shares) and shares[-1] == 1.0 and shares[2] == shares[4]
    tell(offline, job.model_copy(update={"state": JobState.PAUSED}))
    assert shown.queue.words_of(job).share == 1.0  # what is done is not lost


def test_stages_that_a_job_does_not_have_take_no_share(shown: QueuePanel, offline: Studio):
    draft = some_job(1, JobState.RUNNING, request=DEMO | {"draft": True})
    tell(offline, draft)
    step(offline, draft, "base", 25, 25)
    share = shown.queue.words_of(draft).share
    assert share is not None and share > 0.7
    assert shown.queue.words_of(draft).facts.startswith("9 frames · 128 × 128")


def test_time_left_is_asked_seldom_and_counted_down_in_between(offline: Studio):
    now = 100.0
    times = Times(offline, clock=lambda: now)
    job = some_job(1, JobState.RUNNING)
    tell(offline, job)
    assert times.left(job) is None and times.queue_left is None
    times._learn_job(job.id, {"eta_seconds": 90.0})
    times._learn_queue({"eta_seconds": 600.0})
    now += 30
    assert times.left(job) == 60.0 and times.queue_left == 570.0
    assert not times.is_slower(job.id)
    times._learn_job(job.id, {"eta_seconds": 120.0})
    assert times.is_slower(job.id)  # it counts up, and says why
    now += 500
    assert times.left(job) == 0.0
    assert times._again.isActive() and times._again.interval() == 5000
    tell(offline, job.model_copy(update={"state": JobState.DONE}))
    assert not times._again.isActive() and not times._tick.isActive()


def test_the_header_says_what_is_left_and_when_it_is_done(
    qtbot: QtBot, shown: QueuePanel, offline: Studio
):
    tell(offline, some_job(1, JobState.RUNNING), some_job(2), some_job(3))
    shown.times._learn_queue({"eta_seconds": 1260.0})
    expected = {f"3 left · about 21 min · {clock(1260 + drift)}" for drift in (-1, 0, 1)}
    qtbot.waitUntil(lambda: shown.summary.text() in expected)
    tell(offline, mode=QueueMode.PAUSE)
    qtbot.waitUntil(lambda: shown.summary.text() == "3 left")
    assert shown.state_words.text().startswith("Pausing: SHOT_001")


@pytest.mark.parametrize(
    "seconds, said, spoken",
    [
        (5, "less than a minute", "less than a minute"),
        (61, "1 min", "1 minute"),
        (310, "5 min", "5 minutes"),
        (4800, "1 h 20 min", "1 hour 20 minutes"),
        (40_000, "11 h", "11 hours"),
        (300_000, "3 days", "3 days"),
    ],
)
def test_times_in_words(seconds: float, said: str, spoken: str):
    assert time_left(seconds) == said and spoken_time(seconds) == spoken


def test_durations_and_clock_times():
    assert [duration(s) for s in (48.2, 348, 3900)] == ["48 s", "5 min 48 s", "1 h 5 min"]
    noon = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
    assert clock(3600, noon) == "13:00" and clock(86_400, noon).endswith(" 12:00")


def test_a_course_knows_how_long_its_stages_took():
    course = Course(list(STAGES))
    for stage, number, seconds in (("load", 0, 1.0), ("load", 1, 4.0), ("base", 0, 4.0)):
        said = JobProgress(job_id="a", stage=stage, step=number, seconds=seconds)
        course.follow(said)
    assert course.seconds == {"load": 3.0, "base": 0.0}


# ---------------------------------------------------------------------------------- other states


def test_it_says_what_to_do_where_there_is_nothing(shown: QueuePanel, offline: Studio):
    assert shown.list.empty == ("Opening the queue…", "")
    assert not shown.pause_button.isEnabled() and not shown.stop_button.isEnabled()
    tell(offline)
    shown._say()
    assert shown.list.empty[0] == "Nothing in the queue"
    assert shown.pause_button.isEnabled()
    image = shown.list.viewport().grab().toImage()
    colours = {image.pixel(x, y) for x in range(0, 360, 2) for y in range(0, image.height(), 2)}
    assert len(colours) > 2  # words are there


def test_a_lost_studio_is_said_and_nothing_can_be_ordered(
    qtbot: QtBot, shown: QueuePanel, offline: Studio
):
    from freeswim.errors import StudioError

    tell(offline, some_job(1), some_job(2))
    shown.list.selectAll()
    offline._lose(StudioError("The studio does not answer."))
    assert "The studio does not answer." in shown.state_words.text()
    assert not shown.resume.isVisible()
    enabled = [action for action in shown.actions_for() if action and action.isEnabled()]
    assert enabled == [shown.copy]
    tell(offline)
    qtbot.waitUntil(lambda: not shown.state_line.isVisible())
    assert shown.remove.isEnabled()


# ---------------------------------------------------------------------- keyboard, accessibility


def test_all_is_reached_by_keyboard(qtbot: QtBot, panel: QueuePanel):
    add(qtbot, panel, *"abc")
    panel.list.setFocus()
    qtbot.keyClick(panel.list, Key.Key_End)
    qtbot.keyClick(panel.list, Key.Key_Up, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(panel.list, Key.Key_Home, CONTROL)
    qtbot.waitUntil(lambda: names(panel) == list("bca"))
    qtbot.keyClick(panel.list, Key.Key_Down)
    qtbot.keyClick(panel.list, Key.Key_Delete)
    qtbot.waitUntil(lambda: len(names(panel)) == 2)
    qtbot.keyClick(panel.list, Key.Key_Z, CONTROL)
    qtbot.waitUntil(lambda: len(names(panel)) == 3)
    qtbot.keyClick(panel.list, Key.Key_Menu)
    reached: set[QWidget] = set()
    for _ in range(20):
        focus = panel.focusWidget()
        assert focus is not None
        reached.add(focus)
        panel.focusNextChild()
    assert {panel.list, panel.resume, panel.pause_button, panel.more} <= reached


def test_everything_has_a_name(qtbot: QtBot, shown: QueuePanel, offline: Studio):
    job = some_job(1, JobState.RUNNING, attempt=1)
    tell(offline, job, some_job(2, JobState.FAILED), some_job(3, JobState.DONE))
    step(offline, job, "refine", 6, 50)
    shown.times._learn_job(job.id, {"eta_seconds": 301.0})
    shown.notice.offer_undo("SHOT_004 removed.", lambda: None)
    for button in shown.findChildren(QAbstractButton):
        assert button.text() or button.accessibleName(), button
    for view in shown.findChildren(QAbstractItemView):
        assert view.accessibleName()
    role = Qt.ItemDataRole.AccessibleTextRole
    assert shown.queue.index(0).data(role) == "SHOT_001, running, 5 minutes left"
    assert shown.queue.index(1).data(role) == "SHOT_002, failed"
    texts = [action.text().replace("&", "") for action in shown.actions_for() if action]
    assert len(texts) == len(set(texts)) and all(texts)
    assert shown.actions_for()[-1] is not None


def test_tooltips_say_all(shown: QueuePanel, offline: Studio):
    failure = Failure(code="media", message="koi.mp4 has changed.", hint="Make it again.")
    tell(offline, some_job(1, JobState.FAILED, failure=failure))
    tip = shown.queue.index(0).data(Qt.ItemDataRole.ToolTipRole)
    assert "koi.mp4 has changed.\nMake it again." in tip and tip.endswith("two koi")


# ------------------------------------------------------------------------------ ten thousand rows

MANY = 10_000


def many(count: int = MANY) -> list[Job]:
    """A queue; its first job runs."""
    first = some_job(1, JobState.RUNNING)
    return [first, *(some_job(number) for number in range(2, count + 1))]


def feed(studio: Studio, jobs: list[Job]) -> None:
    """As the studio tells of many: page by page."""
    for start in range(0, len(jobs), 500):
        tell(studio, *jobs[start : start + 500])


def calls_during(work: Callable[[], object]) -> int:
    """How many functions of Python are called.

    The garbage collector rests meanwhile: Hypothesis has it call a function at each start and end.
    """
    count = 0

    def look(*_: object) -> None:
        nonlocal count
        count += 1

    gc.disable()
    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def test_ten_thousand_jobs_come_without_a_reset_and_cost_no_more(
    qtbot: QtBot, shown: QueuePanel, offline: Studio, monkeypatch: pytest.MonkeyPatch
):
    painted: list[int] = []
    paint = RowDelegate.paint

    def counted(self: Any, painter: Any, option: QStyleOptionViewItem, index: Any) -> None:
        painted.append(index.row())
        paint(self, painter, option, index)

    monkeypatch.setattr(RowDelegate, "paint", counted)
    jobs = many()
    work: dict[int, list[int]] = {}
    with (
        qtbot.assertNotEmitted(shown.queue.modelReset),
        qtbot.assertNotEmitted(shown.queue.layoutChanged),
    ):
        for count in (100, MANY):
            feed(offline, jobs[len(offline.jobs) : count])
            qtbot.waitUntil(lambda: not shown._soon.isActive())
            step(offline, jobs[0], "refine", 1, 50)
            middle = jobs[count // 2].model_copy(update={"rank": 2.5, "seq": MANY + count})
            moved_back = jobs[count // 2]
            work[count] = [
                calls_during(lambda: step(offline, jobs[0], "refine", 2, 50)),
                calls_during(lambda middle=middle: tell(offline, middle)),
                calls_during(lambda back=moved_back: tell(offline, back)),
            ]
    assert work[100] == work[MANY]
    assert shown.queue.rowCount() == MANY and shown.queue.num_left == MANY

    seen = shown.list.viewport().height() // shown.list.row_height + 2
    for position in (0, 5000 * 64, 37):
        shown.list.verticalScrollBar().setValue(position)
        painted.clear()
        shown.list.viewport().repaint()
        assert 0 < len(painted) <= seen
    shown.list.verticalScrollBar().setValue(0)
    shown.list.viewport().repaint()
    QApplication.processEvents()
    painted.clear()
    with qtbot.waitSignal(shown.queue.dataChanged):
        step(offline, jobs[0], "refine", 3, 50)
    qtbot.waitUntil(lambda: bool(painted))
    assert set(painted) == {0}  # the others stay as they are


def test_the_selection_outlives_what_happens_to_other_rows(shown: QueuePanel, offline: Studio):
    jobs = many(300)
    feed(offline, jobs)
    chosen = [jobs[number].id for number in (50, 51, 200)]
    shown.list.select(chosen)
    ended = [job.model_copy(update={"state": JobState.CANCELLED}) for job in jobs[10:40]]
    tell(offline, *ended)
    tell(offline, *(job.model_copy(update={"rank": -job.rank}) for job in jobs[60:90]))
    tell(offline, some_job(1000, rank=0.5))
    assert sorted(shown.list.selected) == sorted(chosen)
    assert shown.queue.rowCount() == 271 and shown.finished.rowCount() == 30


def test_rows_are_in_order_whatever_comes(shown: QueuePanel, offline: Studio):
    """Both models as Qt's own tester watches them, against sorting anew."""
    says = QAbstractItemModelTester.FailureReportingMode.Warning  # which fails the test
    testers = [QAbstractItemModelTester(one, says) for one in (shown.queue, shown.finished)]
    chance = random.Random(3)
    states = list(JobState)
    for _ in range(60):
        told = {
            number: some_job(
                number,
                chance.choice(states),
                rank=float(chance.randrange(8)),
                is_cleared=chance.random() < 0.1,
                ended_at=float(chance.randrange(5)),
            )
            for number in (chance.randrange(1, 40) for _ in range(chance.choice([1, 3, 25])))
        }
        tell(offline, *told.values())
        for one in (shown.queue, shown.finished):
            keys = {job.id: one.key(job) for job in offline.jobs.values() if not job.is_cleared}
            placed = {job_id: key for job_id, key in keys.items() if key is not None}
            assert list(one.ids) == sorted(placed, key=lambda job_id: placed[job_id])
            assert [one.row_of(job_id) for job_id in one.ids] == list(range(one.rowCount()))
    assert len(testers) == 2  # and they have lived until now


def test_a_block_of_rows_moves_as_one(qtbot: QtBot, shown: QueuePanel, offline: Studio):
    jobs = many(600)
    feed(offline, jobs)
    moves: list[object] = []
    shown.queue.rowsMoved.connect(lambda *said: moves.append(said))
    block = [job.model_copy(update={"rank": 1000.0 + job.rank}) for job in jobs[100:400]]
    tell(offline, *block)
    assert len(moves) == 1
    assert shown.queue.job(599).id == jobs[399].id and shown.queue.job(100).id == jobs[400].id
    choose = QItemSelectionModel.SelectionFlag.Select
    shown.list.selectionModel().select(shown.queue.index(0), choose)
    assert shown.list.selected == [jobs[0].id]
