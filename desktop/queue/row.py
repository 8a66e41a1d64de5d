"""How a row of the queue looks, and what in it can be clicked."""

from __future__ import annotations

from functools import cache

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QImage, QPainter, QPen
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from desktop import theme
from desktop.queue.model import PICTURE, ROW
from desktop.queue.words import Row, Tone

HEIGHT = 64  # pixels of a row, where its three lines of text fit into it
GAP = 4  # around a card
PAD = 8  # inside it
BAR = 3  # of the progress
THUMB = QSize(64, 36)
BUTTON = 24  # of what opens the row's menu
SMALL = 0.88  # of the system's size: all but the title

COLOURS = {
    Tone.QUIET: theme.SECONDARY,
    Tone.RUNNING: theme.RUNNING,
    Tone.DONE: theme.DONE,
    Tone.WARNING: theme.WARNING,
    Tone.FAILED: theme.FAILED,
}

# What can be clicked in a row: its menu, and of one that failed the last line.
MENU = "menu"
LINKS = {"retry": "Run again", "details": "Details", "copy": "Copy"}

Index = QModelIndex | QPersistentModelIndex


class RowDelegate(QStyledItemDelegate):
    """Paints the rows of a job model. All sizes follow the system's font."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """All rows have one height."""
        title, small = _fonts(option.font.toString())
        lines = QFontMetrics(title).height() + 2 * QFontMetrics(small).height()
        return QSize(200, max(HEIGHT, lines + 2 * GAP + 2 * BAR))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """One row."""
        row: Row = index.data(ROW)
        card = _card(option.rect)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        plain = _paint_card(painter, card, option)
        tint = plain or COLOURS[row.tone]
        _paint_thumb(painter, _thumb(card), row, index.data(PICTURE))
        self._paint_text(painter, card, row, option, plain, tint)
        if row.share is not None:
            _paint_bar(painter, card, row.share, theme.RUNNING if plain is None else plain)
        if _shows_menu(option):
            icon = theme.icon("more", plain or theme.TEXT)
            icon.paint(painter, _menu(card).adjusted(4, 4, -4, -4))
        painter.restore()

    def zone(self, at: QPoint, option: QStyleOptionViewItem, index: Index) -> str:
        """What of the row in `option` is at a point: MENU, a key of LINKS, or nothing."""
        card = _card(option.rect)
        if _menu(card).contains(at):
            return MENU
        row: Row = index.data(ROW)
        if row.tone == Tone.FAILED:
            for name, place in _links(card, option.font).items():
                if place.adjusted(-4, -3, 4, 5).contains(at):
                    return name
        return ""

    def link(self, name: str, option: QStyleOptionViewItem) -> QRect:
        """Where a link of a row that failed is, or its menu."""
        card = _card(option.rect)
        return _menu(card) if name == MENU else _links(card, option.font)[name]

    def _paint_text(
        self,
        painter: QPainter,
        card: QRect,
        row: Row,
        option: QStyleOptionViewItem,
        plain: str | None,
        tint: str,
    ) -> None:
        first, second, third = _lines(card, option.font)
        if _shows_menu(option):
            first = first.adjusted(0, 0, -BUTTON, 0)
        title, small = _fonts(option.font.toString())
        width = _write(painter, first, row.title, title, plain or theme.TEXT)
        beside = first.adjusted(width + PAD, 0, 0, 0)
        _write(painter, beside, row.subtitle, small, plain or theme.SECONDARY)
        if row.tone != Tone.FAILED:
            _write(painter, second, row.facts, small, plain or theme.SECONDARY)
            _write(painter, third, row.status, small, tint)
            return
        _write(painter, second, row.status, small, tint)
        underlined = QFont(small)
        underlined.setUnderline(True)
        for name, place in _links(card, option.font).items():
            _write(painter, place, LINKS[name], underlined, plain or theme.LINK)


def _paint_card(painter: QPainter, card: QRect, option: QStyleOptionViewItem) -> str | None:
    """The card; the one colour of all that is on it, None: each has its own."""
    state = option.state
    has_focus = bool(state & QStyle.StateFlag.State_HasFocus)
    colour, plain = theme.BUTTON, None
    if state & QStyle.StateFlag.State_Selected:
        is_active = bool(state & QStyle.StateFlag.State_Active) and _view_has_focus(option)
        colour, plain = (theme.ACCENT, theme.ON_ACCENT) if is_active else (theme.BOX, theme.TEXT)
    elif state & QStyle.StateFlag.State_MouseOver:
        colour = QColor(theme.BUTTON).lighter(115).name()
    painter.setPen(QPen(QColor(theme.LINK), 1.5) if has_focus else Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    painter.drawRoundedRect(card, 3, 3)
    return plain


def _paint_thumb(painter: QPainter, place: QRect, row: Row, picture: QImage | None) -> None:
    if picture is not None:
        # Cut to the place's shape around its middle.
        size = place.size().scaled(picture.size(), Qt.AspectRatioMode.KeepAspectRatio)
        cut = QRect(QPoint(0, 0), size)
        cut.moveCenter(picture.rect().center())
        painter.drawImage(place, picture, cut)
        return
    tile = QColor(COLOURS[row.tone])
    tile.setAlphaF(0.28)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(theme.BASE))
    painter.drawRoundedRect(place, 2, 2)
    painter.setBrush(tile)
    painter.drawRoundedRect(place, 2, 2)
    glyph = QRect(0, 0, 16, 16)
    glyph.moveCenter(place.center())
    theme.icon(row.glyph, COLOURS[row.tone]).paint(painter, glyph)


def _paint_bar(painter: QPainter, card: QRect, share: float, colour: str) -> None:
    track = QRect(card.left(), card.bottom() + 1 - BAR, card.width(), BAR)
    painter.fillRect(track, QColor(theme.SURROUND))
    track.setWidth(max(BAR, round(card.width() * share)) if share else 0)
    painter.fillRect(track, QColor(colour))


def _write(painter: QPainter, place: QRect, text: str, font: QFont, colour: str) -> int:
    """Text in one line, cut where it is too long; its width."""
    if place.width() <= 0:
        return 0
    metrics = QFontMetrics(font)
    shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, place.width())
    painter.setFont(font)
    painter.setPen(QColor(colour))
    painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter), shown)
    return metrics.horizontalAdvance(shown)


# ------------------------------------------------------------------------------ where things are


def _card(rect: QRect) -> QRect:
    return rect.adjusted(GAP, GAP // 2, -GAP, -GAP // 2)


def _thumb(card: QRect) -> QRect:
    return QRect(card.topLeft() + QPoint(PAD, (card.height() - THUMB.height()) // 2), THUMB)


def _menu(card: QRect) -> QRect:
    return QRect(card.right() - BUTTON - 2, card.top() + 2, BUTTON, BUTTON)


def _lines(card: QRect, font: QFont) -> tuple[QRect, QRect, QRect]:
    """The places of the three lines of text."""
    title, small = _fonts(font.toString())
    high, low = QFontMetrics(title).height(), QFontMetrics(small).height()
    left = _thumb(card).right() + 1 + PAD + 2
    width = card.right() - PAD - left
    room = card.height() - BAR - high - 2 * low
    top, between = card.top() + max(0, room // 3), max(0, min(3, room // 3))
    return (
        QRect(left, top, width, high),
        QRect(left, top + high + between, width, low),
        QRect(left, top + high + low + 2 * between, width, low),
    )


def _links(card: QRect, font: QFont) -> dict[str, QRect]:
    place = _lines(card, font)[2]
    metrics = QFontMetrics(_fonts(font.toString())[1])
    places: dict[str, QRect] = {}
    left = place.left()
    for name, text in LINKS.items():
        width = metrics.horizontalAdvance(text) + 2
        places[name] = QRect(left, place.top(), width, place.height())
        left += width + 2 * PAD
    return places


@cache
def _fonts(described: str) -> tuple[QFont, QFont]:
    """Of the title and of the rest, where the system's font is this one."""
    title, small = QFont(), QFont()
    title.fromString(described)
    small.fromString(described)
    title.setBold(True)
    if small.pointSizeF() > 0:
        small.setPointSizeF(small.pointSizeF() * SMALL)
    else:
        small.setPixelSize(round(small.pixelSize() * SMALL))
    small.setFeature(QFont.Tag("tnum"), 1)  # digits of one width: numbers that change stand still
    return title, small


def _shows_menu(option: QStyleOptionViewItem) -> bool:
    shown = QStyle.StateFlag.State_MouseOver | QStyle.StateFlag.State_HasFocus
    return bool(option.state & shown)


def _view_has_focus(option: QStyleOptionViewItem) -> bool:
    widget = option.widget
    return widget is not None and widget.hasFocus()
