"""The Resolve panel: who is connected, where the editor is there, and what can be asked of it."""

from __future__ import annotations

import time
from functools import partial

from PySide6.QtCore import QDateTime, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QGuiApplication, QHideEvent, QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFormLayout,
    QFrame,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.resolve.connection import Resolve
from desktop.resolve.words import (
    VERBS,
    ago_words,
    count_to_place,
    obstacle,
    owner_of,
    product_words,
    spot_of,
    state_words,
    timeline_words,
)
from desktop.settings.fields import CONTROL_PX, row, tint, tool
from desktop.studio import Studio
from freeswim.errors import FreeswimError
from freeswim.studio.resolve.placer import News, ResolveNow
from freeswim.studio.resolve.planner import Verb

TICK_MS = 1_000
MOST_SHOWN = 20  # sentences
NEWS_PX = 56  # height of the list of them, at least


class ResolvePanel(QWidget):
    """Below the queue, where an editor keeps it open; it asks more often while it is seen."""

    closed = Signal()  # by its own button, or with Esc
    preferences_wanted = Signal()

    def __init__(self, resolve: Resolve, studio: Studio) -> None:
        super().__init__()
        self._resolve, self._studio = resolve, studio
        self._step = ""  # what is to be done, as the plugin's doctor says
        self._was_connected = False
        self.verbs: dict[Verb, QAction] = {}
        self._buttons: dict[Verb, QPushButton] = {}
        self._make_actions()
        self._lay_out()
        self._ticking = QTimer(self, interval=TICK_MS)
        self._ticking.timeout.connect(self._say_contact)
        resolve.told.connect(lambda _: self._show())
        resolve.refused.connect(self._say_refused)
        resolve.happened.connect(lambda _: self.refusal.hide())
        resolve.diagnosed.connect(self._take_step)
        studio.changed.connect(lambda _: self._show_verbs())
        QGuiApplication.instance().applicationStateChanged.connect(self._come_back)  # pyright: ignore
        self._show()

    def actions_for(self) -> list[QAction | None]:
        """What a menu of Resolve holds, in its order; None: a line."""
        return list(self.verbs.values())

    # ---------------------------------------------------------------------------------- parts

    def _make_actions(self) -> None:
        for verb, words, tip in VERBS:
            action = QAction(words, self)
            action.setStatusTip(tip)
            action.triggered.connect(partial(self._begin, verb))
            self.verbs[verb] = action
        self.verbs["generate_at_playhead"].setShortcut(QKeySequence("Ctrl+Shift+G"))

    def _lay_out(self) -> None:
        title = QLabel("<b>DaVinci Resolve</b>")
        self.state = QLabel()
        self.close_button = tool("close", "Close the Resolve panel", "Close (Esc)")
        self.close_button.clicked.connect(self.closed)
        QShortcut(
            QKeySequence.StandardKey.Cancel,
            self,
            self.closed.emit,
            context=Qt.ShortcutContext.WidgetWithChildrenShortcut,
        )
        top = row(title, self.state, self.close_button, spacing=8)
        top.setStretch(1, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 6, 8, 8)
        column.setSpacing(6)
        column.addLayout(top)
        column.addWidget(self._facts())
        column.addWidget(self._help())
        column.addLayout(self._verb_buttons())
        self.reason = _words("secondary")
        self.refusal = _words("failed")
        self.refusal.hide()
        column.addWidget(self.reason)
        column.addWidget(self.refusal)
        self.news = QListWidget()
        self.news.setAccessibleName("What happened in Resolve, the last first")
        self.news.setWordWrap(True)
        self.news.setFrameShape(QFrame.Shape.NoFrame)
        self.news.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.news.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.news.setMinimumHeight(NEWS_PX)
        self.news.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        column.addWidget(self.news, 1)
        column.addStretch()

    def _facts(self) -> QWidget:
        self.facts = QWidget()
        form = QFormLayout(self.facts)
        form.setContentsMargins(0, 0, 0, 0)
        form.setHorizontalSpacing(12)
        form.setVerticalSpacing(3)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        self.product, self.project, self.timeline = _fact(), _fact(), _fact()
        self.contact = _fact()
        form.addRow(self.product)
        for name, fact in (
            ("Project", self.project),
            ("Timeline", self.timeline),
            ("Last contact", self.contact),
        ):
            label = QLabel(name)
            label.setProperty("role", "secondary")
            form.addRow(label, fact)
        return self.facts

    def _help(self) -> QWidget:
        """What to do while nobody is connected."""
        self.help = QWidget()
        self.step = _words()
        self.install = QPushButton("&Install the menu entries")
        self.install.setFixedHeight(CONTROL_PX)
        self.install.clicked.connect(self._install)
        column = QVBoxLayout(self.help)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.step)
        buttons = row(self.install)
        buttons.addStretch(1)
        column.addLayout(buttons)
        return self.help

    def _verb_buttons(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(6)
        for index, (verb, action) in enumerate(self.verbs.items()):
            button = QPushButton(action.text().replace("&", ""))
            button.setFixedHeight(CONTROL_PX)
            button.clicked.connect(action.trigger)
            self._buttons[verb] = button
            grid.addWidget(button, index // 2, index % 2)
        return grid

    def button(self, verb: Verb) -> QPushButton:
        """The button of a verb."""
        return self._buttons[verb]

    def sizeHint(self) -> QSize:
        return QSize(380, 300)

    # -------------------------------------------------------------------------------- showing

    def focus(self) -> None:
        """Give the focus to the first thing that can be done here."""
        able = [button for button in self._buttons.values() if button.isEnabled()]
        first = able[0] if able else self.install if self.help.isVisible() else self.close_button
        first.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._ticking.start()
        self._look()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._ticking.stop()

    def _come_back(self, state: Qt.ApplicationState) -> None:
        """Who comes back to the app may have gone elsewhere in Resolve."""
        if state == Qt.ApplicationState.ApplicationActive and self.isVisible():
            self._look()

    def _look(self) -> None:
        self._resolve.look_inside()
        if owner_of(self._resolve.now) is None:
            self._resolve.diagnose()

    def _show(self) -> None:
        now = self._resolve.now
        words, colour = state_words(now)
        self.state.setText(f"● {words}")
        tint(self.state, colour)
        link = owner_of(now)
        if self._was_connected and link is None and self.isVisible():
            self._resolve.diagnose()
        self._was_connected = link is not None
        self.facts.setVisible(link is not None)
        self.help.setVisible(now is not None and now.state != "connected")
        self.install.setVisible(link is None)
        if link is not None:
            self.product.setText(product_words(link))
            where = link.where
            self.project.setText((where and where.project_name) or "none is open")
            self.timeline.setText(timeline_words(where) if where else "looking…")
            if where is None:
                self.project.setText("looking…")
        self._say_step(now)
        self._say_contact()
        self._show_verbs()
        self._show_news(now.news if now is not None else [])

    def _say_step(self, now: ResolveNow | None) -> None:
        is_away = now is not None and now.state == "not_connected"
        said = now.message if now is not None else ""
        # The doctor sees what the studio cannot: what is installed, and where.
        self.step.setText(self._step if is_away and self._step else said)

    def _take_step(self, step: str) -> None:
        # Its words are for a terminal; here there is a button.
        self._step = step.replace("freeswim resolve install.", "the button below does it.")
        self._say_step(self._resolve.now)

    def _say_contact(self) -> None:
        link = owner_of(self._resolve.now)
        if link is not None:
            passed = time.monotonic() - self._resolve.heard
            self.contact.setText(ago_words(link.seconds_silent + passed))

    def _show_verbs(self) -> None:
        now, link = self._resolve.now, owner_of(self._resolve.now)
        project = link.where.project if link is not None and link.where is not None else ""
        takes = [
            (take, spot_of(self._studio.shots.get(take.shot_id)))
            for take in self._studio.takes.values()
        ]
        num_to_place = count_to_place(takes, project)
        reasons: dict[Verb, str] = {}
        for verb, action in self.verbs.items():
            reasons[verb] = obstacle(verb, now, num_to_place=num_to_place)
            action.setEnabled(not reasons[verb])
            button = self._buttons[verb]
            button.setEnabled(not reasons[verb])
            about = reasons[verb] or self._about(verb)
            button.setToolTip(about)
            button.setAccessibleDescription(about)
        said = list(reasons.values())
        common = [one for one in dict.fromkeys(said) if one and said.count(one) > 1]
        # That nobody is connected, or that Resolve waits, stands above already.
        is_able = link is not None and now is not None and now.state == "connected"
        self.reason.setText(" ".join(common) if is_able else "")
        self.reason.setVisible(bool(self.reason.text()))

    def _about(self, verb: Verb) -> str:
        """What a verb does."""
        now = self._resolve.now
        if verb == "generate_from_markers" and now is not None:
            return f"A shot for each {now.settings.marker_color} marker whose note holds a prompt"
        return self.verbs[verb].statusTip()

    def _show_news(self, news: list[News]) -> None:
        shown = [_line(one) for one in news[:MOST_SHOWN]]
        self.news.setVisible(bool(shown))
        if [self.news.item(index).text() for index in range(self.news.count())] == shown:
            return
        self.news.clear()
        for one, line in zip(news, shown, strict=False):
            item = QListWidgetItem(line)
            item.setIcon(theme.icon("error", theme.FAILED) if one.is_error else theme.icon("done"))
            item.setToolTip(line)
            self.news.addItem(item)

    # ---------------------------------------------------------------------------------- deeds

    def _begin(self, verb: Verb) -> None:
        self.refusal.hide()
        self._resolve.do(verb)

    def _install(self) -> None:
        self.step.setText("Installing…")
        self._resolve.install()

    def _say_refused(self, error: FreeswimError) -> None:
        self.refusal.setText(f"{error.message} {error.hint}".strip())
        self.refusal.show()


def _line(news: News) -> str:
    at = QDateTime.fromSecsSinceEpoch(int(news.at)).toString("HH:mm")
    return f"{at}  {news.message} {news.hint}".strip()


def _fact() -> QLabel:
    label = QLabel(wordWrap=True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _words(role: str = "") -> QLabel:
    label = QLabel(wordWrap=True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        label.setProperty("role", role)
    return label
