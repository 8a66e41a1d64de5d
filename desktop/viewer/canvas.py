"""The picture: one clip or two, compared, zoomed and moved together.

Everything about place is counted in pixels of the screen, so that at 1:1 and where a picture was
decoded in the size in which it is painted nothing is resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QFont,
    QFontMetrics,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from desktop import theme
from desktop.viewer.player import Pair, Side
from freeswim.video.sequence import EXTENSIONS

GAIN = 4  # of the difference
VIDEO_SUFFIXES = frozenset(
    {".mov", ".mp4", ".m4v", ".mkv", ".webm", ".avi", ".mxf", ".ts", ".m2ts", ".mts"}
)

_STRETCH = 1.03  # sides whose shapes differ less are one frame; others keep their shapes
_GAP_PX = 2  # between two pictures side by side
_ZOOM_STEP = 1.25
_ZOOMS = (1 / 32, 32.0)  # pixels of the screen per pixel of the frame
_CRISP = 4  # pixels of the screen per pixel of the picture, above which pixels are squares
_PAD = 8
_SHADE = QColor(0, 0, 0, 150)  # under words, which lie on any picture


class Mode(StrEnum):
    """How two clips are compared."""

    A = "a"
    B = "b"
    WIPE = "wipe"
    SIDE = "side"
    DIFFERENCE = "difference"


@dataclass(frozen=True)
class Words:
    """What is written on the picture."""

    left: str = ""  # of the bottom line
    right: str = ""


class Canvas(QWidget):
    """Paints a `Pair`. It knows nothing of time."""

    sizes_changed = Signal(QSize, QSize)  # in which A and B are painted, pixels of the screen
    mode_changed = Signal(object)  # Mode
    dropped = Signal(str, Path)  # "A" or "B", and what was let fall on that half

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Picture")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(240, 135)
        self.setAcceptDrops(True)
        self.setMouseTracking(True)
        self.mode = Mode.WIPE
        self.wipe = 0.5  # of the frame's width
        self.has_overlays = True
        self.zoom: float | None = None  # pixels of the screen per pixel of the frame; None: fit
        self.words = Words()
        self.pair = Pair(0, None, None)
        self._clips = (QSize(), QSize())
        self._is_filled = False
        self._centre = QPointF(0.5, 0.5)  # of the view, in shares of the frame
        self._drag: QPointF | None = None
        self._drop: tuple[str, str] | None = None  # side, and why not; empty: it may
        self._difference: tuple[tuple[object, ...], QImage] | None = None

    def sizeHint(self) -> QSize:
        """Of a small screen."""
        return QSize(640, 360)

    # ------------------------------------------------------------------------------- what is shown

    def set_clips(self, a: QSize, b: QSize) -> None:
        """The sizes of the clips that come, in their own pixels; empty: there is none."""
        if self._clips != (a, b):
            if self.frame_size != self._frame_size(a, b):
                self._centre = QPointF(0.5, 0.5)
            self._clips = (a, b)
            self._say_sizes()

    def show_pair(self, pair: Pair, words: Words) -> None:
        """Paint this."""
        had = [side is not None for side in (self.pair.a, self.pair.b)]
        self.pair, self.words = pair, words
        if had != [side is not None for side in (pair.a, pair.b)]:
            self._say_sizes()
        self.update()

    def set_words(self, words: Words) -> None:
        """Write this on the picture."""
        if words != self.words:
            self.words = words
            self.update()

    def set_mode(self, mode: Mode) -> None:
        """Compare in another way."""
        if mode != self.mode:
            self.mode = mode
            self._say_sizes()
            self.mode_changed.emit(mode)
            self.unsetCursor()

    @property
    def shown_mode(self) -> Mode:
        """The mode, as far as what is there allows."""
        if self.pair.b is None or self.pair.a is None:
            return Mode.A if self.pair.b is None else Mode.B
        return self.mode

    @property
    def frame_size(self) -> QSize:
        """Of the frame into which both are put: that of B, else that of A."""
        return self._frame_size(*self._clips)

    @staticmethod
    def _frame_size(a: QSize, b: QSize) -> QSize:
        return next((size for size in (b, a) if not size.isEmpty()), QSize(16, 9))

    # ---------------------------------------------------------------------------------------- view

    def move_wipe(self, by: float) -> None:
        """Move the edge by a share of the frame's width."""
        self.set_wipe(self.wipe + by)

    def set_wipe(self, wipe: float) -> None:
        """Put the edge at a share of the frame's width."""
        self.wipe = min(max(wipe, 0.0), 1.0)
        self.update()

    def fit(self) -> None:
        """All of the frame."""
        self._set_view(None, is_filled=False)

    def fill(self) -> None:
        """No surround."""
        self._set_view(None, is_filled=True)

    def one_to_one(self) -> None:
        """A pixel of the screen for a pixel of the frame."""
        self._set_view(1.0, is_filled=False)

    def zoom_by(self, factor: float, at: QPointF | None = None) -> None:
        """Nearer or farther; what is at `at`, in this widget, stays where it is."""
        at = QPointF(self.rect().center()) if at is None else at
        view = self._viewport_at(at)
        before = self._frame_rect(view)
        spot = at * self._ratio
        share = QPointF(
            (spot.x() - before.x()) / before.width(), (spot.y() - before.y()) / before.height()
        )
        now = before.width() / self.frame_size.width()
        self.zoom, self._is_filled = min(max(now * factor, _ZOOMS[0]), _ZOOMS[1]), False
        size = self._shown_size(view)
        middle = QPointF(view.center())
        self._centre = QPointF(
            share.x() - (spot.x() - middle.x()) / size.width(),
            share.y() - (spot.y() - middle.y()) / size.height(),
        )
        self._say_sizes()

    def _set_view(self, zoom: float | None, *, is_filled: bool) -> None:
        self.zoom, self._is_filled = zoom, is_filled
        if zoom is None:
            self._centre = QPointF(0.5, 0.5)
        self._say_sizes()

    # ----------------------------------------------------------------------------- where things lie

    @property
    def _ratio(self) -> float:
        return self.devicePixelRatioF()

    def _viewports(self) -> dict[str, QRect]:
        """Where each side that is seen may be painted."""
        whole = QRect(QPoint(), self.size() * self._ratio)
        mode = self.shown_mode
        if mode is not Mode.SIDE:
            seen = {Mode.A: "a", Mode.B: "b"}.get(mode, "ab")
            return {side: whole for side in seen}
        half = (whole.width() - _GAP_PX) // 2
        return {
            "a": QRect(0, 0, half, whole.height()),
            "b": QRect(half + _GAP_PX, 0, half, whole.height()),
        }

    def _viewport_at(self, point: QPointF) -> QRect:
        views = list(self._viewports().values())
        spot = (point * self._ratio).toPoint()
        return next((view for view in views if view.contains(spot)), views[0])

    def _shown_size(self, view: QRect) -> QSize:
        """Of the frame, in a viewport."""
        frame = self.frame_size
        across, down = view.width() / frame.width(), view.height() / frame.height()
        scale = self.zoom or (max(across, down) if self._is_filled else min(across, down))
        return QSize(max(1, round(frame.width() * scale)), max(1, round(frame.height() * scale)))

    def _frame_rect(self, view: QRect) -> QRect:
        """Where the frame lies, in pixels of the screen; never out of sight."""
        size = self._shown_size(view)
        corner = [
            _placed(start, room, length, centre)
            for start, room, length, centre in (
                (view.x(), view.width(), size.width(), self._centre.x()),
                (view.y(), view.height(), size.height(), self._centre.y()),
            )
        ]
        return QRect(QPoint(*corner), size)

    def _side_rect(self, size: QSize, view: QRect) -> QRect:
        """Where a clip lies: in all of the frame, or within it where its shape is another."""
        frame = self._frame_rect(view)
        shape = size.width() * self.frame_size.height() / (size.height() * self.frame_size.width())
        if 1 / _STRETCH < shape < _STRETCH:
            return frame
        inner = size.scaled(frame.size(), Qt.AspectRatioMode.KeepAspectRatio)
        return QRect(
            frame.x() + (frame.width() - inner.width()) // 2,
            frame.y() + (frame.height() - inner.height()) // 2,
            inner.width(),
            inner.height(),
        )

    def _say_sizes(self) -> None:
        """Pictures larger than what is seen are decoded in their own size, and scaled in paint."""
        sizes: list[QSize] = []
        view = next(iter(self._viewports().values()))
        for size in self._clips:
            if size.isEmpty() or view.isEmpty():
                sizes.append(QSize())
                continue
            shown = self._side_rect(size, view).size()
            most = max(_area(size), _area(view.size()))
            sizes.append(shown if _area(shown) <= most else size)
        self.sizes_changed.emit(*sizes)
        self.update()

    # ------------------------------------------------------------------------------------ painting

    def paintEvent(self, event: QPaintEvent) -> None:
        """The pictures, then what is written on them."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(theme.SURROUND))
        if self.pair.sides:
            painter.save()
            painter.scale(1 / self._ratio, 1 / self._ratio)
            self._paint_pictures(painter)
            painter.restore()
            self._paint_errors(painter)
            if self.has_overlays:
                self._paint_overlays(painter)
        if self._drop is not None:
            self._paint_drop(painter, *self._drop)

    def _paint_pictures(self, painter: QPainter) -> None:
        views, mode = self._viewports(), self.shown_mode
        if mode is Mode.DIFFERENCE:
            view = views["a"]
            if all(side.picture for side in self.pair.sides):
                painter.drawImage(view.topLeft(), self._difference_image(view))
            return
        edge = self._edge(views) if mode is Mode.WIPE else None
        for name, view in views.items():
            side = self._side(name)
            seen = QRect(view)
            if edge is not None and name == "a":
                seen.setRight(edge - 1)
            elif edge is not None:
                seen.setLeft(edge)
            painter.setClipRect(seen)
            self._paint_side(painter, side, view)
        painter.setClipping(False)
        if edge is not None:
            self._paint_edge(painter, edge, self._frame_rect(views["a"]) & views["a"])

    def _paint_side(self, painter: QPainter, side: Side, view: QRect) -> None:
        if side.picture is None:
            return
        image, rect = side.picture.image, self._side_rect(side.size, view)
        if image.size() == rect.size():
            painter.drawImage(rect.topLeft(), image)
            return
        is_whole = image.size() == side.size  # not one that does until there is another
        is_smooth = not is_whole or rect.width() < _CRISP * image.width()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, is_smooth)
        painter.drawImage(rect, image)

    def _paint_edge(self, painter: QPainter, edge: int, seen: QRect) -> None:
        wide = max(1, round(self._ratio))
        line = QRect(edge - wide // 2, seen.y(), wide, seen.height())
        painter.fillRect(line, QColor(theme.TEXT))
        if self.has_overlays:
            grip = QRect(0, 0, 5 * wide, 28 * wide)
            grip.moveCenter(line.center())
            painter.fillRect(grip, QColor(theme.TEXT))

    def _edge(self, views: dict[str, QRect]) -> int:
        frame = self._frame_rect(views["a"])
        return frame.x() + round(self.wipe * frame.width())

    def _difference_image(self, view: QRect) -> QImage:
        """|A - B|, `GAIN` times as bright."""
        key = (self.pair, view.size(), self._frame_rect(view))
        if self._difference is not None and self._difference[0] == key:
            return self._difference[1]
        image = QImage(view.size(), QImage.Format.Format_RGB32)
        image.fill(QColor(theme.SURROUND))
        painter = QPainter(image)
        painter.setClipRect(self._frame_rect(view))
        for side, how in zip(
            self.pair.sides,
            (
                QPainter.CompositionMode.CompositionMode_SourceOver,
                QPainter.CompositionMode.CompositionMode_Difference,
            ),
            strict=True,
        ):
            painter.setCompositionMode(how)
            self._paint_side(painter, side, view)
        painter.end()
        for _ in range(GAIN.bit_length() - 1):
            doubled = image.copy()
            painter = QPainter(image)
            painter.setClipRect(self._frame_rect(view))
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Plus)
            painter.drawImage(0, 0, doubled)
            painter.end()
        self._difference = (key, image)
        return image

    def _paint_errors(self, painter: QPainter) -> None:
        for name, area in self._areas().items():
            side = self._side(name)
            if side.error is None:
                continue
            painter.setPen(QColor(theme.FAILED))
            mark = theme.icon("error", theme.FAILED).pixmap(24, 24)
            middle = area.center()
            painter.drawPixmap(middle.x() - 12, middle.y() - 44, mark)
            below = QRect(area.x() + 2 * _PAD, middle.y() - 12, area.width() - 4 * _PAD, 160)
            words = Qt.AlignmentFlag.AlignHCenter | Qt.TextFlag.TextWordWrap
            drawn = painter.boundingRect(below, words, side.error.args[0])
            painter.drawText(below, words, side.error.args[0])
            below.setTop(drawn.bottom() + _PAD)
            painter.setPen(QColor(theme.SECONDARY))
            painter.drawText(below, words, side.error.hint)

    def _areas(self) -> dict[str, QRect]:
        """Where each side has room for words."""
        whole, half = self.rect(), self.width() // 2
        seen = self._viewports()
        if len(seen) == 1:
            return dict.fromkeys(seen, whole)
        return {
            "a": QRect(0, 0, half, whole.height()),
            "b": QRect(half, 0, whole.width() - half, whole.height()),
        }

    def _paint_overlays(self, painter: QPainter) -> None:
        areas = self._areas()
        for name, area in areas.items():
            is_right = name == "b" and len(areas) > 1 and self.shown_mode is not Mode.SIDE
            self._write(painter, area, self.label(name), is_right=is_right, is_top=True)
        whole = self.rect()
        tabular = QFont(self.font())
        tabular.setFeature(QFont.Tag("tnum"), 1)
        painter.setFont(tabular)
        if self.words.right:
            self._write(painter, whole, self.words.right, is_right=True, is_top=False)
        self._write(painter, whole, self.words.left, is_right=False, is_top=False)

    def label(self, name: str) -> str:
        """Which clip it is, and what was done to it to be compared."""
        side = self._side(name)
        parts = [f"{name.upper()}  {side.name}"]
        if not side.size.isEmpty() and side.facts is not None:
            parts.append(f"{side.size.width()}×{side.size.height()}")
        frame = self.frame_size
        if self._is_scaled(side) and side.facts is not None:
            parts.append(f"scaled to {frame.width()}×{frame.height()}")
        if side.facts is not None:
            parts += _colour_words(side.facts.color_tags)
        if side.has_ended:
            parts.append("ended")
        if self.shown_mode is Mode.DIFFERENCE and name == "b":
            parts.append(f"difference × {GAIN}")
        return " · ".join(parts)

    def _is_scaled(self, side: Side) -> bool:
        return len(self.pair.sides) == 2 and side.size != self.frame_size

    def _write(
        self, painter: QPainter, area: QRect, text: str, *, is_right: bool, is_top: bool
    ) -> None:
        if not text:
            return
        metrics = QFontMetrics(painter.font())
        text = metrics.elidedText(text, Qt.TextElideMode.ElideRight, area.width() - 4 * _PAD)
        size = QSize(metrics.horizontalAdvance(text) + 12, metrics.height() + 4)
        x = area.right() - _PAD - size.width() if is_right else area.x() + _PAD
        y = area.y() + _PAD if is_top else area.bottom() - _PAD - size.height()
        box = QRect(QPoint(x, y), size)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(_SHADE)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.drawRoundedRect(box, 3, 3)
        painter.setPen(QColor(theme.TEXT))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_drop(self, painter: QPainter, side: str, refusal: str) -> None:
        half = self.width() // 2
        area = QRect(0, 0, half, self.height())
        if side == "B":
            area.moveLeft(self.width() - half)
        if refusal:
            area = self.rect()
        shade = QColor(theme.FAILED if refusal else theme.ACCENT)
        shade.setAlpha(40)
        painter.fillRect(self.rect(), QColor(0, 0, 0, 110))
        painter.fillRect(area, shade)
        painter.setPen(QColor(theme.FAILED if refusal else theme.ON_ACCENT))
        painter.drawText(area, Qt.AlignmentFlag.AlignCenter, refusal or f"Show as {side}")

    def _side(self, name: str) -> Side:
        side = self.pair.a if name == "a" else self.pair.b
        assert side is not None
        return side

    # -------------------------------------------------------------------------------------- events

    def resizeEvent(self, event: QResizeEvent) -> None:
        """The pictures follow."""
        super().resizeEvent(event)
        self._say_sizes()

    def changeEvent(self, event: QEvent) -> None:
        """Another screen may have other pixels."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self._say_sizes()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Left moves the edge, the middle button the picture."""
        if event.button() == Qt.MouseButton.MiddleButton:
            self._drag = event.position()
            self.setCursor(Qt.CursorShape.ClosedHandCursor)
        elif event.button() == Qt.MouseButton.LeftButton:
            self._wipe_to(event.position())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """As `mousePressEvent`."""
        if event.buttons() & Qt.MouseButton.MiddleButton and self._drag is not None:
            self._pan(event.position() - self._drag)
            self._drag = event.position()
        elif event.buttons() & Qt.MouseButton.LeftButton:
            self._wipe_to(event.position())
        elif self.shown_mode is Mode.WIPE:
            self.setCursor(Qt.CursorShape.SplitHCursor)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """The hand lets go."""
        if event.button() == Qt.MouseButton.MiddleButton:
            self._drag = None
            self.unsetCursor()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """The edge returns to the centre."""
        if event.button() == Qt.MouseButton.LeftButton and self.shown_mode is Mode.WIPE:
            self.set_wipe(0.5)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom; what is under the cursor stays there."""
        turns = event.angleDelta().y() / 120
        if turns:
            self.zoom_by(_ZOOM_STEP**turns, event.position())
        event.accept()

    def _wipe_to(self, point: QPointF) -> None:
        if self.shown_mode is Mode.WIPE:
            frame = self._frame_rect(self._viewports()["a"])
            self.set_wipe((point.x() * self._ratio - frame.x()) / frame.width())

    def _pan(self, by: QPointF) -> None:
        size = self._shown_size(next(iter(self._viewports().values())))
        moved = self._centre - QPointF(
            by.x() * self._ratio / size.width(), by.y() * self._ratio / size.height()
        )
        self._centre = QPointF(min(max(moved.x(), 0.0), 1.0), min(max(moved.y(), 0.0), 1.0))
        self.update()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """One file, on one half."""
        self.dragMoveEvent(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        """Say where it would go, or why it may not."""
        path = _dragged(event)
        if path is None:
            event.ignore()
            return
        side = "A" if event.position().x() < self.width() / 2 else "B"
        self._drop = (side, refusal_of(path))
        self.update()
        event.acceptProposedAction()  # a refused one, too: else its reason is not seen

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """It went elsewhere."""
        self._drop = None
        self.update()

    def dropEvent(self, event: QDropEvent) -> None:
        """Show it there."""
        path, where = _dragged(event), self._drop
        self._drop = None
        self.update()
        if path is not None and where is not None and not where[1]:
            event.acceptProposedAction()
            self.dropped.emit(where[0], path)


def refusal_of(path: Path) -> str:
    """Why a file cannot be shown, by its name alone; empty: it may."""
    if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
        return ""
    if path.suffix.lower() in EXTENSIONS:
        return f"{path.name} is one picture. Drop the folder of its sequence."
    return f"{path.name} is not a video."


def _dragged(event: QDropEvent) -> Path | None:
    files = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
    return files[0] if files else None


def _placed(start: int, room: int, length: int, centre: float) -> int:
    """Where something begins, of which the share `centre` lies in the middle of the room."""
    if length <= room:
        return start + (room - length) // 2
    return min(start, max(start + room - length, round(start + room / 2 - centre * length)))


def _area(size: QSize) -> int:
    return size.width() * size.height()


def _colour_words(tags: tuple[int, int, int]) -> list[str]:
    """What an editor must know: H.273 primaries, transfer and matrix that are not BT.709's."""
    primaries, transfer, matrix = tags
    if transfer in (16, 18):
        return ["HDR, shown as it is stored"]
    if primaries == 9:
        return ["BT.2020, shown as it is stored"]
    return ["no colour tags"] if {primaries, transfer, matrix} <= {0, 2} else []
