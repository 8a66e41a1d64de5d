"""The look: neutral greys, so that no coloured frame shifts what an editor sees, and one accent."""

from __future__ import annotations

from functools import cache

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QIcon, QPalette
from PySide6.QtWidgets import QApplication, QLabel

from desktop import icons

WINDOW, BASE, BUTTON, SURROUND = "#262626", "#1c1c1c", "#333333", "#111111"
TEXT, SECONDARY, DISABLED = "#d6d6d6", "#a6a6a6", "#7a7a7a"
BOX = "#4a4a4a"  # of a check box, which has no edge of its own on a dark window
ACCENT, ON_ACCENT, LINK = "#3d6fb4", "#ffffff", "#6ea6f0"
DONE, WARNING, FAILED = "#74bd83", "#c9a24b", "#e58a73"
RUNNING = LINK

# What a palette cannot say.
_STYLE = f"""
QLabel[role="secondary"] {{ color: {SECONDARY}; }}
QLabel[role="failed"] {{ color: {FAILED}; }}
QFrame[role="notice"] {{ background: #3a3324; }}
QFrame[role="error"] {{ background: #41302b; }}
QFrame[role="news"] {{ background: #29323f; }}
QPushButton[role="part"] {{
    color: {SECONDARY}; background: none; border: none; padding: 2px 8px; min-height: 0;
}}
QPushButton[role="part"]:hover, QPushButton[role="part"]:focus {{ color: {TEXT}; }}
QLabel[role="empty"] {{ color: {SECONDARY}; background: {SURROUND}; }}
QPushButton {{ padding: 0 12px; min-height: 20px; }}
QComboBox, QSpinBox, QDoubleSpinBox {{ min-height: 20px; }}
QPushButton[role="primary"] {{
    background: {ACCENT}; color: {ON_ACCENT}; border: 1px solid {ACCENT}; border-radius: 3px;
    padding: 9px; font-weight: bold; min-height: 16px;
}}
QPushButton[role="primary"]:hover {{ background: #4779bf; }}
QPushButton[role="primary"]:pressed {{ background: #335f9c; }}
QPushButton[role="primary"]:focus {{ border-color: {TEXT}; }}
QPushButton[role="primary"]:disabled {{
    background: {BUTTON}; color: {DISABLED}; border-color: {BUTTON};
}}
QPushButton[role="link"] {{
    color: {LINK}; background: none; border: 1px solid transparent; padding: 3px 0;
    text-align: left; text-decoration: underline; min-height: 0;
}}
QPushButton[role="link"]:focus {{ border-color: {LINK}; }}
QStackedWidget#viewer {{ background: {SURROUND}; border: 1px solid {SURROUND}; }}
QStackedWidget#viewer:focus {{ border-color: {LINK}; }}
QProgressBar {{ background: {BASE}; border: none; }}
QProgressBar::chunk {{ background: {LINK}; }}
QToolTip {{ background: {BUTTON}; color: {TEXT}; border: 1px solid {DISABLED}; padding: 4px; }}
"""


def apply(app: QApplication) -> None:
    """Give the application its look, the same on every system."""
    app.setStyle("Fusion")
    palette = _palette()
    app.setPalette(palette)
    palette.setColor(QPalette.ColorRole.Base, QColor(BOX))
    for kind in ("QCheckBox", "QRadioButton"):
        app.setPalette(palette, kind)  # pyright: ignore[reportArgumentType] - takes no bytes
    app.setStyleSheet(_STYLE)


@cache
def icon(name: str, colour: str = TEXT) -> QIcon:
    """An icon of `icons` for buttons and menus; grey where they are disabled."""
    made = QIcon()
    for pixels in (16, 24, 32, 48, 64):  # the larger ones for screens with more of them
        made.addPixmap(icons.picture(name, pixels, colour), QIcon.Mode.Normal)
        made.addPixmap(icons.picture(name, pixels, DISABLED), QIcon.Mode.Disabled)
    return made


def label(role: str) -> QLabel:
    """Words in the look of a role, as many lines as they need; plain, whatever they come from."""
    made = QLabel(wordWrap=True)
    made.setProperty("role", role)
    made.setTextFormat(Qt.TextFormat.PlainText)
    return made


def _palette() -> QPalette:
    role = QPalette.ColorRole
    palette = QPalette(QColor(BUTTON), QColor(WINDOW))
    for name, colour in {
        role.WindowText: TEXT,
        role.Text: TEXT,
        role.ButtonText: TEXT,
        role.Base: BASE,
        role.AlternateBase: WINDOW,
        role.PlaceholderText: "#8f8f8f",
        role.Highlight: ACCENT,
        role.HighlightedText: ON_ACCENT,
        role.Accent: ACCENT,
        role.Link: LINK,
        role.ToolTipBase: BUTTON,
        role.ToolTipText: TEXT,
    }.items():
        palette.setColor(name, QColor(colour))
    for name in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, name, QColor(DISABLED))
    return palette
