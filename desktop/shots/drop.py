"""What covers a panel while something is dragged onto it."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QWidget

from desktop import theme

REASON_MS = 6000  # for which a refusal is shown


class DropOverlay(QLabel):
    """Over a panel while something is dragged onto it: what a drop will do, or why it does not."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._panel = parent
        self.setObjectName("drop")
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setWordWrap(True)
        self.setMargin(16)
        self.setAutoFillBackground(True)
        self._timer = QTimer(self, singleShot=True, interval=REASON_MS)
        self._timer.timeout.connect(self.hide)
        self.hide()

    def show_words(self, words: str, *, is_refusal: bool, stays: bool = False) -> None:
        """Cover the panel with words; a refusal that stays goes by itself, or with a click."""
        palette = self.palette()
        palette.setColor(palette.ColorRole.Window, QColor(theme.SURROUND))
        colour = theme.FAILED if is_refusal else theme.TEXT
        palette.setColor(palette.ColorRole.WindowText, QColor(colour))
        self.setPalette(palette)
        self.setText(words)
        self.setAccessibleName(words)
        self.setGeometry(self._panel.rect())
        self._timer.stop()
        if stays:
            self._timer.start()
        self.raise_()
        self.show()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.hide()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        pen = painter.pen()
        pen.setColor(self.palette().color(self.foregroundRole()))
        pen.setStyle(Qt.PenStyle.DashLine)
        painter.setPen(pen)
        painter.drawRect(self.rect().adjusted(4, 4, -5, -5))
