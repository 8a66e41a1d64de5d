"""The whole window over the real studio, with the real worker and the demo checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

try:
    import PySide6.QtMultimedia  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAccessible, QAction
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QScrollBar,
    QWidget,
)
from pytestqt.qtbot import QtBot

from desktop.window import SAMPLE_PROMPT, Window
from freeswim.studio import client
from freeswim.studio.job import Job, JobState
from freeswim.video.reader import probe

LEFT = Qt.MouseButton.LeftButton
CONTROL = Qt.KeyboardModifier.ControlModifier
PATIENCE_MS = 120_000
CONTROLS = (
    *(QAbstractButton, QAbstractItemView, QAbstractSlider, QAbstractSpinBox),
    *(QComboBox, QLineEdit, QPlainTextEdit),
)


def make_small(window: Window, qtbot: QtBot) -> None:
    """Type a prompt and a small size, as quick as a take can be."""
    qtbot.waitUntil(lambda: window.settings.form.isEnabled() and bool(window.settings.sheet.preset))
    window.settings.form.prompt.setFocus()
    qtbot.keyClicks(window.settings.form.prompt, SAMPLE_PROMPT)
    window.settings.form.tune({"width": 128, "height": 128, "frames": 5})


def only_job(window: Window) -> Job:
    (job,) = window.queue.studio.jobs.values()
    return job


def until(window: Window, qtbot: QtBot, *states: JobState) -> Callable[[], None]:
    """Wait until the only job is in one of these states."""
    qtbot.waitUntil(
        lambda: len(window.queue.studio.jobs) == 1 and only_job(window).state in states,
        timeout=PATIENCE_MS,
    )
    return lambda: None


def workers() -> list[psutil.Process]:
    """Processes of the studio's that make takes."""
    studio = client.connect()
    assert studio is not None
    return [
        child
        for child in psutil.Process(studio.pid).children(recursive=True)
        if "freeswim.worker" in " ".join(child.cmdline())
    ]


def orange_pixels(widget: QWidget) -> int:
    image = widget.grab().toImage()
    points = ((x, y) for x in range(0, image.width(), 4) for y in range(0, image.height(), 4))
    colours = (image.pixelColor(x, y) for x, y in points)
    return sum(one.red() > 180 and 60 < one.green() < 180 and one.blue() < 90 for one in colours)


def test_a_person_clicks_generate_and_sees_the_take(window: Window, qtbot: QtBot):
    titles, previews = list[str](), list[str]()
    window.windowTitleChanged.connect(titles.append)
    show = window.viewer.show_preview
    window.viewer.show_preview = lambda *said: (previews.append(said[2]), show(*said))
    make_small(window, qtbot)
    qtbot.waitUntil(lambda: window.settings.button.isEnabled())
    assert window.settings.button.text() == "Add to queue"

    qtbot.mouseClick(window.settings.button, LEFT)

    until(window, qtbot, JobState.DONE)
    qtbot.waitUntil(lambda: window.viewer.clips[1] is not None, timeout=60_000)
    take = window.viewer.clips[1]
    assert take is not None and take.name == "Take 1"
    clip = probe(take.path)
    assert (clip.width, clip.height, clip.num_frames) == (128, 128, 5)
    qtbot.waitUntil(lambda: orange_pixels(window.viewer.canvas) > 100, timeout=60_000)
    assert any("(" in title and "%)" in title for title in titles)
    assert window.windowTitle() == "FreeSwim"
    assert previews and all(label.startswith("Preview, ") for label in previews)
    assert [take.number for take in window.takes.model.takes] == [1]


def test_by_keyboard_alone_from_nothing_to_an_approved_take(window: Window, qtbot: QtBot):
    make_small(window, qtbot)
    qtbot.keyClick(window.settings.form.prompt, Qt.Key.Key_Return, CONTROL)
    until(window, qtbot, JobState.DONE)
    qtbot.waitUntil(lambda: len(window.takes.model.takes) == 1, timeout=60_000)
    window.takes.view.setFocus()
    qtbot.keyClick(window.takes.view, Qt.Key.Key_A)
    qtbot.waitUntil(lambda: window.takes.model.takes[0].verdict == "approved", timeout=60_000)
    qtbot.waitUntil(lambda: orange_pixels(window.viewer.canvas) > 100, timeout=60_000)
    window.viewer.setFocus()
    focused = QApplication.focusWidget()
    assert focused is not None
    qtbot.keyClick(focused, Qt.Key.Key_Right)
    qtbot.waitUntil(lambda: window.viewer.player.position == 1, timeout=60_000)


def test_a_worker_that_is_killed_costs_a_moment(window: Window, qtbot: QtBot):
    make_small(window, qtbot)
    window.settings.form.tune({"frames": 9, "width": 256, "height": 256})
    window.settings.send()
    qtbot.waitUntil(lambda: bool(window.queue.studio.progress), timeout=PATIENCE_MS)
    for worker in workers():
        worker.kill()
    until(window, qtbot, JobState.DONE)
    assert only_job(window).attempt == 2


def test_a_studio_that_is_killed_is_started_again_and_says_so(window: Window, qtbot: QtBot):
    make_small(window, qtbot)
    window.settings.form.tune({"frames": 9, "width": 256, "height": 256})
    window.settings.send()
    qtbot.waitUntil(lambda: bool(window.queue.studio.progress), timeout=PATIENCE_MS)
    running = client.connect()
    assert running is not None
    with qtbot.waitSignal(window.queue.studio.lost, timeout=PATIENCE_MS):
        os.kill(running.pid, signal.SIGKILL)
    until(window, qtbot, JobState.DONE)
    assert any("was interrupted. It goes on" in text for text in window.banner.texts())


def test_what_was_typed_is_there_after_a_restart(window: Window, qtbot: QtBot, home: Path):
    from desktop.remembered import Remembered
    from desktop.studio import Studio
    from desktop.trouble import Trouble

    make_small(window, qtbot)
    before = window.settings.unsent(), window.shots.drafts()
    window.leave()
    trouble = Trouble()
    again = Window(Studio(), Remembered(), trouble)
    qtbot.addWidget(again)
    assert (again.settings.unsent(), again.shots.drafts()) == before
    again.leave()
    trouble.close()


def test_while_a_job_runs_closing_asks_and_the_studio_goes_on(window: Window, qtbot: QtBot):
    make_small(window, qtbot)
    window.settings.form.tune({"frames": 9, "width": 256, "height": 256})
    window.settings.send()
    until(window, qtbot, JobState.RUNNING)
    window.close()
    assert window.isVisible() and window.quit_sheet.isVisible()
    window.quit_sheet.reject()
    assert window.isVisible()
    window.leave()
    assert not window.isVisible()
    studio = client.connect()
    assert studio is not None
    qtbot.waitUntil(lambda: bool(studio.get("/takes")["takes"]), timeout=PATIENCE_MS)


def test_every_control_says_what_it_is(window: Window):
    nameless = []
    for widget in window.findChildren(QWidget):
        if not isinstance(widget, CONTROLS) or widget.objectName().startswith("qt_"):
            continue
        if not widget.isVisibleTo(window):
            continue
        interface = QAccessible.queryAccessibleInterface(widget)
        if interface is None or interface.text(QAccessible.Text.Name).strip():
            continue
        if isinstance(widget, QScrollBar) or isinstance(
            widget.parentWidget(), (QAbstractSpinBox, QComboBox)
        ):
            continue  # the whole has a name
        nameless.append(f"{type(widget).__name__} in {type(widget.parentWidget()).__name__}")
    assert nameless == []


def test_no_two_actions_that_can_meet_have_the_same_key(window: Window):
    everywhere, within = defaultdict(set), defaultdict(list)
    for action in window.findChildren(QAction):
        for key in action.shortcuts():
            text = key.toString()
            if action.shortcutContext() == Qt.ShortcutContext.WindowShortcut:
                everywhere[text].add(action.text())
            else:
                within[text].append(action)
    assert {key: names for key, names in everywhere.items() if len(names) > 1} == {}
    shadowed = {key: [one.text() for one in within[key]] for key in everywhere if key in within}
    assert shadowed == {}


def test_menus_hold_every_action_of_the_panels(window: Window):
    shown = {action for menu in window.menus for action in menu.actions()}
    panels = (window.shots, window.settings, window.viewer, window.takes, window.queue)
    for panel in panels:
        assert {action for action in panel.actions_for() if action is not None} <= shown


def test_letters_typed_into_a_text_field_are_letters(window: Window, qtbot: QtBot):
    window.settings.form.prompt.setFocus()
    qtbot.keyClicks(window.settings.form.prompt, "jkl wsdx tzfa rh 12 /=")
    assert window.settings.form.prompt.toPlainText() == "jkl wsdx tzfa rh 12 /="


def test_a_clip_that_is_dropped_becomes_a_shot(window: Window, qtbot: QtBot, tmp_path: Path):
    from fractions import Fraction

    import numpy as np

    from freeswim.video.writer import write_video

    path = tmp_path / "A004_C012.mp4"
    frames = [np.full((96, 128, 3), 9000 * index, np.uint16) for index in range(5)]
    write_video(path, frames, width=128, height=96, frame_rate=Fraction(24), num_frames=5)
    window.open_files([path])
    qtbot.waitUntil(lambda: window.settings.sheet.clip == str(path), timeout=60_000)
    assert window.settings.button.text() == "Regenerate clip"
    qtbot.waitUntil(lambda: window.viewer.clips[0] is not None, timeout=60_000)
    shown = window.viewer.clips[0]
    assert shown is not None and (shown.path, shown.name) == (path, "Source")


def test_the_window_never_imports_torch(home: Path):
    program = (
        "import sys, os; os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "from PySide6.QtWidgets import QApplication\n"
        "from desktop.remembered import Remembered; from desktop.studio import Studio\n"
        "from desktop.trouble import Trouble; from desktop.window import Window\n"
        "app = QApplication([]); window = Window(Studio(), Remembered(), Trouble())\n"
        "window.show(); app.processEvents()\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "window.leave(); os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_hiding_a_column_hides_it(window: Window, qtbot: QtBot):
    assert window.queue.isVisible()
    qtbot.keyClick(window, Qt.Key.Key_2, CONTROL | Qt.KeyboardModifier.ShiftModifier)
    assert not window.queue.isVisible()
    assert window.childAt(QPoint(5, window.height() // 2)) is not None


def test_the_app_ends_in_order_when_it_is_told_to_and_a_temporary_home_goes_with_it(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "desktop.app", "--temp-home"],
        env=os.environ | {"TMPDIR": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"},
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("freeswim-*/run/studio.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert not list(tmp_path.glob("freeswim-*"))
