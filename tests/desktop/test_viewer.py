from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

try:
    from PySide6.QtCore import (
        QBuffer,
        QIODevice,
        QMimeData,
        QPoint,
        QPointF,
        QRect,
        QSize,
        Qt,
        QUrl,
    )
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from PySide6.QtGui import (
    QAccessible,
    QColor,
    QDragEnterEvent,
    QDropEvent,
    QImage,
    QMouseEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QLineEdit, QSlider, QWidget
from pytestqt.qtbot import QtBot
from viewer_clips import NUM_FRAMES, SIZE, number_in, write_coded

from desktop.studio import Studio
from desktop.viewer.canvas import Mode
from desktop.viewer.frames import Clip
from desktop.viewer.panel import Viewer
from desktop.viewer.player import Pair
from freeswim.studio.job import Take
from freeswim.video.reader import probe

LEFT, MIDDLE = Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton
KEYS = Qt.Key
SHIFT, CONTROL, ALT = (
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.AltModifier,
)
OF_B = 1000  # what B's frames say more than A's


@pytest.fixture
def viewer(qtbot: QtBot, offline: Studio, tmp_path: Path) -> Iterator[Viewer]:
    """The viewer in a window, empty."""
    window = QWidget()
    viewer = Viewer(offline, window)
    viewer.stills_folder = tmp_path / "frames"
    qtbot.addWidget(window)
    viewer.resize(800, 600)
    window.resize(1200, 700)
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    yield viewer


@pytest.fixture
def a(tmp_path: Path) -> Clip:
    return Clip(write_coded(tmp_path / "a.mp4"), "Source")


@pytest.fixture
def b(tmp_path: Path) -> Clip:
    how: dict[str, Any] = {"codec": "prores_ks", "pixels": "yuv422p10le", "options": {}}
    return Clip(write_coded(tmp_path / "b.mov", first=OF_B, **how), "Take 3")


def show(qtbot: QtBot, viewer: Viewer, a: Clip | None, b: Clip | None = None) -> None:
    """Load, and wait for the first picture."""
    viewer.show_clips(a, b)
    names = [clip.name for clip in (a, b) if clip]
    qtbot.waitUntil(
        lambda: [side.name for side in viewer.canvas.pair.sides] == names, timeout=120_000
    )
    viewer.canvas.setFocus()


def press(
    qtbot: QtBot,
    viewer: Viewer,
    key: Qt.Key,
    modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier,
) -> None:
    qtbot.keyClick(QApplication.focusWidget() or viewer.canvas, key, modifier)


def wait_at(qtbot: QtBot, viewer: Viewer, frame: int) -> None:
    """Until the picture of a frame is shown, and the player stands."""
    qtbot.waitUntil(lambda: viewer.canvas.pair.position == frame, timeout=120_000)
    assert not viewer.player.is_playing


def frame_rect(viewer: Viewer) -> QRect:
    """Where the frame lies in a canvas that shows all of it."""
    size = QSize(*SIZE).scaled(viewer.canvas.size(), Qt.AspectRatioMode.KeepAspectRatio)
    rect = QRect(QPoint(), size)
    rect.moveCenter(viewer.canvas.rect().center())
    return rect


def painted(viewer: Viewer) -> QImage:
    return viewer.canvas.grab().toImage()


def number_on(viewer: Viewer) -> int:
    """What the picture on the screen says."""
    return number_in(painted(viewer), frame_rect(viewer))


# -------------------------------------------------------------------------------------- transport


def test_keys_move_the_playhead(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    for key, modifier, frame in (
        (KEYS.Key_Right, None, 1),
        (KEYS.Key_Right, SHIFT, 11),
        (KEYS.Key_Right, None, 12),
        (KEYS.Key_Left, None, 11),
        (KEYS.Key_Left, SHIFT, 1),
        (KEYS.Key_Left, SHIFT, 0),
        (KEYS.Key_End, None, NUM_FRAMES - 1),
        (KEYS.Key_Right, None, NUM_FRAMES - 1),
        (KEYS.Key_Home, None, 0),
    ):
        press(qtbot, viewer, key, modifier or Qt.KeyboardModifier.NoModifier)
        wait_at(qtbot, viewer, frame)
        assert number_on(viewer) == frame
        assert viewer.frame.text() == f"{frame + 1} / {NUM_FRAMES}"
        assert viewer.scrub.value() == frame


def test_space_plays_and_stops(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    with qtbot.waitSignals([viewer.player.shown] * 5, timeout=120_000):
        press(qtbot, viewer, KEYS.Key_Space)
    assert viewer.player.speed == 1 and viewer.play.text() == "&Stop"
    press(qtbot, viewer, KEYS.Key_Space)
    assert not viewer.player.is_playing and viewer.play.text() == "&Play"
    wait_at(qtbot, viewer, viewer.player.position)


def test_j_k_and_l_shuttle(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    speeds: list[int] = []
    for key in "LLLKJJKLJ":
        press(qtbot, viewer, KEYS[f"Key_{key}"])
        speeds.append(viewer.player.speed)
    assert speeds == [1, 2, 4, 0, -1, -2, 0, 1, -1]
    for _ in range(9):
        press(qtbot, viewer, KEYS.Key_J)
    assert viewer.player.speed == -32
    assert viewer.canvas.words.right == "" or "×" in viewer.canvas.words.right


def test_in_and_out_bound_what_is_played(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    for frame, key in ((20, KEYS.Key_I), (24, KEYS.Key_O)):
        viewer.player.seek(frame)
        wait_at(qtbot, viewer, frame)
        press(qtbot, viewer, key)
    assert viewer.player.marks == (20, 24) == viewer.scrub.marks
    shown: list[int] = []
    viewer.player.seek(3)
    wait_at(qtbot, viewer, 3)
    viewer.player.shown.connect(lambda pair: shown.append(pair.position))
    press(qtbot, viewer, KEYS.Key_Slash)
    qtbot.waitUntil(lambda: len(shown) > 12, timeout=120_000)
    assert set(shown) <= set(range(20, 25)) and shown.count(20) > 1
    press(qtbot, viewer, KEYS.Key_Slash, CONTROL)  # no loop: it ends at out
    qtbot.waitUntil(lambda: not viewer.player.is_playing, timeout=120_000)
    wait_at(qtbot, viewer, 24)
    assert not viewer.loop.isChecked()
    press(qtbot, viewer, KEYS.Key_X, ALT)
    assert viewer.player.marks == (None, None)


def test_an_out_before_in_takes_in_away(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    viewer.player.mark(20, None)
    viewer.player.mark(20, 10)
    assert viewer.player.marks == (None, 10)
    viewer.player.mark(15, 10)
    assert viewer.player.marks == (15, None)


def test_without_loop_it_stops_at_the_end(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    viewer.player.set_looping(False)
    viewer.player.seek(NUM_FRAMES - 3)
    press(qtbot, viewer, KEYS.Key_L)
    qtbot.waitUntil(lambda: not viewer.player.is_playing, timeout=120_000)
    wait_at(qtbot, viewer, NUM_FRAMES - 1)
    press(qtbot, viewer, KEYS.Key_J)
    qtbot.waitUntil(lambda: viewer.canvas.pair.position < NUM_FRAMES - 3, timeout=120_000)


def test_go_to_timecode(qtbot: QtBot, viewer: Viewer, tmp_path: Path):
    path = write_coded(tmp_path / "tc.mov", 30 * Fraction(1000, 1001), timecode="00:00:59;28")
    show(qtbot, viewer, Clip(path, "Source"))
    assert viewer.timecode.text() == "00:00:59;28"
    for typed, frame, shown in (
        ("00010002", 2, "00:01:00;02"),  # numbers 0 and 1 of the minute are skipped
        ("00:00:59:29", 1, "00:00:59;29"),
        ("+10", 11, "00:01:00;11"),
        ("-1", 10, "00:01:00;10"),
    ):
        press(qtbot, viewer, KEYS.Key_Equal)
        assert viewer.timecode.hasFocus()
        qtbot.keyClicks(viewer.timecode, typed)
        qtbot.keyClick(viewer.timecode, KEYS.Key_Return)
        wait_at(qtbot, viewer, frame)
        assert number_on(viewer) == frame
        assert viewer.timecode.text() == shown and viewer.canvas.hasFocus()


@pytest.mark.parametrize("typed", ["00:01:00;00", "monday", "01:00:00:00", "+999", ""])
def test_a_timecode_that_is_not_there_says_why_in_place(
    qtbot: QtBot, viewer: Viewer, tmp_path: Path, typed: str
):
    path = write_coded(tmp_path / "tc.mov", 30 * Fraction(1000, 1001))
    show(qtbot, viewer, Clip(path, "Source"))
    press(qtbot, viewer, KEYS.Key_Equal)
    qtbot.keyClick(viewer.timecode, KEYS.Key_Delete)
    qtbot.keyClicks(viewer.timecode, typed)
    qtbot.keyClick(viewer.timecode, KEYS.Key_Return)
    assert viewer.note.isVisible() and viewer.note.text().endswith(".")
    assert viewer.timecode.hasFocus() and viewer.canvas.pair.position == 0
    qtbot.keyClick(viewer.timecode, KEYS.Key_Escape)
    assert viewer.canvas.hasFocus() and viewer.timecode.text() == "00:00:00;00"


def test_no_key_fires_while_a_timecode_is_typed(qtbot: QtBot, viewer: Viewer, a: Clip, b: Clip):
    show(qtbot, viewer, a, b)
    viewer.player.seek(5)
    wait_at(qtbot, viewer, 5)
    press(qtbot, viewer, KEYS.Key_Equal)
    fired: list[str] = []
    for action in viewer.actions_for():
        if action is not None:
            action.triggered.connect(lambda: fired.append("a key"))
    for action in viewer.actions_for():
        if action is not None:
            qtbot.keySequence(viewer.timecode, action.shortcut())
    assert fired == []
    assert viewer.canvas.mode is Mode.WIPE and viewer.canvas.pair.position == 5


def test_a_drag_along_the_bar_scrubs(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    viewer.player.play()
    bar = viewer.scrub
    qtbot.mousePress(bar, LEFT, pos=QPoint(bar.width() // 2, 12))
    assert not viewer.player.is_playing
    wait_at(qtbot, viewer, bar.value())
    assert abs(bar.value() - NUM_FRAMES // 2) <= 1
    qtbot.mouseMove(bar, QPoint(bar.width() + 50, 12))
    qtbot.mouseRelease(bar, LEFT, pos=QPoint(bar.width() + 50, 12))
    wait_at(qtbot, viewer, viewer.player.position)
    assert number_on(viewer) == viewer.player.position == bar.value()


# --------------------------------------------------------------------------------------- what plays


@pytest.mark.parametrize("speed", [1, -1, 2, 8])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60000, 1001)])
def test_words_say_the_frame_that_is_on_the_screen_while_it_plays(
    qtbot: QtBot, viewer: Viewer, tmp_path: Path, speed: int, rate: Fraction
):
    long = write_coded(tmp_path / "a.mp4", rate, num_frames=120)
    short = write_coded(tmp_path / "b.mkv", rate, num_frames=120, first=OF_B)
    show(qtbot, viewer, Clip(long, "Source"), Clip(short, "Take 1"))
    wrong: list[str] = []
    shown: list[int] = []

    def compare(pair: Pair) -> None:
        shown.append(pair.position)
        viewer.canvas.wipe = float(len(shown) % 2)  # A and B in turns
        number = number_on(viewer) - (0 if viewer.canvas.wipe else OF_B)
        said = [
            int(viewer.frame.text().split(" / ")[0]) - 1,
            int(re.split(r"  +| / ", viewer.canvas.words.left)[1]) - 1,
            *(side.frame for side in pair.sides),
        ]
        if {number} != set(said):
            wrong.append(f"{number} on the screen, words say {said}")

    viewer.player.shown.connect(compare)
    viewer.player.play(speed)
    qtbot.waitUntil(lambda: len(shown) > 40, timeout=180_000)
    viewer.player.stop()
    for frame in (100, 3, 119, 50):
        viewer.player.seek(frame)
        wait_at(qtbot, viewer, frame)
    assert wrong == []


def test_playing_takes_as_long_as_the_clip_does(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    times: list[int] = []
    clock = viewer.player
    clock.play()
    qtbot.waitUntil(lambda: clock.position == NUM_FRAMES - 1, timeout=120_000)  # all is decoded
    clock.seek(0)
    wait_at(qtbot, viewer, 0)
    clock.shown.connect(lambda pair: times.append(pair.position))
    clock.play()
    qtbot.waitUntil(lambda: clock.shown_per_s > 0 and len(times) > 40, timeout=120_000)
    assert clock.shown_per_s <= 24.5
    assert times == sorted(times)


def test_other_rates_and_lengths_are_matched_by_time(qtbot: QtBot, viewer: Viewer, tmp_path: Path):
    a = Clip(write_coded(tmp_path / "a.mp4", Fraction(12), num_frames=20), "Source")
    b = Clip(write_coded(tmp_path / "b.mp4", Fraction(24), first=OF_B), "Take 1")
    show(qtbot, viewer, a, b)
    assert viewer.player.num_frames == NUM_FRAMES
    for position, of_a in ((0, 0), (1, 0), (2, 1), (39, 19), (40, 19), (59, 19)):
        viewer.player.seek(position)
        wait_at(qtbot, viewer, position)
        viewer.canvas.set_wipe(1)
        assert number_on(viewer) == of_a
        viewer.canvas.set_wipe(0)
        assert number_on(viewer) == OF_B + position
        words = viewer.canvas.words.left
        assert f"A {of_a + 1} / 20   B {position + 1} / 60" in words
        assert "matched by time at 24 fps" in words
        assert ("ended" in viewer.canvas.label("a")) == (position >= 40)


# ---------------------------------------------------------------------------------------- comparing


def solid(path: Path, colour: str, size: tuple[int, int] = SIZE) -> Clip:
    picture = np.empty((size[1], size[0], 3), np.uint8)
    picture[:] = rgb(QColor(colour))
    how: dict[str, Any] = {"codec": "ffv1", "pixels": "yuv444p", "options": {}}
    return Clip(write_coded(path, num_frames=3, size=size, picture=picture, **how), path.stem)


def rgb(colour: QColor) -> tuple[int, int, int]:
    return colour.red(), colour.green(), colour.blue()


def is_near(colour: QColor, name: str) -> bool:
    pairs = zip(rgb(colour), rgb(QColor(name)), strict=True)
    return all(abs(one - other) <= 3 for one, other in pairs)


@pytest.fixture
def two_colours(qtbot: QtBot, viewer: Viewer, tmp_path: Path) -> Viewer:
    a, b = solid(tmp_path / "a.mkv", "#c04020"), solid(tmp_path / "b.mkv", "#2040c0")
    show(qtbot, viewer, a, b)
    viewer.canvas.has_overlays = False
    return viewer


def colours_at(viewer: Viewer, *shares: float) -> str:
    """Which of the two clips is seen at shares of the canvas' width: a, b, or another."""
    image = painted(viewer)
    found = ""
    for share in shares:
        colour = image.pixelColor(int(share * (image.width() - 1)), image.height() // 2)
        names = {"a": "#c04020", "b": "#2040c0"}
        found += next((name for name, one in names.items() if is_near(colour, one)), "-")
    return found


def test_the_wipe_has_a_left_and_b_right(qtbot: QtBot, two_colours: Viewer):
    viewer, canvas = two_colours, two_colours.canvas
    assert colours_at(viewer, 0.02, 0.49, 0.51, 0.98) == "aabb"
    middle = canvas.height() // 2
    qtbot.mousePress(canvas, LEFT, pos=QPoint(canvas.width() // 4, middle))
    assert colours_at(viewer, 0.02, 0.24, 0.26, 0.98) == "aabb"
    qtbot.mouseMove(canvas, QPoint(canvas.width() * 3 // 4, middle))
    qtbot.mouseRelease(canvas, LEFT)
    moved = canvas.wipe
    press(qtbot, viewer, KEYS.Key_BracketLeft)
    assert canvas.wipe < moved
    press(qtbot, viewer, KEYS.Key_BracketRight)
    press(qtbot, viewer, KEYS.Key_BracketRight)
    assert canvas.wipe > moved
    qtbot.mouseDClick(canvas, LEFT, pos=QPoint(10, middle))
    assert canvas.wipe == 0.5


def test_a_drag_moves_the_wipe(qtbot: QtBot, two_colours: Viewer):
    canvas = two_colours.canvas
    for kind, x in (
        (QMouseEvent.Type.MouseButtonPress, 0.5),
        (QMouseEvent.Type.MouseMove, 0.8),
    ):
        point = QPointF(x * canvas.width(), 100)
        event = QMouseEvent(
            kind, point, canvas.mapToGlobal(point), LEFT, LEFT, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(canvas, event)
    assert canvas.wipe == pytest.approx(0.8, abs=0.01)
    assert colours_at(two_colours, 0.78, 0.82) == "ab"


def test_keys_choose_how_to_compare(qtbot: QtBot, two_colours: Viewer):
    viewer = two_colours
    for key, mode, seen in (
        (KEYS.Key_1, Mode.A, "aaa"),
        (KEYS.Key_2, Mode.B, "bbb"),
        (KEYS.Key_S, Mode.SIDE, "aab"),
        (KEYS.Key_D, Mode.DIFFERENCE, "---"),
        (KEYS.Key_W, Mode.WIPE, "aab"),
    ):
        press(qtbot, viewer, key)
        assert viewer.canvas.mode is mode
        assert colours_at(viewer, 0.1, 0.45, 0.9) == seen
        checked = [
            action.text() for action in viewer.actions_for() if action and action.isChecked()
        ]
        assert len(checked) == 3  # the mode, loop, names


def test_swap_changes_the_sides(qtbot: QtBot, two_colours: Viewer):
    press(qtbot, two_colours, KEYS.Key_X)
    qtbot.waitUntil(lambda: colours_at(two_colours, 0.1, 0.9) == "ba", timeout=60_000)
    assert [clip.name for clip in two_colours.clips if clip] == ["b", "a"]


def test_t_tapped_switches_and_held_looks(
    qtbot: QtBot, two_colours: Viewer, monkeypatch: pytest.MonkeyPatch
):
    viewer, canvas, now = two_colours, two_colours.canvas, [100.0]
    monkeypatch.setattr("desktop.viewer.panel.time.monotonic", lambda: now[0])
    press(qtbot, viewer, KEYS.Key_T)
    assert canvas.mode is Mode.B
    press(qtbot, viewer, KEYS.Key_T)
    assert canvas.mode is Mode.A
    qtbot.keyPress(canvas, KEYS.Key_T)
    assert canvas.mode is Mode.B
    now[0] += 2
    qtbot.keyRelease(canvas, KEYS.Key_T)
    assert canvas.mode is Mode.A


def test_the_difference_of_equals_is_black(qtbot: QtBot, viewer: Viewer, a: Clip, tmp_path: Path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(a.path.read_bytes())
    show(qtbot, viewer, a, Clip(copy, "Copy"))
    viewer.player.seek(37)
    wait_at(qtbot, viewer, 37)
    viewer.canvas.has_overlays = False
    assert number_on(viewer) == 37
    press(qtbot, viewer, KEYS.Key_D)
    image, rect = painted(viewer), frame_rect(viewer)
    for x in range(rect.left() + 1, rect.right(), 7):
        for y in range(rect.top() + 1, rect.bottom(), 19):
            assert image.pixelColor(x, y) == QColor("black")


def test_the_difference_is_four_times_as_bright(qtbot: QtBot, viewer: Viewer, tmp_path: Path):
    show(qtbot, viewer, solid(tmp_path / "a.mkv", "#404040"), solid(tmp_path / "b.mkv", "#484848"))
    viewer.canvas.set_mode(Mode.DIFFERENCE)
    assert is_near(painted(viewer).pixelColor(viewer.canvas.rect().center()), "#202020")


def test_clips_of_other_sizes_lie_in_b_s_frame_and_say_so(
    qtbot: QtBot, viewer: Viewer, tmp_path: Path
):
    a = Clip(write_coded(tmp_path / "a.mp4"), "Source")
    b = Clip(write_coded(tmp_path / "b.mp4", first=OF_B, size=(960, 540)), "Take 1")
    show(qtbot, viewer, a, b)
    assert viewer.canvas.label("a") == "A  Source · 192×108 · scaled to 960×540"
    assert viewer.canvas.label("b") == "B  Take 1 · 960×540"
    viewer.player.seek(21)
    wait_at(qtbot, viewer, 21)
    for wipe, number in ((1.0, 21), (0.0, OF_B + 21)):
        viewer.canvas.set_wipe(wipe)
        assert number_on(viewer) == number


# --------------------------------------------------------------------------------------------- view


def test_one_pixel_is_one_pixel(qtbot: QtBot, viewer: Viewer, tmp_path: Path):
    show(qtbot, viewer, Clip(write_coded(tmp_path / "a.mp4", size=(2400, 1350), num_frames=2), "A"))
    viewer.canvas.has_overlays = False
    press(qtbot, viewer, KEYS.Key_Z)
    assert viewer.canvas.zoom == 1
    side = viewer.canvas.pair.a

    def is_whole() -> bool:
        picture = viewer.canvas.pair.a and viewer.canvas.pair.a.picture
        return picture is not None and picture.image.size() == QSize(2400, 1350)

    qtbot.waitUntil(is_whole, timeout=60_000)
    side = viewer.canvas.pair.a
    assert side is not None and side.picture is not None
    image, canvas = painted(viewer), viewer.canvas
    corner = QPoint((2400 - canvas.width()) // 2, (1350 - canvas.height()) // 2)
    for spot in (QPoint(0, 0), QPoint(77, 33), QPoint(canvas.width() - 1, canvas.height() - 1)):
        assert image.pixelColor(spot) == side.picture.image.pixelColor(corner + spot)
    press(qtbot, viewer, KEYS.Key_F)
    assert viewer.canvas.zoom is None
    press(qtbot, viewer, KEYS.Key_Z, SHIFT)
    assert viewer.canvas.zoom is None
    assert painted(viewer).pixelColor(3, 3) != QColor("#111111")  # no surround


def test_the_wheel_zooms_at_the_cursor_and_the_middle_button_moves(
    qtbot: QtBot, two_colours: Viewer
):
    viewer, canvas = two_colours, two_colours.canvas
    spot = QPointF(canvas.width() / 2, canvas.height() / 2)  # on the edge of the wipe
    for _ in range(4):
        event = QWheelEvent(
            spot,
            canvas.mapToGlobal(spot),
            QPoint(),
            QPoint(0, 120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(canvas, event)
    assert canvas.zoom is not None and canvas.zoom > 4
    assert colours_at(viewer, 0.49, 0.51) == "ab"
    for kind, x in ((QMouseEvent.Type.MouseButtonPress, 0.5), (QMouseEvent.Type.MouseMove, 0.75)):
        point = QPointF(x * canvas.width(), 100)
        event = QMouseEvent(
            kind, point, canvas.mapToGlobal(point), MIDDLE, MIDDLE, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(canvas, event)
    assert colours_at(viewer, 0.74, 0.76) == "ab"
    press(qtbot, viewer, KEYS.Key_Plus, CONTROL)
    press(qtbot, viewer, KEYS.Key_Minus, CONTROL)


def test_h_hides_what_is_written_on_the_picture(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    with_words = painted(viewer)
    press(qtbot, viewer, KEYS.Key_H)
    assert not viewer.canvas.has_overlays and painted(viewer) != with_words
    press(qtbot, viewer, KEYS.Key_H)
    assert painted(viewer) == with_words


# ------------------------------------------------------------------------------- files and previews


def test_saved_frames_are_those_that_are_shown(qtbot: QtBot, viewer: Viewer, a: Clip, b: Clip):
    show(qtbot, viewer, a, b)
    viewer.player.seek(41)
    wait_at(qtbot, viewer, 41)
    for names in (["a-f0042.png", "b-f0042.png"], ["a-f0042-2.png", "b-f0042-2.png"]):
        saved: list[Path] = []
        viewer.frame_saved.connect(saved.append)
        with qtbot.waitSignals([viewer.frame_saved] * 2, timeout=60_000):
            press(qtbot, viewer, KEYS.Key_S, CONTROL | SHIFT)
        viewer.frame_saved.disconnect()
        assert [path.name for path in saved] == names
        for path, number in zip(saved, (41, OF_B + 41), strict=True):
            image = QImage(str(path))
            assert image.size() == QSize(*SIZE) and number_in(image) == number
    assert viewer.note.isVisible() and "a-f0042-2.png and b-f0042-2.png" in viewer.note.text()


def test_a_frame_that_cannot_be_saved_says_why(
    qtbot: QtBot, viewer: Viewer, a: Clip, tmp_path: Path
):
    show(qtbot, viewer, a)
    (tmp_path / "frames").write_text("no folder")
    press(qtbot, viewer, KEYS.Key_S, CONTROL | SHIFT)
    qtbot.waitUntil(viewer.note.isVisible, timeout=60_000)
    assert "frames cannot be written" in viewer.note.text()


def drop(viewer: Viewer, path: Path, share: float) -> None:
    """Let a file fall on the canvas, at a share of its width."""
    content = QMimeData()
    content.setUrls([QUrl.fromLocalFile(str(path))])
    spot = QPoint(int(share * viewer.canvas.width()), 100)
    how = (Qt.DropAction.CopyAction, content, LEFT, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(viewer.canvas, QDragEnterEvent(spot, *how))
    QApplication.sendEvent(viewer.canvas, QDropEvent(QPointF(spot), *how))


def test_a_file_that_falls_on_a_half_is_shown_there(
    qtbot: QtBot, viewer: Viewer, offline: Studio, a: Clip, b: Clip, tmp_path: Path
):
    show(qtbot, viewer, a)
    with qtbot.waitSignal(viewer.dropped) as caught:
        drop(viewer, b.path, 0.8)
    assert caught.args == ["B", b.path]
    qtbot.waitUntil(lambda: len(viewer.canvas.pair.sides) == 2, timeout=60_000)
    assert [side.name for side in viewer.canvas.pair.sides] == ["Source", "b.mov"]
    with qtbot.assertNotEmitted(viewer.dropped):
        (tmp_path / "notes.pdf").write_bytes(b"x")
        drop(viewer, tmp_path / "notes.pdf", 0.2)


def test_a_take_keeps_its_name_when_it_is_dropped(
    qtbot: QtBot,
    viewer: Viewer,
    offline: Studio,
    a: Clip,
    b: Clip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("FREESWIM_TAKES", str(tmp_path))
    offline.takes["t"] = Take(
        id="t",
        shot_id="s",
        shot_name="SHOT_020",
        job_id="j",
        number=3,
        file="b.mov",
        sha256="",
        width=192,
        height=108,
        frames=60,
        frame_rate="24",
        seed=1,
        prompt="",
        is_draft=False,
        created_at=0,
        seq=1,
    )
    show(qtbot, viewer, a)
    drop(viewer, b.path, 0.2)
    qtbot.waitUntil(
        lambda: [side.name for side in viewer.canvas.pair.sides] == ["SHOT_020 take 3"],
        timeout=60_000,
    )


def picture_bytes(colour: str) -> bytes:
    image = QImage(64, 36, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # pyright: ignore
    return bytes(buffer.data().data())


def test_a_preview_is_shown_beside_the_take_before_it(
    qtbot: QtBot, viewer: Viewer, a: Clip, b: Clip
):
    show(qtbot, viewer, a, b)
    viewer.show_preview("job", picture_bytes("#c04020"), "Preview, refine 6/20")
    qtbot.waitUntil(lambda: viewer.canvas.label("a") == "A  Preview, refine 6/20", timeout=60_000)
    assert colours_at(viewer, 0.3) == "a" and viewer.canvas.label("b").startswith("B  Take 3")
    viewer.show_preview("job", b"no picture", "Preview, refine 7/20")
    viewer.end_preview("another")
    assert viewer.canvas.label("a") == "A  Preview, refine 6/20"
    viewer.player.seek(30)
    wait_at(qtbot, viewer, 30)
    viewer.end_preview("job")
    qtbot.waitUntil(lambda: viewer.canvas.label("a").startswith("A  Source"), timeout=60_000)


def test_a_preview_moves_the_only_take_to_b(qtbot: QtBot, viewer: Viewer, a: Clip):
    show(qtbot, viewer, a)
    viewer.show_preview("job", picture_bytes("#c04020"), "Preview, refine 6/20")
    qtbot.waitUntil(lambda: len(viewer.canvas.pair.sides) == 2, timeout=60_000)
    assert viewer.canvas.label("b").startswith("B  Source")


def test_a_preview_alone_needs_no_clip(qtbot: QtBot, viewer: Viewer):
    assert viewer.sample.isVisible()
    viewer.show_preview("job", picture_bytes("#c04020"), "Preview, base 3/25")
    qtbot.waitUntil(lambda: colours_at(viewer, 0.5) == "a", timeout=60_000)
    viewer.end_preview("job")
    assert viewer.sample.isVisible()


# ------------------------------------------------------------------------------------- other states


def test_empty_it_says_what_to_do(qtbot: QtBot, viewer: Viewer):
    words = " ".join(label.text() for label in viewer.findChildren(QLabel) if label.isVisible())
    assert "drop video files here" in words
    with qtbot.waitSignal(viewer.sample_requested):
        qtbot.mouseClick(viewer.sample, LEFT)
    assert not any(action.isEnabled() for action in viewer.actions_for() if action)


def test_a_broken_file_says_so_in_its_half(qtbot: QtBot, viewer: Viewer, b: Clip, tmp_path: Path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(write_coded(tmp_path / "whole.mp4").read_bytes()[:3000])
    show(qtbot, viewer, Clip(broken, "Take 1"), b)
    side = viewer.canvas.pair.a
    assert side is not None and side.error is not None and "broken.mp4" in str(side.error)
    viewer.player.seek(7)
    wait_at(qtbot, viewer, 7)
    viewer.canvas.set_mode(Mode.B)
    assert number_on(viewer) == OF_B + 7
    for mode in Mode:
        viewer.canvas.set_mode(mode)
        painted(viewer)


def test_another_clip_of_the_same_length_keeps_the_place(
    qtbot: QtBot, viewer: Viewer, a: Clip, b: Clip
):
    show(qtbot, viewer, None, a)
    viewer.player.mark(10, 50)
    viewer.player.seek(33)
    wait_at(qtbot, viewer, 33)
    show(qtbot, viewer, None, b)
    wait_at(qtbot, viewer, 33)
    assert number_on(viewer) == OF_B + 33 and viewer.player.marks == (10, 50)


def test_it_can_go_at_any_moment(qtbot: QtBot, offline: Studio, a: Clip, b: Clip):
    for delay in range(0, 120, 15):
        window = QWidget()
        viewer = Viewer(offline, window)
        window.show()
        viewer.show_clips(a, b)
        viewer.player.play()
        qtbot.wait(delay)
        window.deleteLater()
        del window, viewer
        QApplication.sendPostedEvents(None, 0)
    qtbot.wait(50)


def test_memory_is_bounded(qtbot: QtBot, viewer: Viewer, a: Clip, b: Clip):
    show(qtbot, viewer, a, b)
    viewer.player.play(4)
    most = 0
    for _ in range(20):
        qtbot.wait(20)
        most = max(most, viewer.player.num_bytes)
    assert 0 < most < 1_500_000_000
    assert probe(a.path).num_frames == NUM_FRAMES


def test_every_control_has_a_name_and_every_action_a_key(viewer: Viewer):
    controls = [
        *viewer.findChildren(QAbstractButton),
        *viewer.findChildren(QSlider),
        *viewer.findChildren(QLineEdit),
        viewer.canvas,
    ]
    for control in controls:
        accessible = QAccessible.queryAccessibleInterface(control)
        assert accessible.text(QAccessible.Text.Name), control
    keys = [a.shortcut().toString() for a in viewer.actions_for() if a is not None]
    assert all(keys) and len(set(keys)) == len(keys)
    assert all(a.statusTip() and "&" in a.text() for a in viewer.actions_for() if a)


@pytest.mark.parametrize("width", [420, 1100])
def test_nothing_is_cut_off_at_any_width(qtbot: QtBot, viewer: Viewer, a: Clip, width: int):
    viewer.resize(width, 500)
    show(qtbot, viewer, a)
    assert viewer.width() == width
    buttons = viewer.findChildren(QAbstractButton)
    for button in (one for one in buttons if one.isVisible()):
        assert viewer.rect().contains(QRect(button.mapTo(viewer, QPoint()), button.size()))
