"""Icons: strokes on a grid of 16 by 16, in one colour."""

from __future__ import annotations

from PySide6.QtCore import QByteArray, Qt
from PySide6.QtGui import QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

# What is inside <svg>; a stroke of 1.5 unless it says otherwise.
_SHAPES = {
    "play": '<path d="M4.5 3v10l8-5z" fill="currentColor"/>',
    "pause": '<path d="M5 3v10M11 3v10" stroke-width="2.5"/>',
    "stop": '<rect x="4" y="4" width="8" height="8" fill="currentColor"/>',
    "step-back": '<path d="M11 3.5v9L5 8z" fill="currentColor"/>',
    "step-forward": '<path d="M5 3.5v9L11 8z" fill="currentColor"/>',
    "first": '<path d="M3.5 3v10"/><path d="M12.5 3v10L6 8z" fill="currentColor"/>',
    "last": '<path d="M12.5 3v10"/><path d="M3.5 3v10L10 8z" fill="currentColor"/>',
    "loop": '<path d="M3 8.5V7a3 3 0 0 1 3-3h6M10 1.8 12.2 4 10 6.2M13 7.5V9a3 3 0 0 1-3 3H4'
    'M6 14.2 3.8 12 6 9.8"/>',
    "add": '<path d="M8 3v10M3 8h10"/>',
    "up": '<path d="M3.5 9.5 8 5l4.5 4.5"/>',
    "down": '<path d="M3.5 6.5 8 11l4.5-4.5"/>',
    "top": '<path d="M3.5 3h9M4 10.5l4-4 4 4M8 7v6.5"/>',
    "star": '<path d="m8 2 1.8 3.8 4.2.5-3.1 2.9.8 4.1L8 11.300l-3.7 2 .8-4.100L2 6.300l4.2-.5z"'
    ' fill="currentColor"/>',
    "reject": '<path d="m4 4 8 8M12 4l-8 8"/>',
    "close": '<path d="m4 4 8 8M12 4l-8 8"/>',
    "trash": '<path d="M3 4.500h10M6.5 4.500V3h3v1.500M4.5 4.500l.6 8.500h5.800l.6-8.5'
    'M6.8 7v3.800M9.2 7v3.8"/>',
    "folder": '<path d="M2 4.500V12.500h12V5.500H8L6.5 3.500H2z"/>',
    "eye": '<path d="M1.5 8S4 4 8 4s6.5 4 6.5 4S12 12 8 12 1.5 8 1.5 8z"/>'
    '<circle cx="8" cy="8" r="1.8" fill="currentColor"/>',
    "lock": '<rect x="3.5" y="7.5" width="9" height="6"/><path d="M5.5 7.500V5a2.5 2.5 0 0 1'
    ' 5 0v2.5"/>',
    "unlock": '<rect x="3.5" y="7.5" width="9" height="6"/><path d="M5.5 7.500V4.500a2.5 2.5'
    ' 0 0 1 4.8-1"/>',
    "compare": '<path d="M8 1.500v13M6 4H2v8h4M10 4h4v8h-4"/>',
    "wipe": '<rect x="2" y="3.5" width="12" height="9"/><path d="M8 2v12"/>'
    '<path d="M8 3.500h6v9H8z" fill="currentColor" fill-opacity=".35" stroke="none"/>',
    "side": '<rect x="1.5" y="4.5" width="6" height="7"/><rect x="8.5" y="4.5" width="6"'
    ' height="7"/>',
    "difference": '<circle cx="6" cy="8" r="4"/><circle cx="10" cy="8" r="4"/>',
    "zoom": '<circle cx="7" cy="7" r="4"/><path d="m10 10 4 4"/>',
    "fit": '<path d="M2.5 6V2.500H6M10 2.500h3.500V6M13.5 10v3.500H10M6 13.500H2.500V10"/>',
    "warning": '<path d="M8 2.5 14.5 13.500h-13zM8 6.500v3.500M8 11.500v.6"/>',
    "error": '<circle cx="8" cy="8" r="6"/><path d="M8 4.500v4.300M8 10.800v.6"/>',
    "done": '<path d="m3 8.5 3.5 3.500L13 4.5"/>',
    "settings": '<path d="M2 4.500h6M11 4.500h3M2 11.500h3M8 11.500h6"/><circle cx="9.5" cy="4.5"'
    ' r="1.6"/><circle cx="6.5" cy="11.5" r="1.6"/>',
    "download": '<path d="M8 2.500v7.500M4.5 7 8 10.5 11.5 7M3 13.500h10"/>',
    "sound": '<path d="M2 6v4h2.500L8 13V3L4.5 6z" fill="currentColor"/>'
    '<path d="M10.300 5.800a3.200 3.200 0 0 1 0 4.400M12.200 3.800a6 6 0 0 1 0 8.400"/>',
    "muted": '<path d="M2 6v4h2.500L8 13V3L4.5 6z" fill="currentColor"/>'
    '<path d="m10.500 6 4 4M14.500 6l-4 4"/>',
    "film": '<rect x="2" y="3.5" width="12" height="9"/><path d="M5 3.500v9M11 3.500v9M2 6.500h3'
    'M2 9.500h3M11 6.500h3M11 9.500h3"/>',
    "clip": '<rect x="1.5" y="4" width="13" height="8"/><path d="M6.8 6v4l3-2z"'
    ' fill="currentColor"/>',
    "image": '<rect x="2" y="3" width="12" height="10"/><circle cx="5.5" cy="6.3" r="1.2"/>'
    '<path d="m3 12 4-4 2.5 2.500L11 9l2.5 2.5"/>',
    "text": '<path d="M3 3.500h10M8 3.500v9.500M6 13h4"/>',
    "more": '<g fill="currentColor" stroke="none"><circle cx="3.5" cy="8" r="1.4"/>'
    '<circle cx="8" cy="8" r="1.4"/><circle cx="12.5" cy="8" r="1.4"/></g>',
    "grip": '<g fill="currentColor" stroke="none"><circle cx="6" cy="4" r="1"/><circle cx="10"'
    ' cy="4" r="1"/><circle cx="6" cy="8" r="1"/><circle cx="10" cy="8" r="1"/>'
    '<circle cx="6" cy="12" r="1"/><circle cx="10" cy="12" r="1"/></g>',
    "redo": '<path d="M12.5 5.500A5 5 0 1 0 13 9M13 2.500v3.300H9.7"/>',
    "search": '<circle cx="7" cy="7" r="4"/><path d="m10 10 4 4"/>',
    "clock": '<circle cx="8" cy="8" r="5.5"/><path d="M8 4.500V8l2.5 2"/>',
    "place": '<path d="M8 1.500v6.500M5.2 5.300 8 8.100l2.8-2.800"/>'
    '<rect x="1.5" y="10.5" width="13" height="3"/>',
    "send": '<path d="M2.5 8h10M8.5 4l4 4-4 4"/>',
}


def picture(name: str, pixels: int, colour: str) -> QPixmap:
    """An icon as pixels, square, on nothing."""
    drawn = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none"'
        f' stroke="{colour}" stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round">'
        f"{_SHAPES[name].replace('currentColor', colour)}</svg>"
    )
    pixmap = QPixmap(pixels, pixels)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(QByteArray(drawn.encode())).render(painter)
    painter.end()
    return pixmap


def names() -> list[str]:
    """Of all icons."""
    return list(_SHAPES)
