"""All that can be done, with its keys: read from the actions themselves, so that it is never old."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction, QGuiApplication, QKeySequence, QPalette, QShortcut
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QStackedWidget,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

ROW, CONTROL = 24, 28  # pixels


@dataclass(frozen=True)
class Line:
    """One action."""

    group: str  # the menu that it is in
    text: str
    keys: str  # as this system writes them; empty: it has none
    about: str


def lines_of(actions: Sequence[QAction | None]) -> list[Line]:
    """A line for each action, in their order; separators are none, menus are what is in them."""
    return list(dict.fromkeys(_lines(actions, "")))


def as_text(lines: Sequence[Line]) -> str:
    """For paper: a group under the other, keys in a column."""
    width = max((len(line.keys) for line in lines), default=0)
    parts: list[str] = []
    group = None
    for line in lines:
        if line.group != group:
            group = line.group
            parts += ["", group.upper()] if parts else [group.upper()]
        parts.append(f"  {line.keys:<{width}}  {line.text}")
    return "\n".join(parts) + "\n"


def _lines(actions: Sequence[QAction | None], group: str) -> Iterator[Line]:
    for action in actions:
        if action is None or action.isSeparator() or not action.isVisible():
            continue
        text = _plain(action.text())
        inner = action.menu()
        if isinstance(inner, QMenu):
            outer = group or _menu_of(action)
            named = text if outer == _NO_MENU else f"{outer} ▸ {text}"  # those of the menu bar
            yield from _lines(inner.actions(), named)
        elif text:
            written = [keys.toString(_NATIVE) for keys in action.shortcuts()]
            about = action.statusTip() or action.toolTip()
            about = "" if text in (about, _plain(about)) else about
            yield Line(group or _menu_of(action), text, ", ".join(filter(None, written)), about)


_NO_MENU = "Other"
_NATIVE = QKeySequence.SequenceFormat.NativeText


def _menu_of(action: QAction) -> str:
    for where in action.associatedObjects():
        if isinstance(where, QMenu) and where.title():
            return _plain(where.title())
    return _NO_MENU


def _plain(text: str) -> str:
    """A menu's words without what marks its mnemonic, and without its dots."""
    return text.replace("&&", "\0").replace("&", "").replace("\0", "&").removesuffix("…").strip()


class ShortcutTable(QWidget):
    """The lines with a field to search them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lines: list[Line] = []
        self.search = QLineEdit(clearButtonEnabled=True)
        self.search.setPlaceholderText("Search actions and keys")
        self.search.setAccessibleName("Search actions and keys")
        self.search.textChanged.connect(self._filter)
        self.tree = QTreeWidget()
        self.tree.setAccessibleName("Actions and their keys")
        self.tree.setColumnCount(2)
        self.tree.setHeaderLabels(["Action", "Key"])
        self.tree.setRootIsDecorated(False)
        self.tree.setIndentation(12)
        self.tree.setItemsExpandable(False)
        self.tree.setUniformRowHeights(True)
        self.tree.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        header = self.tree.header()
        header.hide()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.empty = QLabel(alignment=Qt.AlignmentFlag.AlignCenter)
        self.empty.setProperty("role", "empty")
        self.empty.setTextFormat(Qt.TextFormat.PlainText)
        self._pages = QStackedWidget()
        self._pages.addWidget(self.tree)
        self._pages.addWidget(self.empty)
        self.copy = QPushButton("Copy as text")
        self.copy.setToolTip("All actions and keys, to be printed")
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(as_text(self._lines)))
        for control in (self.search, self.copy):
            control.setMinimumHeight(CONTROL)
        row = QHBoxLayout()
        row.addWidget(self.search, 1)
        row.addWidget(self.copy)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self._pages, 1)

    def show_actions(self, actions: Sequence[QAction | None]) -> None:
        """Show what can be done now."""
        self._lines = lines_of(actions)
        self.tree.clear()
        groups: dict[str, QTreeWidgetItem] = {}
        for line in self._lines:
            if line.group not in groups:
                groups[line.group] = self._add_group(line.group)
            item = QTreeWidgetItem(groups[line.group], [line.text, f"{line.keys}  "])
            item.setToolTip(0, line.about)
            keys = line.keys or "no key"
            item.setData(0, Qt.ItemDataRole.AccessibleTextRole, f"{line.text}, {keys}")
        self.tree.expandAll()
        self._filter()

    def _add_group(self, name: str) -> QTreeWidgetItem:
        item = QTreeWidgetItem(self.tree, [name])
        item.setSizeHint(0, QSize(0, ROW))
        item.setFlags(Qt.ItemFlag.ItemIsEnabled)
        font = item.font(0)
        font.setBold(True)
        item.setFont(0, font)
        item.setForeground(0, self.palette().brush(QPalette.ColorRole.PlaceholderText))
        item.setFirstColumnSpanned(True)
        return item

    def _filter(self) -> None:
        wanted = self.search.text().casefold().split()
        num_shown = 0
        for at in range(self.tree.topLevelItemCount()):
            group = self.tree.topLevelItem(at)
            assert group is not None
            shown = 0
            for inner in range(group.childCount()):
                item = group.child(inner)
                assert item is not None
                said = f"{group.text(0)} {item.text(0)} {item.text(1)} {item.toolTip(0)}"
                is_shown = all(word in said.casefold() for word in wanted)
                item.setHidden(not is_shown)
                shown += is_shown
            group.setHidden(shown == 0)
            num_shown += shown
        nothing = f"No action matches “{self.search.text().strip()}”."
        self.empty.setText(nothing if self._lines else "There is nothing to be done yet.")
        self._pages.setCurrentIndex(0 if num_shown else 1)


class ShortcutsWindow(QWidget):
    """What `?` and Help show."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setWindowTitle("Keyboard shortcuts")
        self.table = ShortcutTable()
        column = QVBoxLayout(self)
        column.addWidget(self.table)
        self.resize(460, 620)
        QShortcut(QKeySequence.StandardKey.Cancel, self, self.close)

    def show_actions(self, actions: Sequence[QAction | None]) -> None:
        """Come to the front with these actions."""
        self.table.show_actions(actions)
        self.table.search.clear()
        self.show()
        self.raise_()
        self.activateWindow()
        self.table.search.setFocus()
