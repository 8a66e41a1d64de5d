"""The settings panel: what is asked of the shot that is chosen, and the button that sends it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError
from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QMenu,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.resolve.words import length_words, spot_of, spot_words, wish_of
from desktop.settings.estimate import Estimate, link
from desktop.settings.fields import row
from desktop.settings.form import Form
from desktop.settings.orders import Order, Outcome, carry_out, seeds_of
from desktop.settings.preset_chooser import PresetChooser
from desktop.settings.sheet import Library, Sheet
from desktop.shots.rows import ShotDraft, ShotOrDraft, is_wish, key_of
from desktop.studio import Changed, Studio
from freeswim.errors import FreeswimError
from freeswim.models.catalog import find_checkpoint
from freeswim.request import MAX_SEED
from freeswim.studio.client import Client, Json
from freeswim.studio.job import Job, JobState, Shot
from freeswim.studio.resolve.placer import Wish
from freeswim.studio.wire import PresetSaid

MANY_SEEDS = 4
_SHOT_OF_JOB = {"name": "shot_name", "created_at": "created_at", "seq": "seq"}
EDITABLE = (JobState.QUEUED, JobState.PAUSED, JobState.WAITING)


class SettingsPanel(QWidget):
    """Settings of the chosen shot, or of a job that waits. One sheet for each of them is kept."""

    submitted = Signal(object)  # list of ids of the jobs that were added
    model_wanted = Signal(str)  # name of a checkpoint that is to be fetched
    edited = Signal()  # something was typed: `unsent` says what
    settled = Signal(str, str)  # key of a draft, id of the shot that it has become
    described = Signal(str, str, str)  # key of a shot, its prompt and kind as they are now
    job_left = Signal()  # the job that was edited is saved, or left as it was

    def __init__(self, studio: Studio) -> None:
        super().__init__()
        self._studio = studio
        self._sheets: dict[str, Sheet] = {}  # by key of the shot; "": of no shot yet
        self._shot: ShotOrDraft | None = None
        self._selected: list[ShotOrDraft] = []
        self._job: Job | None = None  # that is edited
        self._being_sent: set[str] = set()  # keys of drafts: a second press makes no second shot
        self._library = Library()

        self.form = Form()
        self.estimate = Estimate(studio)
        self._build()
        self._make_actions()
        self._connect(studio)
        self._show()

    # ---------------------------------------------------------------------------------- parts

    def _build(self) -> None:
        scrolled = QScrollArea()
        scrolled.setWidget(self.form)
        scrolled.setWidgetResizable(True)
        scrolled.setFrameShape(QFrame.Shape.NoFrame)
        scrolled.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scrolled.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.button = QPushButton()
        self.button.setProperty("role", "primary")
        self.more = QPushButton()
        self.more.setProperty("role", "primary")
        self.more.setIcon(theme.icon("down", theme.ON_ACCENT))
        self.more.setFixedWidth(36)
        self.more.setAccessibleName("More ways to add")
        self.more.setToolTip("More ways to add")
        self.obstacle = QLabel()
        self.obstacle.setProperty("role", "secondary")
        self.obstacle.setWordWrap(True)
        below = QVBoxLayout()
        below.setContentsMargins(8, 6, 8, 8)
        below.setSpacing(6)
        below.addWidget(self.estimate)
        buttons = row(self.button, self.more, spacing=2)
        buttons.setStretch(0, 1)
        below.addLayout(buttons)
        below.addWidget(self.obstacle)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._editing_strip())
        column.addWidget(self._spot_strip())
        column.addWidget(scrolled, 1)
        column.addLayout(below)
        self.setMinimumWidth(280)

    def _editing_strip(self) -> QWidget:
        """Says that a job is edited and not a new one made."""
        self.strip = QFrame()
        self.strip.setProperty("role", "notice")
        self.strip_words = QLabel()
        self.leave = link("Leave")
        self.leave.setToolTip("Leave the job as it is (Esc)")
        layout = row(self.strip_words, self.leave)
        layout.setContentsMargins(8, 2, 8, 2)
        layout.setStretch(0, 1)
        self.strip.setLayout(layout)
        self.strip.hide()
        return self.strip

    def _spot_strip(self) -> QWidget:
        """Says where in Resolve the takes of a shot go."""
        self.spot = QFrame()
        sign = QLabel()
        sign.setPixmap(theme.icon("place", theme.LINK).pixmap(16, 16))
        self.spot_words = QLabel(wordWrap=True)
        self.spot_words.setTextFormat(Qt.TextFormat.PlainText)
        layout = row(sign, self.spot_words, spacing=8)
        layout.setContentsMargins(8, 6, 8, 0)
        layout.setStretch(1, 1)
        self.spot.setLayout(layout)
        return self.spot

    def _make_actions(self) -> None:
        def action(text: str, do: Callable[[], Any], tip: str, *keys: str) -> QAction:
            made = QAction(text, self)
            made.setShortcuts([QKeySequence(key) for key in keys])
            made.setStatusTip(tip)
            made.triggered.connect(lambda: do())
            self.addAction(made)
            return made

        self.add = action(
            *("&Add to queue", self.send, "Add what is set to the end of the queue"),
            *("Ctrl+Return", "Ctrl+Enter"),
        )
        self.add_front = action(
            *("Add to &front", lambda: self.send(front=True), "Make it before all that waits"),
            *("Ctrl+Shift+Return", "Ctrl+Shift+Enter"),
        )
        self.add_seeds = action(
            f"Add with {MANY_SEEDS} &seeds",
            lambda: self.send(num_seeds=MANY_SEEDS),
            f"{MANY_SEEDS} takes that differ in their seed alone",
        )
        self.add_draft = action(
            "Add as &draft only",
            lambda: self.send(draft=True),
            "The base pass alone, to be finished later: quick",
        )
        self.add_presets = action(
            "Add with &each preset…",
            self._choose_presets,
            "One take with each of several presets, all with the same seed",
        )
        self.reset = action(
            *("&Reset the field", self.form.reset_focused, "Back to the preset's value"),
            "Ctrl+Alt+R",
        )
        self.reset.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        self.stop_editing = action("&Leave the job", self.leave_job, "Leave it as it is", "Esc")
        self.stop_editing.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        self.stop_editing.setEnabled(False)
        self.menu = QMenu(self)
        self.menu.addActions([self.add_front, self.add_seeds, self.add_draft, self.add_presets])

    def actions_for(self) -> list[QAction | None]:
        """For the window's menus, in their order; None: a line between."""
        adding = [self.add, self.add_front, self.add_seeds, self.add_draft, self.add_presets]
        return [*adding, None, self.reset, self.stop_editing]

    def _connect(self, studio: Studio) -> None:
        self.button.clicked.connect(lambda: self.send())
        self.more.clicked.connect(self._open_menu)
        self.leave.clicked.connect(self.leave_job)
        self.form.changed.connect(self._on_changed)
        self.form.refused.connect(lambda reason: self.estimate.warn(reason))
        self.form.fold.toggled.connect(lambda: self.edited.emit())
        self.estimate.fix_chosen.connect(self.form.tune)
        self.estimate.model_wanted.connect(self.model_wanted)
        self.estimate.told.connect(self._show_button)
        studio.connected.connect(self._on_connected)
        studio.lost.connect(self._on_lost)
        studio.changed.connect(self._on_studio_changed)
        if studio.is_connected:
            self._on_connected()

    # ------------------------------------------------------------------------ which one is shown

    @property
    def key(self) -> str:
        """Of the sheet that is shown."""
        if self._job is not None:
            return f"job {self._job.id}"
        return "" if self._shot is None else key_of(self._shot)

    @property
    def sheet(self) -> Sheet:
        """The sheet that is shown."""
        return self.form.sheet

    def show_shot(self, shot: ShotOrDraft | None) -> None:
        """Show the settings of a shot; None: of one that is not there yet."""
        was_editing, self._job = self._job is not None, None
        self._shot = shot
        self._selected = [] if shot is None else [shot]
        self._show()
        if was_editing:
            self.job_left.emit()

    def set_selected(self, shots: Sequence[ShotOrDraft]) -> None:
        """What the button adds, where it is more than the shot that is shown."""
        self._selected = list(shots)
        self._show_button()

    def edit_job(self, job: Job) -> None:
        """Show the settings of a job that waits; the button saves them."""
        self._job = job
        self._show()
        self.form.prompt.setFocus()

    def leave_job(self) -> None:
        """Leave the job that is edited as it was."""
        if self._job is None:
            return
        self._sheets.pop(self.key, None)
        self._job = None
        self._show()
        self.edited.emit()
        self.job_left.emit()

    def use_settings(self, request: Mapping[str, Any], *, with_seed: bool = False) -> None:
        """Make the chosen shot's settings those of a request that was made before."""
        if not self._library:
            return
        sheet = self._library.sheet_of(request, is_seed_locked=with_seed)
        sheet.tuned = self.sheet.tuned | sheet.tuned
        self._sheets[self.key] = sheet
        self.form.show_sheet(sheet, self._library, keeps_undo=True)
        self._on_changed()

    def use_preset(self, preset: PresetSaid) -> None:
        """Offer a preset of the person's own, and choose it."""
        self._library.from_files[preset.name] = preset
        self.form.tune({"preset": preset.name})

    def _show(self) -> None:
        self.form.show_sheet(self._sheet_of(self.key), self._library)
        job = self._job
        self.strip.setVisible(job is not None)
        self.stop_editing.setEnabled(job is not None)
        if job is not None:
            self.strip_words.setText(f"Editing job {job.number}")
            self.strip_words.setToolTip(job.shot_name)
        self._show_spot()
        self._refresh()

    def _show_spot(self) -> None:
        place = spot_of(self._shot) if isinstance(self._shot, Shot) else None
        self.spot.setVisible(place is not None)
        if place is None:
            return
        name = f" of {place.project_name}" if place.project_name else ""
        self.spot_words.setText(f"For {spot_words(place)}{name}: {length_words(place)}.")
        self.spot.setToolTip(
            "Asked for inside Resolve. Finished takes are conformed to exactly these frames and put\n"
            "on a free track there; the marker follows the edit until then."
        )

    def _sheet_of(self, key: str) -> Sheet:
        """A shot's sheet; one that was never shown begins as its last job, or as it was dropped."""
        if key not in self._sheets:
            self._sheets[key] = self._first_sheet(key)
        return self._sheets[key]

    def _first_sheet(self, key: str) -> Sheet:
        if self._job is not None and key == self.key:
            return self._library.sheet_of(self._job.request, is_seed_locked=True)
        for shot in (self._shot, *self._selected):
            if isinstance(shot, ShotDraft) and shot.key == key:
                return self._sheet_from(shot.asked)
        if not self._library:
            return Sheet()
        jobs = [job for job in self._studio.jobs.values() if job.shot_id == key]
        if jobs:
            last = max(jobs, key=lambda job: job.number)
            return self._library.sheet_of(last.request, is_seed_locked=False)
        if (wish := self._wish(key)) is not None:
            return self._library.sheet_of_changes(wish.preset, wish.request)
        return Sheet()

    def _wish(self, key: str) -> Wish | None:
        """What was asked for inside Resolve of a shot that has no job yet."""
        shot = self._studio.shots.get(key)
        return wish_of(shot) if shot is not None and is_wish(shot, self._studio) else None

    def _sheet_from(self, asked: Json) -> Sheet:
        """What a draft begins with: a sheet, another's, or a request."""
        if "of" in asked:
            return self._sheet_of(str(asked["of"])).model_copy(deep=True)
        if "checkpoint" not in asked:
            return _read_sheet(asked)
        if not self._library:
            return Sheet()
        return self._library.sheet_of(asked, is_seed_locked=False)

    # -------------------------------------------------------------------------------- changes

    def _on_changed(self) -> None:
        self.estimate.warn("")
        self._refresh()
        if self._job is None:
            self.described.emit(self.key, self.sheet.prompt, self.sheet.kind)
        self.edited.emit()

    def _refresh(self) -> None:
        """Say anew what the take will take, and what the button does."""
        if self._library and self._studio.is_connected:
            other = self._library.instead(self.sheet)
            instead = None if other is None else (f"Use {other.title}", {"preset": other.name})
            self.estimate.ask_for(self._library.forecast(self.sheet), instead)
            checkpoint = self._library.checkpoint_of(self.sheet)
            is_here = checkpoint.name in self._library.installed
            self.estimate.show_missing(None if is_here else checkpoint)
        self._show_button()

    def _show_button(self) -> None:
        obstacle = self._obstacle()
        words = self._words()
        self.button.setText(words)
        self.button.setAccessibleDescription(obstacle)
        self.button.setToolTip("Ctrl+Return")
        self.add.setText(f"&{words}")
        self.obstacle.setText(obstacle)
        self.obstacle.setVisible(bool(obstacle))
        self.button.setEnabled(not obstacle)
        self.more.setEnabled(not obstacle and self._job is None)
        self.add.setEnabled(not obstacle)
        is_new = not obstacle and self._job is None
        for action in (self.add_front, self.add_seeds, self.add_presets):
            action.setEnabled(is_new)
        sheets = [self._sheet_of(key) for key in self._keys()]
        can_draft = all(sheet.kind != "clip" for sheet in sheets)
        self.add_draft.setEnabled(is_new and can_draft)

    def _words(self) -> str:
        """What the button does."""
        if self._job is not None:
            return "Save job"
        if len(self._selected) > 1:
            return f"Add {len(self._selected)} shots"
        if self.sheet.kind == "clip":
            return "Regenerate clip"
        is_draft = self._library and self._library.values(self.sheet)["draft"]
        if is_draft:
            return "Add draft to queue"
        wish = self._wish(self.key)
        return f"Add {wish.takes} takes to queue" if wish and wish.takes > 1 else "Add to queue"

    def _obstacle(self) -> str:
        """What keeps the button from being pressed, in words; empty: nothing."""
        if not self._studio.is_connected:
            return "Waiting for the studio. What is typed here is kept."
        if not self._library:
            return "Loading presets."
        if self._being_sent & set(self._keys()):
            return "Adding…"
        if problem := self.form.problem:
            return problem
        for key in self._keys():
            if obstacle := self._library.obstacle(self._sheet_of(key)):
                many = len(self._selected) > 1
                return f"{self._name_of(key)}: {obstacle}" if many else obstacle
        error = self.estimate.error
        if error is not None and error.code in ("bad_request", "bad_preset"):
            return "Change what is said above."
        return ""

    def _keys(self) -> list[str]:
        """Of the shots that the button adds."""
        if self._job is not None or len(self._selected) < 2:
            return [self.key]
        return [key_of(shot) for shot in self._selected]

    def _name_of(self, key: str) -> str:
        return next((shot.name for shot in self._selected if key_of(shot) == key), "") or "New shot"

    # -------------------------------------------------------------------------------- sending

    def send(self, *, front: bool = False, num_seeds: int = 1, draft: bool = False) -> None:
        """Add the jobs that are asked for, or save the job that is edited."""
        if self._obstacle():
            return
        if self._job is not None:
            self._save(self._job)
            return
        orders: list[Order] = []
        for key in self._keys():
            sheet = self._sheet_of(key)
            asked = self._library.submission(sheet)
            if draft:
                asked["request"]["draft"] = True
            wish = self._wish(key)
            count = max(num_seeds, wish.takes if wish is not None and not draft else 1)
            if count > 1:
                asked["seeds"] = seeds_of(sheet, count)
            orders.append(Order(key, asked | {"front": front} | self._place(key)))
        self._order(orders, front=front)

    def send_with_presets(self, names: Sequence[str]) -> None:
        """Add a job with each of several presets, as if each were chosen in turn."""
        if self._obstacle():
            return
        orders: list[Order] = []
        for key in self._keys():
            sheet = self._sheet_of(key).model_copy(deep=True)
            if not sheet.is_seed_locked:  # presets are compared by the same one
                sheet.seed, sheet.is_seed_locked = random.randrange(MAX_SEED + 1), True
            for name in names:
                asked = self._library.submission(sheet.with_preset(name))
                orders.append(Order(key, asked | self._place(key)))
        self._order(orders, front=False)

    def _place(self, key: str) -> Json:
        """The shot that a job is for, as the studio is told."""
        for shot in (self._shot, *self._selected):
            if shot is None or key_of(shot) != key:
                continue
            if isinstance(shot, Shot):
                return {"shot_id": shot.id}
            return {"shot": {"name": shot.name}} if shot.name else {}
        return {}

    def _order(self, orders: list[Order], *, front: bool) -> None:
        self._being_sent |= {order.key for order in orders if "shot_id" not in order.submission}

        def settle(outcome: Outcome) -> None:
            self._being_sent -= {order.key for order in orders}
            self._settle(outcome)

        def fail(error: FreeswimError) -> None:
            settle(Outcome([], error))

        # Each goes to the very front, so the last one goes first.
        in_turn = orders[::-1] if front else orders
        self._studio.order(lambda client: carry_out(client, in_turn), settle, fail)
        self._show_button()

    def _settle(self, outcome: Outcome) -> None:
        for key, jobs in outcome.added:
            self._take_over(key, jobs[-1])
        if outcome.added:
            self.submitted.emit([job["id"] for _, jobs in outcome.added for job in jobs])
            self.edited.emit()
        self.estimate.warn("")
        if outcome.error is not None:
            self.estimate.refuse(outcome.error)
        self._show_button()

    def _take_over(self, key: str, job: Json) -> None:
        """A draft's sheet becomes that of its shot; the seed that was drawn is shown."""
        sheet, shot_id = self._sheets.get(key), str(job["shot_id"])
        if sheet is None:  # taken over already, by another job of the same order
            return
        sheet.seed = int(job["request"]["seed"])
        if key != shot_id:
            shot = Shot(id=shot_id, **{to: job[name] for to, name in _SHOT_OF_JOB.items()})
            if self.key == key:
                self._shot = shot
            self._selected = [shot if key_of(one) == key else one for one in self._selected]
            self._sheets[shot_id] = self._sheets.pop(key)
            self.settled.emit(key, shot_id)
        if self.sheet is sheet:
            self.form.refresh()

    def _save(self, job: Job) -> None:
        changes = self._library.edits(self.sheet, job.request)

        def saved(_: Json) -> None:
            if self._job is not None and self._job.id == job.id:
                self.leave_job()

        self._studio.order(
            lambda client: client.patch(f"/jobs/{job.id}", {"request": changes}),
            saved,
            self._on_refused,
        )

    def _on_refused(self, error: FreeswimError) -> None:
        self.estimate.refuse(error)

    def _open_menu(self) -> None:
        self.menu.popup(self.more.mapToGlobal(QPoint(0, -self.menu.sizeHint().height())))

    def _choose_presets(self) -> None:
        popup = PresetChooser(self._library, self.sheet, self)
        popup.chosen.connect(self.send_with_presets)
        corner = self.button.mapToGlobal(QPoint(0, 0))
        popup.adjustSize()
        popup.move(corner.x(), corner.y() - popup.height() - 4)
        popup.show()
        popup.boxes[self.sheet.preset].setFocus()

    # ------------------------------------------------------------------------------ the studio

    def reload(self) -> None:
        """Look again which presets and checkpoints there are: one may have been installed."""

        def ask(client: Client) -> tuple[Json, Json]:
            return client.get("/presets"), client.get("/catalog")

        self._studio.ask(ask, self._take_library, self._on_refused)

    def _take_library(self, said: tuple[Json, Json]) -> None:
        presets, catalog = said
        is_first = not self._library
        self._library = Library(
            [PresetSaid.model_validate(preset) for preset in presets["presets"]],
            [one["name"] for one in catalog["checkpoints"] if one["is_installed"]],
            self._library.from_files,
        )
        self.estimate.forget()
        if is_first:  # by now a shot that nobody touched can begin as its last job
            blank = Sheet()
            self._sheets = {key: sheet for key, sheet in self._sheets.items() if sheet != blank}
        self._show()

    def _on_connected(self) -> None:
        self.reload()
        self._show_button()

    def _on_lost(self, _: FreeswimError) -> None:
        self.estimate.stop()
        self._show_button()

    def _on_studio_changed(self, changed: Changed) -> None:
        if changed.takes:  # times were measured
            self.estimate.forget()
            self._refresh()
        elif changed.jobs:  # a shot of Resolve's that has one is no wish any more
            self._show_button()
        job = self._job
        if job is not None and job.id in changed.jobs:
            now = self._studio.jobs[job.id]
            if now.state not in EDITABLE:
                self._lose_job(now)

    def _lose_job(self, job: Job) -> None:
        """The job that is edited was begun: what was typed stays, as settings of its shot."""
        self._sheets[job.shot_id] = self._sheets.pop(self.key)
        self._job = None
        self._shot = self._studio.shots.get(job.shot_id, self._shot)
        self._selected = [] if self._shot is None else [self._shot]
        self._show()
        self.estimate.warn(
            f"Job {job.number} is {job.state} by now.", "Add the changes as a new job."
        )
        self.edited.emit()
        self.job_left.emit()

    # ------------------------------------------------------------------------------ remembered

    def unsent(self) -> Json:
        """All that was typed, as JSON."""
        return {
            "sheets": {
                key: sheet.model_dump(mode="json", exclude_defaults=True)
                for key, sheet in self._sheets.items()
                if sheet != Sheet()
            },
            "presets": [
                preset.model_dump(mode="json") for preset in self._library.from_files.values()
            ],
            "is_advanced_open": self.form.fold.isChecked(),
        }

    def restore(self, unsent: Mapping[str, Any]) -> None:
        """Have again what `unsent` gave; what cannot be read is left out."""
        said: Any = unsent.get("sheets")
        for key, sheet in (cast(Json, said) if isinstance(said, dict) else {}).items():
            self._sheets[key] = _read_sheet(sheet)
        presets: Any = unsent.get("presets")
        for preset in cast("list[Any]", presets) if isinstance(presets, list) else []:
            try:
                known = PresetSaid.model_validate(preset)
                find_checkpoint(known.defaults["checkpoint"])
            except (ValidationError, FreeswimError, KeyError):
                continue
            self._library.from_files[known.name] = known
        self.form.open_advanced(unsent.get("is_advanced_open") is True)
        self._show()

    def forget_shot(self, key: str) -> None:
        """A draft was thrown away for good."""
        self._sheets.pop(key, None)


def _read_sheet(said: Any) -> Sheet:
    """A sheet as it was saved; of a damaged one at least its words."""
    try:
        return Sheet.model_validate(said)
    except ValidationError:
        prompt = said.get("prompt") if isinstance(said, dict) else ""
        return Sheet(prompt=prompt if isinstance(prompt, str) else "")
