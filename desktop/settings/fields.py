"""Fields of the settings: what a person edits one value of a request in.

Each has `show_value`, which tells nobody, and says `edited` only of what a person did. The wheel
turns a field only while it has the focus, so that scrolling past one changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from PySide6.QtCore import QEvent, QObject, QSignalBlocker, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.settings.sheet import Flat, frames_of, seconds_of
from freeswim.models.catalog import Checkpoint
from freeswim.request import MAX_SEED

CONTROL_PX = 28  # height of a control of one line
DOT_PX = 5
SHORT = Qt.ItemDataRole.UserRole + 1  # of a choice's item: its words where there is little room


class _OnlyFocused(QObject):
    """Lets the wheel turn a control only while it has the focus; else what is around it scrolls."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if not isinstance(event, QWheelEvent) or not isinstance(watched, QWidget):
            return super().eventFilter(watched, event)
        if not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)


def quiet_wheel(control: QWidget) -> None:
    """Have the wheel turn `control` only while it has the focus."""
    control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    control.installEventFilter(_OnlyFocused(control))


def row(*widgets: QWidget, spacing: int = 4) -> QHBoxLayout:
    """Widgets side by side."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(spacing)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def tool(icon: str, name: str, tip: str = "") -> QToolButton:
    """A button of one icon."""
    button = QToolButton(autoRaise=True)
    button.setToolTip(tip or name)
    button.setIcon(theme.icon(icon))
    button.setFixedSize(CONTROL_PX, CONTROL_PX)
    button.setAccessibleName(name)
    return button


def tint(label: QLabel, colour: str) -> None:
    """Give a label's words a colour of the theme."""
    palette = label.palette()
    palette.setColor(label.foregroundRole(), QColor(colour))
    label.setPalette(palette)


class FieldLabel(QLabel):
    """A field's label. A dot says that its value is not the preset's; a double click resets it."""

    reset = Signal()

    def __init__(self, text: str, help_text: str = "") -> None:
        super().__init__(text)
        self._help = help_text
        self._is_changed = False
        self.setToolTip(help_text)
        self.setMinimumHeight(CONTROL_PX)
        self.setIndent(0)
        self.setContentsMargins(DOT_PX + 5, 0, 0, 0)

    @property
    def is_changed(self) -> bool:
        """Whether the dot is there."""
        return self._is_changed

    def set_changed(self, is_changed: bool, usual: str) -> None:
        """Say whether the value is changed, and what the preset's is."""
        self._is_changed = is_changed
        words = f"preset: {usual}" if usual else ""
        if is_changed and words:
            words += " (double-click: reset)"
        self.setToolTip("\n".join(part for part in (words, self._help) if part))
        if (buddy := self.buddy()) is not None:
            buddy.setToolTip(self.toolTip())
            buddy.setAccessibleDescription(f"Changed; preset: {usual}" if is_changed else "")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._is_changed:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.LINK))
        painter.drawEllipse(0, (self.height() - DOT_PX) // 2, DOT_PX, DOT_PX)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.reset.emit()


class Number(QDoubleSpinBox):
    """A number that is typed or stepped; whole ones too large for QSpinBox as well."""

    edited = Signal(object)  # int or float

    def __init__(
        self,
        name: str,
        least: float,
        most: float,
        *,
        decimals: int = 0,
        step: float = 1,
        unit: str = "",
    ) -> None:
        super().__init__(decimals=decimals, minimum=least, maximum=most, singleStep=step)
        self.setAccessibleName(name)
        self.setSuffix(f" {unit}" if unit else "")
        self.setFixedHeight(CONTROL_PX)
        self.setMinimumWidth(48)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        quiet_wheel(self)
        self.valueChanged.connect(lambda value: self.edited.emit(self._number(value)))

    def show_value(self, value: float) -> None:
        """Show a value; what is typed right now stays as it is typed."""
        if self._number(self.value()) == value:
            return
        with QSignalBlocker(self):
            self.setValue(value)

    def _number(self, value: float) -> int | float:
        return round(value, self.decimals()) if self.decimals() else int(value)


class Choice(QComboBox):
    """One of some values, each with its words."""

    edited = Signal(object)

    def __init__(self, name: str, items: Sequence[tuple[Any, str]] = ()) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setFixedHeight(CONTROL_PX)
        self.setMinimumContentsLength(6)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        quiet_wheel(self)
        self._items: list[tuple[Any, str]] = []
        self.set_items(items)
        self.activated.connect(lambda index: self.edited.emit(self.itemData(index)))

    def set_items(self, items: Sequence[tuple[Any, str]]) -> None:
        """Offer these values; the one that is shown stays if it is among them."""
        if self._items == list(items):
            return
        self._items, shown = list(items), self.currentData()
        with QSignalBlocker(self):
            self.clear()
            for value, words in items:
                self.addItem(words, value)
                self.setItemData(self.count() - 1, words, Qt.ItemDataRole.ToolTipRole)
            self.setCurrentIndex(max(0, self.findData(shown)))
        self.view().setMinimumWidth(self.view().sizeHintForColumn(0) + 24)

    def paintEvent(self, event: QPaintEvent) -> None:
        """As any, but with an ellipsis where the words are too long, and the short ones first."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        words = self.itemData(self.currentIndex(), SHORT) or option.currentText
        rect = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        elide = Qt.TextElideMode.ElideRight
        option.currentText = self.fontMetrics().elidedText(words, elide, rect.width() - 4)
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def show_value(self, value: Any) -> None:
        """Show a value, also one that is not offered."""
        if self.findData(value) < 0:
            self.addItem(str(value), value)
        with QSignalBlocker(self):
            self.setCurrentIndex(self.findData(value))


class Strength(QWidget):
    """How much is made anew: a slider and the number it stands at."""

    edited = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(1, 100)
        self.slider.setAccessibleName("Strength, slider")
        quiet_wheel(self.slider)
        self.number = Number("Strength", 0.01, 1, decimals=2, step=0.05)
        self.number.setFixedWidth(64)
        layout = row(self.slider, self.number, spacing=8)
        self.setLayout(layout)
        self.slider.valueChanged.connect(lambda value: self.number.setValue(value / 100))
        self.number.edited.connect(self._on_number)

    def show_value(self, value: float, *, is_clip: bool) -> None:
        """Show a strength; of a clip, that can be remade by 0.1 to 0.9."""
        least, most = (0.1, 0.9) if is_clip else (0.01, 1.0)
        with QSignalBlocker(self.number), QSignalBlocker(self.slider):
            self.number.setRange(min(least, value), max(most, value))
            self.slider.setRange(round(100 * least), round(100 * most))
            self.number.show_value(value)
            self.slider.setValue(round(100 * value))

    def _on_number(self, value: float) -> None:
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(100 * value))
        self.edited.emit(value)


class Length(QWidget):
    """How long the take is, in frames and in seconds; frames are what is kept."""

    edited = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._rate = Fraction(16)
        self.seconds = Number("Length in seconds", 0.01, 9999, decimals=2, step=0.25, unit="s")
        self.frames = Number("Length in frames", 1, 99_999, step=4, unit="f")
        self.setLayout(row(self.seconds, self.frames))
        self.setFocusProxy(self.seconds)
        self.seconds.edited.connect(self._on_seconds)
        self.frames.edited.connect(self._on_frames)

    def show_value(self, frames: int, rate: Fraction, most: int) -> None:
        """Show a number of frames at a rate."""
        self._rate = rate
        with QSignalBlocker(self.frames), QSignalBlocker(self.seconds):
            self.frames.setMaximum(max(most, frames))
            self.frames.show_value(frames)
            self.seconds.setDecimals(2 if rate <= 60 else 3)
            # A time that is typed is not corrected while it is typed.
            if frames_of(self.seconds.value(), rate) != frames:
                self.seconds.show_value(round(seconds_of(frames, rate), self.seconds.decimals()))

    def _on_seconds(self, seconds: float) -> None:
        frames = min(frames_of(seconds, self._rate), int(self.frames.maximum()))
        with QSignalBlocker(self.frames):
            self.frames.setValue(frames)
        self.edited.emit(frames)

    def _on_frames(self, frames: int) -> None:
        with QSignalBlocker(self.seconds):
            self.seconds.setValue(seconds_of(frames, self._rate))
        self.edited.emit(frames)


NAMED_SIZES = {(1920, 1080): "1080p", (2560, 1440): "1440p", (3840, 2160): "4K"}


class Size(QWidget):
    """The take's size: named, or its width and height; or only the draft of it."""

    edited = Signal(object)  # Flat: width, height, draft

    def __init__(self) -> None:
        super().__init__()
        self._shown = (1920, 1080)
        self.choice = Choice("Size")
        self.width_px = Number("Width", 16, 8192, step=16)
        self.height_px = Number("Height", 16, 8192, step=16, unit="px")
        self._own = QWidget()
        times = QLabel("×")
        times.setAccessibleName("by")
        self._own.setLayout(row(self.width_px, times, self.height_px))
        self._own.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.choice)
        column.addWidget(self._own)
        self.setFocusProxy(self.choice)
        self.choice.edited.connect(self._on_choice)
        for number in (self.width_px, self.height_px):
            number.edited.connect(self._on_number)

    def show_value(
        self, values: Flat, usual: tuple[int, int], checkpoint: Checkpoint, *, is_clip: bool
    ) -> None:
        """Show the size of `values`; `usual` is the preset's, or twice the clip's."""
        size = values["width"], values["height"]
        is_own = (self.choice.currentData() == "own" and size == self._shown) or not (
            size == usual or size in NAMED_SIZES
        )
        is_own = is_own and not values["draft"]
        self._shown = size
        self.choice.set_items(self._items(size, usual, checkpoint, is_clip=is_clip))
        self.choice.show_value("draft" if values["draft"] else "own" if is_own else _word(size))
        self._own.setVisible(is_own)
        for number, pixels in zip((self.width_px, self.height_px), size, strict=True):
            with QSignalBlocker(number):
                number.setMaximum(max(checkpoint.max_side, pixels))
                number.show_value(pixels)

    def _items(
        self,
        size: tuple[int, int],
        usual: tuple[int, int],
        checkpoint: Checkpoint,
        *,
        is_clip: bool,
    ) -> list[tuple[Any, str]]:
        items: list[tuple[Any, str]] = []
        if not is_clip:
            width, height = checkpoint.base_size(*size)
            items.append(("draft", f"Draft  {width} × {height}"))
        sizes = dict.fromkeys((usual, *NAMED_SIZES))
        for width, height in sorted(sizes, key=lambda pair: pair[0] * pair[1]):
            name = NAMED_SIZES.get((width, height), "")
            if is_clip and (width, height) == usual:
                name = "Twice the clip"
            items.append((_word((width, height)), f"{name}  {width} × {height}".strip()))
        return [*items, ("own", "Custom")]

    def _on_choice(self, chosen: Any) -> None:
        if chosen == "draft":
            self.edited.emit({"draft": True})
        elif chosen == "own":
            self._own.setVisible(True)
            self.width_px.setFocus()
            self.width_px.selectAll()
            self.edited.emit({"draft": False})
        else:
            width, height = (int(side) for side in str(chosen).split("x"))
            self.edited.emit({"width": width, "height": height, "draft": False})

    def _on_number(self) -> None:
        self._shown = int(self.width_px.value()), int(self.height_px.value())
        self.edited.emit({"width": self._shown[0], "height": self._shown[1], "draft": False})


def _word(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


class Seed(QWidget):
    """The seed: a new one for every take, or one that is locked."""

    edited = Signal(object)  # (seed, whether it is locked)

    def __init__(self) -> None:
        super().__init__()
        self.number = Number("Seed", 0, MAX_SEED)
        self.lock = QToolButton(autoRaise=True)
        self.lock.setCheckable(True)
        self.lock.setFixedSize(CONTROL_PX, CONTROL_PX)
        self.lock.setAccessibleName("Lock the seed")
        self.new = tool("redo", "New seed", "A new seed, drawn now and locked")
        self.setLayout(row(self.number, self.lock, self.new))
        self.setFocusProxy(self.number)
        self.number.edited.connect(lambda seed: self._say(seed, is_locked=True))
        self.lock.clicked.connect(lambda locked: self._say(int(self.number.value()), locked))
        self.new.clicked.connect(lambda: self._say(random.randrange(MAX_SEED + 1), is_locked=True))
        self._paint(is_locked=False)

    def show_value(self, seed: int, is_locked: bool) -> None:
        """Show a seed: the one to use, or the last one."""
        self.number.show_value(seed)
        self._paint(is_locked)

    def _say(self, seed: int, is_locked: bool) -> None:
        self.show_value(seed, is_locked)
        self.edited.emit((seed, is_locked))

    def _paint(self, is_locked: bool) -> None:
        self.lock.setChecked(is_locked)
        self.lock.setIcon(theme.icon("lock" if is_locked else "unlock"))
        self.lock.setToolTip(
            "Locked: every take gets this seed." if is_locked else "Every take gets a new seed."
        )
        edit = self.number.lineEdit()
        palette = edit.palette()
        colour = QColor(theme.TEXT if is_locked else theme.DISABLED)
        palette.setColor(palette.ColorRole.Text, colour)
        edit.setPalette(palette)
