"""The window: shots and settings, the viewer with its takes, the queue; and what joins them.

A panel knows the studio and itself. What one of them means for another is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QAction, QCloseEvent, QDesktopServices, QKeySequence, QShowEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QFileDialog,
    QLineEdit,
    QMainWindow,
    QMenu,
    QPlainTextEdit,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from desktop.banner import Banner, Notice
from desktop.notices import Notices
from desktop.notify import Notifier
from desktop.queue.panel import QueuePanel
from desktop.queue.words import stage_words
from desktop.remembered import Remembered
from desktop.resolve.arrivals import Arrivals
from desktop.resolve.connection import Resolve
from desktop.resolve.panel import ResolvePanel
from desktop.resolve.words import (
    needs_prompt,
    owner_of,
    product_words,
    spot_of,
    spot_words,
    status_words,
)
from desktop.settings.panel import SettingsPanel
from desktop.shots.panel import ShotOrDraft, ShotsPanel, key_of
from desktop.status import StatusBar
from desktop.studio import Changed, Studio
from desktop.takes.panel import TakesStrip
from desktop.trouble import Trouble
from desktop.viewer.frames import Clip
from desktop.viewer.panel import Viewer
from desktop.windows.export import ExportWindow
from desktop.windows.first_run import FirstRun, Mark
from desktop.windows.models import ModelsWindow
from desktop.windows.preferences import PreferencesWindow
from desktop.windows.quitting import QuitSheet
from desktop.windows.report import ReportWindow
from desktop.windows.shortcuts import ShortcutsWindow
from freeswim import __version__, paths
from freeswim.studio.client import Json
from freeswim.studio.job import Job, JobState, Shot
from freeswim.studio.resolve.placer import News, ResolveNow
from freeswim.studio.runner import JobProgress

SMALLEST, FIRST_SIZE = (1100, 680), (1440, 860)  # pixels
SAMPLE_PROMPT = "two orange koi swimming left in green water"  # what the demo checkpoint knows
WIDTHS = (300, 760, 380)  # of the three columns at the first start


class Window(QMainWindow):
    """Everything an editor needs, in fixed places."""

    closed = Signal()

    def __init__(self, studio: Studio, remembered: Remembered, trouble: Trouble) -> None:
        super().__init__()
        self._studio, self._remembered, self._trouble = studio, remembered, trouble
        self._compared: tuple[str, Clip] | None = None  # key of a shot, and what is A beside it
        self._shown_take = ""  # id
        self._previews: dict[str, int] = {}  # job that runs -> number of the newest preview
        self._may_close = False
        self.setWindowTitle("FreeSwim")
        self.setMinimumSize(*SMALLEST)
        self.resize(*FIRST_SIZE)

        self.banner = Banner()
        self.shots = ShotsPanel(studio)
        self.settings = SettingsPanel(studio)
        self.viewer = Viewer(studio)
        self.takes = TakesStrip(studio)
        self.queue = QueuePanel(studio)
        self.resolve = Resolve(studio, self)
        self.resolve_panel = ResolvePanel(self.resolve, studio)
        self.arrivals = Arrivals(studio, self)
        self.status = StatusBar(studio)
        self._lay_out()
        self._make_windows()
        self._make_menus()
        self.preferences.shortcuts.show_actions(self.menuBar().actions())
        self.notices = Notices(studio, self.banner, self)
        self.notifier = Notifier(studio, remembered, self)
        self._connect()
        self._restore()

    # ------------------------------------------------------------------------------- its parts

    def _lay_out(self) -> None:
        left = QSplitter(Qt.Orientation.Vertical)
        left.addWidget(self.shots)
        left.addWidget(self.settings)
        left.setStretchFactor(1, 1)
        left.setSizes([190, 600])
        middle = QSplitter(Qt.Orientation.Vertical)
        middle.addWidget(self.viewer)
        middle.addWidget(self.takes)
        middle.setStretchFactor(0, 1)
        right = QSplitter(Qt.Orientation.Vertical)
        right.addWidget(self.queue)
        right.addWidget(self.resolve_panel)
        right.setStretchFactor(0, 1)
        right.setChildrenCollapsible(False)
        self._columns = QSplitter(Qt.Orientation.Horizontal)
        for place, column in enumerate((left, middle, right)):
            self._columns.addWidget(column)
            self._columns.setCollapsible(place, place != 1)
        self._columns.setStretchFactor(1, 1)
        self._columns.setSizes(WIDTHS)
        self._splitters = {"columns": self._columns, "left": left, "middle": middle, "right": right}
        whole = QWidget()
        column = QVBoxLayout(whole)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.banner)
        column.addWidget(self._columns, 1)
        self.setCentralWidget(whole)
        self.setStatusBar(self.status)

    def _make_windows(self) -> None:
        """Windows that stand beside this one; none of them holds anything up."""
        studio, remembered = self._studio, self._remembered
        self.export = ExportWindow(studio)
        self.models = ModelsWindow(studio)
        self.preferences = PreferencesWindow(studio, remembered, self.resolve)
        self.first_run = FirstRun(studio, remembered)
        self.report = ReportWindow(studio, self._unsent)
        self.shortcuts = ShortcutsWindow()
        self.quit_sheet = QuitSheet(studio, self, remembered)
        self._windows = (
            *(self.export, self.models, self.preferences),
            *(self.first_run, self.report, self.shortcuts),
        )

    def _make_menus(self) -> None:
        action = self._action
        file = self._menu("&File", [
            action("&Open files…", self._open_files, QKeySequence.StandardKey.Open),
            action("&Export…", self.export.open_for, "Ctrl+E"),
            action("&Models…", lambda: _raise(self.models)),
            None,
            action("&Preferences…", lambda: _raise(self.preferences), "Ctrl+,"),
            action("Open &logs folder", lambda: _open(paths.logs())),
            None,
            action("&Quit", self.close, "Ctrl+Q"),
        ])  # fmt: skip
        shots = self._menu("&Shot", [
            *self.shots.actions_for(), None, *self.settings.actions_for()
        ])  # fmt: skip
        takes = self._menu("&Takes", self.takes.actions_for())
        queue = self._menu("&Queue", self.queue.actions_for())
        hide_left = self._hiding("Hide sh&ots and settings", 0, "Ctrl+Shift+1")
        self._hide_right = self._hiding("Hide &queue", 2, "Ctrl+Shift+2")
        view = self._menu("&View", [*self.viewer.actions_for(), None, hide_left, self._hide_right])
        self.show_resolve = QAction("&Show the Resolve panel", self, checkable=True)
        self.show_resolve.setShortcut(QKeySequence("Ctrl+Shift+3"))
        self.show_resolve.toggled.connect(self._open_resolve)
        resolve = self._menu("&Resolve", [
            *self.resolve_panel.actions_for(), None, self.show_resolve,
            action("&Preferences for Resolve…", lambda: self.preferences.open_page("Resolve")),
        ])  # fmt: skip
        self._menu("&Help", [
            action("&First steps", lambda: _raise(self.first_run)),
            action("&Keyboard shortcuts", self._show_shortcuts, "?", "F1"),
            action("&Report a problem…", self.report.open_anew),
            None,
            action(f"FreeSwim {__version__}, MIT licence", _open_home),
        ])  # fmt: skip
        self.menus = [file, shots, takes, queue, view, resolve]

    def _menu(self, title: str, actions: Sequence[QAction | None]) -> QMenu:
        menu = self.menuBar().addMenu(title)
        for action in actions:
            if action is None:
                menu.addSeparator()
            else:
                menu.addAction(action)
        return menu

    def _action(
        self, text: str, do: Callable[[], Any], *keys: str | QKeySequence.StandardKey
    ) -> QAction:
        made = QAction(text, self)
        made.setShortcuts([QKeySequence(key) for key in keys])
        made.triggered.connect(lambda: do())
        return made

    def _hiding(self, text: str, column: int, keys: str) -> QAction:
        made = QAction(text, self, checkable=True)
        made.setShortcut(QKeySequence(keys))
        widget = self._columns.widget(column)
        assert widget is not None
        made.toggled.connect(widget.setHidden)
        return made

    # ------------------------------------------------------------------------- what joins them

    def _connect(self) -> None:
        studio = self._studio
        self.shots.chosen.connect(self._show_shot)
        self.shots.selected.connect(self.settings.set_selected)
        self.shots.preset_dropped.connect(self.settings.use_preset)
        self.shots.discarded.connect(self.settings.forget_shot)
        self.shots.edited.connect(self._keep_drafts)
        self.settings.settled.connect(self._settle)
        self.settings.described.connect(self.shots.set_prompt)
        self.settings.model_wanted.connect(self._want_model)
        self.settings.edited.connect(self._keep_drafts)
        self.takes.take_chosen.connect(self._show_take)
        self.takes.compare.connect(self._compare)
        self.takes.settings_wanted.connect(self._use_settings)
        self.takes.export_wanted.connect(self.export.open_for)
        self.queue.take_chosen.connect(self._choose_take)
        self.queue.edit_requested.connect(self._edit_job)
        self.queue.job_chosen.connect(self._choose_job)
        self.viewer.sample_requested.connect(self._make_sample)
        self.viewer.sound.changed.connect(self._keep_volume)
        self.viewer.frame_saved.connect(lambda path: self.status.say(f"Saved {path.name}."))
        self.first_run.model_wanted.connect(self._want_model)
        self.first_run.sample_wanted.connect(self._make_sample)
        self.preferences.models_wanted.connect(lambda: _raise(self.models))
        self.preferences.report_wanted.connect(self.report.open_anew)
        self.preferences.first_run_wanted.connect(lambda: _raise(self.first_run))
        self.models.told.connect(self.status.say)
        self.models.installed.connect(lambda _: self.settings.reload())
        self.notifier.clicked.connect(lambda: _raise(self))
        self.status.machine_seen.connect(self.notices.see_machine)
        self.status.disk_chosen.connect(lambda: _open(paths.takes()))
        self.status.machine_chosen.connect(lambda: self.preferences.open_page("Models & storage"))
        self.resolve.told.connect(self._say_resolve)
        self.resolve.happened.connect(self._say_news)
        self.resolve.installed.connect(self._say_installed)
        self.resolve_panel.closed.connect(self._close_resolve)
        self.arrivals.arrived.connect(self._welcome)
        self.preferences.resolve_wanted.connect(self.resolve.install)
        self.first_run.resolve_wanted.connect(self.resolve.install)
        self.status.resolve_chosen.connect(self.show_resolve.toggle)
        studio.changed.connect(self._on_changed)
        studio.progressed.connect(self._on_progress)
        studio.lost.connect(lambda _: self._say_title())
        self._trouble.happened.connect(self._say_trouble)
        self._remembered.failed.connect(
            lambda why: self.banner.show_notice("remembered", Notice(why))
        )

    def _say_trouble(self, what: str) -> None:
        text = f"Something went wrong in the window: {what}. Jobs are not touched by it."
        report = ("Report…", self.report.open_anew)
        self.banner.show_notice("trouble", Notice(text, (report,), is_error=True))

    def open_files(self, files: Sequence[Path]) -> None:
        """As if they were dropped on the window; come to the front."""
        _raise(self)
        if files:
            self.shots.add_files(files)

    def _open_files(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Open files")
        self.open_files([Path(name) for name in chosen])

    def _settle(self, key: str, shot_id: str) -> None:
        """A shot that only the window knew has got its first job."""
        self.shots.settle(key, shot_id)
        if self.settings.key == shot_id:
            self.takes.show_shot(shot_id)

    def _show_shot(self, shot: ShotOrDraft | None) -> None:
        self.settings.show_shot(shot)
        key = "" if shot is None else key_of(shot)
        self._shown_take = ""
        self.takes.show_shot(key)
        if not self._shown_take:
            source = self.settings.sheet.clip
            self.viewer.show_clips(Clip(Path(source), "Source") if source else None, None)

    def _show_take(self, take_id: str) -> None:
        """Show a take as B, beside what it is compared to."""
        self._shown_take = take_id
        self._studio.ask(
            lambda client: client.get(f"/takes/{take_id}"), partial(self._show_file, take_id, "B")
        )

    def _compare(self, take_id: str, side: str) -> None:
        self._studio.ask(
            lambda client: client.get(f"/takes/{take_id}"), partial(self._show_file, take_id, side)
        )

    def _show_file(self, take_id: str, side: str, said: Json) -> None:
        take = self._studio.takes[take_id]
        clip = Clip(Path(said["path"]), f"Take {take.number}")
        if side == "A":
            self._compared = (take.shot_id, clip)
            self.viewer.show_clips(clip, self.viewer.clips[1])
        elif take_id == self._shown_take or self._shown_take == "":
            self.viewer.show_clips(self._beside(take.shot_id, said), clip)

    def _beside(self, shot_id: str, said: Json) -> Clip | None:
        """What a take is compared to: what the person chose, else the clip that it remakes."""
        if self._compared is not None and self._compared[0] == shot_id:
            return self._compared[1]
        source = (said["sidecar"].get("request") or {}).get("clip")
        return Clip(Path(source["path"]), "Source") if source else None

    def _use_settings(self, take_id: str, with_seed: bool) -> None:
        job = self._studio.jobs[self._studio.takes[take_id].job_id]
        self.settings.use_settings(job.request, with_seed=with_seed)

    def _choose_take(self, take_id: str) -> None:
        self.shots.choose(self._studio.takes[take_id].shot_id)
        self.takes.choose(take_id)
        self.viewer.setFocus()

    def _choose_job(self, job_id: str) -> None:
        self.shots.choose(self._studio.jobs[job_id].shot_id)

    def _edit_job(self, job_id: str) -> None:
        job = self._studio.jobs[job_id]
        self.shots.choose(job.shot_id)
        self.settings.edit_job(job)

    def _want_model(self, checkpoint: str) -> None:
        _raise(self.models)
        self.models.want(checkpoint)

    def _make_sample(self) -> None:
        """The demo preset with a prompt that it knows; one press of the button from a take."""
        _raise(self)
        self.shots.add_shot("Sample", {"preset": "demo", "prompt": SAMPLE_PROMPT})
        self.settings.button.setFocus()

    # ----------------------------------------------------------------------- what the studio says

    def _on_changed(self, changed: Changed) -> None:
        for job_id in changed.jobs:
            job = self._studio.jobs[job_id]
            if job.state == JobState.RUNNING:
                self._previews.setdefault(job_id, 0)
            elif job.state != JobState.PUBLISHING and job_id in self._previews:
                self._end_preview(job)
        self._say_title()

    def _end_preview(self, job: Job) -> None:
        """What the person was watching being made is shown, in place of its preview."""
        del self._previews[job.id]
        self.viewer.end_preview(job.id)
        if job.state == JobState.DONE and job.shot_id == self.settings.key:
            self.takes.choose(job.take_id)

    def _on_progress(self, progress: JobProgress) -> None:
        self._say_title()
        job = self._studio.jobs[progress.job_id]
        asked = self._previews.get(job.id, 0)
        if progress.preview > asked and job.shot_id == self.settings.key:
            self._previews[job.id] = progress.preview
            words = f"Preview, {stage_words(progress)}"
            self._studio.ask(
                lambda client: client.get_bytes(f"/jobs/{job.id}/preview.jpg"),
                partial(self._show_preview, job.id, words),
                lambda _: None,
            )

    def _show_preview(self, job_id: str, words: str, image: bytes) -> None:
        if job_id in self._studio.running:
            self.viewer.show_preview(job_id, image, words)

    def _say_resolve(self, now: ResolveNow | None) -> None:
        link = owner_of(now)
        if now is None:
            words = "The studio is not there."
        else:
            words = now.message or (f"Connected: {product_words(link)}." if link else "")
        if link is not None:
            self.banner.take_back("installed")
        self.status.say_resolve(status_words(now), words)
        self.preferences.show_resolve(words, can_install=link is None)
        mark = Mark.DONE if link is not None else Mark.OPTIONAL
        self.first_run.say_resolve(mark, words, can_install=link is None)

    def _say_news(self, news: News) -> None:
        """What became of a verb. What went wrong is only seen here: inside Resolve there is no UI."""
        words = f"{news.message} {news.hint}".strip()
        if news.is_error:
            self.banner.show_notice("resolve", Notice(words))
            self._come_forward()
        else:
            self.banner.take_back("resolve")
        self.status.say(words)

    def _welcome(self, shots: list[Shot]) -> None:
        """Show what has arrived from Resolve; who is to write a prompt is called for it."""
        wish = next((shot for shot in reversed(shots) if needs_prompt(shot)), None)
        if wish is not None:
            self.shots.choose(wish.id)
            self.settings.form.prompt.setFocus()
            self._come_forward()
            place = spot_of(wish)
            spot = spot_words(place) if place is not None else "Resolve"
            self.status.say(f"A shot for {spot}: say in the prompt what it shows.")
            return
        keys = [shot.id for shot in shots]
        what = "1 shot" if len(keys) == 1 else f"{len(keys)} shots"
        show = ("Show", partial(self._show_arrived, keys))
        self.banner.show_notice(
            "arrived", Notice(f"{what} arrived from Resolve.", (show,), is_news=True)
        )
        if not self._is_typed_in():
            self.shots.choose_all(keys)
        QApplication.alert(self)

    def _is_typed_in(self) -> bool:
        """Whether somebody writes in this window: fields do not change under their fingers."""
        kinds = (QLineEdit, QPlainTextEdit, QAbstractSpinBox)
        return self.isActiveWindow() and isinstance(self.focusWidget(), kinds)

    def _show_arrived(self, keys: list[str]) -> None:
        self.banner.take_back("arrived")
        self.shots.choose_all(keys)
        self.shots.list.setFocus()

    def _come_forward(self) -> None:
        """Come to the front, as far as the system lets a program that nobody clicked.

        Windows and Wayland let none take the keyboard: there the taskbar asks for attention in its
        place. X11 and macOS raise the window.
        """
        if self._remembered.preferences.comes_forward:
            _raise(self)
        QApplication.alert(self)

    def _open_resolve(self, is_open: bool) -> None:
        self.resolve_panel.setVisible(is_open)
        self._remembered.keep(is_resolve_open=is_open)
        if is_open:
            self._hide_right.setChecked(False)
            self.resolve_panel.focus()

    def _close_resolve(self) -> None:
        self.show_resolve.setChecked(False)
        self.viewer.setFocus()

    def _say_installed(self, words: str, is_error: bool) -> None:
        notice = Notice(words, is_error=is_error, is_news=not is_error)
        self.banner.show_notice("installed", notice)

    def _say_title(self) -> None:
        job = next((self._studio.jobs[job_id] for job_id in self._studio.running), None)
        if job is None:
            self.setWindowTitle("FreeSwim")
        else:
            share = self.queue.queue.words_of(job).share or 0
            self.setWindowTitle(f"{job.shot_name} ({share:.0%}) — FreeSwim")

    # ---------------------------------------------------------------------------- from start to end

    def _restore(self) -> None:
        remembered = self._remembered
        drafts = remembered.window.drafts
        self.settings.restore(_object(drafts.get("settings")))
        self.shots.restore(_object(drafts.get("shots")))
        remembered.follow_window(self, self._splitters)
        kept = remembered.window
        self.viewer.sound.set_volume(kept.volume)
        self.viewer.sound.set_muted(kept.is_muted)
        is_open = remembered.window.is_resolve_open
        self.resolve_panel.setVisible(is_open)
        self.show_resolve.setChecked(is_open)
        self.settings.form.prompt.setFocus()
        if self._trouble.has_crashed:
            report = ("Report…", self.report.open_anew)
            self.banner.show_notice("crash", Notice("FreeSwim crashed the last time.", (report,)))
        for problem in (*remembered.problems, *filter(None, [self._trouble.problem])):
            self.banner.show_notice("remembered", Notice(problem))

    def _unsent(self) -> dict[str, JsonValue]:
        return {"shots": self.shots.drafts(), "settings": self.settings.unsent()}

    def _keep_volume(self) -> None:
        sound = self.viewer.sound
        self._remembered.keep(volume=sound.volume, is_muted=sound.is_muted)

    def _keep_drafts(self) -> None:
        self._remembered.keep(drafts=self._unsent())

    def _show_shortcuts(self) -> None:
        self.shortcuts.show_actions(self.menuBar().actions())

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._remembered.preferences.is_introduced and not event.spontaneous():
            QTimer.singleShot(0, self.first_run.show)  # above this window, so after it

    def closeEvent(self, event: QCloseEvent) -> None:
        """The studio goes on without the window; while a job runs, the person is asked."""
        is_asked = self._studio.running and self._remembered.preferences.ask_at_close
        if is_asked and not self._may_close:
            event.ignore()
            self.quit_sheet.ask(self.leave)
            return
        self._keep_drafts()
        for window in self._windows:
            window.close()
        self._remembered.flush()
        event.accept()
        self.closed.emit()

    def leave(self) -> None:
        """Close without asking."""
        self._may_close = True
        self.close()


def _raise(window: QWidget) -> None:
    window.setWindowState(window.windowState() & ~Qt.WindowState.WindowMinimized)
    window.show()
    window.raise_()
    window.activateWindow()


def _open(folder: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))


def _object(said: JsonValue) -> dict[str, JsonValue]:
    return said if isinstance(said, dict) else {}


def _open_home() -> None:
    _open(paths.home())
