"""The list of shots, as it is drawn."""

from __future__ import annotations

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from desktop import theme
from desktop.shots.rows import STATES, Index, Role, ShotsModel


class _Delegate(QStyledItemDelegate):
    """Draws a shot: its state, its name, how many takes it has and whether one is approved."""

    def __init__(self, shots: QListView) -> None:
        super().__init__(shots)
        self._list = shots

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        self.initStyleOption(option, index)
        option.text = ""
        self._list.style().drawControl(
            QStyle.ControlElement.CE_ItemViewItem, option, painter, self._list
        )
        is_selected = bool(option.state & QStyle.StateFlag.State_Selected)
        state, kind = index.data(Role.STATE), index.data(Role.KIND)
        icon, colour, _ = STATES.get(state, (kind, theme.SECONDARY, ""))
        colour = theme.ON_ACCENT if is_selected else colour
        rect: QRect = option.rect.adjusted(8, 0, -8, 0)
        box = QRect(rect.left(), rect.center().y() - 7, 16, 16)
        theme.icon(icon, colour).paint(painter, box)
        right = rect.right()
        painter.save()
        second = QColor(theme.ON_ACCENT if is_selected else theme.SECONDARY)
        if takes := index.data(Role.NUM_TAKES):
            right = _at_the_end(painter, rect, right, str(takes), second)
        if index.data(Role.NUM_APPROVED):
            star = QRect(right - 14, rect.center().y() - 6, 14, 14)
            theme.icon("star", theme.ON_ACCENT if is_selected else theme.DONE).paint(painter, star)
            right -= 20
        if spot := index.data(Role.SPOT):
            if state == "wish":
                right = _at_the_end(painter, rect, right, spot.partition(" ")[0], second)
            else:
                mark = QRect(right - 14, rect.center().y() - 6, 14, 14)
                theme.icon("place", second.name()).paint(painter, mark)
                right -= 20
        is_new = state == "new" and not is_selected
        text = theme.SECONDARY if is_new else theme.TEXT
        painter.setPen(QColor(theme.ON_ACCENT if is_selected else text))
        place = QRect(rect.left() + 24, rect.top(), right - rect.left() - 28, rect.height())
        name = option.fontMetrics.elidedText(
            index.data(Qt.ItemDataRole.DisplayRole), Qt.TextElideMode.ElideRight, place.width()
        )
        painter.drawText(place, Qt.AlignmentFlag.AlignVCenter, name)
        painter.restore()

    def updateEditorGeometry(
        self, editor: QWidget, option: QStyleOptionViewItem, index: Index
    ) -> None:
        rect: QRect = option.rect
        editor.setGeometry(rect.adjusted(28, 2, -4, -2))


def _at_the_end(painter: QPainter, row: QRect, right: int, words: str, colour: QColor) -> int:
    """Write words left of `right`; what is left of the row ends where this says."""
    width = painter.fontMetrics().horizontalAdvance(words)
    painter.setPen(colour)
    place = QRect(right - width, row.top(), width + 1, row.height())
    painter.drawText(place, Qt.AlignmentFlag.AlignVCenter, words)
    return right - width - 6


class ShotsList(QListView):
    """The list; where it is empty, it says how to fill it."""

    def __init__(self, model: ShotsModel) -> None:
        super().__init__()
        self.setModel(model)
        self.empty = ""
        self.setItemDelegate(_Delegate(self))
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Shots")
        self.setFrameShape(QFrame.Shape.NoFrame)

    def say_empty(self, words: str) -> None:
        """What is shown where there is no row."""
        self.empty = words
        self.viewport().update()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.empty and not self.model().rowCount():
            painter = QPainter(self.viewport())
            painter.setPen(QColor(theme.SECONDARY))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.viewport().rect().adjusted(16, 8, -16, -8), flags, self.empty)
