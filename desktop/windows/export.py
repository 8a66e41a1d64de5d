"""The export window: takes leave, as a folder that an editor opens or as single edit masters.

The work is the command line's, in a process of its own: `freeswim export`, `takes export` and
`verify`. This window asks for what they can be told, and shows what they say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QStandardPaths,
    Qt,
)
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.studio import Studio
from desktop.windows.command import Command
from desktop.windows.export_outcome import Outcome
from desktop.windows.export_pages import EditorPage, FilesPage
from freeswim.errors import Cancelled, FreeswimError
from freeswim.studio.job import Take, Verdict

log = logging.getLogger(__name__)

WHOLE = 1000  # steps of the bar


class ExportWindow(QWidget):
    """Where takes leave. Not modal: the work goes on while it is closed."""

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setWindowTitle("Export")
        self._studio = studio
        self._doing = ""  # export, files, verify
        self._masters: list[str] = []  # that were begun, by name
        self._num_masters = 1
        self._findings: list[dict[str, Any]] = []
        self.command = Command(self)
        self.command.said.connect(self._hear)
        self.command.ended.connect(self._end)
        self._make_actions()
        self._make_widgets()
        self._lay_out()
        for page in (self.for_editor, self.as_files):
            page.changed.connect(self._follow)
        self.tabs.currentChanged.connect(self._follow)
        self.folder.textChanged.connect(self._follow)
        studio.changed.connect(self._refresh)
        self._refresh()

    def open_for(self, take_ids: Sequence[str] = (), *, as_files: bool | None = None) -> None:
        """Show the window.

        Args:
            take_ids: of the takes that are selected; what is exported, where there are some.
            as_files: whether as single files; None: of takes that are selected, yes.
        """
        takes = [self._studio.takes[id_] for id_ in take_ids if id_ in self._studio.takes]
        self._refresh(selected=takes)
        for page in (self.for_editor, self.as_files):
            if takes:
                page.source.setCurrentIndex(page.source.findData("selected"))
        is_of_files = bool(takes) if as_files is None else as_files
        self.tabs.setCurrentWidget(self.as_files if is_of_files else self.for_editor)
        self.show()
        self.raise_()
        self.activateWindow()

    def actions_for(self) -> list[QAction | None]:
        """What the menu offers."""
        return [self.export_action, self.verify_action]

    def stop(self) -> None:
        """End what runs, and wait until it has: before the app quits."""
        self.command.close()

    # --------------------------------------------------------------------------------- making

    def _make_actions(self) -> None:
        self.export_action = QAction("&Export for an editor…", self)
        self.export_action.setShortcut(QKeySequence("Ctrl+E"))
        self.export_action.setStatusTip("A folder with a timeline, its media and how it was made")
        self.export_action.triggered.connect(lambda: self.open_for())
        self.verify_action = QAction("&Verify an export…", self)
        self.verify_action.setStatusTip("Look at every file, frame and cut of an export again")
        self.verify_action.triggered.connect(self._choose_export)
        hide = QAction(self, shortcut=QKeySequence(QKeySequence.StandardKey.Cancel))
        hide.triggered.connect(self.close)
        self.addAction(hide)

    def _make_widgets(self) -> None:
        self.for_editor = EditorPage(self._studio)
        self.as_files = FilesPage(self._studio)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.addTab(self.for_editor, "For an &editor")
        self.tabs.addTab(self.as_files, "As &single files")
        movies = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.MoviesLocation)
        self.folder = QLineEdit(movies if Path(movies).is_dir() else str(Path.home()))
        self.folder.setAccessibleName("Folder for the export")
        self.choose = QPushButton("&Browse…")
        self.choose.clicked.connect(self._choose_folder)
        self.go = QPushButton()
        self.go.setProperty("role", "primary")
        self.go.setDefault(True)
        self.go.clicked.connect(self._start)
        self.cancel = QPushButton("Cancel")
        self.cancel.clicked.connect(self._cancel)
        self.bar = QProgressBar(maximum=WHOLE, textVisible=False)
        self.bar.setFixedHeight(3)
        self.bar.setAccessibleName("Progress of the export")
        self.state = theme.label("secondary")
        self.problem = theme.label("failed")
        self.hint = theme.label("secondary")
        self.outcome = Outcome()
        self.outcome.hide()
        self.outcome.verify_wanted.connect(lambda: self._verify(self.outcome.folder))

    def _lay_out(self) -> None:
        place = QHBoxLayout()
        label = QLabel("Fold&er")
        label.setBuddy(self.folder)
        for widget in (label, self.folder, self.choose):
            place.addWidget(widget)
        order = QHBoxLayout()
        order.addWidget(self.state, 1)
        order.addWidget(self.cancel)
        order.addWidget(self.go)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 12, 16, 16)
        layout.setSpacing(10)
        layout.addWidget(self.tabs)
        layout.addLayout(place)
        layout.addLayout(order)
        for widget in (self.bar, self.problem, self.hint):
            layout.addWidget(widget)
        layout.addWidget(self.outcome, 1)
        layout.addStretch(0)
        self.tabs.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.setMinimumWidth(560)
        self.resize(640, 560)

    # ------------------------------------------------------------------------------- following

    @property
    def _page(self) -> EditorPage | FilesPage:
        return self.as_files if self.tabs.currentIndex() else self.for_editor

    def _refresh(self, _: object = None, *, selected: Sequence[Take] | None = None) -> None:
        takes = self.for_editor.selected if selected is None else selected
        known = [self._studio.takes.get(take.id, take) for take in takes]
        present = [take for take in known if take.verdict != Verdict.TRASHED]
        self.for_editor.refresh(present)
        self.as_files.refresh(present)

    def _follow(self) -> None:
        is_running = self.command.is_running
        obstacle = self._page.obstacle
        if not obstacle and not self.folder.text().strip():
            obstacle = "Name a folder for the export."
        self.go.setText("Export" if obstacle else self._page.button_words)
        for page in (self.for_editor, self.as_files):  # the hidden one takes no room
            is_shown = page is self._page
            policy = QSizePolicy.Policy.Preferred if is_shown else QSizePolicy.Policy.Ignored
            page.setSizePolicy(QSizePolicy.Policy.Preferred, policy)
        self.go.setEnabled(not is_running and not obstacle)
        self.go.setVisible(not is_running)
        self.cancel.setVisible(is_running)
        self.bar.setVisible(is_running)
        for widget in (self.tabs, self.folder, self.choose, self.outcome.verify):
            widget.setEnabled(not is_running)
        if not is_running:
            self.state.setText(obstacle)

    # ----------------------------------------------------------------------------------- doing

    def _start(self) -> None:
        page = self._page
        self._doing = "export"
        if isinstance(page, EditorPage) and page.source.currentData() == "selected":
            ids = [take.id for take in page.selected]
            self.go.setEnabled(False)
            self._studio.ask(
                lambda client: [Path(client.get(f"/takes/{id_}")["path"]) for id_ in ids],
                lambda files: self._export(page, files),
                self._end,
            )
        else:
            self._export(page, [])

    def _export(self, page: EditorPage | FilesPage, files: Sequence[Path]) -> None:
        arguments = page.arguments(files)
        folder = Path(self.folder.text().strip()).expanduser()
        place = arguments.index("--")
        arguments[place:place] = [f"--out={folder}"]
        self._num_masters = max(1, page.num_masters)
        self.outcome.hide()
        self._run("export" if page is self.for_editor else "files", arguments, "Starting", folder)

    def _verify(self, folder: Path | None) -> None:
        if folder is not None and not self.command.is_running:
            arguments = ["verify", "--json", "--", str(folder)]
            self._run("verify", arguments, "Looking at every file, frame and cut")

    def _run(
        self, doing: str, arguments: Sequence[str], words: str, folder: Path | None = None
    ) -> None:
        self._doing, self._masters, self._findings = doing, [], []
        self._say(None)
        self.bar.setRange(0, 0 if doing == "verify" else WHOLE)
        self.bar.setValue(0)
        self.command.start(arguments, folder)
        self.state.setText(words)
        self.cancel.setEnabled(True)
        self._follow()
        self.cancel.setFocus()

    def _cancel(self) -> None:
        self.cancel.setEnabled(False)
        self.state.setText("Cancelling")
        self.command.cancel()

    def _hear(self, event: dict[str, Any]) -> None:
        match event:
            case {"event": "progress", "stage": str(name), "step": int(done), "num_steps": int(of)}:
                self._show_progress(name, done, max(1, of))
            case {"event": "export", "folder": str(folder), "notes": list(notes)}:
                title = self.for_editor.editor.currentData().title
                self.outcome.show_export(Path(folder), title, [str(note) for note in notes])
            case {"event": "master", "file": str(file)}:
                self.outcome.show_master(Path(file))
            case {"event": "finding"}:
                self._findings.append(event)
            case _:
                log.debug("not heard: %r", event)

    def _show_progress(self, name: str, done: int, of: int) -> None:
        if name not in self._masters:
            self._masters.append(name)
        number = len(self._masters)
        count = max(number, self._num_masters)
        # The end is the timeline's and the checksums'.
        self.bar.setValue(round(0.97 * WHOLE * (number - 1 + done / of) / count))
        if self.cancel.isEnabled():
            is_last = number == count and done == of
            words = f"File {number} of {count} · frame {done} of {of} · {name}"
            self.state.setText("Finishing" if is_last else words)

    def _end(self, error: FreeswimError | None) -> None:
        self._follow()
        if isinstance(error, Cancelled):
            words = (
                "Cancelled." if self._doing == "verify" else "Cancelled. Nothing was left behind."
            )
            if self._doing == "files" and self.outcome.isVisible():
                words = "Cancelled. The files below are whole."
            self.state.setText(words)
        elif self._doing == "verify" and self._findings:
            self.outcome.show_findings(self._findings)
        else:
            self._say(error)
        (self.outcome.show_files if self.outcome.isVisible() else self.go).setFocus()

    def _say(self, error: FreeswimError | None) -> None:
        self.problem.setText("" if error is None else error.message)
        self.hint.setText("" if error is None else error.hint)
        self.problem.setVisible(bool(self.problem.text()))
        self.hint.setVisible(bool(self.hint.text()))

    # --------------------------------------------------------------------------------- choosing

    def _choose_folder(self) -> None:
        self._ask_folder("Folder for the export", self.folder.setText)

    def _choose_export(self) -> None:
        self._ask_folder("Export to look at", self._open_export)

    def _open_export(self, folder: str) -> None:
        self.open_for()
        self.outcome.show_folder(Path(folder))
        self._verify(Path(folder))

    def _ask_folder(self, title: str, then: Callable[[str], Any]) -> None:
        dialog = QFileDialog(self, title, self.folder.text())
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(then)
        dialog.open()
