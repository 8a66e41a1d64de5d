"""The takes strip: what became of the chosen shot, as pictures to judge, use and drag away."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QEvent,
    QItemSelectionModel,
    QModelIndex,
    QProcess,
    Qt,
    QUrl,
    Signal,
)
from PySide6.QtGui import (
    QAction,
    QDesktopServices,
    QGuiApplication,
    QImage,
    QKeySequence,
    QPalette,
)
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.resolve.words import can_be_placed, spot_of
from desktop.studio import Changed, Studio
from desktop.takes.thumbnails import Thumbnails
from desktop.takes.tiles import BEING_MADE, PADDING, ROW, Row, TakesModel, TakesView
from freeswim.errors import FreeswimError
from freeswim.studio.client import Client
from freeswim.studio.job import Take, Verdict
from freeswim.studio.resolve.planner import Place
from freeswim.studio.runner import JobProgress


def show_in_folder(path: Path) -> None:
    """The file in the system's file manager, chosen where that can be asked for."""
    if sys.platform == "win32":
        QProcess.startDetached("explorer", ["/select,", str(path)])
    elif sys.platform == "darwin":
        QProcess.startDetached("open", ["-R", str(path)])
    else:
        folder = path if path.is_dir() else path.parent
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))


class TakesStrip(QWidget):
    """The takes of one shot, or those whose prompt has the words that are looked for."""

    take_chosen = Signal(str)  # id
    compare = Signal(str, str)  # id, A or B
    settings_wanted = Signal(str, bool)  # id, whether with its seed
    export_wanted = Signal(object)  # ids

    def __init__(
        self, studio: Studio, parent: QWidget | None = None, *, thumbnails: Path | None = None
    ) -> None:
        super().__init__(parent)
        self._studio = studio
        self._shot_id = ""
        self._chosen = ""  # id of a take
        self._is_sifting = False  # whether rows change under the selection
        self.thumbnails = Thumbnails(thumbnails, self)
        self.model = TakesModel(studio, self.thumbnails, self)
        self.view = TakesView(self.model, self)
        self._make_actions()
        self._make_layout()
        self.view.menu_wanted.connect(lambda place: self._menu.popup(place))
        self.view.selectionModel().selectionChanged.connect(self._follow_selection)
        self.view.selectionModel().currentChanged.connect(self._follow_current)
        self.search.textChanged.connect(self._show_others)
        studio.connected.connect(self._begin)
        studio.changed.connect(self._take_in)
        studio.progressed.connect(self._take_progress)
        studio.lost.connect(self._refresh)
        QGuiApplication.instance().aboutToQuit.connect(self.thumbnails.close)  # pyright: ignore
        self._refresh()

    def show_shot(self, shot_id: str) -> None:
        """Show the takes of this shot; the best of them is chosen."""
        if shot_id == self._shot_id:
            return
        self._shot_id = shot_id
        self._chosen = ""
        self._say(None)
        self.model.unseen.clear()
        self._show_others()
        self._choose_best()

    def choose(self, take_id: str) -> None:
        """Choose this take, if it is shown."""
        index = self.model.index_of(take_id)
        if index.isValid():
            # Current already is the row of the job that it came of; selected it is not.
            flags = QItemSelectionModel.SelectionFlag.ClearAndSelect
            self.view.selectionModel().setCurrentIndex(index, flags)

    def actions_for(self) -> list[QAction | None]:
        """What can be done with takes, in the menu's order."""
        return list(self._actions)

    @property
    def selected(self) -> list[Take]:
        """The takes that are selected, from left to right."""
        rows = sorted(self.view.selectedIndexes(), key=lambda index: index.row())
        return [row for index in rows if isinstance(row := index.data(ROW), Take)]

    # --------------------------------------------------------------------------------- making

    def _make_actions(self) -> None:
        add = self._action
        self.approve = add("&Approve", "A", "Approve the take, or take the approval back", "star")
        self.reject = add("Re&ject", "N", "Reject the take, or take the rejection back", "reject")
        self.use = add("&Use settings", "U", "Take over its settings, with a new seed", "settings")
        self.use_seed = add("Use settings and &seed", "Shift+U", "Take over everything", "")
        self.one_more = add("&One more", "R", "Make another with a new seed", "add")
        self.redo = add("&Redo with the same seed", "Shift+R", "Make the same take again", "redo")
        self.replace = add("Reject and r&edo", "Ctrl+R", "Reject it; another with a new seed", "")
        self.finish = add("&Finish", "F6", "Carry the draft on to its full size", "up")
        self.as_a = add("Co&mpare as A", "Ctrl+1", "Show it as A in the viewer", "compare")
        self.as_b = add("Compare as &B", "Ctrl+2", "Show it as B in the viewer", "")
        self.back = add("&Look back", ",", "An earlier moment in the thumbnail", "step-back")
        self.forward = add("Look for&ward", ".", "A later moment in the thumbnail", "step-forward")
        self.place = add(
            *("&Place on the timeline", "P", "Put it where its shot was asked for in Resolve"),
            "place",
        )
        self.export = add("E&xport…", "Ctrl+Shift+E", "Write edit masters of it", "download")
        self.folder = add("Show in fol&der", "Ctrl+Shift+O", "In the file manager", "folder")
        self.copy_seed = add("&Copy seed", "Ctrl+Shift+C", "Put the seed on the clipboard", "")
        self.trash = add("Move to &trash", "Del", "Move its files to the system's trash", "trash")
        self.find_takes = add(
            "Fi&nd takes…", "Ctrl+Shift+F", "Find takes of all shots by their prompt", "zoom"
        )
        self.find_takes.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
        self._actions: list[QAction | None] = [
            *(self.approve, self.reject, None, self.use, self.use_seed, None),
            *(self.one_more, self.redo, self.replace, self.finish, None),
            *(self.as_a, self.as_b, self.back, self.forward, None),
            *(self.place, self.export, self.folder, self.copy_seed),
            *(None, self.trash, None, self.find_takes),
        ]
        for action, act in self._deeds().items():
            action.triggered.connect(act)

    def _deeds(self) -> dict[QAction, Callable[[], None]]:
        return {
            self.approve: partial(self._judge, Verdict.APPROVED),
            self.reject: partial(self._judge, Verdict.REJECTED),
            self.use: lambda: self._with_chosen(lambda take: self._want(take, False)),
            self.use_seed: lambda: self._with_chosen(lambda take: self._want(take, True)),
            self.one_more: partial(self._again, new_seed=True),
            self.redo: partial(self._again, new_seed=False),
            self.replace: self._replace,
            self.finish: self._finish,
            self.as_a: lambda: self._with_chosen(lambda take: self.compare.emit(take.id, "A")),
            self.as_b: lambda: self._with_chosen(lambda take: self.compare.emit(take.id, "B")),
            self.back: lambda: self.view.scrub_by(-1),
            self.forward: lambda: self.view.scrub_by(1),
            self.place: lambda: self._each(lambda client, id_: client.post(f"/takes/{id_}/place")),
            self.export: lambda: self.export_wanted.emit([take.id for take in self.selected]),
            self.folder: lambda: self._with_chosen(self._show_in_folder),
            self.copy_seed: self._copy_seeds,
            self.trash: lambda: self._each(lambda client, id_: client.post(f"/takes/{id_}/trash")),
            self.find_takes: self._find,
        }

    def _action(self, text: str, key: str, tip: str, icon: str) -> QAction:
        action = QAction(text, self)
        action.setShortcut(QKeySequence(key))
        action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        action.setStatusTip(tip)
        shown = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
        action.setToolTip(f"{text.replace('&', '')} ({shown})\n{tip}")
        if icon:
            action.setIcon(theme.icon(icon))
        # Not on the search field's side: letters there are letters.
        self.view.addAction(action)
        return action

    def _make_layout(self) -> None:
        self.title = QLabel("Takes")
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.count = _label("secondary")
        self.message = _label("failed")
        self.message.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.search = QLineEdit(placeholderText="Find by prompt")
        self.search.setAccessibleName("Find takes of all shots by their prompt")
        self.search.setClearButtonEnabled(True)
        self.search.setFixedWidth(180)
        self.search.installEventFilter(self)
        self._menu = QMenu(self)
        for action in self._actions:
            self._menu.addSeparator() if action is None else self._menu.addAction(action)
        header = QHBoxLayout()
        header.setContentsMargins(PADDING, 4, PADDING, 4)
        header.setSpacing(PADDING)
        for widget in (self.title, self.count):
            header.addWidget(widget)
        header.addWidget(self.message, 1)
        for button in self._buttons():
            header.addWidget(button)
        header.addWidget(self.search)
        self.empty = _label("secondary")
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setBackgroundRole(QPalette.ColorRole.Base)
        self.empty.setAutoFillBackground(True)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.view)
        self.pages.addWidget(self.empty)
        self.pages.setFixedHeight(self.view.sizeHint().height())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(header)
        layout.addWidget(self.pages)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def _buttons(self) -> list[QToolButton]:
        made: list[QToolButton] = []
        for action in (self.approve, self.reject, self.one_more):
            button = QToolButton()
            button.setDefaultAction(action)
            made.append(button)
        more = QToolButton()
        more.setIcon(theme.icon("more"))
        more.setToolTip("More")
        more.setAccessibleName("More to do with takes")
        more.clicked.connect(lambda: self._menu.popup(more.mapToGlobal(more.rect().bottomLeft())))
        made.append(more)
        for button in made:
            button.setAutoRaise(True)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.setMinimumSize(28, 28)
        return made

    # ------------------------------------------------------------------------------- following

    def _begin(self) -> None:
        self.model.forget_files()
        self._refresh()
        if not self._chosen:
            self._choose_best()

    def _take_in(self, changed: Changed) -> None:
        before = {take.id for take in self.model.takes}
        self._refresh()
        came = {take.id for take in self.model.takes} - before
        if not self._chosen:
            self._choose_best()
        elif self._studio.is_connected and not self.search.text():
            self.model.unseen |= came
            for take_id in came:
                self.model.touch(take_id)

    def _take_progress(self, progress: JobProgress) -> None:
        if not self.model.index_of(progress.job_id).isValid():
            return
        self.model.touch(progress.job_id)
        known, _ = self.model.previews.get(progress.job_id, (0, None))
        if progress.preview > known:
            self._studio.ask(
                lambda client: client.get_bytes(f"/jobs/{progress.job_id}/preview.jpg"),
                lambda content: self._take_preview(progress, content),
                lambda error: None,  # the next one comes
            )

    def _take_preview(self, progress: JobProgress, content: bytes) -> None:
        picture = QImage.fromData(content)
        if not picture.isNull():
            self.model.previews[progress.job_id] = (progress.preview, picture)
            self.model.touch(progress.job_id)

    def _refresh(self, *_: object) -> None:
        words = self.search.text().lower().split()
        self.model.with_shots = bool(words)
        rows = self._found(words) if words else self._of_shot()
        self.model.show(rows)
        for job_id in self.model.previews.keys() - {row.id for row in rows}:
            del self.model.previews[job_id]
        self._say_how_many(is_search=bool(words))
        self.pages.setCurrentWidget(self.view if rows else self.empty)
        self._follow_selection()

    def _show_others(self) -> None:
        """Rows of another shot or search: none of them was chosen by anybody yet."""
        self._is_sifting = True
        self._refresh()
        self.view.setCurrentIndex(self.model.index_of(self._chosen))
        if not self.view.currentIndex().isValid():
            self.view.clearSelection()
        self._is_sifting = False

    def _of_shot(self) -> list[Row]:
        takes = [take for take in self._shown_takes() if take.shot_id == self._shot_id]
        jobs = [
            job
            for job in self._studio.jobs.values()
            if job.shot_id == self._shot_id and job.state in BEING_MADE
        ]
        return [
            *sorted(takes, key=lambda take: take.number),
            *sorted(jobs, key=lambda job: job.number),
        ]

    def _found(self, words: list[str]) -> list[Row]:
        found = [
            take
            for take in self._shown_takes()
            if all(word in f"{take.prompt} {take.shot_name}".lower() for word in words)
        ]
        return sorted(found, key=lambda take: (-take.created_at, take.id))

    def _shown_takes(self) -> list[Take]:
        return [take for take in self._studio.takes.values() if take.verdict != Verdict.TRASHED]

    def _say_how_many(self, *, is_search: bool) -> None:
        takes = self.model.takes
        approved = sum(take.verdict == Verdict.APPROVED for take in takes)
        words = "found in all shots" if is_search else f"{approved} approved" if approved else ""
        self.count.setText(" · ".join(filter(None, (str(len(takes)), words))) if takes else "")
        if is_search:
            self.empty.setText(f"No take of any shot has “{self.search.text().strip()}”.")
        elif not self._studio.is_connected and not self._studio.takes:
            self.empty.setText("Waiting for the studio.")
        elif not self._shot_id:
            self.empty.setText("Choose a shot to see its takes.")
        else:
            self.empty.setText("No takes yet. Add the shot to the queue to make the first one.")

    def _choose_best(self) -> None:
        """The newest that is approved, else the newest that is not rejected, else the newest."""
        if self.search.text() or not (takes := self.model.takes):
            return
        order = {Verdict.APPROVED: 2, Verdict.NEW: 1}
        best = max(takes, key=lambda take: (order.get(take.verdict, 0), take.number))
        self.choose(best.id)

    def _follow_current(self, current: QModelIndex) -> None:
        self.view.scrub(None)
        take = current.data(ROW)
        if isinstance(take, Take) and take.id != self._chosen and not self._is_sifting:
            self._chosen = take.id
            self.model.unseen.discard(take.id)
            self.take_chosen.emit(take.id)

    def _follow_selection(self, *_: object) -> None:
        takes = self.selected
        for action in self._actions:
            if action is not None:
                action.setEnabled(bool(takes) or action is self.find_takes)
        for action in (self.use, self.use_seed, self.as_a, self.as_b, self.folder):
            action.setEnabled(len(takes) == 1)
        is_approved = bool(takes) and all(take.verdict == Verdict.APPROVED for take in takes)
        is_rejected = bool(takes) and all(take.verdict == Verdict.REJECTED for take in takes)
        self.approve.setText("Take &approval back" if is_approved else "&Approve")
        self.reject.setText("Take re&jection back" if is_rejected else "Re&ject")
        self._follow_placing(takes)
        drafts = [take for take in takes if take.is_draft]
        self.finish.setEnabled(bool(drafts) and len(drafts) == len(takes))
        self.finish.setText(self._finish_words(drafts))

    def _follow_placing(self, takes: list[Take]) -> None:
        able = [take for take in takes if can_be_placed(take, self._spot_of(take))]
        self.place.setEnabled(bool(able) and len(able) == len(takes))
        is_again = any(take.placing is not None for take in able)
        self.place.setText(f"&Place on the timeline{' again' if is_again else ''}")

    def _spot_of(self, take: Take) -> Place | None:
        return spot_of(self._studio.shots.get(take.shot_id))

    def _finish_words(self, drafts: list[Take]) -> str:
        jobs = [self._studio.jobs.get(take.job_id) for take in drafts]
        sizes = {(job.request.get("width"), job.request.get("height")) for job in jobs if job}
        if len(sizes) != 1:
            return "&Finish in full size"
        width, height = sizes.pop()
        return f"&Finish in {width} × {height}"

    # ---------------------------------------------------------------------------------- deeds

    def _order(self, call: Callable[[Client], Any]) -> None:
        self._say(None)
        self._studio.order(call, None, self._say)

    def _each(self, call: Callable[[Client, str], Any]) -> None:
        for take in self.selected:
            self._order(partial(_for_one, call, take.id))

    def _judge(self, verdict: Verdict) -> None:
        takes = self.selected
        if all(take.verdict == verdict for take in takes):
            verdict = Verdict.NEW
        self._each(lambda client, id_: client.patch(f"/takes/{id_}", {"verdict": verdict}))

    def _again(self, *, new_seed: bool) -> None:
        for take in self.selected:
            path, body = f"/jobs/{take.job_id}/again", {"new_seed": new_seed}
            self._order(partial(_post, path, body))

    def _replace(self) -> None:
        self._each(lambda client, id_: client.patch(f"/takes/{id_}", {"verdict": "rejected"}))
        self._again(new_seed=True)

    def _finish(self) -> None:
        self._each(lambda client, id_: client.post(f"/takes/{id_}/finish", {"request": {}}))

    def _want(self, take: Take, with_seed: bool) -> None:
        self.settings_wanted.emit(take.id, with_seed)

    def _with_chosen(self, act: Callable[[Take], None]) -> None:
        if len(takes := self.selected) == 1:
            act(takes[0])

    def _show_in_folder(self, take: Take) -> None:
        if (path := self.model.file_of(take)) is not None:
            show_in_folder(path)

    def _copy_seeds(self) -> None:
        seeds = "\n".join(str(take.seed) for take in self.selected)
        QGuiApplication.clipboard().setText(seeds)

    def _find(self) -> None:
        self.search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.search.selectAll()

    def _say(self, error: FreeswimError | None) -> None:
        text = f"{error.message} {error.hint}".strip() if error is not None else ""
        self.message.setText(text)
        self.message.setToolTip(html.escape(text))

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Esc in the search field ends the search, Down goes to what was found."""
        if watched is self.search and event.type() == QEvent.Type.KeyPress:
            key = event.key()  # pyright: ignore[reportAttributeAccessIssue]
            if key == Qt.Key.Key_Escape:
                self.search.clear()
                self.view.setFocus()
                return True
            if key == Qt.Key.Key_Down and self.model.takes:
                self.view.setFocus()
                if not self.view.currentIndex().isValid():
                    self.view.setCurrentIndex(self.model.index(0))
                return True
        return super().eventFilter(watched, event)


def _for_one(call: Callable[[Client, str], Any], take_id: str, client: Client) -> Any:
    return call(client, take_id)


def _post(path: str, body: dict[str, Any], client: Client) -> Any:
    return client.post(path, body)


def _label(role: str) -> QLabel:
    label = QLabel()
    label.setProperty("role", role)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label
