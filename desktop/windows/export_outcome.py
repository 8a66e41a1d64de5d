"""The files of an export as its window lists them, and what came of looking at them again."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    Qt,
    Signal,
)
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.takes.panel import show_in_folder

CHECK_WORDS = {"file": "checksum", "media": "every frame", "timeline": "every cut"}


class Outcome(QWidget):
    """The files of an export, and what came of looking at each of them again."""

    verify_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder: Path | None = None
        self._can_be_verified = False
        self.title = theme.label("")
        self.steps = theme.label("secondary")
        self.steps.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.files = QTreeWidget(columnCount=2)
        self.files.setRootIsDecorated(False)
        self.files.setHeaderLabels(["File", "Looked at again"])
        self.files.setAccessibleName("Files of the export")
        self.files.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.files.header().setStretchLastSection(False)
        self.files.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.show_files = QPushButton("Show in &folder")
        self.show_files.setIcon(theme.icon("folder"))
        self.verify = QPushButton("&Verify")
        self.verify.setIcon(theme.icon("done"))
        self.verify.setToolTip("Look at every file, frame and cut of the export again")
        self.show_files.clicked.connect(self._show_in_folder)
        self.verify.clicked.connect(self.verify_wanted)
        buttons = QHBoxLayout()
        buttons.addWidget(self.show_files)
        buttons.addWidget(self.verify)
        buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.title, self.steps, self.files):
            layout.addWidget(widget)
        layout.addLayout(buttons)

    def show_folder(self, folder: Path) -> None:
        """A folder of which nothing is known yet."""
        self._begin(folder, can_be_verified=True)
        self._head(folder.name, theme.TEXT, "")

    def show_export(self, folder: Path, editor: str, notes: Sequence[str]) -> None:
        """An export's folder, as it was just made."""
        self._begin(folder, can_be_verified=True)
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in found:
            self._row(path.relative_to(folder).as_posix())
        files = f"{len(found)} file{'' if len(found) == 1 else 's'}"
        self._head(f"Exported for {editor} as {folder.name}: {files}", theme.DONE, "✓ ")
        steps = [line for line in _lines(folder / "README.txt") if re.match(r"\d+\. ", line)]
        self.steps.setText("\n".join([*steps, *(f"Note: {note}" for note in notes)]))
        self.steps.setVisible(bool(self.steps.text()))

    def show_master(self, file: Path) -> None:
        """One more file that was written."""
        if self.folder != file.parent or self._can_be_verified:
            self._begin(file.parent, can_be_verified=False)
        self._row(file.name)
        count = self.files.topLevelItemCount()
        files = f"{count} file{'' if count == 1 else 's'}"
        self._head(f"{file.parent.name}: {files}", theme.DONE, "✓ ")

    def show_findings(self, findings: Sequence[dict[str, Any]]) -> None:
        """What came of the checks, at the files that they are of."""
        self.files.clear()
        by_file: dict[str, list[dict[str, Any]]] = {}
        for finding in findings:
            by_file.setdefault(str(finding.get("file")), []).append(finding)
        for file, found in by_file.items():
            problems = [str(one.get("problem")) for one in found if one.get("problem")]
            checks = [CHECK_WORDS.get(str(one.get("what")), "") for one in found]
            if problems:
                self._row(file, f"✕ {problems[0]}", theme.FAILED)
            else:
                self._row(file, f"✓ {', '.join(filter(None, checks))}", theme.DONE)
        bad = sum(bool(finding.get("problem")) for finding in findings)
        if bad:
            words = f"{bad} of {len(findings)} checks failed. Export the project again."
            self._head(words, theme.FAILED, "✕ ")
        else:
            self._head(f"All {len(findings)} checks are good.", theme.DONE, "✓ ")

    def _begin(self, folder: Path, *, can_be_verified: bool) -> None:
        self.folder = folder
        self._can_be_verified = can_be_verified
        self.verify.setVisible(can_be_verified)
        self.files.setColumnHidden(1, not can_be_verified)
        self.files.clear()
        self.steps.hide()
        self.show()

    def _row(self, file: str, words: str = "–", colour: str = theme.SECONDARY) -> None:
        item = QTreeWidgetItem([file, words])
        item.setForeground(1, QColor(colour))
        item.setToolTip(0, html.escape(file))
        item.setToolTip(1, html.escape(words))
        said = f"{file}, {words[2:]}" if words != "–" else file
        item.setData(0, Qt.ItemDataRole.AccessibleTextRole, said)
        self.files.addTopLevelItem(item)

    def _head(self, words: str, colour: str, glyph: str) -> None:
        palette = self.title.palette()
        palette.setColor(QPalette.ColorRole.WindowText, QColor(colour))
        self.title.setPalette(palette)
        self.title.setText(glyph + words)

    def _show_in_folder(self) -> None:
        if self.folder is not None:
            show_in_folder(self.folder)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
