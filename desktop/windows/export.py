"""The export window: takes leave, as a folder that an editor opens or as single edit masters.

The work is the command line's, in a process of its own: `freeswim export`, `takes export` and
`verify`. This window asks for what they can be told, and shows what they say.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QRegularExpression,
    QStandardPaths,
    Qt,
    Signal,
)
from PySide6.QtGui import QAction, QColor, QKeySequence, QPalette, QRegularExpressionValidator
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QTabWidget,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.studio import Studio
from desktop.takes.panel import show_in_folder
from desktop.windows.command import Command
from freeswim.errors import Cancelled, FreeswimError
from freeswim.studio.job import Shot, Take, Verdict
from freeswim.timeline.editors import EDITORS, FILES, Editor
from freeswim.video.codecs import CODECS

log = logging.getLogger(__name__)

MOST_HANDLES = 1000  # frames
WHOLE = 1000  # steps of the bar

RATES = ("23.976", "24", "25", "29.97", "30", "48", "50", "59.94", "60")
WAYS = (
    ("Make frames in between", "interpolate"),
    ("Blend neighbours", "blend"),
    ("Take the nearest frame", "nearest"),
)
OTHERS = (
    ("As alternatives of the clip", "keys"),
    ("As disabled clips over it", "tracks"),
    ("Leave them out", "none"),
)
CHECK_WORDS = {"file": "checksum", "media": "every frame", "timeline": "every cut"}


# --------------------------------------------------------------------------------- what is asked


class EditorPage(QWidget):
    """What `freeswim export` can be told."""

    changed = Signal()

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self.selected: list[Take] = []
        self._approved: dict[str, list[Take]] = {}  # as they are listed
        self._make_fields()
        self._lay_out()
        self._follow_editor()
        for field in (self.editor, self.source, self.others):
            field.currentIndexChanged.connect(self._follow)
        self.editor.currentIndexChanged.connect(self._follow_editor)
        self.project.textChanged.connect(self._follow)
        self.start.textChanged.connect(self._follow)
        self.shots.itemChanged.connect(self._follow)
        self._follow()

    def _make_fields(self) -> None:
        self.editor = _combo([(editor.title, editor) for editor in EDITORS])
        self.about = _label("secondary")
        self.about.setWordWrap(False)
        self.source = _combo(
            [
                ("Approved takes of all shots", "all"),
                ("Approved takes of chosen shots", "chosen"),
                ("Selected takes", "selected"),
            ]
        )
        self.shots = QListWidget()
        self.shots.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.shots.setMaximumHeight(130)
        self.project = QLineEdit("FreeSwim")
        self.codec = QComboBox()
        self.others = _combo(OTHERS)
        self.handles = QSpinBox(maximum=MOST_HANDLES, suffix=" frames")
        self.rate = _combo([("What suits the takes", ""), *((f"{one} fps", one) for one in RATES)])
        self.way = _combo(WAYS)
        timecode = QRegularExpression(r"\d\d:\d\d:\d\d[:;]\d\d")
        self.start = QLineEdit("01:00:00:00")
        self.start.setValidator(QRegularExpressionValidator(timecode, self))
        self.proxies = QCheckBox("Small &copies as well (ProRes Proxy)")
        self.native = QCheckBox("The takes as they &are as well (H.264)")

    def _lay_out(self) -> None:
        self._form = form = _form(self)
        form.addRow("Export &for", self.editor)
        form.addRow("", self.about)
        form.addRow("&Takes", self.source)
        form.addRow("S&hots, in the cut's order", self.shots)
        form.addRow("&Project", self.project)
        form.addRow("&Masters", self.codec)
        form.addRow("&Other approved takes", self.others)
        form.addRow("Hand&les", self.handles)
        self.more = QToolButton()
        self.more.setText("More settings")
        self.more.setCheckable(True)
        self.more.setAutoRaise(True)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more.toggled.connect(self._show_more)
        form.addRow("", self.more)
        form.addRow("Frame &rate", self.rate)
        form.addRow("Takes of another rate", self.way)
        form.addRow("Timeline &starts at", self.start)
        form.addRow("", self.proxies)
        form.addRow("", self.native)
        _name_fields(self)
        self._show_more(False)

    def _show_more(self, is_shown: bool) -> None:
        self.more.setIcon(theme.icon("up" if is_shown else "down"))
        for field in (self.rate, self.way, self.start, self.proxies, self.native):
            self._form.setRowVisible(field, is_shown)

    def refresh(self, selected: Sequence[Take]) -> None:
        """What there is to export, as the studio says by now."""
        self.selected = list(selected)
        number = len(self.selected)
        self.source.setItemText(2, "Selected take" if number == 1 else f"{number} selected takes")
        item = self.source.model().item(2)  # pyright: ignore[reportAttributeAccessIssue]
        item.setEnabled(bool(number))
        if not number and self.source.currentData() == "selected":
            self.source.setCurrentIndex(0)
        self._list_shots()
        self._follow()

    def _list_shots(self) -> None:
        approved = approved_takes(self._studio)
        if approved == self._approved:
            return  # nothing that the person sees moves without need
        self._approved = approved
        left_out = {name for name, is_checked in self._rows() if not is_checked}
        known = [name for name, _ in self._rows()]
        order = {name: number for number, name in enumerate(known)}
        names = sorted(approved, key=lambda name: order.get(name, len(order)))
        self.shots.blockSignals(True)
        self.shots.clear()
        for name in names:
            takes = approved[name]
            more = f", and {len(takes) - 1} more" if len(takes) > 1 else ""
            item = QListWidgetItem(f"{name}   take {takes[0].number}{more}")
            item.setData(Qt.ItemDataRole.UserRole, name)
            state = Qt.CheckState.Unchecked if name in left_out else Qt.CheckState.Checked
            item.setCheckState(state)
            self.shots.addItem(item)
        self.shots.blockSignals(False)

    def _rows(self) -> list[tuple[str, bool]]:
        items = [self.shots.item(row) for row in range(self.shots.count())]
        return [
            (item.data(Qt.ItemDataRole.UserRole), item.checkState() == Qt.CheckState.Checked)
            for item in items
        ]

    def _chosen(self) -> list[str]:
        return [name for name, is_checked in self._rows() if is_checked]

    def _follow(self) -> None:
        self._form.setRowVisible(self.shots, self.source.currentData() == "chosen")
        self.others.setEnabled(self.source.currentData() != "selected")
        self.changed.emit()

    def _follow_editor(self) -> None:
        editor: Editor = self.editor.currentData()
        chosen = self.codec.currentData()
        self.codec.clear()
        self.codec.addItem(f"{CODECS[editor.codec].title} (suits {editor.title})", "")
        for codec in CODECS.values():
            # Pictures of a sequence have no rate to check; proxies are no masters.
            if codec.name != editor.codec and not codec.is_sequence and codec.scale == 1:
                self.codec.addItem(codec.title, codec.name)
        self.codec.setCurrentIndex(max(0, self.codec.findData(chosen) if chosen else 0))
        self.about.setText(f"Timeline as {', '.join(_suffix(kind) for kind in editor.kinds)}")

    @property
    def num_masters(self) -> int:
        """How many files will be made, as far as that is known."""
        with_others = self.others.currentData() != "none"
        approved = approved_takes(self._studio)
        names = list(approved) if self.source.currentData() == "all" else self._chosen()
        number = sum(len(approved.get(name, ())) if with_others else 1 for name in names)
        if self.source.currentData() == "selected":
            number = len(self.selected)
        return number * (2 if self.proxies.isChecked() else 1)

    @property
    def obstacle(self) -> str:
        """Why it cannot be exported as it is; empty: it can."""
        source = self.source.currentData()
        if source != "selected" and not self.shots.count():
            return "No take is approved. Approve one in the takes strip first."
        if source == "chosen" and not self._chosen():
            return "Choose one shot at least."
        if not self.project.text().strip():
            return "Give the project a name."
        if not self.start.hasAcceptableInput():
            return "The timeline starts at a timecode, such as 01:00:00:00."
        return ""

    @property
    def button_words(self) -> str:
        """What the button does."""
        if self.source.currentData() == "selected":
            return _counted("Export {} take", len(self.selected))
        chosen = self.source.currentData() == "chosen"
        return _counted("Export {} shot", len(self._chosen()) if chosen else self.shots.count())

    def arguments(self, files: Sequence[Path]) -> list[str]:
        """Of the command line; `files` are those of the selected takes."""
        words = ["export", "--json", f"--for={self.editor.currentData().name}"]
        words += [
            f"--project={self.project.text().strip()}",
            f"--takes={self.others.currentData()}",
        ]
        words += [f"--handles={self.handles.value()}", f"--start={self.start.text()}"]
        words += _master_words(self.codec, self.rate, self.way)
        words += ["--proxies"] if self.proxies.isChecked() else []
        words += ["--native"] if self.native.isChecked() else []
        what = {"all": [], "chosen": self._chosen(), "selected": [str(path) for path in files]}
        return [*words, "--", *what[self.source.currentData()]]


class FilesPage(QWidget):
    """What `freeswim takes export` can be told."""

    changed = Signal()

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self.selected: list[Take] = []
        self.source = _combo([("Selected takes", "selected"), ("All approved takes", "approved")])
        self.codec = _combo([(codec.title, codec.name) for codec in CODECS.values()])
        self.codec.setCurrentIndex(self.codec.findData("prores-hq"))
        self.rate = _combo([("That of the take", ""), *((f"{one} fps", one) for one in RATES)])
        self.way = _combo(WAYS)
        form = _form(self)
        form.addRow("&Takes", self.source)
        form.addRow("&Codec", self.codec)
        form.addRow("Frame &rate", self.rate)
        form.addRow("Takes of another rate", self.way)
        _name_fields(self)
        self.source.currentIndexChanged.connect(lambda: self.changed.emit())
        self.rate.currentIndexChanged.connect(self._follow_rate)
        self._follow_rate()

    def _follow_rate(self) -> None:
        self.way.setEnabled(bool(self.rate.currentData()))

    def refresh(self, selected: Sequence[Take]) -> None:
        """What there is to export, as the studio says by now."""
        self.selected = list(selected)
        number = len(self.selected)
        self.source.setItemText(0, "Selected take" if number == 1 else f"{number} selected takes")
        item = self.source.model().item(0)  # pyright: ignore[reportAttributeAccessIssue]
        item.setEnabled(bool(number))
        if not number:
            self.source.setCurrentIndex(1)
        self.changed.emit()

    @property
    def takes(self) -> list[Take]:
        """What is exported."""
        if self.source.currentData() == "selected":
            return self.selected
        return [take for takes in approved_takes(self._studio).values() for take in takes]

    @property
    def num_masters(self) -> int:
        """How many files will be made."""
        return len(self.takes)

    @property
    def obstacle(self) -> str:
        """Why it cannot be exported as it is; empty: it can."""
        return "" if self.takes else "No take is approved. Approve one in the takes strip first."

    @property
    def button_words(self) -> str:
        """What the button does."""
        return _counted("Export {} take", len(self.takes))

    def arguments(self, files: Sequence[Path]) -> list[str]:
        """Of the command line."""
        words = ["takes", "export", "--json", *_master_words(self.codec, self.rate, self.way)]
        return [*words, "--", *(take.id for take in self.takes)]


def approved_takes(studio: Studio) -> dict[str, list[Take]]:
    """By name of the shot, in the order in which shots came; of each the newest take first."""
    by_name: dict[str, list[Take]] = {}
    shots: list[Shot] = sorted(studio.shots.values(), key=lambda shot: shot.created_at)
    for shot in shots:
        found = [
            take
            for take in studio.takes.values()
            if take.shot_id == shot.id and take.verdict == Verdict.APPROVED
        ]
        if found:
            newest_first = sorted(found, key=lambda take: -take.number)
            by_name.setdefault(shot.name, []).extend(newest_first)
    return by_name


# ------------------------------------------------------------------------------- what came of it


class Outcome(QWidget):
    """The files of an export, and what came of looking at each of them again."""

    verify_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder: Path | None = None
        self._can_be_verified = False
        self.title = _label("")
        self.steps = _label("secondary")
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
        words = f"Exported for {editor} as {folder.name}: {{}} file"
        self._head(_counted(words, len(found)), theme.DONE, "✓ ")
        steps = [line for line in _lines(folder / "README.txt") if re.match(r"\d+\. ", line)]
        self.steps.setText("\n".join([*steps, *(f"Note: {note}" for note in notes)]))
        self.steps.setVisible(bool(self.steps.text()))

    def show_master(self, file: Path) -> None:
        """One more file that was written."""
        if self.folder != file.parent or self._can_be_verified:
            self._begin(file.parent, can_be_verified=False)
        self._row(file.name)
        count = self.files.topLevelItemCount()
        self._head(_counted(f"{file.parent.name}: {{}} file", count), theme.DONE, "✓ ")

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


# ------------------------------------------------------------------------------------ the window


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
        self.state = _label("secondary")
        self.problem = _label("failed")
        self.hint = _label("secondary")
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


# ---------------------------------------------------------------------------------------- pieces


def _combo(items: Sequence[tuple[str, Any]]) -> QComboBox:
    combo = QComboBox()
    for words, data in items:
        combo.addItem(words, data)
    return combo


def _label(role: str) -> QLabel:
    label = QLabel(wordWrap=True)
    label.setProperty("role", role)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label


def _form(page: QWidget) -> QFormLayout:
    form = QFormLayout(page)
    form.setContentsMargins(8, 12, 8, 8)
    form.setVerticalSpacing(6)
    form.setHorizontalSpacing(12)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def _name_fields(page: QWidget) -> None:
    """Every field is called as its label says."""
    for label in page.findChildren(QLabel):
        if (field := label.buddy()) is not None:
            field.setAccessibleName(label.text().replace("&", ""))


def _master_words(codec: QComboBox, rate: QComboBox, way: QComboBox) -> list[str]:
    words = [f"--way={way.currentData()}"]
    words += [f"--codec={codec.currentData()}"] if codec.currentData() else []
    return [*words, f"--rate={rate.currentData()}"] if rate.currentData() else words


def _suffix(kind: Any) -> str:
    return Path(FILES[kind].format(name="x", track="V1")).suffix


def _counted(words: str, number: int) -> str:
    """Words that end in a number of things."""
    return words.format(number) + ("" if number == 1 else "s")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
