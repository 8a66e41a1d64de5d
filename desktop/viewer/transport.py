"""What the keys move, for the mouse: the playhead, by a bar and a field; how loud it is."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import (
    QAction,
    QColor,
    QFocusEvent,
    QFont,
    QFontMetrics,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygon,
    QWheelEvent,
)
from PySide6.QtWidgets import QLineEdit, QSlider, QWidget

from desktop import theme

_HANDLE_PX = 11


class ScrubBar(QSlider):
    """The whole clip from left to right, with in and out. A click goes there."""

    scrubbed = Signal(int)  # frame, by a person

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.setAccessibleName("Position")
        self.setStatusTip("Drag to move through the clip")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMinimumHeight(24)
        self.marks: tuple[int | None, int | None] = (None, None)

    def set_course(self, num_frames: int, marks: tuple[int | None, int | None]) -> None:
        """How long it is, and where in and out are."""
        self.setRange(0, max(0, num_frames - 1))
        self.marks = marks
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """A line, what is marked on it, and the playhead."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle, here = self.height() // 2, self._x(self.value())
        left, right = self._x(self.minimum()), self._x(self.maximum())
        painter.fillRect(QRect(left, middle - 1, right - left + 1, 3), QColor(theme.BUTTON))
        start, end = self.marks
        if start is not None or end is not None:
            first = left if start is None else self._x(start)
            last = right if end is None else self._x(end)
            painter.fillRect(QRect(first, middle - 2, last - first + 1, 5), QColor(theme.BOX))
            for at, inward in ((start, 4), (end, -4)):
                if at is not None:
                    self._paint_mark(painter, self._x(at), inward)
        else:
            painter.fillRect(QRect(left, middle - 1, here - left + 1, 3), QColor(theme.ACCENT))
        self._paint_handle(painter, here, middle)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """The playhead comes at once, instead of by pages."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.setSliderDown(True)
            self._scrub(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """It follows."""
        if self.isSliderDown():
            self._scrub(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """It stays."""
        self.setSliderDown(False)

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(200, 24)

    def _paint_mark(self, painter: QPainter, x: int, inward: int) -> None:
        top, bottom = self.height() // 2 - 7, self.height() // 2 + 7
        painter.setPen(QPen(QColor(theme.TEXT), 1.5))
        painter.drawPolyline(
            [QPoint(x + inward, top), QPoint(x, top), QPoint(x, bottom), QPoint(x + inward, bottom)]
        )

    def _paint_handle(self, painter: QPainter, x: int, middle: int) -> None:
        painter.setPen(QPen(QColor(theme.LINK), 1.5) if self.hasFocus() else Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.TEXT if self.isEnabled() else theme.DISABLED))
        half = _HANDLE_PX // 2
        shape = [(-half, -8), (half, -8), (half, 3), (0, 8), (-half, 3)]
        painter.drawPolygon(QPolygon([QPoint(x + dx, middle + dy) for dx, dy in shape]))

    def _scrub(self, event: QMouseEvent) -> None:
        room = max(1, self.width() - _HANDLE_PX)
        share = (event.position().x() - _HANDLE_PX / 2) / room
        frame = round(min(max(share, 0.0), 1.0) * self.maximum())
        self.setSliderPosition(frame)
        self.scrubbed.emit(frame)

    def _x(self, frame: int) -> int:
        room = self.width() - _HANDLE_PX
        return _HANDLE_PX // 2 + round(room * frame / max(1, self.maximum()))


class VolumeSlider(QSlider):
    """How loud. The wheel moves it only while it has the focus."""

    def __init__(self, loudest: int) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setAccessibleName("Volume")
        self.setStatusTip("How loud it is")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setRange(0, loudest)
        self.setValue(loudest)
        self.setPageStep(10)
        self.setFixedWidth(56)
        self.setMinimumHeight(24)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Somebody who scrolls past changes nothing."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """As loud as it is."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.setValue(self.maximum())


class TimecodeField(QLineEdit):
    """Shows a timecode, and takes one. While it is typed into, no key of the viewer's fires."""

    entered = Signal(str)
    left = Signal()  # without anything entered

    def __init__(self, shortcuts: Callable[[], list[QAction | None]]) -> None:
        super().__init__()
        self._shortcuts = shortcuts
        self._shown = ""
        self.setAccessibleName("Timecode")
        self.setStatusTip("Type a timecode, +12 or -12; Return goes there")
        self.setToolTip("Timecode: type one, or +12 for 12 frames on (=)")
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus | Qt.FocusPolicy.TabFocus)
        font = QFont(self.font())
        font.setFeature(QFont.Tag("tnum"), 1)
        self.setFont(font)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setFixedWidth(QFontMetrics(font).horizontalAdvance("00:00:00:00") + 22)
        self.returnPressed.connect(lambda: self.entered.emit(self.text()))

    def show_timecode(self, text: str) -> None:
        """Show where the playhead is, unless somebody types."""
        self._shown = text
        if not self.hasFocus():
            self.setText(text)

    def event(self, event: QEvent) -> bool:
        """Keys that mean something to the viewer are letters and marks here."""
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent):
            pressed = QKeySequence(event.keyCombination())
            if any(action and pressed in action.shortcuts() for action in self._shortcuts()):
                event.accept()
                return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Esc leaves it as it was."""
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """What is there is to be typed over."""
        super().focusInEvent(event)
        self.selectAll()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """It shows the playhead again."""
        super().focusOutEvent(event)
        self.setText(self._shown)
