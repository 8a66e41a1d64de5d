from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

try:
    import PySide6.QtWidgets  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from pond import Pond, a_take, tell
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QAction
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QSpinBox,
    QTreeWidgetItem,
)
from pytestqt.qtbot import QtBot

from desktop.studio import Studio
from desktop.windows import command
from desktop.windows.export import ExportWindow
from freeswim.cli.main import _parser
from freeswim.studio.job import Shot
from freeswim.timeline.editors import EDITORS
from freeswim.video.codecs import CODECS
from freeswim.video.reader import probe

# The offscreen platform has no window manager.
pytestmark = pytest.mark.qt_log_ignore("does not support (propagateSizeHints|raise)")

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def window(qtbot: QtBot, at_pond: Studio, tmp_path: Path) -> Iterator[ExportWindow]:
    """Both takes of the pond approved, to be exported into an empty folder."""
    window = ExportWindow(at_pond)
    qtbot.addWidget(window)
    for take in takes_of_pond(at_pond):
        at_pond.order(lambda client, id_=take.id: client.patch(f"/takes/{id_}", approved()))
    qtbot.waitUntil(lambda: window.for_editor.num_masters == 2)
    (tmp_path / "out").mkdir()
    window.folder.setText(str(tmp_path / "out"))
    with qtbot.waitActive(window):
        window.open_for()
    yield window
    window.stop()


def approved() -> dict[str, str]:
    return {"verdict": "approved"}


def takes_of_pond(studio: Studio) -> list[Any]:
    takes = [take for take in studio.takes.values() if take.shot_name == "POND_010"]
    return sorted(takes, key=lambda take: take.number)


def done(window: ExportWindow, qtbot: QtBot) -> None:
    """Press the button, and wait until it is done."""
    with qtbot.waitSignal(window.command.ended, timeout=180_000):
        qtbot.mouseClick(window.go, LEFT)


@pytest.fixture
def never_done(at_pond: Studio, pond: Pond) -> Iterator[None]:
    """The file of the take that is exported last is a pipe into which nobody writes."""
    first = takes_of_pond(at_pond)[0]
    file = Path(pond.client.get(f"/takes/{first.id}")["path"])
    aside = file.with_suffix(".aside")
    file.rename(aside)
    os.mkfifo(file)
    yield
    aside.replace(file)


def rows(window: ExportWindow) -> dict[str, str]:
    files = window.outcome.files
    items = [files.topLevelItem(row) for row in range(files.topLevelItemCount())]
    return {item.text(0): item.text(1) for item in items if isinstance(item, QTreeWidgetItem)}


# ----------------------------------------------------------------------------------- for an editor


def test_a_shot_is_exported_for_an_editor_and_verified_by_keyboard_alone(
    window: ExportWindow, qtbot: QtBot, tmp_path: Path
):
    page = window.for_editor
    page.editor.setFocus()
    qtbot.keyClicks(page.editor, "Kden")
    page.project.selectAll()
    qtbot.keyClicks(page.project, "Harbor")
    assert (page.about.text(), window.go.text()) == (
        "Timeline as .kdenlive, .otio",
        "Export 1 shot",
    )
    window.go.setFocus()
    with qtbot.waitSignal(window.command.ended, timeout=180_000) as ended:
        qtbot.keyClick(window.go, Qt.Key.Key_Space)
        assert window.cancel.isVisible() and not window.go.isVisible()
        assert QApplication.focusWidget() is window.cancel
    assert ended.args == [None]
    folder = tmp_path / "out" / "Harbor_kdenlive"
    assert "Harbor.kdenlive" in rows(window) and "manifest.json" in rows(window)
    assert window.outcome.title.text().startswith("✓ Exported for Kdenlive as Harbor_kdenlive: ")
    assert window.outcome.steps.text().startswith("1. Open Harbor.kdenlive as a project.")
    assert len(list((folder / "media").iterdir())) == 2

    window.outcome.verify.setFocus()
    with qtbot.waitSignal(window.command.ended, timeout=180_000):
        qtbot.keyClick(window.outcome.verify, Qt.Key.Key_Space)
    assert window.outcome.title.text().startswith("✓ All ")
    assert rows(window)["Harbor.kdenlive"] == "✓ checksum, every cut"
    assert window.problem.isHidden()
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not window.isVisible()


def test_a_changed_file_is_red_at_its_row(window: ExportWindow, qtbot: QtBot, tmp_path: Path):
    done(window, qtbot)
    readme = tmp_path / "out" / "FreeSwim_resolve" / "README.txt"
    readme.write_text("something else")
    with qtbot.waitSignal(window.command.ended, timeout=180_000):
        qtbot.mouseClick(window.outcome.verify, LEFT)
    assert rows(window)["README.txt"] == "✕ README.txt was changed since the export."
    assert rows(window)["takes.csv"] == "✓ checksum"
    assert window.outcome.title.text().startswith("✕ 1 of ")


@pytest.mark.parametrize("can_signal", [True, False])
def test_a_cancelled_export_leaves_nothing(
    window: ExportWindow,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    never_done: None,
    can_signal: bool,
):
    monkeypatch.setattr(command, "CAN_SIGNAL", can_signal)

    def cancel(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and window.cancel.isEnabled():
            assert list((tmp_path / "out").iterdir())  # what is being made, hidden
            qtbot.mouseClick(window.cancel, LEFT)
            assert window.state.text() == "Cancelling"

    (tmp_path / "out" / ".other.part").mkdir()  # of somebody else
    window.command.said.connect(cancel)
    done(window, qtbot)
    qtbot.waitUntil(lambda: [path.name for path in (tmp_path / "out").iterdir()] == [".other.part"])
    assert window.state.text() == "Cancelled. Nothing was left behind."
    assert window.outcome.isHidden() and window.go.isEnabled()


def test_progress_counts_files_and_frames_and_never_goes_back(window: ExportWindow, qtbot: QtBot):
    seen: list[int] = []
    words: list[str] = []
    window.command.said.connect(lambda _: seen.append(window.bar.value()))
    window.command.said.connect(lambda _: words.append(window.state.text()))
    done(window, qtbot)
    assert seen == sorted(seen) and seen[-1] == 970
    assert any(said.startswith("File 2 of 2 · frame ") for said in words)


def test_what_goes_wrong_is_said_in_the_window_with_its_hint(
    window: ExportWindow, qtbot: QtBot, tmp_path: Path
):
    window.folder.setText(str(tmp_path / "nowhere"))
    done(window, qtbot)
    assert window.problem.text() == f"There is no folder {tmp_path / 'nowhere'}."
    assert window.hint.text() == "Create it, or name another."
    window.folder.setText(str(tmp_path / "out"))
    window.for_editor.handles.setValue(500)
    done(window, qtbot)
    assert "too few for 500 frames of handles" in window.problem.text()
    window.for_editor.handles.setValue(0)
    done(window, qtbot)
    assert window.problem.isHidden() and window.hint.isHidden()


@pytest.mark.parametrize("program", ["/there/is/none", "/bin/false"])
def test_a_command_that_says_nothing_is_an_error(
    window: ExportWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, program: str
):
    monkeypatch.setattr(sys, "executable", program)
    done(window, qtbot)
    assert window.problem.text().endswith(".") and window.hint.text()
    assert window.go.isVisible() and window.go.isEnabled()


def test_a_take_that_is_not_approved_is_exported_where_it_is_chosen(
    window: ExportWindow, at_pond: Studio, qtbot: QtBot, tmp_path: Path
):
    (white,) = (take for take in at_pond.takes.values() if take.shot_name == "BIN")
    window.open_for([white.id])
    assert window.tabs.currentWidget() is window.as_files
    window.tabs.setCurrentWidget(window.for_editor)
    page = window.for_editor
    assert (page.source.currentText(), window.go.text()) == ("Selected take", "Export 1 take")
    done(window, qtbot)
    manifest = json.loads((tmp_path / "out" / "FreeSwim_resolve" / "manifest.json").read_text())
    assert [one["file"].split("_")[2] for one in manifest["media"]] == ["BIN-take01"]


def test_the_window_goes_on_while_it_is_closed(window: ExportWindow, qtbot: QtBot, tmp_path: Path):
    assert not window.isModal()
    with qtbot.waitSignal(window.command.ended, timeout=180_000) as ended:
        qtbot.mouseClick(window.go, LEFT)
        window.close()
    assert ended.args == [None]
    assert (tmp_path / "out" / "FreeSwim_resolve" / "manifest.json").is_file()


def test_the_app_quits_without_leaving_a_half_export(
    window: ExportWindow, qtbot: QtBot, tmp_path: Path, never_done: None
):
    with qtbot.waitSignal(window.command.said, timeout=180_000):
        qtbot.mouseClick(window.go, LEFT)
    window.stop()
    assert not window.command.is_running
    qtbot.waitUntil(lambda: list((tmp_path / "out").iterdir()) == [])


def test_a_folder_that_is_no_export_is_said_so(window: ExportWindow, qtbot: QtBot, tmp_path: Path):
    with qtbot.waitSignal(window.command.ended, timeout=180_000):
        window._open_export(str(tmp_path))
    assert window.problem.text() == f"{tmp_path.name} holds no manifest.json."
    assert window.hint.text() == "Name the folder that freeswim export made."


# --------------------------------------------------------------------------------- as single files


def test_takes_are_written_as_files_and_nothing_is_overwritten(
    window: ExportWindow, at_pond: Studio, qtbot: QtBot, tmp_path: Path
):
    first, second = takes_of_pond(at_pond)
    window.open_for([first.id, second.id])
    page = window.as_files
    page.codec.setCurrentIndex(page.codec.findData("h265"))
    page.rate.setCurrentIndex(page.rate.findData("24"))
    assert window.go.text() == "Export 2 takes"
    done(window, qtbot)
    files = [tmp_path / "out" / take.file for take in (first, second)]
    assert list(rows(window)) == [path.name for path in files]
    assert {(str(clip.frame_rate), clip.codec) for clip in map(probe, files)} == {("24", "hevc")}
    assert window.outcome.verify.isHidden()
    done(window, qtbot)
    assert "already" in window.problem.text() or "there" in window.problem.text()


# ------------------------------------------------------------------------------- without a studio


@pytest.fixture
def alone(qtbot: QtBot, offline: Studio) -> ExportWindow:
    window = ExportWindow(offline)
    qtbot.addWidget(window)
    window.open_for()
    return window


def a_shot(number: int) -> Shot:
    return Shot(id=f"{number:016x}", name=f"SHOT_{number:02}", created_at=float(number), seq=number)


def of_shot(number: int, **fields: Any) -> Any:
    shot = a_shot(number)
    ids = {"shot_id": shot.id, "shot_name": shot.name, "verdict": "approved"}
    return a_take(number * 100 + fields.pop("nth", 1), **(ids | fields))


def words_of(window: ExportWindow) -> list[str]:
    """The command's options, as the command line reads them."""
    words = window._page.arguments([])
    _parser().parse_args(words)
    return words


def test_nothing_approved_says_so(alone: ExportWindow, offline: Studio):
    assert not alone.go.isEnabled() and alone.go.text() == "Export"
    assert alone.state.text() == "No take is approved. Approve one in the takes strip first."
    tell(offline, a_shot(1), of_shot(1, verdict="new"))
    assert not alone.go.isEnabled()
    tell(offline, of_shot(1))
    assert alone.go.isEnabled() and alone.go.text() == "Export 1 shot"
    assert alone.state.text() == ""


def test_chosen_shots_are_exported_in_the_order_of_the_list(
    alone: ExportWindow, offline: Studio, qtbot: QtBot
):
    tell(offline, *(one for n in (1, 2, 3) for one in (a_shot(n), of_shot(n))), of_shot(2, nth=2))
    page = alone.for_editor
    assert words_of(alone)[-1] == "--"  # all of them, in their own order
    page.source.setCurrentIndex(page.source.findData("chosen"))
    assert page.shots.item(1).text() == "SHOT_02   take 202, and 1 more"
    page.shots.item(0).setCheckState(Qt.CheckState.Unchecked)
    page.shots.insertItem(0, page.shots.takeItem(2))
    assert words_of(alone)[-3:] == ["--", "SHOT_03", "SHOT_02"]
    assert (alone.go.text(), page.num_masters) == ("Export 2 shots", 3)
    tell(offline, of_shot(3, nth=2))
    assert words_of(alone)[-3:] == ["--", "SHOT_03", "SHOT_02"]  # nothing moves by itself
    for row in range(3):
        page.shots.item(row).setCheckState(Qt.CheckState.Unchecked)
    assert alone.state.text() == "Choose one shot at least."


def test_all_that_is_offered_exists(alone: ExportWindow, offline: Studio):
    tell(offline, a_shot(1), of_shot(1))
    page = alone.for_editor
    offered = [page.editor.itemData(row).name for row in range(page.editor.count())]
    assert offered == [editor.name for editor in EDITORS]
    for field in (page.editor, page.codec, page.rate, page.way, page.others):
        for row in range(field.count()):
            field.setCurrentIndex(row)
            words = words_of(alone)
    for box, word in ((page.proxies, "--proxies"), (page.native, "--native")):
        box.setChecked(True)
        assert word in words_of(alone) and word not in words
    codecs = {page.codec.itemData(row) for row in range(1, page.codec.count())}
    assert codecs < set(CODECS) and "exr" not in codecs and "prores-proxy" not in codecs
    alone.tabs.setCurrentWidget(alone.as_files)
    for field in (alone.as_files.codec, alone.as_files.rate, alone.as_files.way):
        for row in range(field.count()):
            field.setCurrentIndex(row)
            words_of(alone)


def test_another_editor_brings_its_codec_and_keeps_the_one_that_was_chosen(alone: ExportWindow):
    page = alone.for_editor
    page.editor.setCurrentText("Avid Media Composer")
    assert page.codec.currentText().startswith("DNxHR HQX, 10 bit, MXF")
    page.codec.setCurrentIndex(page.codec.findData("h265"))
    page.editor.setCurrentText("Blender")
    assert page.codec.currentData() == "h265"


@pytest.mark.parametrize(
    "field, text, obstacle",
    [
        ("project", " ", "Give the project a name."),
        ("start", "01:00:00", "The timeline starts at a timecode, such as 01:00:00:00."),
    ],
)
def test_what_cannot_be_is_said_before_it_is_asked_for(
    alone: ExportWindow, offline: Studio, field: str, text: str, obstacle: str
):
    tell(offline, a_shot(1), of_shot(1))
    getattr(alone.for_editor, field).setText(text)
    assert (alone.state.text(), alone.go.isEnabled()) == (obstacle, False)


def test_words_of_a_project_are_no_options(alone: ExportWindow, offline: Studio):
    tell(offline, a_shot(1), of_shot(1))
    alone.for_editor.project.setText("--native")
    assert _parser().parse_args(words_of(alone)).native is False


def test_every_control_has_a_name_and_no_words_are_markup(alone: ExportWindow):
    kinds = (QAbstractButton, QComboBox, QLineEdit, QSpinBox)
    controls = [one for kind in kinds for one in alone.findChildren(kind)]
    controls = [one for one in controls if not isinstance(one.parent(), (QComboBox, QSpinBox))]
    for control in [*controls, alone.outcome.files, alone.for_editor.shots, alone.bar]:
        said = QAccessible.queryAccessibleInterface(control)
        is_of_qt = control.objectName().startswith("qt_") or "Scroll" in type(control).__name__
        assert is_of_qt or said.text(QAccessible.Text.Name), control
    plain = Qt.TextFormat.PlainText
    for label in (alone.problem, alone.hint, alone.state, alone.outcome.title, alone.outcome.steps):
        assert isinstance(label, QLabel) and label.textFormat() == plain
    actions = [action for action in alone.actions_for() if isinstance(action, QAction)]
    assert all(action.statusTip() and "&" in action.text() for action in actions)


def test_what_is_no_event_is_passed_over(alone: ExportWindow):
    for line in (b"", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"event": "x"}'):
        alone.command._take_in(line)
    alone._hear({"event": "progress", "stage": "x", "step": 1, "num_steps": 0})
    assert alone.problem.text() == ""
