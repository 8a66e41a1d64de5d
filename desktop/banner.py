"""What an editor must know of the whole app, above everything: a line each, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop import theme


@dataclass(frozen=True)
class Notice:
    """A line of the banner."""

    text: str
    actions: tuple[tuple[str, Callable[[], object]], ...] = ()  # words of a button, what it does
    is_error: bool = False
    is_news: bool = False  # nothing is wrong
    can_be_dismissed: bool = True


class Banner(QWidget):
    """Notices by name: one of each. As high as they are; nothing where there is none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lines: dict[str, tuple[Notice, QFrame]] = {}
        self._dismissed: dict[str, str] = {}  # name -> text that the person has seen enough of
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(1)
        self.hide()

    def show_notice(self, name: str, notice: Notice) -> None:
        """Show a notice in place of the one of that name; not where these words were dismissed."""
        if self._dismissed.get(name) == notice.text:
            return
        shown = self._lines.get(name)
        if shown is not None and shown[0].text == notice.text:
            return
        self.take_back(name)
        line = self._line(name, notice)
        self._lines[name] = (notice, line)
        self._column.addWidget(line)
        self.show()

    def take_back(self, name: str) -> None:
        """Show no notice of that name; the same words may come again."""
        self._dismissed.pop(name, None)
        self._remove(name)

    def texts(self) -> list[str]:
        """What is shown, from above."""
        return [notice.text for notice, _ in self._lines.values()]

    def _dismiss(self, name: str) -> None:
        self._dismissed[name] = self._lines[name][0].text
        self._remove(name)

    def _remove(self, name: str) -> None:
        if (shown := self._lines.pop(name, None)) is not None:
            self._column.removeWidget(shown[1])
            shown[1].hide()  # until it is deleted it would lie over the others
            shown[1].deleteLater()
        self.setVisible(bool(self._lines))

    def _line(self, name: str, notice: Notice) -> QFrame:
        line = QFrame(self)
        role = "error" if notice.is_error else "news" if notice.is_news else "notice"
        line.setProperty("role", role)
        row = QHBoxLayout(line)
        row.setContentsMargins(12, 4, 8, 4)
        sign = QLabel()
        icon, colour = _SIGNS[role]
        sign.setPixmap(theme.icon(icon, colour).pixmap(16, 16))
        row.addWidget(sign)
        words = QLabel(notice.text, wordWrap=True)
        words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        row.addWidget(words, 1)
        for text, act in notice.actions:
            button = QPushButton(text)
            button.clicked.connect(partial(_do, act))
            row.addWidget(button)
        if notice.can_be_dismissed:
            close = QToolButton(autoRaise=True)
            close.setIcon(theme.icon("close"))
            close.setToolTip("Dismiss")
            close.setAccessibleName(f"Dismiss: {notice.text}")
            close.clicked.connect(partial(self._dismiss, name))
            row.addWidget(close)
        return line


_SIGNS = {
    "error": ("error", theme.FAILED),
    "notice": ("warning", theme.WARNING),
    "news": ("place", theme.LINK),
}


def _do(act: Callable[[], object], _: bool) -> None:
    act()
