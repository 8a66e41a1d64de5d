"""The shots panel: what there is to make, in the order in which it came."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from PySide6.QtCore import (
    QItemSelectionModel,
    QModelIndex,
    QSignalBlocker,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import (
    QAction,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QKeySequence,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from desktop.settings.estimate import link
from desktop.settings.fields import CONTROL_PX, row, tool
from desktop.shots.drop import DropOverlay
from desktop.shots.intake import Found, Intake, paths_in, refusal
from desktop.shots.rows import (
    Role,
    ShotDraft,
    ShotOrDraft,
    ShotsModel,
    is_wish,
    key_of,
    read_draft,
    rows_of,
)
from desktop.shots.view import ShotsList
from desktop.studio import Changed, Studio
from freeswim.errors import FreeswimError
from freeswim.studio.client import Json

UNDO_MS = 8000  # for what was removed to be had again


class ShotsPanel(QWidget):
    """All shots, and what the window alone knows of: drafts of shots that have no job yet."""

    chosen = Signal(object)  # Shot, ShotDraft; None: none
    selected = Signal(object)  # list of Shot and ShotDraft
    preset_dropped = Signal(object)  # PresetSaid
    discarded = Signal(str)  # key of a draft that was thrown away for good
    edited = Signal()  # `drafts` says something else now

    def __init__(self, studio: Studio) -> None:
        super().__init__()
        self._studio = studio
        self._drafts: dict[str, ShotDraft] = {}
        self._removed: list[ShotOrDraft] = []  # drafts and wishes, while that can be undone
        self._dropped: set[str] = set()  # ids of wishes that the studio was told to forget
        self._chosen = ""  # key; it may be of a shot that was not told of yet
        self._told = ""  # the key that was told last
        self._told_selection: list[str] = []
        self._intake = Intake()
        self._intake.found.connect(self._take_in)
        self.model = ShotsModel()
        self.model.renamed.connect(self._rename)
        self._build()
        self._make_actions()
        self.overlay = DropOverlay(self)
        self.setAcceptDrops(True)
        studio.changed.connect(self._on_changed)
        studio.connected.connect(self._refresh)
        self._refresh()

    # ---------------------------------------------------------------------------------- parts

    def _build(self) -> None:
        title = QLabel("Shots")
        font = title.font()
        font.setBold(True)
        title.setFont(font)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search names and prompts")
        self.search.setAccessibleName("Search shots")
        self.search.setClearButtonEnabled(True)
        self.search.setFixedHeight(CONTROL_PX)
        self.search.textChanged.connect(self._refresh)
        self.new = tool("add", "New shot")
        self.new.clicked.connect(self.new_shot)
        self.list = ShotsList(self.model)
        selection = self.list.selectionModel()
        selection.currentChanged.connect(lambda now: self._on_current(now))
        selection.selectionChanged.connect(self._on_selection)
        self.removed_words, self.undo = QLabel(), link("Undo")
        self.undo.clicked.connect(self._undo)
        self.strip = QFrame()
        self.strip.setProperty("role", "notice")
        layout = row(self.removed_words, self.undo)
        layout.setContentsMargins(8, 2, 8, 2)
        layout.setStretch(0, 1)
        self.strip.setLayout(layout)
        self.strip.hide()
        self._undo_timer = QTimer(self, singleShot=True, interval=UNDO_MS)
        self._undo_timer.timeout.connect(self._forget_removed)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 4)
        column.setSpacing(6)
        top = row(title, self.search, self.new, spacing=8)
        top.setStretch(1, 1)
        column.addLayout(top)
        column.addWidget(self.list, 1)
        column.addWidget(self.strip)
        self.setMinimumWidth(240)

    def _make_actions(self) -> None:
        def action(text: str, do: Callable[[], Any], tip: str, *keys: str) -> QAction:
            made = QAction(text, self)
            made.setShortcuts([QKeySequence(key) for key in keys])
            made.setStatusTip(tip)
            made.triggered.connect(lambda: do())
            return made

        self.add = action("&New shot", self.new_shot, "A shot of its own", "Ctrl+N")
        self.duplicate = action(
            "&Duplicate", self.duplicate_shot, "A new shot with the same settings", "Ctrl+D"
        )
        tip = "Only a shot that has no job yet can be renamed"
        self.rename = action("Re&name", self._edit_name, tip, "F2")
        tip = "Take a shot that has no job yet out of the list; Resolve's marker goes with it"
        self.remove = action("Re&move", self._remove, tip, "Delete")
        self.paste = action(
            "&Paste files", self._paste, "Shots from copied files or paths", "Ctrl+V"
        )
        self.find_shot = action("&Find shot", self._find, "Search names and prompts", "Ctrl+F")
        for one in (self.add, self.duplicate, self.find_shot):
            self.addAction(one)
        for one in (self.rename, self.remove, self.paste):  # in text fields these mean others
            one.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
            self.list.addAction(one)

    def actions_for(self) -> list[QAction | None]:
        """For the window's menus, in their order; None: a line between."""
        return [
            *(self.add, self.paste, None),
            *(self.duplicate, self.rename, self.remove, None, self.find_shot),
        ]

    # -------------------------------------------------------------------------------- choosing

    @property
    def current(self) -> ShotOrDraft | None:
        """The shot that is chosen."""
        number = self.model.find(self._chosen)
        return self.model.rows[number].shot if number >= 0 else None

    def choose(self, key: str) -> None:
        """Choose a shot, now or as soon as it is there."""
        self._chosen = key
        self._mark()
        self.list.scrollTo(self.list.currentIndex())
        self._tell()

    def choose_all(self, keys: Sequence[str]) -> None:
        """Choose the first of these shots, and select them all."""
        self.search.clear()
        self.choose(keys[0])
        selection = self.list.selectionModel()
        for key in keys:
            if (number := self.model.find(key)) >= 0:
                select = QItemSelectionModel.SelectionFlag.Select
                selection.select(self.model.index(number), select)

    def _mark(self) -> None:
        """Make the chosen shot's row the current one; none, where a search hides it."""
        number, selection = self.model.find(self._chosen), self.list.selectionModel()
        if number < 0:
            selection.clear()
        elif self.list.currentIndex().row() != number:
            flags = QItemSelectionModel.SelectionFlag.ClearAndSelect
            selection.setCurrentIndex(self.model.index(number), flags)

    def _on_current(self, now: QModelIndex) -> None:
        if now.isValid():
            self._chosen = now.data(Role.KEY)
            self._tell()
            self._told_selection = []  # who shows a shot anew is told again what is selected
            self._on_selection()
            self.edited.emit()

    def _on_selection(self) -> None:
        indexes = sorted(self.list.selectedIndexes(), key=lambda index: index.row())
        shots = [self.model.rows[index.row()].shot for index in indexes]
        is_draft = len(shots) > 0 and all(isinstance(shot, ShotDraft) for shot in shots)
        self.rename.setEnabled(is_draft and len(shots) == 1)
        self.remove.setEnabled(bool(shots) and all(self._can_be_removed(shot) for shot in shots))
        self.duplicate.setEnabled(bool(shots))
        keys = [key_of(shot) for shot in shots]
        if keys != self._told_selection:
            self._told_selection = keys
            self.selected.emit(shots)

    def _tell(self) -> None:
        """Say which shot is chosen, where that was not said."""
        shot = self.current
        if shot is None and self._chosen:
            return  # it is hidden, or has not come yet
        key = "" if shot is None else key_of(shot)
        if key != self._told:
            self._told = key
            self.chosen.emit(shot)

    # --------------------------------------------------------------------------------- showing

    def _on_changed(self, changed: Changed) -> None:
        if changed.shots or changed.jobs or changed.takes:
            self._refresh()

    def _refresh(self) -> None:
        words = self.search.text().casefold().split()
        removed = {key_of(shot) for shot in self._removed} | self._dropped
        rows = [
            row
            for row in rows_of(self._studio, self._drafts.values())
            if key_of(row.shot) not in removed
        ]
        shown = [row for row in rows if all(word in row.words for word in words)]
        # What comes and goes changes no choice.
        blocker = QSignalBlocker(self.list.selectionModel())
        self.model.show_rows(shown)
        self._mark()
        blocker.unblock()
        self.list.viewport().update()
        if not rows:
            self.list.say_empty(
                "Send clips from Resolve (Workspace ▸ Scripts ▸ FreeSwim), "
                "or drop video files here."
            )
        elif not shown:
            self.list.say_empty(f"No shot has “{self.search.text()}” in its name or prompt.")
        self._tell()
        self._on_selection()

    # ---------------------------------------------------------------------------------- drafts

    def new_shot(self) -> ShotDraft:
        """A shot of its own, chosen."""
        return self.add_shot()

    def add_shot(self, name: str = "", asked: Json | None = None) -> ShotDraft:
        """A shot that begins with some settings, chosen.

        Args:
            name: "": its prompt will name it.
            asked: fields of a sheet, or a request that was made before.
        """
        asked = asked or {}
        prompt, kind = str(asked.get("prompt", "")), str(asked.get("kind", "text"))
        return self._add(ShotDraft(_new_key(), name, asked=asked, prompt=prompt, kind=kind))

    def duplicate_shot(self) -> None:
        """A new shot that begins with the settings of the chosen one."""
        shot = self.current
        if isinstance(shot, ShotDraft):
            self._add(ShotDraft(_new_key(), _next_name(shot.name), asked={"of": shot.key}))
        elif shot is not None:
            self._add(ShotDraft(_new_key(), _next_name(shot.name), asked={"of": shot.id}))

    def set_prompt(self, key: str, prompt: str, kind: str) -> None:
        """What a shot's settings say by now."""
        draft = self._drafts.get(key)
        if draft is not None and (draft.prompt, draft.kind) != (prompt, kind):
            draft.prompt, draft.kind = prompt, kind
            self._refresh()
            self.edited.emit()

    def settle(self, key: str, shot_id: str) -> None:
        """A draft has become a shot of the studio's."""
        was_chosen = self._chosen == key
        self._drafts.pop(key, None)
        if was_chosen:
            self._told = self._chosen = shot_id  # its settings are shown already
        self._refresh()
        self.edited.emit()

    def _add(self, *drafts: ShotDraft) -> ShotDraft:
        for draft in drafts:
            draft.created_at = draft.created_at or time.time()
            self._drafts[draft.key] = draft
        if self.search.text():
            self.search.clear()
        self._refresh()
        self.choose(drafts[0].key)
        self.edited.emit()
        return drafts[0]

    def _rename(self, key: str, name: str) -> None:
        if (draft := self._drafts.get(key)) is not None:
            draft.name = " ".join("".join(c if c.isprintable() else " " for c in name).split())[
                :100
            ]
            self._refresh()
            self.edited.emit()

    def _edit_name(self) -> None:
        self.list.edit(self.list.currentIndex())

    def _remove(self) -> None:
        selected = [self.model.rows[index.row()].shot for index in self.list.selectedIndexes()]
        shots = [shot for shot in selected if self._can_be_removed(shot)]
        if not shots:
            return
        self._forget_removed()
        self._removed = shots
        for shot in shots:
            self._drafts.pop(key_of(shot), None)
        self._choose_near(self.list.currentIndex().row())
        what = shots[0].name or "The new shot" if len(shots) == 1 else f"{len(shots)} shots"
        self.removed_words.setText(f"{what} removed.")
        self.strip.show()
        self._undo_timer.start()
        self.edited.emit()

    def _can_be_removed(self, shot: ShotOrDraft) -> bool:
        return isinstance(shot, ShotDraft) or is_wish(shot, self._studio)

    def _choose_near(self, number: int) -> None:
        """Choose what comes to stand where a row was."""
        self._refresh()
        rows = self.model.rows
        self.choose(key_of(rows[min(number, len(rows) - 1)].shot) if rows else "")

    def _undo(self) -> None:
        shots, self._removed = self._removed, []
        self.strip.hide()
        self._undo_timer.stop()
        if drafts := [shot for shot in shots if isinstance(shot, ShotDraft)]:
            self._add(*drafts)
        elif shots:
            self._refresh()
            self.choose(key_of(shots[0]))
        self.list.setFocus()  # the link that had it is gone

    def _forget_removed(self) -> None:
        for shot in self._removed:
            if not isinstance(shot, ShotDraft):
                self._drop(shot.id)
            self.discarded.emit(key_of(shot))
        self._removed = []
        self.strip.hide()

    def _drop(self, shot_id: str) -> None:
        """Have the studio forget a wish; its marker in Resolve goes with it."""

        def keep(error: FreeswimError) -> None:
            self._dropped.discard(shot_id)
            self._refresh()
            self.refuse(f"{error.message} {error.hint}".strip())

        self._dropped.add(shot_id)
        path = f"/resolve/shots/{shot_id}/drop"
        self._studio.order(lambda client: client.post(path), None, keep)

    # ----------------------------------------------------------------------------------- files

    def add_files(self, paths: Sequence[Path]) -> None:
        """Make shots of files and of what is in folders."""
        if paths:
            self._intake.look(paths)

    def _paste(self) -> None:
        paths = paths_in(QApplication.clipboard().mimeData())
        if paths:
            self.add_files(paths)
        else:
            self.refuse("There is no file and no path in what was copied.")

    def _find(self) -> None:
        self.search.setFocus()
        self.search.selectAll()

    def refuse(self, reason: str) -> None:
        """Say for a while why something was not taken in."""
        self.overlay.show_words(reason, is_refusal=True, stays=True)

    def _take_in(self, found: list[Found]) -> None:
        self.overlay.hide()
        drafts = [draft for one in found if (draft := _draft_of(one)) is not None]
        if drafts:
            self._add(*drafts)
        for one in found:
            if one.preset is not None:
                self.preset_dropped.emit(one.preset)
        reasons = list(dict.fromkeys(one.reason for one in found if one.kind == "nothing"))
        if reasons:
            more = f"\n… and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            self.refuse("\n".join(reasons[:3]) + more)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        paths = paths_in(event.mimeData())
        if not paths:
            return
        reasons = [reason for path in paths if (reason := refusal(path))]
        if len(reasons) == len(paths):
            self.overlay.show_words(reasons[0], is_refusal=True)
        else:
            count = len(paths) - len(reasons)
            what = "Drop to add a shot" if count == 1 else f"Drop to add {count} shots"
            self.overlay.show_words("\n".join([what, *reasons[:2]]), is_refusal=False)
        event.acceptProposedAction()  # or the overlay would have no end: no leave is told of

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.overlay.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self.overlay.hide()
        paths = paths_in(event.mimeData())
        self.add_files(paths)
        if paths:
            event.acceptProposedAction()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.overlay.setGeometry(self.rect())

    # ------------------------------------------------------------------------------ remembered

    def drafts(self) -> Json:
        """What the studio does not know, as JSON."""
        return {
            "drafts": [
                vars(draft)
                for draft in (*self._drafts.values(), *self._removed)
                if isinstance(draft, ShotDraft)  # a wish that was not dropped yet comes back
            ],
            "chosen": self._chosen,
        }

    def restore(self, drafts: Mapping[str, Any]) -> None:
        """Have again what `drafts` gave; what cannot be read is left out."""
        said: Any = drafts.get("drafts")
        for one in cast("list[Any]", said) if isinstance(said, list) else []:
            if (draft := read_draft(one)) is not None:
                self._drafts[draft.key] = draft
        self._chosen = str(drafts.get("chosen") or "")
        self._refresh()


def _draft_of(found: Found) -> ShotDraft | None:
    """The shot that comes of a file; None: none."""
    name, path = found.path.stem[:100], str(found.path.absolute())
    if found.clip is not None:
        clip = found.clip.model_dump(mode="json")
        asked = {"kind": "clip", "clip": path, "clip_facts": clip}
        return ShotDraft(_new_key(), name, asked=asked, kind="clip")
    if found.kind == "image":
        return ShotDraft(
            _new_key(), name, asked={"kind": "image", "first_image": path}, kind="image"
        )
    if found.request is not None:
        request = found.request
        return ShotDraft(
            _new_key(), name, asked=request, prompt=request["prompt"], kind=request["kind"]
        )
    return None


def _new_key() -> str:
    return f"draft {secrets.token_hex(4)}"


def _next_name(name: str) -> str:
    """The name of a copy."""
    return f"{name} copy"[:100] if name else ""
