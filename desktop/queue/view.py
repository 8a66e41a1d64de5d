"""Rows of jobs that can be selected, dragged and clicked in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QContextMenuEvent,
    QDropEvent,
    QFocusEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QListView,
    QStyleOptionViewItem,
    QWidget,
)

from desktop import theme
from desktop.queue.model import ID, JobModel
from desktop.queue.row import RowDelegate

Index = QModelIndex | QPersistentModelIndex


class JobView(QListView):
    """Rows of jobs. What is clicked in a row, and what is dropped between rows, it only tells."""

    clicked_zone = Signal(str, str)  # what in a row (queue_row.py), id of its job
    menu_wanted = Signal(QPoint)  # on the screen
    focused = Signal()

    def __init__(self, model: JobModel, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.empty: tuple[str, str] = ("", "")  # what is said where there is no row: two lines
        self.jobs = model
        self.rows = RowDelegate(self)
        self.setModel(model)
        self.setItemDelegate(self.rows)
        self.setAccessibleName(name)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMouseTracking(True)
        self.setFrameShape(QFrame.Shape.NoFrame)

    @property
    def selected(self) -> list[str]:
        """Ids of the selected jobs, in the order of their rows."""
        rows = sorted(index.row() for index in self.selectionModel().selectedIndexes())
        return [self.jobs.ids[row] for row in rows]

    @property
    def row_height(self) -> int:
        """Pixels."""
        return self.rows.sizeHint(self._option(QModelIndex()), QModelIndex()).height()

    def select(self, job_ids: Iterable[str]) -> None:
        """Select these jobs alone, where they have rows, and go to the first of them."""
        self.clearSelection()
        rows = [row for job_id in job_ids if (row := self.jobs.row_of(job_id)) is not None]
        choose = self.selectionModel()
        for number, row in enumerate(sorted(rows)):
            index = self.jobs.index(row)
            if number == 0:
                choose.setCurrentIndex(index, choose.SelectionFlag.NoUpdate)
            choose.select(index, choose.SelectionFlag.Select)

    def place(self, job_id: str, zone: str) -> QPoint:
        """The middle of something that can be clicked in a job's row."""
        row = self.jobs.row_of(job_id)
        assert row is not None
        return self.rows.link(zone, self._option(self.jobs.index(row))).center()

    def _option(self, index: Index) -> QStyleOptionViewItem:
        option = QStyleOptionViewItem()
        self.initViewItemOption(option)
        option.rect = self.visualRect(index)
        return option

    def _zone(self, at: QPoint) -> tuple[str, Index]:
        index = self.indexAt(at)
        return (self.rows.zone(at, self._option(index), index) if index.isValid() else ""), index

    # ------------------------------------------------------------------------ as Qt asks for it

    def dataChanged(self, topLeft: Index, bottomRight: Index, roles: Sequence[int] = ()) -> None:
        """Paint these rows again. A list would also lay out all rows; ours have one height."""
        QAbstractItemView.dataChanged(self, topLeft, bottomRight, roles)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """What can be clicked in a row is for that row, whatever is selected."""
        zone, index = self._zone(event.position().toPoint())
        if not zone or event.button() != Qt.MouseButton.LeftButton:
            super().mousePressEvent(event)
            return
        if not self.selectionModel().isSelected(index):
            self.setCurrentIndex(index)
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        self.clicked_zone.emit(zone, index.data(ID))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """A hand over what can be clicked."""
        super().mouseMoveEvent(event)
        zone, _ = self._zone(event.position().toPoint())
        shape = Qt.CursorShape.PointingHandCursor if zone else Qt.CursorShape.ArrowCursor
        self.viewport().setCursor(shape)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """At the pointer; by the keyboard at the row."""
        if event.reason() != QContextMenuEvent.Reason.Keyboard:
            self.menu_wanted.emit(event.globalPos())
            return
        rect = self.visualRect(self.currentIndex())
        self.menu_wanted.emit(self.viewport().mapToGlobal(rect.center()))

    def dropEvent(self, event: QDropEvent) -> None:
        """The model asks for the move; the rows follow when it is carried out."""
        at = event.position().toPoint()
        self.jobs.dropMimeData(
            event.mimeData(), Qt.DropAction.MoveAction, self._gap(at), 0, QModelIndex()
        )
        event.setDropAction(Qt.DropAction.CopyAction)  # of a move Qt would take the rows out
        event.accept()
        self.stopAutoScroll()
        self.setState(QAbstractItemView.State.NoState)
        self.viewport().update()

    def _gap(self, at: QPoint) -> int:
        """The row before which something is dropped."""
        index = self.indexAt(at)
        if not index.isValid():
            return self.jobs.rowCount()
        return index.row() + (at.y() > self.visualRect(index).center().y())

    def rowsInserted(self, parent: Index, start: int, end: int) -> None:
        """Where the keyboard is here already, it is in a row from now on."""
        super().rowsInserted(parent, start, end)
        if self.hasFocus() and not self.currentIndex().isValid():
            flag = self.selectionModel().SelectionFlag.NoUpdate
            self.selectionModel().setCurrentIndex(self.jobs.index(0), flag)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """By the keyboard, to a row: there is always one to act on."""
        super().focusInEvent(event)
        if not self.currentIndex().isValid() and self.jobs.rowCount():
            self.setCurrentIndex(self.jobs.index(0))
        self.focused.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        """The rows, or what is said in their place."""
        super().paintEvent(event)
        if self.jobs.rowCount() == 0 and any(self.empty):
            self._paint_empty()

    def _paint_empty(self) -> None:
        painter = QPainter(self.viewport())
        place = self.viewport().rect().adjusted(24, 24, -24, -24)
        words = int(Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignHCenter)
        title, hint = self.empty
        line = self.fontMetrics().height()
        place.setTop(max(place.top(), place.center().y() - 2 * line))
        painter.setPen(QColor(theme.TEXT))
        painter.drawText(place, words, title)
        painter.setPen(QColor(theme.SECONDARY))
        painter.drawText(place.adjusted(0, round(1.6 * line), 0, 0), words, hint)
