from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

try:
    import PySide6.QtWidgets  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from pond import Pond, a_job, a_take, tell
from PySide6.QtCore import QPoint, Qt, QUrl
from PySide6.QtGui import QAccessible, QAction, QDesktopServices, QGuiApplication, QImage
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel
from pytestqt.qtbot import QtBot

from desktop.studio import Studio
from desktop.takes import thumbnails
from desktop.takes.panel import TakesStrip
from desktop.takes.thumbnails import Thumbnails, moment_at, num_moments, place_of, strip_size
from desktop.takes.tiles import ROW, TAKES_MIME, picture_place
from freeswim.studio.job import Job, JobState, Take, Verdict
from freeswim.studio.runner import JobProgress
from freeswim.video.reader import read_frames

# The offscreen platform has no window manager to be told of sizes.
pytestmark = pytest.mark.qt_log_ignore("does not support propagateSizeHints")

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def strip(qtbot: QtBot, at_pond: Studio, pond: Pond, tmp_path: Path) -> Iterator[TakesStrip]:
    """The takes of the pond, the second one chosen, with the focus."""
    with shown(qtbot, TakesStrip(at_pond, thumbnails=tmp_path / "cache"), pond.pond) as strip:
        yield strip


@contextmanager
def shown(qtbot: QtBot, strip: TakesStrip, shot_id: str) -> Iterator[TakesStrip]:
    strip.resize(740, strip.sizeHint().height())
    qtbot.addWidget(strip)
    with qtbot.waitActive(strip):
        strip.show()
        strip.activateWindow()
    strip.show_shot(shot_id)
    strip.view.setFocus()
    yield strip
    strip.thumbnails.close()


def take_of(strip: TakesStrip, number: int) -> Take:
    (take,) = (take for take in strip.model.takes if take.number == number)
    return take


def jobs(studio: Studio) -> list[Job]:
    """Those that wait, the newest last."""
    waiting = [job for job in studio.jobs.values() if job.state == JobState.QUEUED]
    return sorted(waiting, key=lambda job: job.number)


def await_strips(qtbot: QtBot, strip: TakesStrip) -> None:
    strip.grab()
    qtbot.waitUntil(lambda: all(strip.model.strip_of(take) for take in strip.model.takes))


# --------------------------------------------------------------------------------------- verdicts


def test_a_take_is_approved_and_the_approval_taken_back_by_key(
    strip: TakesStrip, at_pond: Studio, qtbot: QtBot
):
    take = strip.selected[0]
    assert take.number == 2  # the newest of those that nobody has judged
    qtbot.keyClick(strip.view, Qt.Key.Key_A)
    qtbot.waitUntil(lambda: at_pond.takes[take.id].verdict == Verdict.APPROVED)
    assert strip.count.text() == "2 · 1 approved"
    assert strip.approve.text() == "Take &approval back"
    qtbot.keyClick(strip.view, Qt.Key.Key_A)
    qtbot.waitUntil(lambda: at_pond.takes[take.id].verdict == Verdict.NEW)


def test_several_takes_are_rejected_at_once(strip: TakesStrip, at_pond: Studio, qtbot: QtBot):
    strip.view.selectAll()
    qtbot.keyClick(strip.view, Qt.Key.Key_N)
    ids = [take.id for take in strip.model.takes]
    qtbot.waitUntil(lambda: all(at_pond.takes[id_].verdict == Verdict.REJECTED for id_ in ids))
    assert not strip.use.isEnabled() and strip.copy_seed.isEnabled()
    assert [take.verdict for take in strip.selected] == [Verdict.REJECTED] * 2


def test_a_rejected_take_is_dimmed_and_says_so(strip: TakesStrip, at_pond: Studio, qtbot: QtBot):
    await_strips(qtbot, strip)
    before = picture_of(strip, 2)
    strip.reject.trigger()
    qtbot.waitUntil(lambda: take_of(strip, 2).verdict == Verdict.REJECTED)
    index = strip.model.index(1)
    assert index.data(Qt.ItemDataRole.AccessibleTextRole) == (
        "Take 2, rejected, seed 12, 128 by 128"
    )
    assert picture_of(strip, 2).mean() < 0.6 * before.mean()


# ------------------------------------------------------------------------------------ what is made


def test_settings_are_wanted_without_the_seed_or_with_it(strip: TakesStrip, qtbot: QtBot):
    take = strip.selected[0]
    with qtbot.waitSignal(strip.settings_wanted) as asked:
        qtbot.keyClick(strip.view, Qt.Key.Key_U)
    assert asked.args == [take.id, False]
    with qtbot.waitSignal(strip.settings_wanted) as asked:
        qtbot.keyClick(strip.view, Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    assert asked.args == [take.id, True]


def test_one_more_has_another_seed_and_redo_the_same(
    strip: TakesStrip, at_pond: Studio, qtbot: QtBot
):
    qtbot.keyClick(strip.view, Qt.Key.Key_R)
    qtbot.waitUntil(lambda: len(jobs(at_pond)) == 1)
    qtbot.keyClick(strip.view, Qt.Key.Key_R, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: len(jobs(at_pond)) == 2)
    more, again = jobs(at_pond)
    assert more.request["seed"] != 12 and again.request["seed"] == 12
    assert {more.shot_id, again.shot_id} == {take_of(strip, 2).shot_id}


def test_reject_and_redo_keeps_order(strip: TakesStrip, at_pond: Studio, qtbot: QtBot):
    strip.replace.trigger()
    qtbot.waitUntil(lambda: len(jobs(at_pond)) == 1)
    assert take_of(strip, 2).verdict == Verdict.REJECTED


def test_a_draft_is_finished_in_the_size_that_was_asked_for(
    strip: TakesStrip, at_pond: Studio, qtbot: QtBot
):
    assert not strip.finish.isEnabled()
    strip.choose(take_of(strip, 1).id)
    assert strip.finish.isEnabled() and strip.finish.text() == "&Finish in 256 × 144"
    qtbot.keyClick(strip.view, Qt.Key.Key_F6)
    qtbot.waitUntil(lambda: len(jobs(at_pond)) == 1)
    (job,) = jobs(at_pond)
    assert job.draft_take == take_of(strip, 1).id
    assert (job.request["draft"], job.request["width"]) == (False, 256)


def test_what_cannot_be_done_is_said_in_the_strip(strip: TakesStrip, at_pond: Studio, qtbot: QtBot):
    take = take_of(strip, 1)
    strip._order(lambda client: client.post(f"/takes/{'0' * 16}/finish", {"request": {}}))
    qtbot.waitUntil(lambda: bool(strip.message.text()))
    assert "no take" in strip.message.text().lower()
    strip.choose(take.id)
    strip.approve.trigger()
    assert strip.message.text() == ""  # it was of what was done before
    qtbot.waitUntil(lambda: at_pond.takes[take.id].verdict == Verdict.APPROVED)


def test_a_take_in_the_trash_leaves_the_strip(
    qtbot: QtBot, at_pond: Studio, pond: Pond, tmp_path: Path
):
    with shown(qtbot, TakesStrip(at_pond, thumbnails=tmp_path), pond.bin) as strip:
        take = strip.selected[0]
        qtbot.waitUntil(lambda: strip.model.file_of(take) is not None)
        qtbot.keyClick(strip.view, Qt.Key.Key_Delete)
        qtbot.waitUntil(lambda: strip.model.takes == [])
        assert not strip.model.files[take.id].exists()
        assert strip.empty.isVisible() and strip.empty.text().startswith("No takes yet.")


# ------------------------------------------------------------------------------------- looking


def picture_of(strip: TakesStrip, number: int) -> np.ndarray:
    """What is drawn of a take, (H, W, 3)."""
    index = strip.model.index_of(take_of(strip, number).id)
    drawn = strip.view.viewport().grab(picture_place(strip.view.visualRect(index))).toImage()
    return pixels(drawn)


def pixels(image: QImage) -> np.ndarray:
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1)
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(float)


def moments(strip: TakesStrip, take: Take) -> list[np.ndarray]:
    whole = strip.model.strip_of(take)
    assert whole is not None
    return [pixels(whole.copy(place_of(take, moment))) for moment in range(num_moments(take))]


def test_moments_are_the_frames_of_the_take(strip: TakesStrip, qtbot: QtBot):
    await_strips(qtbot, strip)
    take = take_of(strip, 2)
    frames = [frame / 257 for frame in read_frames(strip.model.files[take.id])]
    shown = moments(strip, take)
    assert len(shown) == len(frames) == 5
    for number, moment in enumerate(shown):
        small = QImage(
            frames[number].astype(np.uint8).tobytes(), 128, 128, 384, QImage.Format.Format_RGB888
        )
        size = moment.shape[1], moment.shape[0]
        near = pixels(small.scaled(*size, mode=Qt.TransformationMode.SmoothTransformation))
        assert np.abs(moment - near).mean() < 4  # JPEG, swscale


def test_the_mouse_over_a_thumbnail_shows_that_part_of_the_take(strip: TakesStrip, qtbot: QtBot):
    await_strips(qtbot, strip)
    take = take_of(strip, 2)
    index = strip.model.index_of(take.id)
    place = picture_place(strip.view.visualRect(index))
    assert strip.view.moment_of(take) is None
    for share, moment in ((0.02, 0), (0.5, 2), (0.98, 4)):
        at = QPoint(place.left() + round(share * place.width()), place.center().y())
        qtbot.mouseMove(strip.view.viewport(), at)
        assert strip.view.moment_of(take) == moment
    drawn = picture_of(strip, 2)
    inner = drawn[10:-10, 50:70]  # beside the line
    last, first = (inner_of(moments(strip, take)[moment]) for moment in (4, 0))
    assert np.abs(inner - last).mean() < np.abs(inner - first).mean()
    qtbot.mouseMove(strip.view.viewport(), QPoint(strip.view.width() - 5, 5))
    assert strip.view.moment_of(take) is None


def inner_of(moment: np.ndarray) -> np.ndarray:
    """The same part of a moment as of what is drawn: half the size, between black bars."""
    small = moment.reshape(72, 2, 72, 2, 3).mean((1, 3))
    wide = np.zeros((72, 128, 3))
    wide[:, 28:100] = small
    return wide[10:-10, 50:70]


def test_the_keyboard_looks_at_moments_too(strip: TakesStrip, qtbot: QtBot):
    take = strip.selected[0]
    for key, moment in (
        *((Qt.Key.Key_Period, 3), (Qt.Key.Key_Period, 4), (Qt.Key.Key_Period, 4)),
        *((Qt.Key.Key_Comma, 3), (Qt.Key.Key_Comma, 2)),
    ):
        qtbot.keyClick(strip.view, key)
        assert strip.view.moment_of(take) == moment
    qtbot.keyClick(strip.view, Qt.Key.Key_Left)
    assert strip.view.moment_of(take) is None


def test_strips_are_kept_on_the_disk_and_made_anew_where_they_are_damaged(
    strip: TakesStrip, qtbot: QtBot, tmp_path: Path
):
    await_strips(qtbot, strip)
    take = take_of(strip, 2)
    (kept,) = (tmp_path / "cache").glob(f"{take.sha256[:32]}*")
    no_file = tmp_path / "gone.mp4"
    for content in (kept.read_bytes(), b"no picture"):
        kept.write_bytes(content)
        again = Thumbnails(tmp_path / "cache")
        path = no_file if len(content) > 10 else strip.model.files[take.id]
        with qtbot.waitSignal(again.came, timeout=60_000):
            assert again.strip(take, path) is None
        made = again.strip(take, path)
        assert made is not None and made.size() == strip_size(take)
        again.close()


def test_what_is_kept_is_bounded(
    strip: TakesStrip, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await_strips(qtbot, strip)
    first, second = strip.model.takes
    monkeypatch.setattr(thumbnails, "MOST_KEPT", 1)
    monkeypatch.setattr(thumbnails, "MOST_HELD", 1_000_000)
    few = Thumbnails(tmp_path / "few")
    for take in (first, second):
        with qtbot.waitSignal(few.came, timeout=60_000):
            few.strip(take, strip.model.files[take.id])
    assert list((tmp_path / "few").iterdir()) == []
    assert list(few._held) == [second.id]
    few.close()


def test_a_file_that_is_gone_is_said_at_its_tile(offline: Studio, qtbot: QtBot, tmp_path: Path):
    strips = Thumbnails(tmp_path)
    take = a_take(1)
    with qtbot.waitSignal(strips.came):
        strips.strip(take, tmp_path / "gone.mp4")
    assert "gone.mp4" in strips.problems[take.id].message
    assert strips.strip(take, tmp_path / "gone.mp4") is None  # not looked for at every painting
    strips.problems.clear()
    with qtbot.waitSignal(strips.came):
        strips.strip(take, tmp_path / "gone.mp4")
    strips.close()


# ---------------------------------------------------------------------------------- leaving the app


def test_takes_are_dragged_out_as_the_files_they_are(strip: TakesStrip, qtbot: QtBot):
    strip.view.selectAll()
    takes = strip.selected
    qtbot.waitUntil(lambda: all(strip.model.file_of(take) for take in takes))
    data = strip.model.mimeData(strip.view.selectedIndexes())
    files = [Path(url.toLocalFile()) for url in data.urls()]
    assert [path.name for path in files] == [take.file for take in takes]
    assert all(path.is_file() for path in files)
    assert data.hasFormat("text/uri-list")
    assert data.data(TAKES_MIME).data().decode().split() == [take.id for take in takes]
    flags = strip.model.flags(strip.model.index(0))
    assert flags & Qt.ItemFlag.ItemIsDragEnabled
    assert strip.model.supportedDragActions() == Qt.DropAction.CopyAction


def test_seed_folder_export_and_sides_go_where_they_are_asked(
    strip: TakesStrip, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
):
    take = strip.selected[0]
    strip.copy_seed.trigger()
    assert QGuiApplication.clipboard().text() == "12"
    for action, side in ((strip.as_a, "A"), (strip.as_b, "B")):
        with qtbot.waitSignal(strip.compare) as asked:
            action.trigger()
        assert asked.args == [take.id, side]
    with qtbot.waitSignal(strip.export_wanted) as asked:
        strip.export.trigger()
    assert asked.args == [[take.id]]
    qtbot.waitUntil(lambda: strip.model.file_of(take) is not None)
    opened: list[QUrl] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    strip.folder.trigger()
    assert [Path(url.toLocalFile()) for url in opened] == [strip.model.files[take.id].parent]


# ------------------------------------------------------------------------------------ without a studio


@pytest.fixture
def alone(qtbot: QtBot, offline: Studio, tmp_path: Path) -> Iterator[TakesStrip]:
    """A strip with nothing in it."""
    strip = TakesStrip(offline, thumbnails=tmp_path)
    qtbot.addWidget(strip)
    with qtbot.waitActive(strip):
        strip.show()
        strip.activateWindow()
    yield strip
    strip.thumbnails.close()


def test_an_empty_strip_says_why(alone: TakesStrip, offline: Studio):
    assert alone.empty.text() == "Waiting for the studio."
    tell(offline)
    assert alone.empty.text() == "Choose a shot to see its takes."
    alone.show_shot("a" * 16)
    assert alone.empty.text().startswith("No takes yet.")
    assert not alone.approve.isEnabled() and alone.find_takes.isEnabled()
    tell(offline, a_take(1))
    assert alone.pages.currentWidget() is alone.view


def test_the_best_take_is_chosen_and_a_new_one_waits_to_be_looked_at(
    alone: TakesStrip, offline: Studio, qtbot: QtBot
):
    tell(
        offline,
        a_take(1, verdict="rejected"),
        a_take(2, verdict="approved"),
        a_take(3),
        a_take(4, shot_id="c" * 16),
    )
    with qtbot.waitSignal(alone.take_chosen) as chosen:
        alone.show_shot("a" * 16)
    assert chosen.args == [a_take(2).id]
    with qtbot.assertNotEmitted(alone.take_chosen):
        tell(offline, a_take(5))
    new = alone.model.index_of(a_take(5).id)
    assert ", new, " in new.data(Qt.ItemDataRole.AccessibleTextRole)
    with qtbot.waitSignal(alone.take_chosen):
        qtbot.mouseClick(alone.view.viewport(), LEFT, pos=alone.view.visualRect(new).center())
    assert ", new, " not in new.data(Qt.ItemDataRole.AccessibleTextRole)
    assert not alone.grab().isNull()


def test_takes_are_found_by_their_prompt_in_all_shots(
    alone: TakesStrip, offline: Studio, qtbot: QtBot
):
    tell(
        offline,
        a_take(1),
        a_take(2, shot_id="c" * 16, shot_name="SHOT_030", prompt="two koi at a WINDOW"),
        a_take(3, prompt="rain", verdict="trashed"),
    )
    alone.show_shot("a" * 16)
    alone.view.setFocus()
    find = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    qtbot.keyClick(alone.view, Qt.Key.Key_F, find)
    assert QApplication.focusWidget() is alone.search
    qtbot.keyClicks(alone.search, "window")
    assert [take.number for take in alone.model.takes] == [2, 1]
    assert alone.count.text() == "2 · found in all shots"
    assert alone.model.index(0).data() == "SHOT_030, take 2"
    with qtbot.assertNotEmitted(alone.take_chosen):  # looking for something is no choice
        qtbot.keyClicks(alone.search, " koi")
    assert alone.selected == []
    with qtbot.waitSignal(alone.take_chosen) as chosen:
        qtbot.keyClick(alone.search, Qt.Key.Key_Down)
    assert chosen.args == [a_take(2).id]
    alone.search.setText("rain")
    assert alone.empty.text() == "No take of any shot has “rain”."
    qtbot.keyClick(alone.search, Qt.Key.Key_Escape)
    assert [take.number for take in alone.model.takes] == [1]
    assert QApplication.focusWidget() is alone.view


def test_letters_in_the_search_field_do_nothing_to_takes(
    alone: TakesStrip, offline: Studio, qtbot: QtBot
):
    tell(offline, a_take(1))
    alone.show_shot("a" * 16)
    alone.search.setFocus()
    with qtbot.assertNotEmitted(alone.settings_wanted):
        qtbot.keyClicks(alone.search, "unra")
    assert alone.search.text() == "unra"


def test_a_job_that_runs_is_a_tile_with_its_progress(
    alone: TakesStrip, offline: Studio, qtbot: QtBot
):
    tell(offline, a_take(1), a_job(), a_job(id="d" * 16, state="queued"))
    alone.show_shot("a" * 16)
    assert alone.model.rowCount() == 2
    tile = alone.model.index(1)
    role = Qt.ItemDataRole.AccessibleTextRole
    assert tile.data(role) == "New take, starting"
    offline._take_progress(JobProgress(job_id="b" * 16, stage="refine", step=10, num_steps=50))
    assert tile.data(role) == "New take, refining 10/50"
    assert not tile.flags() & Qt.ItemFlag.ItemIsSelectable
    place = picture_place(alone.view.visualRect(tile))
    bar = alone.view.viewport().grab(place).toImage()
    assert bar.pixelColor(10, bar.height() - 1) != bar.pixelColor(120, bar.height() - 1)
    picture = QImage(64, 36, QImage.Format.Format_RGB32)
    picture.fill(Qt.GlobalColor.red)
    alone.model.previews["b" * 16] = (1, picture)
    alone.model.touch("b" * 16)
    red = alone.view.viewport().grab(place).toImage().pixelColor(64, 30)
    assert red.red() > 200 and red.green() < 50
    tell(offline, a_job(state="done"), a_take(2))
    assert [row.data(ROW).id for row in (alone.model.index(0), alone.model.index(1))] == [
        a_take(1).id,
        a_take(2).id,
    ]
    assert alone.model.previews == {}


def test_settings_are_read_by_hovering_and_are_no_markup(alone: TakesStrip, offline: Studio):
    request = {
        "seed": 700001,
        "checkpoint": "wan21-1.3b",
        "negative_prompt": "<i>",
        "base": {"steps": 50, "guidance_scale": 5.0},
        "refine": {"steps": 50, "strength": 0.7, "guidance_scale": 5.0},
    }
    job_id = a_take(1).job_id
    tell(
        offline,
        a_take(1, prompt="<b>koi</b>"),
        a_job(id=job_id, state="done", request=request),
    )
    alone.show_shot("a" * 16)
    tip = alone.model.index(0).data(Qt.ItemDataRole.ToolTipRole)
    for words in ("700001", "1920 × 1088, 81 frames", "strength 0.7", "&lt;b&gt;koi", "&lt;i&gt;"):
        assert words in tip
    assert "<b>koi" not in tip


def test_every_action_has_a_key_and_every_control_a_name(alone: TakesStrip):
    actions = [action for action in alone.actions_for() if isinstance(action, QAction)]
    keys = [action.shortcut().toString() for action in actions]
    assert all(keys) and len(set(keys)) == len(keys)
    mnemonics = [action.text()[action.text().index("&") + 1].lower() for action in actions]
    assert len(set(mnemonics)) == len(mnemonics)
    assert all(action.statusTip() and "&" in action.text() for action in actions)
    for control in (alone.view, alone.search, *alone.findChildren(QAbstractButton)):
        said = QAccessible.queryAccessibleInterface(control)
        assert control.isHidden() or said.text(QAccessible.Text.Name), control
    assert {label.textFormat() for label in alone.findChildren(QLabel)} <= {
        Qt.TextFormat.PlainText,
        Qt.TextFormat.AutoText,  # of the title, which is ours
    }


def test_the_strip_keeps_its_model_sound(alone: TakesStrip, offline: Studio, qtmodeltester: Any):
    tell(offline, *(a_take(number) for number in range(1, 6)), a_job())
    alone.show_shot("a" * 16)
    qtmodeltester.check(alone.model)
    tell(offline, a_take(3, verdict="trashed"), a_take(6), a_job(state="cancelled"))
    assert [take.number for take in alone.model.takes] == [1, 2, 4, 5, 6]


@pytest.mark.parametrize("share, moment", [(0.0, 0), (0.999, 23), (1.0, 23), (0.5, 12)])
def test_a_place_in_a_long_take_is_one_of_its_moments(share: float, moment: int):
    take = a_take(1)
    assert num_moments(take) == 24
    assert moment_at(take, share) == moment
    assert [thumbnails.frame_of(take, one) for one in (0, 12, 23)] == [0, 42, 80]
    assert thumbnails.frame_of(a_take(1, frames=1), 0) == 0
