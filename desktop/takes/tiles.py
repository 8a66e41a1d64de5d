"""The tiles of the takes strip: which there are, how they look, and how they are looked at."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QEvent,
    QMimeData,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    QUrl,
    Signal,
)
from PySide6.QtGui import (
    QColor,
    QContextMenuEvent,
    QDrag,
    QFont,
    QFontMetrics,
    QImage,
    QMouseEvent,
    QPainter,
    QPen,
    QPixmap,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from desktop import theme
from desktop.queue.words import stage_words
from desktop.resolve.words import Placed, placed, spot_of
from desktop.studio import Studio
from desktop.takes.thumbnails import BOX, Thumbnails, moment_at, moment_size, num_moments, place_of
from freeswim.errors import FreeswimError
from freeswim.studio.job import Job, JobState, Take, Verdict
from freeswim.studio.runner import JobProgress

TAKES_MIME = "application/x-freeswim-takes"  # ids, a line each, beside the files themselves
ROW = Qt.ItemDataRole.UserRole  # the Take or Job itself

Row = Take | Job
Index = QModelIndex | QPersistentModelIndex

BEING_MADE = (JobState.RUNNING, JobState.PUBLISHING)
STATE_WORDS = {
    Verdict.APPROVED: ("★", "Approved", theme.DONE),
    Verdict.REJECTED: ("✕", "Rejected", theme.FAILED),
}
# Stage -> where it begins in the whole work, and what share of it it is.
STAGES = {
    "encode prompt": (0.0, 0.02),
    "load": (0.02, 0.03),
    "base": (0.05, 0.27),
    "upsample": (0.32, 0.06),
    "refine": (0.38, 0.50),
    "write": (0.88, 0.12),
}
PADDING = 8
REJECTED_OPACITY = 0.35


def size_words(width: int, height: int) -> str:
    """1920 × 1088."""
    return f"{width} × {height}"


def progress_words(progress: JobProgress | None) -> tuple[str, float]:
    """Where a job is, in words and as a share of the whole work."""
    if progress is None or progress.stage not in STAGES:
        return "Starting", 0.0
    words = stage_words(progress)
    begin, share = STAGES[progress.stage]
    done = min(1.0, progress.step / max(1, progress.num_steps))
    return words[:1].upper() + words[1:], begin + share * done


def settings_text(take: Take, request: dict[str, Any]) -> str:
    """What a take was made with, as rich text; people's own words are no markup."""
    facts = [
        ("Seed", str(take.seed)),
        ("Size", f"{size_words(take.width, take.height)}, {take.frames} frames"),
    ]
    if checkpoint := request.get("checkpoint"):
        facts.append(("Model", str(checkpoint)))
    base, refine = request.get("base") or {}, request.get("refine") or {}
    if request.get("kind") != "clip" and base:
        facts.append(("Base pass", f"{base['steps']} steps, guidance {base['guidance_scale']:g}"))
    if refine and not take.is_draft:
        words = f"{refine['steps']} steps, strength {refine['strength']:g}"
        facts.append(("Refine", f"{words}, guidance {refine['guidance_scale']:g}"))
    facts += [("Prompt", take.prompt)] if take.prompt else []
    if negative := request.get("negative_prompt"):
        facts.append(("Not", str(negative)))
    draft = ", draft" if take.is_draft else ""
    rows = "".join(
        f"<tr><td>{name}&nbsp;&nbsp;</td><td>{html.escape(value)}</td></tr>"
        for name, value in facts
    )
    title = html.escape(f"{take.shot_name}, take {take.number}{draft}")
    return f"<qt><b>{title}</b><table>{rows}</table></qt>"


class TakesModel(QAbstractListModel):
    """Takes, and jobs that are making one."""

    def __init__(self, studio: Studio, thumbnails: Thumbnails, parent: QWidget) -> None:
        super().__init__(parent)
        self.files: dict[str, Path] = {}  # of takes, by id
        self.requests: dict[str, dict[str, Any]] = {}  # of takes, by id
        self.previews: dict[str, tuple[int, QImage]] = {}  # number and picture, by id of the job
        self.unseen: set[str] = set()  # takes that came while somebody looked
        self.with_shots = False  # whether rows are of more shots than one
        self._studio = studio
        self._thumbnails = thumbnails
        self._rows: list[Row] = []
        self._asked: set[str] = set()
        thumbnails.came.connect(self.touch)

    @property
    def takes(self) -> list[Take]:
        """The rows that are takes."""
        return [row for row in self._rows if isinstance(row, Take)]

    def show(self, rows: Sequence[Row]) -> None:
        """Have these rows, in this order; the ones that stay keep their selection."""
        wanted = {row.id for row in rows}
        for number in reversed(range(len(self._rows))):
            if self._rows[number].id not in wanted:
                self.beginRemoveRows(QModelIndex(), number, number)
                del self._rows[number]
                self.endRemoveRows()
        order = {row.id: number for number, row in enumerate(rows)}
        if sorted(self._rows, key=lambda row: order[row.id]) != self._rows:
            self.beginResetModel()
            self._rows = list(rows)
            self.endResetModel()
            return
        for number, row in enumerate(rows):
            if number < len(self._rows) and self._rows[number].id == row.id:
                if self._rows[number] != row:
                    self._rows[number] = row
                    self.touch(row.id)
                continue
            self.beginInsertRows(QModelIndex(), number, number)
            self._rows.insert(number, row)
            self.endInsertRows()

    def touch(self, row_id: str) -> None:
        """Have the row drawn anew, if it is here."""
        index = self.index_of(row_id)
        if index.isValid():
            self.dataChanged.emit(index, index)

    def index_of(self, row_id: str) -> QModelIndex:
        """Where the row with this id is."""
        for number, row in enumerate(self._rows):
            if row.id == row_id:
                return self.index(number)
        return QModelIndex()

    def file_of(self, take: Take) -> Path | None:
        """The take's file; None: not known yet, it is asked for."""
        if take.id not in self.files and take.id not in self._asked:
            self._asked.add(take.id)
            self._studio.ask(
                lambda client: client.get(f"/takes/{take.id}"),
                lambda said: self._know(take.id, said),
                lambda error: self._miss(take.id, error),
            )
        return self.files.get(take.id)

    def strip_of(self, take: Take) -> QImage | None:
        """The take's moments side by side; None: not yet."""
        path = self.file_of(take)
        return None if path is None else self._thumbnails.strip(take, path)

    def problem_of(self, take: Take) -> FreeswimError | None:
        """Why there is no picture of it."""
        return self._thumbnails.problems.get(take.id)

    def progress_of(self, job: Job) -> JobProgress | None:
        """How far a job is, as the studio said last."""
        return self._studio.progress.get(job.id)

    def placed(self, take: Take) -> Placed | None:
        """What became of a take inside Resolve; None: it goes to no timeline by itself."""
        return placed(take, spot_of(self._studio.shots.get(take.shot_id)))

    def forget_files(self) -> None:
        """Ask anew: another studio may serve by now, and what was gone may be back."""
        self._asked.clear()
        self._thumbnails.problems.clear()

    def _know(self, take_id: str, said: dict[str, Any]) -> None:
        self.files[take_id] = Path(said["path"])
        request = said["sidecar"].get("request")
        self.requests[take_id] = request if isinstance(request, dict) else {}
        self.touch(take_id)

    def _miss(self, take_id: str, error: FreeswimError) -> None:
        self._thumbnails.problems[take_id] = error
        self.touch(take_id)

    # ------------------------------------------------------------------------------ Qt's side

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not self.checkIndex(index, self.CheckIndexOption.IndexIsValid):  # pyright: ignore
            return None
        row = self._rows[index.row()]
        if role == ROW:
            return row
        if role == Qt.ItemDataRole.DisplayRole:
            return self.title_of(row)
        if role in (Qt.ItemDataRole.AccessibleTextRole, Qt.ItemDataRole.AccessibleDescriptionRole):
            return self._said(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(row)
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        flag = Qt.ItemFlag
        match index.data(ROW):
            case Job():  # nothing can be done with it here
                return flag.ItemIsEnabled | flag.ItemNeverHasChildren
            case Take():
                return super().flags(index) | flag.ItemNeverHasChildren | flag.ItemIsDragEnabled
            case _:
                return super().flags(index)

    def mimeTypes(self) -> list[str]:
        return ["text/uri-list", TAKES_MIME]

    def mimeData(self, indexes: Sequence[QModelIndex]) -> QMimeData:
        rows = sorted(indexes, key=lambda index: index.row())
        takes = [row for index in rows if isinstance(row := index.data(ROW), Take)]
        files = [self.files[take.id] for take in takes if take.id in self.files]
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in files])
        data.setData(TAKES_MIME, "\n".join(take.id for take in takes).encode())
        return data

    def supportedDragActions(self) -> Qt.DropAction:
        return Qt.DropAction.CopyAction

    # ---------------------------------------------------------------------------------- words

    def title_of(self, row: Row) -> str:
        """What a row is called."""
        name = f"Take {row.number}" if isinstance(row, Take) else "New take"
        return f"{row.shot_name}, {name.lower()}" if self.with_shots else name

    def _said(self, row: Row) -> str:
        if isinstance(row, Job):
            return f"{self.title_of(row)}, {progress_words(self.progress_of(row))[0].lower()}"
        words = [self.title_of(row)]
        if row.verdict in STATE_WORDS:
            words.append(STATE_WORDS[row.verdict][1].lower())
        words += ["draft"] if row.is_draft else []
        words += ["new"] if row.id in self.unseen else []
        words += [f"seed {row.seed}", f"{row.width} by {row.height}"]
        if (there := self.placed(row)) is not None:
            words += [f"in Resolve: {there.sentence.rstrip('.')}"]
        if (problem := self.problem_of(row)) is not None:
            words.append(problem.message)
        return ", ".join(words)

    def _tip(self, row: Row) -> str:
        if isinstance(row, Job):
            return f"<qt>{html.escape(row.prompt)}</qt>" if row.prompt else ""
        job = self._studio.jobs.get(row.job_id)
        text = settings_text(row, job.request if job else self.requests.get(row.id, {}))
        notes: list[str] = []
        if (there := self.placed(row)) is not None:
            notes.append(there.sentence)
        if (problem := self.problem_of(row)) is not None:
            notes.append(f"{problem.message} {problem.hint}")
        said = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
        return f"{text.removesuffix('</qt>')}{said}</qt>"


class TileDelegate(QStyledItemDelegate):
    """Draws a take, or a job that makes one."""

    def __init__(self, view: TakesView, model: TakesModel) -> None:
        super().__init__(view)
        self._view = view
        self._model = model

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        line = QFontMetrics(option.font).height()  # pyright: ignore[reportAttributeAccessIssue]
        return QSize(BOX.width() + 2 * PADDING, BOX.height() + 3 * line + 3 * PADDING)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        tile = QRect(option.rect)  # pyright: ignore[reportAttributeAccessIssue]
        tile.setHeight(self.sizeHint(option, index).height())  # the list stretches it
        state: QStyle.StateFlag = option.state  # pyright: ignore[reportAttributeAccessIssue]
        row = index.data(ROW)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        self._frame(painter, tile, state)
        picture = picture_place(tile)
        painter.fillRect(picture, QColor(theme.SURROUND))
        font: QFont = option.font  # pyright: ignore[reportAttributeAccessIssue]
        painter.setFont(font)
        if isinstance(row, Take):
            self._take_picture(painter, picture, row)
            self._take_words(painter, tile, row, font)
        else:
            self._job(painter, tile, row, font)
        painter.restore()

    def _frame(self, painter: QPainter, tile: QRect, state: QStyle.StateFlag) -> None:
        edge = tile.adjusted(2, 2, -2, -2)
        is_selected = bool(state & QStyle.StateFlag.State_Selected)
        has_focus = bool(state & QStyle.StateFlag.State_HasFocus)
        if is_selected:
            painter.setPen(QPen(QColor(theme.LINK if has_focus else theme.ACCENT), 2))
            painter.setBrush(QColor(theme.BUTTON))
            painter.drawRoundedRect(edge, 4, 4)
        elif has_focus:
            painter.setPen(QPen(QColor(theme.LINK), 1, Qt.PenStyle.DotLine))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(edge, 4, 4)

    def _take_picture(self, painter: QPainter, picture: QRect, take: Take) -> None:
        strip = self._model.strip_of(take)
        if strip is None:
            problem = self._model.problem_of(take)
            icon, words = ("error", "No picture") if problem else ("film", "Loading")
            _blank(painter, picture, icon, words)
            return
        scrubbed = self._view.moment_of(take)
        size = moment_size(take).scaled(picture.size(), Qt.AspectRatioMode.KeepAspectRatio)
        place = QRect(QPoint(0, 0), size)
        place.moveCenter(picture.center())
        moment = num_moments(take) // 2 if scrubbed is None else scrubbed
        if take.verdict == Verdict.REJECTED:
            painter.setOpacity(REJECTED_OPACITY)
        painter.drawImage(place, strip, place_of(take, moment))
        painter.setOpacity(1)
        if scrubbed is not None:
            share = (moment + 0.5) / num_moments(take)
            x = picture.left() + round(share * (picture.width() - 1))
            painter.fillRect(x, picture.top(), 1, picture.height(), QColor(theme.LINK))

    def _take_words(self, painter: QPainter, tile: QRect, take: Take, font: QFont) -> None:
        first, second, third = lines_of(tile, font)
        glyph, word, colour = self._state_of(take)
        left = self._state(painter, first, f"{glyph} {word}".strip(), glyph, colour)
        _write(painter, left, self._model.title_of(take), theme.TEXT)
        draft = " · Draft" if take.is_draft and word != "Draft" else ""
        size = f"{size_words(take.width, take.height)}{draft}"
        there = self._model.placed(take)
        if there is None:
            _write(painter, second, f"Seed {take.seed}", theme.SECONDARY)
            _write(painter, third, size, theme.SECONDARY)
            return
        mark = QRect(second.left() - 1, second.center().y() - 6, 13, 13)
        theme.icon("place", there.colour).paint(painter, mark)
        _write(painter, second.adjusted(17, 0, 0, 0), there.short, there.colour)
        _write(painter, third, size, theme.SECONDARY)  # the seed is in the tip

    def _state_of(self, take: Take) -> tuple[str, str, str]:
        """Glyph, word and colour of what matters most of a take."""
        if take.verdict in STATE_WORDS:
            return STATE_WORDS[take.verdict]
        if take.id in self._model.unseen:
            return "●", "New", theme.LINK
        return "", "Draft" if take.is_draft else "", theme.SECONDARY

    def _state(self, painter: QPainter, line: QRect, words: str, short: str, colour: str) -> QRect:
        """Write a state at the line's end, shorter where it is narrow; what is left of the line."""
        metrics = painter.fontMetrics()
        if self._model.with_shots and short:
            words = short
        if not words:
            return line
        width = metrics.horizontalAdvance(words)
        place = QRect(line.right() - width, line.top(), width + 1, line.height())
        painter.setPen(QColor(colour))
        painter.drawText(place, Qt.AlignmentFlag.AlignVCenter, words)
        return line.adjusted(0, 0, -width - 6, 0)

    def _job(self, painter: QPainter, tile: QRect, job: Job, font: QFont) -> None:
        picture = picture_place(tile)
        words, share = progress_words(self._model.progress_of(job))
        if (preview := self._model.previews.get(job.id)) is not None:
            size = preview[1].size().scaled(picture.size(), Qt.AspectRatioMode.KeepAspectRatio)
            place = QRect(QPoint(0, 0), size)
            place.moveCenter(picture.center())
            painter.drawImage(place, preview[1])
        else:
            _blank(painter, picture, "film", "")
        bar = QRect(picture.left(), picture.bottom() - 2, picture.width(), 3)
        painter.fillRect(bar, QColor(theme.BASE))
        bar.setWidth(round(share * bar.width()))
        painter.fillRect(bar, QColor(theme.LINK))
        first, second, third = lines_of(tile, font)
        left = self._state(painter, first, "▶ Running", "▶", theme.LINK)
        _write(painter, left, self._model.title_of(job), theme.TEXT)
        _write(painter, second, words, theme.LINK)
        _write(painter, third, f"Seed {job.request.get('seed', '')}", theme.SECONDARY)


def picture_place(tile: QRect) -> QRect:
    """Where a tile's picture is."""
    return QRect(tile.left() + PADDING, tile.top() + PADDING, BOX.width(), BOX.height())


def lines_of(tile: QRect, font: QFont) -> list[QRect]:
    """Where a tile's three lines of words are."""
    picture, height = picture_place(tile), QFontMetrics(font).height()
    top = picture.bottom() + 1 + PADDING // 2
    return [
        QRect(picture.left(), top + line * height, picture.width(), height) for line in range(3)
    ]


def _write(painter: QPainter, place: QRect, text: str, colour: str) -> None:
    metrics = painter.fontMetrics()
    painter.setPen(QColor(colour))
    elided = metrics.elidedText(text, Qt.TextElideMode.ElideRight, place.width())
    painter.drawText(place, Qt.AlignmentFlag.AlignVCenter, elided)


def _blank(painter: QPainter, picture: QRect, icon: str, words: str) -> None:
    place = QRect(0, 0, 20, 20)
    place.moveCenter(picture.center() - QPoint(0, 10 if words else 0))
    theme.icon(icon, theme.DISABLED).paint(painter, place)
    painter.setPen(QColor(theme.SECONDARY))
    painter.drawText(picture.adjusted(0, 24, 0, 0), Qt.AlignmentFlag.AlignCenter, words)


class TakesView(QListView):
    """The tiles, in a row. Moving over one shows that part of the take."""

    menu_wanted = Signal(QPoint)  # on the screen

    def __init__(self, model: TakesModel, parent: QWidget) -> None:
        super().__init__(parent)
        self._takes = model
        self._scrubbed: tuple[str, int] | None = None  # id and moment
        self.setModel(model)
        self.setItemDelegate(TileDelegate(self, model))
        self.setAccessibleName("Takes")
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(False)
        self.setUniformItemSizes(True)
        self.setMouseTracking(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setDragEnabled(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragOnly)
        self.setFrameShape(QListView.Shape.NoFrame)
        self.setTabKeyNavigation(False)

    def sizeHint(self) -> QSize:
        return QSize(super().sizeHint().width(), self._height())

    def minimumSizeHint(self) -> QSize:
        return QSize(2 * BOX.width(), self._height())

    def _height(self) -> int:
        tile = self.itemDelegate().sizeHint(QStyleOptionViewItem(), QModelIndex())
        return tile.height() + self.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)

    def moment_of(self, take: Take) -> int | None:
        """The moment of a take that is looked at; None: none, as usual."""
        scrubbed = self._scrubbed
        return scrubbed[1] if scrubbed is not None and scrubbed[0] == take.id else None

    def scrub(self, take: Take | None, moment: int = 0) -> None:
        """Show one moment of a take; of no take: all as usual."""
        before = self._scrubbed
        self._scrubbed = None if take is None else (take.id, moment)
        if before != self._scrubbed:
            for row_id, _ in filter(None, (before, self._scrubbed)):
                self.update(self._takes.index_of(row_id))

    def scrub_by(self, step: int) -> None:
        """Go on from the moment that the chosen take shows."""
        take = self.currentIndex().data(ROW)
        if isinstance(take, Take):
            moment = self.moment_of(take)
            start = num_moments(take) // 2 if moment is None else moment
            self.scrub(take, max(0, min(num_moments(take) - 1, start + step)))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        super().mouseMoveEvent(event)
        position = event.position().toPoint()
        index = self.indexAt(position)
        take = index.data(ROW)
        picture = picture_place(self.visualRect(index))
        if isinstance(take, Take) and picture.contains(position):
            share = (position.x() - picture.left()) / picture.width()
            self.scrub(take, moment_at(take, share))
        else:
            self.scrub(None)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.scrub(None)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        place = event.globalPos()
        if event.reason() == QContextMenuEvent.Reason.Keyboard:
            place = self.viewport().mapToGlobal(self.visualRect(self.currentIndex()).center())
        self.menu_wanted.emit(place)

    def startDrag(self, actions: Qt.DropAction) -> None:
        indexes = [index for index in self.selectedIndexes() if index.data(ROW) is not None]
        data = self._takes.mimeData(indexes)
        if not data.urls():
            return
        drag = QDrag(self)
        drag.setMimeData(data)
        drag.setPixmap(self._drag_picture(self.currentIndex().data(ROW)))
        drag.exec(actions, Qt.DropAction.CopyAction)

    def _drag_picture(self, take: Row | None) -> QPixmap:
        strip = self._takes.strip_of(take) if isinstance(take, Take) else None
        if strip is None or not isinstance(take, Take):
            return theme.icon("film").pixmap(32, 32)
        picture = QPixmap.fromImage(strip.copy(place_of(take, num_moments(take) // 2)))
        picture.setDevicePixelRatio(2)
        return picture
