from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

try:
    from PySide6.QtWidgets import QAbstractButton
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QGuiApplication,
    QImage,
)
from PySide6.QtWidgets import QApplication, QLineEdit
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from desktop.settings.panel import SettingsPanel
from desktop.shots.intake import spread
from desktop.shots.panel import ShotsPanel
from desktop.shots.rows import Role, ShotDraft, key_of, state_of
from desktop.studio import Studio
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.studio.job import Changes, Job, Shot, Take

pytestmark = pytest.mark.qt_log_ignore(
    "does not support (propagateSizeHints|raise|grabbing the keyboard)"
)
LEFT = Qt.MouseButton.LeftButton
NONE = Qt.KeyboardModifier.NoModifier
COPY = Qt.DropAction.CopyAction


def shot(number: int, name: str = "") -> Shot:
    name = name or f"SHOT_0{number}0"
    return Shot(id=f"{number:016x}", name=name, created_at=float(number), seq=number)


def job(number: int, of: Shot, state: str, prompt: str = "a pond") -> Job:
    return Job(
        id=f"a{number:015x}",
        number=number,
        shot_id=of.id,
        shot_name=of.name,
        request={},
        request_sha256="",
        prompt=prompt,
        state=state,  # pyright: ignore[reportArgumentType]
        rank=number,
        created_at=0.0,
        ended_at=float(number) if state in ("done", "failed", "cancelled") else None,
        seq=number,
    )


def take(number: int, of: Shot, verdict: str = "new") -> Take:
    return Take(
        id=f"b{number:015x}",
        shot_id=of.id,
        shot_name=of.name,
        job_id="",
        number=number,
        file="x.mp4",
        sha256="",
        width=64,
        height=64,
        frames=9,
        frame_rate="8",
        seed=1,
        prompt="a pond",
        is_draft=False,
        verdict=verdict,  # pyright: ignore[reportArgumentType]
        created_at=0.0,
        seq=number,
    )


def tell(studio: Studio, *records: Shot | Job | Take) -> None:
    """Have the studio say these, as if it had been asked."""
    studio._take_in(
        Changes(
            seq=1,
            is_whole=True,
            mode=studio.mode,
            shots=[one for one in records if isinstance(one, Shot)],
            jobs=[one for one in records if isinstance(one, Job)],
            takes=[one for one in records if isinstance(one, Take)],
        )
    )


def names(panel: ShotsPanel) -> list[str]:
    return [one.name for one in panel.model.rows]


@pytest.fixture
def panel(qtbot: QtBot, offline: Studio) -> Iterator[ShotsPanel]:
    panel = ShotsPanel(offline)
    qtbot.addWidget(panel)
    panel.resize(300, 240)
    with qtbot.waitActive(panel):
        panel.show()
        panel.activateWindow()
    yield panel


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "A004_C012.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for shade in range(12):
            frame = np.full((32, 64, 3), 20 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def image(tmp_path: Path, qapp: QApplication) -> Path:
    path = tmp_path / "harbor.png"
    picture = QImage(64, 32, QImage.Format.Format_RGB32)
    picture.fill(Qt.GlobalColor.darkGreen)
    assert picture.save(str(path))
    return path


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    """Of a take of the demo's."""
    own = {"kind": "text", "prompt": "a pond", "seed": 41, "frames": 9}
    fields = load_preset("demo").defaults | own
    path = tmp_path / "a-pond-41.json"
    path.write_text(json.dumps({"schema": 1, "request": Request.parse(fields).as_dict()}))
    return path


def dragged(*paths: Path) -> QMimeData:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return mime


def drop(panel: ShotsPanel, *paths: Path) -> None:
    mime = dragged(*paths)
    QApplication.sendEvent(panel, QDragEnterEvent(QPoint(4, 4), COPY, mime, LEFT, NONE))
    assert panel.overlay.isVisible()
    QApplication.sendEvent(panel, QDropEvent(QPointF(4, 4), COPY, mime, LEFT, NONE))


# -------------------------------------------------------------------------------------- showing


def test_an_empty_list_says_how_to_fill_it(panel: ShotsPanel, offline: Studio):
    assert "drop video files here" in panel.list.empty
    tell(offline, shot(1))
    panel.search.setText("opera")
    assert panel.list.empty == "No shot has “opera” in its name or prompt."


def test_a_shot_says_what_is_going_on_and_how_many_takes_it_has(panel: ShotsPanel, offline: Studio):
    one, two = shot(1), shot(2)
    tell(offline, one, two, job(1, one, "done"), take(1, one), take(2, one, "approved"))
    tell(offline, job(2, two, "running"), take(3, one, "trashed"))
    first, second = panel.model.rows
    assert (first.state, first.num_takes, first.num_approved) == ("done", 2, 1)
    assert first.spoken == "SHOT_010, done, 2 takes, 1 approved"
    assert second.spoken == "SHOT_020, running, 0 takes"
    index = panel.model.index(0)
    assert index.data(Qt.ItemDataRole.AccessibleTextRole) == first.spoken


@pytest.mark.parametrize(
    "states, expected",
    [
        ([], "idle"),
        (["done", "queued", "running"], "running"),
        (["failed", "queued"], "queued"),
        (["done", "failed"], "failed"),
        (["failed", "done", "cancelled"], "done"),
        (["paused", "waiting"], "waiting"),
        (["publishing"], "running"),
        (["cancelled"], "idle"),
    ],
)
def test_the_liveliest_job_is_the_state(states: list[str], expected: str):
    jobs = [job(number, shot(1), state) for number, state in enumerate(states)]
    assert state_of(jobs) == expected


def test_the_model_is_one(panel: ShotsPanel, offline: Studio, qtmodeltester: ModelTester):
    qtmodeltester.check(panel.model)
    tell(offline, shot(2), shot(4), shot(5))
    panel.new_shot()
    tell(offline, shot(1), shot(3))
    panel.search.setText("SHOT_03")
    assert names(panel) == ["SHOT_030"]
    panel.search.clear()
    assert names(panel) == ["SHOT_010", "SHOT_020", "SHOT_030", "SHOT_040", "SHOT_050", "New shot"]


def test_search_looks_at_names_and_prompts(qtbot: QtBot, panel: ShotsPanel, offline: Studio):
    one, two = shot(1, "Opening"), shot(2, "Close")
    tell(offline, one, two, job(1, one, "done", "Rain over Bergen"))
    panel.search.setText("bergen rain")
    assert names(panel) == ["Opening"]
    panel.choose(one.id)
    with qtbot.assertNotEmitted(panel.chosen):
        panel.search.setText("close")
    assert names(panel) == ["Close"] and panel.list.selectedIndexes() == []
    draft = panel.new_shot()
    assert panel.search.text() == "", "a new shot is not hidden by a search"
    panel.set_prompt(draft.key, "a lighthouse", "text")
    panel.search.setText("lighthouse")
    assert names(panel) == ["a lighthouse"]


def test_the_choice_stays_while_shots_come(qtbot: QtBot, panel: ShotsPanel, offline: Studio):
    tell(offline, shot(2), shot(3))
    with qtbot.waitSignal(panel.chosen) as said:
        panel.choose(shot(3).id)
    assert said.args == [shot(3)]
    with qtbot.assertNotEmitted(panel.chosen):
        tell(offline, shot(1), shot(4), job(1, shot(3), "running"))
    assert panel.list.currentIndex().data(Role.KEY) == shot(3).id
    with qtbot.waitSignal(panel.chosen) as said:
        panel.list.setFocus()
        qtbot.keyClick(panel.list, Qt.Key.Key_Up)
    assert said.args == [shot(2)]
    selected: list[Any] = []
    panel.selected.connect(selected.append)
    qtbot.keyClick(panel.list, Qt.Key.Key_Up, Qt.KeyboardModifier.ShiftModifier)
    assert selected[-1] == [shot(1), shot(2)]


# --------------------------------------------------------------------------------------- drafts


def test_a_draft_is_renamed_removed_and_had_again(qtbot: QtBot, panel: ShotsPanel, offline: Studio):
    tell(offline, shot(1))
    draft = panel.new_shot()
    panel.rename.trigger()
    editor = panel.list.findChild(QLineEdit)
    assert editor is not None
    editor.setText("  Harbor\n wide ")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: draft.name == "Harbor wide")
    assert names(panel) == ["SHOT_010", "Harbor wide"]
    panel.list.setFocus()
    qtbot.keyClick(panel.list, Qt.Key.Key_Delete)
    assert names(panel) == ["SHOT_010"] and panel.current == shot(1)
    assert panel.removed_words.text() == "Harbor wide removed."
    assert panel.drafts()["drafts"], "a crash now would lose nothing"
    panel.undo.click()
    assert panel.current is draft and not panel.strip.isVisible()


def test_a_shot_with_jobs_keeps_its_name_and_place(
    qtbot: QtBot, panel: ShotsPanel, offline: Studio
):
    tell(offline, shot(1))
    panel.choose(shot(1).id)
    assert not panel.rename.isEnabled() and not panel.remove.isEnabled()
    assert not panel.model.flags(panel.model.index(0)) & Qt.ItemFlag.ItemIsEditable
    panel.duplicate.trigger()
    copy = panel.current
    assert isinstance(copy, ShotDraft)
    assert (copy.name, copy.asked) == ("SHOT_010 copy", {"of": shot(1).id})


def test_drafts_come_back(qtbot: QtBot, panel: ShotsPanel, offline: Studio):
    panel.new_shot()
    draft = panel.new_shot()
    panel.set_prompt(draft.key, "a lighthouse", "clip")
    said = json.loads(json.dumps(panel.drafts()))
    other = ShotsPanel(offline)
    qtbot.addWidget(other)
    with qtbot.waitSignal(other.chosen) as chosen:
        other.restore(said)
    assert chosen.args == [draft] and other.drafts() == said
    damaged: list[Any] = [None, 7, {"key": "x"}, {"key": "draft 1", "created_at": "soon"}]
    other.restore({"drafts": damaged, "chosen": None})
    other.restore({"drafts": "none"})
    assert "New shot" in names(other)


def test_a_draft_becomes_a_shot_where_it_stands(qtbot: QtBot, panel: ShotsPanel, offline: Studio):
    draft = panel.new_shot()
    with qtbot.assertNotEmitted(panel.chosen):  # its settings are shown already
        panel.settle(draft.key, shot(1).id)
        assert panel.drafts()["chosen"] == shot(1).id
        tell(offline, shot(1))
    assert panel.current == shot(1)
    assert panel.list.currentIndex().data(Role.KEY) == shot(1).id


# ---------------------------------------------------------------------------------------- files


def test_a_clip_an_image_and_a_take_become_shots(
    qtbot: QtBot, panel: ShotsPanel, clip: Path, image: Path, sidecar: Path
):
    drop(panel, clip, image, sidecar)
    qtbot.waitUntil(lambda: len(panel.model.rows) == 3, timeout=60_000)
    drafts = [one.shot for one in panel.model.rows]
    assert [one.name for one in drafts] == ["A004_C012", "harbor", "a-pond-41"]
    assert all(isinstance(one, ShotDraft) for one in drafts)
    assert [one.asked.get("kind") for one in drafts] == ["clip", "image", "text"]
    assert drafts[0].asked["clip_facts"]["num_frames"] == 12
    assert drafts[2].asked["seed"] == 41
    assert panel.current is drafts[0] and not panel.overlay.isVisible()


def test_a_preset_is_passed_on(qtbot: QtBot, panel: ShotsPanel, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("title: Mine\ncheckpoint: demo\nwidth: 256\nheight: 256\nframes: 5\n")
    with qtbot.waitSignal(panel.preset_dropped, timeout=60_000) as said:
        drop(panel, path)
    assert (said.args[0].name, said.args[0].title) == ("file mine", "Mine")
    assert panel.model.rows == []


def test_a_drop_that_cannot_be_used_says_why(qtbot: QtBot, panel: ShotsPanel, tmp_path: Path):
    pdf, broken = tmp_path / "notes.pdf", tmp_path / "broken.mov"
    broken.write_text("no video")
    mime = dragged(pdf)
    QApplication.sendEvent(panel, QDragEnterEvent(QPoint(4, 4), COPY, mime, LEFT, NONE))
    assert panel.overlay.text() == "PDF is not a video."
    QApplication.sendEvent(panel, QDragLeaveEvent())
    assert not panel.overlay.isVisible()
    drop(panel, pdf, broken)
    qtbot.waitUntil(lambda: "broken.mov" in panel.overlay.text(), timeout=60_000)
    assert panel.overlay.text().startswith("PDF is not a video.\n")
    assert panel.overlay.isVisible() and panel.model.rows == []
    qtbot.mouseClick(panel.overlay, LEFT)
    assert not panel.overlay.isVisible()


def test_a_folder_gives_what_is_in_it(tmp_path: Path, clip: Path, image: Path):
    clip.with_suffix(".json").write_text("{}")  # the clip's own
    (tmp_path / "notes.pdf").touch()
    (tmp_path / "empty").mkdir()
    assert spread([tmp_path]) == [clip, image]
    assert spread([tmp_path / "empty"]) == [tmp_path / "empty"]


def test_a_copied_path_is_pasted(qtbot: QtBot, panel: ShotsPanel, image: Path):
    QGuiApplication.clipboard().setText(f'"{image}"')
    panel.list.setFocus()
    qtbot.keyClick(panel.list, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: names(panel) == ["harbor"], timeout=60_000)
    QGuiApplication.clipboard().setText("two koi")
    panel.paste.trigger()
    assert "no path" in panel.overlay.text()


# ------------------------------------------------------------------------------------- together


def test_a_dropped_take_is_made_again(qtbot: QtBot, studio: Studio, look: None, sidecar: Path):
    shots, settings = ShotsPanel(studio), SettingsPanel(studio)
    for panel in (shots, settings):
        qtbot.addWidget(panel)
    shots.chosen.connect(settings.show_shot)
    shots.selected.connect(settings.set_selected)
    settings.settled.connect(shots.settle)
    settings.described.connect(shots.set_prompt)
    studio.order(lambda client: client.patch("/queue", {"mode": "pause"}))
    qtbot.waitUntil(lambda: settings.form.preset.isEnabled(), timeout=60_000)
    shots.add_files([sidecar])
    qtbot.waitUntil(settings.button.isEnabled, timeout=60_000)
    assert settings.form.prompt.toPlainText() == "a pond"
    assert (settings.sheet.seed, settings.sheet.is_seed_locked) == (41, False)
    with qtbot.waitSignal(settings.submitted, timeout=60_000):
        settings.send()
    qtbot.waitUntil(lambda: isinstance(shots.current, Shot), timeout=60_000)
    assert names(shots) == ["a-pond-41"] and shots.drafts()["drafts"] == []
    assert settings.key == key_of(shots.model.rows[0].shot)
    (made,) = studio.jobs.values()
    assert made.request["prompt"] == "a pond" and made.request["frames"] == 9
    settings.estimate.stop()


def test_every_control_has_a_name(panel: ShotsPanel):
    for control in (*panel.findChildren(QAbstractButton), panel.list, panel.search):
        inside = isinstance(control.parent(), QLineEdit)
        assert inside or control.accessibleName() or getattr(control, "text", str)(), control


def test_a_list_with_everything_in_it_is_drawn(panel: ShotsPanel, offline: Studio):
    states = ("running", "queued", "paused", "waiting", "failed", "done")
    for number, state in enumerate(states, 1):
        tell(offline, shot(number), job(number, shot(number), state))
    tell(offline, take(1, shot(6), "approved"), take(2, shot(6)))
    panel.new_shot()
    picture = panel.grab().toImage()
    assert picture.width() == 300 * picture.devicePixelRatio()
