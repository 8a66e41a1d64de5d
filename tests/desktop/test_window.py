from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

try:
    import PySide6.QtMultimediaWidgets  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from PySide6.QtCore import QProcess, Qt
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QWidget
from pytestqt.qtbot import QtBot

from desktop.generation import STAGES, Course, EventReader, Failure, Progress
from desktop.window import EXAMPLE, Window
from freeswim.presets import load_preset
from freeswim.video.reader import probe

LEFT = Qt.MouseButton.LeftButton
A_LINE = '{"event": "progress", "stage": "base", "step": 1, "num_steps": 25, "seconds": 0.5}\n'
TAKE_LINE = (
    '{"event": "take", "media": "/takes/café.mp4", "sidecar": "/takes/café.json", "width": 128,'
    ' "height": 96, "frames": 9, "frame_rate": "24000/1001", "seed": 7, "seconds": {"base": 1.5},'
    ' "notes": []}\n'
)


def child_of(window: Window) -> int:
    """Number of the process that makes the take."""
    process = window.generation.findChild(QProcess)
    assert process is not None
    return process.processId()


def is_alive(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def start(window: Window, qtbot: QtBot, until: str) -> int:
    """Type a prompt, press Ctrl+Return and wait for the stage `until`; the process."""
    qtbot.keyClicks(window.prompt, "one koi")
    qtbot.keyClick(window.prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    pid = child_of(window)
    assert is_alive(pid)
    qtbot.waitUntil(lambda: window.message.text().startswith(until), timeout=60_000)
    return pid


# ------------------------------------------------------------------------------------ generating


def test_a_prompt_becomes_a_take_that_plays(window: Window, qtbot: QtBot):
    qtbot.keyClicks(window.prompt, "two koi")
    qtbot.mouseClick(window.is_draft, LEFT, pos=window.is_draft.rect().center() / 2)
    assert window.button.text() == "Generate draft"
    with qtbot.waitSignal(window.generation.made, timeout=100_000):
        qtbot.mouseClick(window.button, LEFT)
        assert window.button.text() == "Cancel"

    seed = int(window.seed.value())
    media = Path(window.folder.text()) / f"two-koi-{seed}-draft.mp4"
    clip = probe(media)
    assert (clip.width, clip.height, clip.num_frames) == (128, 128, 9)
    assert window.facts.text().startswith(f"128 × 128 · 9 frames · 8 fps · seed {seed} · ")
    assert window.message.text() == f"{media.name} is finished."
    assert window.button.text() == "Generate draft" and window.button.isEnabled()
    sink = window.viewer.player.videoSink()
    qtbot.waitUntil(lambda: sink.videoFrame().isValid(), timeout=20_000)
    assert window.play.text() == "Pause"
    window.viewer.setFocus()
    qtbot.keyClick(window.viewer, Qt.Key.Key_Space)
    assert window.play.text() == "Play" and not window.viewer.player.isPlaying()


@pytest.mark.parametrize(
    "way, stage", [("Escape", "Base pass"), ("button", "Loading"), ("close", "Loading")]
)
def test_a_cancelled_generation_leaves_no_file_and_no_process(
    window: Window, qtbot: QtBot, way: str, stage: str
):
    pid = start(window, qtbot, stage)
    if way == "close":
        window.close()
    else:
        with qtbot.waitSignal(window.generation.cancelled, timeout=30_000):
            if way == "Escape":
                qtbot.keyClick(window, Qt.Key.Key_Escape)
            else:
                qtbot.mouseClick(window.button, LEFT)
            assert window.message.text() == "Cancelling" and not window.button.isEnabled()
        assert window.message.text() == "Cancelled. Nothing was written."
        assert window.button.text() == "Generate" and window.button.isEnabled()
    assert not is_alive(pid)
    assert list(Path(window.folder.text()).iterdir()) == []


def test_the_second_click_of_a_double_one_does_not_cancel(window: Window, qtbot: QtBot):
    qtbot.keyClicks(window.prompt, "one koi")
    qtbot.mouseClick(window.button, LEFT)
    qtbot.mouseClick(window.button, LEFT)
    assert window.generation.is_running and not window.generation.is_stopping


def test_an_error_of_the_command_is_shown_with_its_hint(
    window: Window, qtbot: QtBot, tmp_path: Path
):
    (tmp_path / "file").write_text("no folder")
    folder = tmp_path / "file" / "takes"
    window.folder.setText(str(folder))
    qtbot.keyClicks(window.prompt, "-- one koi")  # no option of the command
    with qtbot.waitSignal(window.generation.failed, timeout=30_000):
        qtbot.keyClick(window.prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert window.message.text() == f"There is no folder {folder}."
    assert window.hint.text() == "Create it, or name another."
    assert window.button.text() == "Generate" and window.button.isEnabled()


@pytest.mark.parametrize("program", ["/there/is/none", "/bin/true"])
def test_a_command_that_says_nothing_is_an_error(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, program: str
):
    monkeypatch.setattr(sys, "executable", program)
    window.prompt.setPlainText("one koi")
    with qtbot.waitSignal(window.generation.failed, timeout=30_000):
        qtbot.mouseClick(window.button, LEFT)
    assert window.message.text().endswith(".")
    assert "freeswim generate" in window.hint.text()
    assert window.button.text() == "Generate"


# -------------------------------------------------------------------------------------- controls


def test_without_a_prompt_the_button_waits_and_says_why(window: Window, qtbot: QtBot):
    assert not window.button.isEnabled()
    assert window.obstacle.text() == "Say in the prompt what the shot shows."
    assert window.prompt.placeholderText() == EXAMPLE
    qtbot.mouseClick(window.use_example, LEFT)
    assert window.prompt.toPlainText() == EXAMPLE
    assert window.button.isEnabled() and window.obstacle.text() == ""
    window.prompt.setPlainText("x" * 10_001)
    assert not window.button.isEnabled() and "10,001" in window.obstacle.text()


def test_presets_that_are_not_here_say_how_to_get_them(window: Window):
    assert window.preset.currentData().name == "demo"
    for index in range(window.preset.count()):
        is_here = window.preset.itemData(index).name == "demo"
        can_be_chosen = window.preset.model().flags(window.preset.model().index(index, 0))
        how = window.preset.itemData(index, Qt.ItemDataRole.ToolTipRole)
        assert bool(can_be_chosen & Qt.ItemFlag.ItemIsEnabled) == is_here
        assert is_here or ("huggingface.co" in how and "Wan-AI/Wan2." in how)


def test_presets_that_need_a_lora_are_not_offered(window: Window):
    presets = [window.preset.itemData(index) for index in range(window.preset.count())]
    assert "wan21-14b-1440p" in {preset.name for preset in presets}
    assert not any(preset.needs_lora for preset in presets)


def test_a_preset_whose_checkpoint_is_here_can_be_chosen(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FREESWIM_MODELS", str(tmp_path))
    (tmp_path / load_preset("draft-480p").defaults["checkpoint"]).mkdir()
    window = Window()
    qtbot.addWidget(window)
    assert window.preset.currentData().name == "wan21-1.3b-1080p"
    assert window.use_example.isHidden()
    window.preset.setCurrentIndex(window.preset.findText("Draft 480p"))
    assert window.button.text() == "Generate draft" and window.is_draft.isHidden()


def test_tab_walks_the_controls_in_reading_order(window: Window, qtbot: QtBot):
    window.prompt.setPlainText("one koi")
    window.is_new_seed.setChecked(False)
    window.preset.setFocus()
    walked: list[QWidget | None] = [QApplication.focusWidget()]
    for _ in range(9):
        focused = walked[-1]
        assert focused is not None
        qtbot.keyClick(focused, Qt.Key.Key_Tab)
        walked.append(QApplication.focusWidget())
    assert walked == [
        *(window.preset, window.prompt, window.use_example, window.seed, window.is_new_seed),
        *(window.folder, window.choose_folder, window.is_draft, window.button, window.viewer),
    ]


def test_every_control_has_a_name_for_screen_readers(window: Window):
    controls = [
        *(window.preset, window.prompt, window.seed, window.folder, window.bar, window.viewer),
        *window.findChildren(QAbstractButton),
    ]
    for control in controls:
        accessible = QAccessible.queryAccessibleInterface(control)
        assert accessible.text(QAccessible.Text.Name), control


def test_no_text_is_read_as_html(window: Window):
    labels = window.findChildren(QLabel)
    labels = [label for label in labels if not isinstance(label.parent(), QComboBox)]
    assert {label.textFormat() for label in labels} == {Qt.TextFormat.PlainText}
    window.generation.failed.emit(Failure(event="error", code="x", message="<b>", hint="<i>"))
    assert (window.message.text(), window.hint.text()) == ("<b>", "<i>")


# ---------------------------------------------------------------------------------------- pieces


@given(st.lists(st.integers(0, 600), max_size=20), st.binary().filter(lambda b: b"{" not in b))
def test_lines_cut_anywhere_between_garbage_are_the_same_events(cuts: list[int], garbage: bytes):
    lines = A_LINE.encode() + garbage + b'\n[1]\n{"event": "x"}\n\n' + TAKE_LINE.encode()
    reader, events = EventReader(), []
    ends = [*sorted(cuts), len(lines)]
    for begin, end in zip([0, *ends], ends, strict=False):
        events += reader.feed(lines[begin:end])
    progress, take = events
    assert (progress.stage, progress.step, progress.num_steps) == ("base", 1, 25)
    assert take.media == Path("/takes/café.mp4")
    assert float(take.frame_rate) == pytest.approx(23.976, abs=1e-3)


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "progress", "stage": "base", "step": 1, "num_steps": 0}',
        b'{"event": "progress", "stage": "base"}',
        TAKE_LINE.replace("24000/1001", "1/0").encode(),
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
    ],
)
def test_a_line_that_is_no_event_is_passed_over(line: bytes):
    assert EventReader().feed(line + b"\n") == []


def test_a_stream_without_lines_does_not_fill_the_memory():
    reader = EventReader()
    for _ in range(4):
        reader.feed(b"x" * 2**20)
    assert len(reader.feed(b"\n" + A_LINE.encode())) == 1


@pytest.mark.parametrize("is_draft", [True, False])
def test_the_bar_goes_from_nothing_to_all_and_never_back(is_draft: bool):
    course = Course(is_draft=is_draft)
    stages = [name for name, _ in STAGES]
    seen = [0.0]
    for stage in [*stages[:3], "polish", "write"] if is_draft else stages:
        for step in range(4):
            progress = Progress(event="progress", stage=stage, step=step, num_steps=3)
            seen.append(course.follow(progress))
    assert seen == sorted(seen) and seen[1] == 0 and seen[-1] == pytest.approx(1)


# ------------------------------------------------------------------------------------------- app


def run_app(before: str) -> subprocess.CompletedProcess[str]:
    """`freeswim-desktop` in a process of its own, after the lines `before`."""
    code = f"import sys\n{before}\nfrom desktop.app import main\nsys.exit(main())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_the_window_opens_in_silence_without_torch_and_outlives_thousands_of_calls():
    done = run_app(
        "from PySide6.QtWidgets import QApplication\n"
        "def run(app):\n"
        "    window, = (w for w in app.topLevelWidgets() if w.isVisible())\n"
        "    assert 'torch' not in sys.modules\n"
        "    for number in range(20_000): window.setWindowTitle(str(number))\n"
        "    return not window.close()\n"
        "QApplication.exec = run"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_system_library_is_named():
    done = run_app("sys.modules['PySide6.QtMultimedia'] = None")
    assert done.returncode == 1
    assert "PySide6.QtMultimedia" in done.stderr and "Traceback" not in done.stderr
