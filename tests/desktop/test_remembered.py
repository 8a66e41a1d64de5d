from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QRect, QStandardPaths, Qt
from PySide6.QtWidgets import QApplication, QLabel, QSplitter, QWidget
from pytestqt.qtbot import QtBot

from desktop import remembered
from desktop.remembered import MOST_BYTES, Notify, Place, Preferences, Remembered, WindowState

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture
def folder(home: Path, qapp: QApplication) -> Path:
    return home / "app"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())


def test_at_the_first_start_all_is_default_and_nothing_is_written(folder: Path):
    kept = Remembered()
    assert kept.preferences == Preferences() and kept.window == WindowState()
    kept.flush()
    assert not list(folder.glob("*.bad")) and kept.problems == []


def test_what_was_changed_is_there_at_the_next_start(folder: Path, qtbot: QtBot):
    kept = Remembered()
    with qtbot.waitSignal(kept.preferences_changed) as told:
        kept.prefer(notifications=Notify.EVERY, ask_at_close=False)
    assert told.args == [kept.preferences]
    kept.keep(shot="0123456789abcdef", drafts={"s": {"prompt": "zwei Koi, „früh“ 🐟", "seed": 7}})
    kept.flush()
    again = Remembered()
    assert again.preferences == kept.preferences
    assert again.preferences.notifications is Notify.EVERY
    assert again.window == kept.window


def test_a_change_is_written_soon_without_being_asked_for(folder: Path, qtbot: QtBot):
    kept = Remembered()
    kept.keep(shot="a")
    path = folder / "window.json"
    qtbot.waitUntil(path.exists)
    qtbot.waitUntil(lambda: read(path)["shot"] == "a")
    kept.keep(shot="b")
    qtbot.waitUntil(lambda: read(path)["shot"] == "b")


def test_text_that_is_typed_without_a_pause_is_written_all_the_same(folder: Path, qtbot: QtBot):
    kept = Remembered()
    typed = ""

    def types_on() -> bool:
        nonlocal typed
        typed += "x"
        kept.keep(drafts={"": typed})
        return (folder / "window.json").exists()

    qtbot.waitUntil(types_on)


def test_what_is_the_same_is_neither_written_nor_told(folder: Path, qtbot: QtBot):
    kept = Remembered()
    with qtbot.assertNotEmitted(kept.preferences_changed):
        kept.prefer(notifications=Notify.FINISHED)
    kept.keep(shot="a")
    kept.flush()
    (folder / "window.json").unlink()
    kept.keep(shot="b")
    kept.keep(shot="a")
    kept.flush()
    assert not (folder / "window.json").exists()


def test_what_a_newer_version_wrote_is_kept(folder: Path):
    folder.mkdir(parents=True)
    newer = {"notifications": "every", "colour": {"of": ["the", "moon"]}}
    (folder / "settings.json").write_text(json.dumps(newer))
    kept = Remembered()
    kept.prefer(ask_at_close=False)
    kept.flush()
    said = read(folder / "settings.json")
    assert said["colour"] == newer["colour"] and said["notifications"] == "every"
    assert said["ask_at_close"] is False


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'{"notifications": "off"', b"[" * 100_000),
        b" " * (MOST_BYTES + 1),
    ],
    ids=range(8),
)
def test_a_file_that_cannot_be_read_is_put_aside_and_reported(folder: Path, content: bytes):
    folder.mkdir(parents=True)
    (folder / "settings.json").write_bytes(content)
    (folder / "window.json").write_text('{"shot": "kept"}')
    kept = Remembered()
    assert kept.preferences == Preferences() and kept.window.shot == "kept"
    [problem] = kept.problems
    assert "settings.json" in problem and str(folder / "settings.json.bad") in problem
    assert (folder / "settings.json.bad").read_bytes() == content
    kept.prefer(notifications=Notify.OFF)
    kept.flush()
    assert Remembered().preferences.notifications is Notify.OFF and Remembered().problems == []


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    said=st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(WindowState)]), JSON)
)
def test_a_value_that_makes_no_sense_costs_that_value_alone(folder: Path, said: dict[str, Any]):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text('{"notifications": "loud", "ask_at_close": false}')
    (folder / "window.json").write_text(json.dumps(said))
    kept = Remembered()
    assert kept.preferences == Preferences(ask_at_close=False)
    assert kept.problems == []
    for name, value in dataclasses.asdict(kept.window).items():
        default = getattr(WindowState(), name)
        assert type(value) is type(default)
        if name in said and type(said[name]) is str is type(default):
            assert value == said[name]


def test_a_disk_that_refuses_is_reported_once_and_tried_again(folder: Path, qtbot: QtBot):
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    kept = Remembered()
    with qtbot.waitSignal(kept.failed) as told:
        kept.keep(shot="a")
    assert told.args is not None and str(folder / "window.json") in told.args[0]
    with qtbot.assertNotEmitted(kept.failed, wait=0):
        kept.keep(shot="b")
        kept.flush()
        QApplication.processEvents()
    folder.unlink()
    kept.keep(shot="c")
    kept.flush()
    assert Remembered().window.shot == "c"


def test_killed_while_it_writes_the_last_file_is_whole(folder: Path):
    code = (
        "from PySide6.QtCore import QCoreApplication\n"
        "from desktop.remembered import Remembered\n"
        "app, kept = QCoreApplication([]), Remembered()\n"
        "print('ready', flush=True)\n"
        "for number in range(10**9):\n"
        "    kept.keep(shot=str(number), drafts={'': str(number) * 20_000}); kept.flush()\n"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline()
            before = _number(folder)
            while _number(folder) in {before, "", "0", "1", "2"}:
                assert process.poll() is None
            process.kill()
        kept = Remembered()
        assert kept.problems == [] and kept.window.drafts == {"": kept.window.shot * 20_000}


def _number(folder: Path) -> str:
    path = folder / "window.json"
    return read(path)["shot"] if path.exists() else ""


def test_the_window_comes_back_where_it_was(folder: Path, qtbot: QtBot):
    def opened() -> tuple[Remembered, QWidget, QSplitter]:
        kept, window = Remembered(), QWidget()
        splitter = QSplitter(Qt.Orientation.Horizontal, window)
        for _ in range(3):
            splitter.addWidget(QLabel("x"))
        window.setGeometry(10, 10, 300, 200)
        splitter.setGeometry(0, 0, 300, 200)
        qtbot.addWidget(window)
        kept.follow_window(window, {"main": splitter})
        window.show()
        return kept, window, splitter

    kept, window, splitter = opened()
    window.setGeometry(QRect(40, 50, 640, 400))
    splitter.setSizes([50, 200, 50])
    splitter.splitterMoved.emit(50, 1)
    sizes = splitter.sizes()
    kept.flush()
    _, window, splitter = opened()
    assert window.geometry().size().toTuple() == (640, 400)
    assert splitter.sizes() == sizes


def test_geometry_of_another_time_harms_nobody(folder: Path, qtbot: QtBot):
    folder.mkdir(parents=True)
    (folder / "window.json").write_text('{"geometry": "öö!", "splitters": {"main": "AAAA"}}')
    window = QWidget()
    splitter = QSplitter(window)
    qtbot.addWidget(window)
    Remembered().follow_window(window, {"main": splitter, "other": splitter})


def test_to_forget_keeps_what_was_written_and_not_sent(folder: Path):
    kept = Remembered()
    kept.prefer(notifications=Notify.OFF, is_introduced=True)
    kept.keep(shot="a", drafts={"": "koi"}, viewer_mode="a", splitters={"x": "y"})
    kept.forget()
    assert kept.window == WindowState(drafts={"": "koi"})
    assert kept.preferences == Preferences(is_introduced=True)


def test_places_are_those_of_the_system_unless_they_are_moved(
    folder: Path, qapp: QApplication, monkeypatch: pytest.MonkeyPatch
):
    assert {remembered.folder(place) for place in Place} == {folder}
    monkeypatch.delenv("FREESWIM_HOME")
    qapp.setApplicationName("FreeSwim")
    assert qapp.organizationName() == ""
    found = remembered.folder(Place.AppConfigLocation)
    assert str(found) == QStandardPaths.writableLocation(Place.AppConfigLocation)
    assert str(found).count("FreeSwim") == 1 and not os.environ.get("FREESWIM_HOME")
