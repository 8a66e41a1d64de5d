"""What a person sets once. Each change takes effect at once; there is nothing to apply."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QRadioButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from desktop.remembered import Notify, Place, Preferences, Remembered, WindowState, folder
from desktop.resolve.connection import Resolve
from desktop.resolve.settings import ResolveSettingsForm
from desktop.studio import Studio
from desktop.windows.shortcuts import ShortcutTable
from freeswim import paths
from freeswim.errors import FreeswimError
from freeswim.studio import awake
from freeswim.studio.client import Client
from freeswim.studio.downloads import ModelsNow

GB = 1e9
CONTROL = 28  # pixels, height of a button
UNDO_MS = 8_000

NOTIFY = {
    Notify.OFF: ("&Off", ""),
    Notify.FINISHED: (
        "When the queue is &finished or a job failed",
        "Also when a job of more than 5 minutes is done.",
    ),
    Notify.EVERY: ("After &every job", ""),
}


class PreferencesWindow(QWidget):
    """Non-modal; a list of pages, and the page."""

    models_wanted = Signal()
    report_wanted = Signal()
    first_run_wanted = Signal()
    resolve_wanted = Signal()  # its menu entry is to be installed

    def __init__(
        self,
        studio: Studio,
        remembered: Remembered,
        resolve: Resolve,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self._studio, self._remembered = studio, remembered
        self.resolve_settings = ResolveSettingsForm(resolve, studio)
        self._before: tuple[Preferences, WindowState] | None = None  # a reset, to be undone
        self.setWindowTitle("Preferences")
        self.pages = QListWidget()
        self.pages.setAccessibleName("Pages")
        self.pages.setFixedWidth(160)
        self._stack = QStackedWidget()
        self.shortcuts = ShortcutTable()
        self.resolve: QWidget | None = None  # until something is known of Resolve
        for name, page in (
            ("General", self._general()),
            ("Models & storage", self._storage()),
            ("Notifications", self._notifications()),
            ("Shortcuts", self.shortcuts),
            ("Advanced", self._advanced()),
        ):
            self._add_page(self.pages.count(), name, page)
        self.pages.currentRowChanged.connect(self._stack.setCurrentIndex)
        self.pages.setCurrentRow(0)
        row = QHBoxLayout(self)
        row.setSpacing(20)
        row.addWidget(self.pages)
        row.addWidget(self._stack, 1)
        self.resize(720, 520)
        self._show_preferences()
        remembered.preferences_changed.connect(lambda _: self._show_preferences())
        studio.connected.connect(self.look)
        QShortcut(QKeySequence.StandardKey.Cancel, self, self.close)

    def open_page(self, name: str) -> None:
        """Come to the front with a page."""
        found = self.pages.findItems(name, Qt.MatchFlag.MatchExactly)
        if found:
            self.pages.setCurrentItem(found[0])
        self.show()
        self.raise_()
        self.activateWindow()

    def show_resolve(self, words: str, *, can_install: bool) -> None:
        """How Resolve stands, from whoever talks to it; the page is there from then on."""
        if self.resolve is None:
            self.resolve = self._resolve()
            self._add_page(2, "Resolve", self.resolve)
            self._show_preferences()
        self.resolve_words.setText(words)
        self.install.setVisible(can_install)

    def look(self) -> None:
        """See how much room there is, where somebody looks."""
        if not self.isVisible():
            return

        def ask(client: Client) -> tuple[ModelsNow, int]:
            return ModelsNow.model_validate(client.get("/models")), _free_bytes(paths.takes())

        self._studio.ask(ask, self._show_room, self._miss_room)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._show_preferences()
        self.look()

    # --------------------------------------------------------------------------------- pages

    def _add_page(self, at: int, name: str, page: QWidget) -> None:
        item = QListWidgetItem(name)
        item.setSizeHint(QSize(0, CONTROL))
        self._stack.insertWidget(at, page)
        self.pages.insertItem(at, item)

    def _general(self) -> QWidget:
        page, column = _page("General")
        self.keep_awake = QCheckBox("&Keep the computer awake while a job runs")
        self.keep_awake.clicked.connect(self._want_awake)
        self.awake_words = _note("The display may sleep. Heeded by the studio within seconds.")
        self.ask_at_close = QCheckBox("&Ask when the window is closed while a job runs")
        self.ask_at_close.clicked.connect(lambda is_on: self._remembered.prefer(ask_at_close=is_on))
        asked = _note("Not asked, the window closes and the studio goes on.")
        first_steps = _button("Show first steps", self.first_run_wanted.emit)
        _add(column, self.keep_awake, self.awake_words, self.ask_at_close, asked)
        column.addLayout(_row(first_steps))
        column.addStretch(1)
        return page

    def _storage(self) -> QWidget:
        page, column = _page("Models & storage")
        self.takes_room, self.models_room = QLabel("Looking…"), QLabel("Looking…")
        self.models_words = _note("")
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(4)
        places: tuple[tuple[str, Callable[[], Path], QLabel], ...] = (
            ("Takes", paths.takes, self.takes_room),
            ("Models", paths.models, self.models_room),
        )
        for at, (name, place, room) in enumerate(places):
            path = QLabel(str(place()), wordWrap=True)
            path.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            room.setProperty("role", "secondary")
            for label in (path, room):
                label.setTextFormat(Qt.TextFormat.PlainText)
            show = _button("Show in folder", lambda place=place: _show(place()))
            show.setAccessibleName(f"Show the folder of {name.lower()}")
            grid.addWidget(QLabel(name), 3 * at, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(path, 3 * at, 1)
            grid.addWidget(show, 3 * at, 2, 2, 1, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(room, 3 * at + 1, 1)
            grid.setRowMinimumHeight(3 * at + 2, 8)
        grid.setColumnStretch(1, 1)
        column.addLayout(grid)
        column.addWidget(self.models_words)
        column.addLayout(_row(_button("Open models…", self.models_wanted.emit)))
        column.addStretch(1)
        return page

    def _resolve(self) -> QWidget:
        page, column = _page("Resolve")
        self.resolve_words = QLabel(wordWrap=True)
        self.resolve_words.setTextFormat(Qt.TextFormat.PlainText)
        self.install = _button("Install the menu entries", self.resolve_wanted.emit)
        column.addWidget(self.resolve_words)
        column.addLayout(_row(self.install))
        column.addSpacing(10)
        self.comes_forward = QCheckBox(
            "&Come to the front when Resolve sends a shot without a prompt"
        )
        self.comes_forward.clicked.connect(
            lambda is_on: self._remembered.prefer(comes_forward=is_on)
        )
        asked = _note("And when something chosen in Resolve went wrong. Else the taskbar tells.")
        _add(column, self.comes_forward, asked)
        column.addWidget(self.resolve_settings)
        column.addStretch(1)
        return page

    def _notifications(self) -> QWidget:
        page, column = _page("Notifications")
        column.addWidget(_note("Shown while no window of FreeSwim is in front. Without sound."))
        self.notify: dict[Notify, QRadioButton] = {}
        group = QButtonGroup(page)
        for wish, (words, about) in NOTIFY.items():
            button = self.notify[wish] = QRadioButton(words)
            group.addButton(button)
            button.clicked.connect(lambda _, wish=wish: self._remembered.prefer(notifications=wish))
            column.addWidget(button)
            if about:
                column.addWidget(_note(about, indent=True))
        column.addStretch(1)
        return page

    def _advanced(self) -> QWidget:
        page, column = _page("Advanced")
        column.addLayout(
            _row(
                _button("Show logs", lambda: _show(paths.logs())),
                _button("Show settings", lambda: _show(folder(Place.AppConfigLocation))),
                _button("Report a problem…", self.report_wanted.emit),
            )
        )
        column.addSpacing(16)
        self.reset = _button("Reset preferences and window", self._reset)
        self.undo = _button("Undo", self._undo)
        self.undo.hide()
        self.reset_words = _note("Shots, takes, models and texts that were not sent stay.")
        column.addWidget(self.reset_words)
        column.addLayout(_row(self.reset, self.undo))
        column.addStretch(1)
        self._undo_timer = QTimer(self, interval=UNDO_MS, singleShot=True)
        self._undo_timer.timeout.connect(self._end_undo)
        return page

    # ------------------------------------------------------------------------------- what they do

    def _show_preferences(self) -> None:
        chosen = self._remembered.preferences
        self.keep_awake.setChecked(awake.is_wanted())
        if self.resolve is not None:
            self.comes_forward.setChecked(chosen.comes_forward)
        self.ask_at_close.setChecked(chosen.ask_at_close)
        self.notify[chosen.notifications].setChecked(True)

    def _want_awake(self, is_wanted: bool) -> None:
        try:
            awake.want(is_wanted)
        except OSError as error:
            self.awake_words.setText(f"{paths.home()} cannot be written: {error.strerror}.")
        else:
            if awake.is_wanted() != is_wanted:  # the environment has the last word
                self.awake_words.setText(f"{awake.SWITCH} says otherwise for this run.")
        self.keep_awake.setChecked(awake.is_wanted())

    def _show_room(self, said: tuple[ModelsNow, int]) -> None:
        models, free = said
        self.takes_room.setText(f"{_room(free)} free")
        used = f"{_room(models.used_bytes)} used, " if models.used_bytes else ""
        self.models_room.setText(f"{used}{_room(models.free_bytes)} free")
        ready = [one.title for one in models.models if one.state == "installed"]
        self.models_words.setText(f"On this machine: {'; '.join(ready) or 'none'}.")

    def _miss_room(self, error: FreeswimError) -> None:
        for label in (self.takes_room, self.models_room):
            label.setText("Free space is not known yet")
        self.models_words.setText(error.message)

    def _reset(self) -> None:
        kept = self._remembered
        self._before = kept.preferences, kept.window
        kept.forget()
        self.reset_words.setText("All is as at the first start, the window from its next opening.")
        self.undo.show()
        self._undo_timer.start()

    def _undo(self) -> None:
        if self._before is not None:
            preferences, window = self._before
            self._remembered.prefer(**vars(preferences))
            self._remembered.keep(**vars(window))
        self._end_undo()

    def _end_undo(self) -> None:
        self._before = None
        self.undo.hide()
        self.reset_words.setText("Shots, takes, models and texts that were not sent stay.")


def _page(title: str) -> tuple[QWidget, QVBoxLayout]:
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(0, 4, 8, 8)
    column.setSpacing(6)
    heading = QLabel(title)
    font = heading.font()
    font.setPointSizeF(1.25 * font.pointSizeF())
    heading.setFont(font)
    column.addWidget(heading)
    column.addSpacing(8)
    return page, column


def _add(column: QVBoxLayout, *widgets: QWidget) -> None:
    """Boxes with the note below each."""
    for widget in widgets:
        column.addWidget(widget)
        if isinstance(widget, QLabel):
            widget.setIndent(22)
            column.addSpacing(10)


def _note(words: str, *, indent: bool = False) -> QLabel:
    note = QLabel(words, wordWrap=True)
    note.setProperty("role", "secondary")
    note.setTextFormat(Qt.TextFormat.PlainText)
    if indent:
        note.setIndent(22)
    return note


def _button(words: str, act: Callable[[], object]) -> QPushButton:
    button = QPushButton(words)
    button.setMinimumHeight(CONTROL)
    button.clicked.connect(lambda: act())
    return button


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    row.addStretch(1)
    return row


def _free_bytes(place: Path) -> int:
    there = next(one for one in (place, *place.parents) if one.is_dir())
    return shutil.disk_usage(there).free


def _room(num_bytes: float) -> str:
    gigabytes = num_bytes / GB
    return f"{gigabytes:.0f} GB" if gigabytes >= 100 else f"{gigabytes:.1f} GB"


def _show(place: Path) -> None:
    there = next(one for one in (place, *place.parents) if one.is_dir())
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(there)))
