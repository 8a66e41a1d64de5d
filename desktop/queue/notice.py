"""What the queue says in a line of its own, where it happened and without holding anything up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QAccessible, QAccessibleEvent, QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QToolButton, QWidget

from desktop import theme
from freeswim.errors import FreeswimError

UNDO_S = 8.0
CONTROL = 28  # pixels, height of a button


class Notice(QFrame):
    """A line above the buttons: what was done and can be undone, what is asked, what went wrong."""

    closed = Signal(bool)  # whether the keyboard was in it

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = QLabel(wordWrap=True)
        self.act = QPushButton()
        self.keep = QPushButton("Keep")
        self.close_button = QToolButton(autoRaise=True)
        self.close_button.setIcon(theme.icon("close"))
        self.close_button.setAccessibleName("Dismiss")
        self.close_button.setToolTip("Dismiss")
        self.timer = QTimer(self, singleShot=True)
        self._then: Callable[[], Any] | None = None
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 4, 4, 4)
        row.setSpacing(8)
        row.addWidget(self.words, 1)
        for button in (self.act, self.keep, self.close_button):
            row.addWidget(button)
            button.setMinimumHeight(CONTROL)
        self.act.clicked.connect(self._carry_out)
        self.keep.clicked.connect(self._close)
        self.close_button.clicked.connect(self._close)
        self.timer.timeout.connect(self._close)
        self.hide()

    @property
    def can_undo(self) -> bool:
        """Whether something was done that can be undone."""
        return self.isVisible() and self.timer.isActive()

    def offer_undo(self, words: str, undo: Callable[[], Any]) -> None:
        """Say what was done; for a while it can be undone."""
        self._show(words, "Undo", undo)
        self.timer.start(round(1000 * UNDO_S))

    def ask(self, words: str, verb: str, act: Callable[[], Any]) -> None:
        """Ask, without holding anything up; it waits for an answer."""
        self._show(words, verb, act, is_question=True)
        self.act.setFocus()

    def complain(self, error: FreeswimError) -> None:
        """Say what could not be done, and what to do about it."""
        self._show(f"{error.message} {error.hint}".strip(), "", None, role="error")

    def _show(
        self,
        words: str,
        verb: str,
        act: Callable[[], Any] | None,
        *,
        is_question: bool = False,
        role: str = "notice",
    ) -> None:
        self.timer.stop()
        self._then = act
        self.words.setText(words)
        self.act.setText(verb)
        self.act.setVisible(bool(verb))
        self.keep.setVisible(is_question)
        self.close_button.setVisible(not is_question)
        self.setProperty("role", role)
        self.style().unpolish(self)  # a style sheet does not see a property change
        self.style().polish(self)
        self.setAccessibleName(words)
        self.show()
        QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.Alert))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape is no."""
        if event.key() == Qt.Key.Key_Escape:
            self._close()
        else:
            super().keyPressEvent(event)

    def _carry_out(self) -> None:
        act, self._then = self._then, None
        self._close()
        if act is not None:
            act()

    def _close(self) -> None:
        self.timer.stop()
        has_focus = self.isAncestorOf(self.focusWidget() or self)
        self.hide()
        self.closed.emit(has_focus)
