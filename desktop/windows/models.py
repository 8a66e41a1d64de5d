"""The models window: what is on this machine, what there is to have, and how far it is.

Not modal: it is looked at while work goes on. All it shows is what the studio said last; it asks
once a second while it is seen or something is on its way, and seldom else.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import QRectF, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QColor,
    QDesktopServices,
    QDragEnterEvent,
    QDropEvent,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
    QShowEvent,
)
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.studio import Studio
from freeswim.errors import FreeswimError
from freeswim.models.download import gigabytes
from freeswim.studio.client import Json
from freeswim.studio.downloads import ModelNow, ModelsNow, words_of

SEEN_MS, UNSEEN_MS = 1000, 10_000  # between two questions
HIGHLIGHT_MS = 2500  # of a row that was asked for

BUSY = ("waiting", "downloading", "verifying")
SIGNS = {  # of states: icon, colour
    "available": ("download", theme.SECONDARY),
    "waiting": ("download", theme.RUNNING),
    "downloading": ("download", theme.RUNNING),
    "verifying": ("eye", theme.RUNNING),
    "paused": ("pause", theme.WARNING),
    "installed": ("done", theme.DONE),
    "damaged": ("warning", theme.FAILED),
}
# Buttons by state, from left to right: what the studio is asked, or "show" and "ask".
BUTTONS = {
    "available": ("download",),
    "waiting": ("pause",),
    "downloading": ("pause",),
    "verifying": ("pause",),
    "paused": ("ask", "download"),
    "installed": ("show", "verify", "ask"),
    "damaged": ("ask", "download"),
}


class ModelsWindow(QWidget):
    """One per app; hidden and shown, and asking all the while."""

    told = Signal(str)  # what is on its way, for a status bar; empty: nothing is
    installed = Signal(str)  # name of a checkpoint that came to be installed

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setWindowTitle("Models")
        self.setAcceptDrops(True)
        self.resize(760, 600)
        self._studio = studio
        self._now: ModelsNow | None = None
        self._is_asking = False
        self._wanted = ""  # a row to be shown as soon as there are rows
        self.rows: dict[str, ModelRow] = {}
        self._build()
        self._timer = QTimer(self, interval=UNSEEN_MS)
        self._timer.timeout.connect(self._ask)
        self._timer.start()
        studio.connected.connect(self._ask)
        studio.lost.connect(self._lose)
        if studio.is_connected:
            self._ask()

    def actions_for(self) -> list[QAction | None]:
        """What opens it."""
        return [self._open]

    def want(self, checkpoint: str) -> None:
        """Show the window, and in it the row of a checkpoint that is needed."""
        self._wanted = checkpoint
        self.show()
        self.raise_()
        self.activateWindow()
        self._show_wanted()

    def stop(self) -> None:
        """Ask no more: the app is being left. What is on its way goes on in the studio."""
        self._timer.stop()

    # -------------------------------------------------------------------------------- asking

    def _ask(self) -> None:
        if not self._is_asking and self._timer.isActive() and self._studio.is_connected:
            self._is_asking = True
            self._studio.ask(lambda client: client.get("/models"), self._hear, self._miss)

    def _hear(self, said: Json) -> None:
        self._is_asking = False
        self.take_in(ModelsNow.model_validate(said))

    def _miss(self, error: FreeswimError) -> None:
        self._is_asking = False
        self._lose(error)

    def _lose(self, error: FreeswimError) -> None:
        if self._now is None:
            self._waiting.setText(f"{error.message}\nIt is tried again.")

    def take_in(self, now: ModelsNow) -> None:
        """Show what the studio says."""
        before = {model.name for model in self._now.models if model.folder} if self._now else None
        self._now = now
        if not self.rows:
            self._fill(now)
        for model in now.models:
            self.rows[model.name].take_in(model, now.gpu_bytes)
            if before is not None and model.folder and model.name not in before:
                self.installed.emit(model.name)
        busy = [model for model in now.models if model.state in BUSY]
        self._timer.setInterval(SEEN_MS if busy or self.isVisible() else UNSEEN_MS)
        self.told.emit(_under_way(busy))
        self._folder.setText(now.folder)
        self._folder.setToolTip(now.folder)
        self._room.setText(f"{gigabytes(now.used_bytes)} used · {gigabytes(now.free_bytes)} free")
        self._stack.setCurrentIndex(1)
        self._show_wanted()

    def _do(self, name: str, what: str) -> None:
        """Have something done to a checkpoint."""
        self._studio.order(
            lambda client: client.post(f"/models/{name}/{what}"),
            self._hear_order,
            self.rows[name].refuse,
        )

    def _hear_order(self, said: Json) -> None:
        self.take_in(ModelsNow.model_validate(said))

    # ------------------------------------------------------------------------------- a folder

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self, "Use an existing folder")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.use_folder)
        dialog.open()

    def use_folder(self, folder: str) -> None:
        """Take over what lies in a folder."""
        self._say(f"Looking into {Path(folder).name}…")
        self._studio.order(
            lambda client: client.post("/models/adopt", {"folder": folder}),
            self._adopted,
            lambda error: self._say(f"{error.message} {error.hint}", is_error=True),
        )

    def _adopted(self, said: Json) -> None:
        now = ModelsNow.model_validate(said)
        titles = [model.title for model in now.models if model.state == "verifying"]
        self._say(f"{', '.join(titles)}: found, and being verified." if titles else "Taken over.")
        self.take_in(now)
        for model in now.models:
            if model.state == "verifying" and model.name in self.rows:
                self._unfold_for(model.name)

    def _say(self, words: str, *, is_error: bool = False) -> None:
        _paint_words(self._said, words, theme.FAILED if is_error else theme.SECONDARY)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """A folder can be dropped on it."""
        if _dropped_folder(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """The same as choosing it."""
        if folder := _dropped_folder(event):
            self.use_folder(folder)

    # ------------------------------------------------------------------------------- the look

    def _build(self) -> None:
        self._open = QAction("&Models…", self)
        self._open.setStatusTip("Download, verify and delete models")
        self._open.triggered.connect(lambda: self.want(""))
        self._waiting = QLabel("Looking at what is here…")
        self._waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._waiting.setProperty("role", "secondary")
        self._list = QVBoxLayout()
        self._list.setSpacing(8)
        self._list.setContentsMargins(12, 12, 12, 12)
        inside = QWidget()
        inside.setLayout(self._list)
        self._scroll = QScrollArea(widgetResizable=True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidget(inside)
        self._stack = QStackedWidget()
        self._stack.addWidget(self._waiting)
        self._stack.addWidget(self._scroll)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._stack, 1)
        column.addWidget(self._footer())

    def _footer(self) -> QWidget:
        footer = QFrame()
        footer.setAutoFillBackground(True)
        footer.setBackgroundRole(QPalette.ColorRole.Base)
        self._folder = _Elided()
        self._room = QLabel()
        self._room.setProperty("role", "secondary")
        self._said = QLabel(wordWrap=True)
        self._said.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._said.hide()
        show = QPushButton("&Show in folder")
        show.setAccessibleName("Show the folder of the models")
        show.clicked.connect(lambda: self._now and _show_folder(self._now.folder))
        use = QPushButton("&Use an existing folder…")
        use.setToolTip("Models that other programs have downloaded are linked, not copied")
        use.clicked.connect(self._choose_folder)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self._folder)
        words.addWidget(self._room)
        row = QHBoxLayout()
        row.addLayout(words, 1)
        for button in (show, use):
            button.setMinimumHeight(28)
            row.addWidget(button)
        column = QVBoxLayout(footer)
        column.setContentsMargins(12, 8, 12, 8)
        column.addWidget(self._said)
        column.addLayout(row)
        return footer

    def _fill(self, now: ModelsNow) -> None:
        """The rows, in an order that stays: what fits this machine, the demo, and the rest."""
        first = [model for model in now.models if model.is_recommended]
        own = [model for model in now.models if not model.repository]
        rest = [model for model in now.models if model not in (*first, *own)]
        self._list.addWidget(_heading(_greeting(now, bool(first))))
        for model in (*first, *own):
            self._list.addWidget(self._row(model, is_first=model in first))
        self._more = QPushButton(theme.icon("down"), f"More models ({len(rest)})")
        self._more.setCheckable(True)
        self._more.setFlat(True)
        self._more.setProperty("role", "part")
        self._more.toggled.connect(self._unfold)
        self._list.addWidget(self._more, 0, Qt.AlignmentFlag.AlignLeft)
        self._others = QWidget()
        others = QVBoxLayout(self._others)
        others.setContentsMargins(0, 0, 0, 0)
        others.setSpacing(8)
        for model in rest:
            others.addWidget(self._row(model, is_first=False))
        self._list.addWidget(self._others)
        self._list.addStretch(1)
        self._unfold(False)
        self._more.setChecked(any(model.state != "available" for model in rest))

    def _row(self, model: ModelNow, *, is_first: bool) -> ModelRow:
        row = self.rows[model.name] = ModelRow(is_first=is_first)
        row.asked.connect(partial(self._do, model.name))
        return row

    def _unfold(self, is_open: bool) -> None:
        self._others.setVisible(is_open)
        self._more.setIcon(theme.icon("up" if is_open else "down", theme.SECONDARY))

    def _unfold_for(self, name: str) -> None:
        if self._others.isAncestorOf(self.rows[name]):
            self._more.setChecked(True)

    def _show_wanted(self) -> None:
        row = self.rows.get(self._wanted)
        if row is None:
            return
        self._unfold_for(self._wanted)
        self._wanted = ""
        self._list.activate()
        # After the layout has given the row its place.
        QTimer.singleShot(0, row, lambda: self._scroll.ensureWidgetVisible(row, 0, 24))
        row.highlight()

    def showEvent(self, event: QShowEvent) -> None:
        """What is shown is of now."""
        super().showEvent(event)
        self._timer.setInterval(SEEN_MS)
        self._ask()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Downloads go on."""
        self._say("")
        super().closeEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape closes it."""
        if event.key() == Qt.Key.Key_Escape:
            self.close()
        else:
            super().keyPressEvent(event)


class ModelRow(QFrame):
    """One model: what it is, how it is, and what can be done."""

    asked = Signal(str)  # download, pause, verify, delete

    def __init__(self, *, is_first: bool) -> None:
        super().__init__()
        self.model: ModelNow | None = None
        self._is_first = is_first
        self._is_highlit = False
        self._refusal = ""
        self._title, self._facts, self._words = QLabel(), QLabel(), QLabel()
        self._warning = QLabel()
        self._sign, self.state = QLabel(), QLabel()
        self.failure = QLabel(wordWrap=True)
        self.bar = QProgressBar(textVisible=False, maximum=1000)
        self._asks = False  # whether it is to be deleted
        self.buttons: dict[str, QPushButton] = {}
        self._calm = QTimer(self, singleShot=True, interval=HIGHLIGHT_MS)
        self._calm.timeout.connect(self._end_highlight)
        self._build()

    def take_in(self, model: ModelNow, gpu_bytes: int) -> None:
        """Show a model as it is now."""
        if self.model is not None and model.state != self.model.state:
            self._refusal, self._asks = "", False
        self.model = model
        self._title.setText(model.title)
        self._facts.setText(" · ".join((_size_words(model), model.licence, _gpu_words(model))))
        self._words.setText(f"{model.speed}. {model.fidelity}.")
        words = ""
        if 0 < gpu_bytes * 1.05 < model.least_gpu_gb * 2**30:
            words = f"Needs a GPU with {model.least_gpu_gb} GB; yours has {_gpu_size(gpu_bytes)}."
        self._words.setVisible(not words)
        _paint_words(self._warning, words, theme.WARNING)
        self._show_state()
        trouble = f"{model.failure.message} {model.failure.hint}" if model.failure else ""
        _paint_words(self.failure, self._refusal or trouble, theme.FAILED)
        self.bar.setVisible(model.state in (*BUSY, "paused"))
        self.bar.setValue(int(1000 * model.done_bytes / max(1, model.size_bytes)))
        self._show_buttons()
        self.setAccessibleName(f"{model.title}, {words_of(model)}")

    def refuse(self, error: FreeswimError) -> None:
        """What was asked for cannot be done."""
        self._refusal = f"{error.message} {error.hint}"
        _paint_words(self.failure, self._refusal, theme.FAILED)

    def highlight(self) -> None:
        """Show for a moment that this is the row that was asked for."""
        self._is_highlit = True
        self._calm.start()
        self.update()
        shown = [button for button in self.buttons.values() if not button.isHidden()]
        if shown:
            shown[-1].setFocus(Qt.FocusReason.OtherFocusReason)

    # -------------------------------------------------------------------------------- inside

    def _end_highlight(self) -> None:
        self._is_highlit = False
        self.update()

    def _act(self, what: str) -> None:
        assert self.model is not None
        match what:
            case "ask":
                self._ask(True)
                self.buttons["keep"].setFocus()
            case "keep":
                self._ask(False)
                self.buttons["ask"].setFocus()
            case "show":
                _show_folder(self.model.folder)
            case _:
                self._refusal = ""
                self._ask(False)
                self.asked.emit(what)

    def _ask(self, asks: bool) -> None:
        self._asks = asks
        self._show_state()
        self._show_buttons()

    def _show_state(self) -> None:
        assert self.model is not None
        icon, colour = SIGNS[self.model.state]
        words = words_of(self.model)
        if self._asks:
            icon, colour = "trash", theme.WARNING
            words = f"Delete {gigabytes(self.model.done_bytes)}? It can be downloaded again."
        self._sign.setPixmap(theme.icon(icon, colour).pixmap(16, 16))
        _paint_words(self.state, words, colour)

    def _show_buttons(self) -> None:
        assert self.model is not None
        shown = BUTTONS[self.model.state]
        if not self.model.repository:
            shown = ()
        if self._asks:
            shown = ("keep", "delete")
        if self.model.state == "paused" and not self.model.done_bytes:
            shown = ("download",)
        had_focus = self.isAncestorOf(self.focusWidget()) if self.focusWidget() else False
        for name, button in self.buttons.items():
            button.setVisible(name in shown)
            button.setText(_button_words(name, self.model))
            button.setAccessibleName(f"{button.text()} {self.model.title}")
        if had_focus and shown and self.focusWidget() and self.focusWidget().isHidden():
            self.buttons[shown[-1]].setFocus()

    def _build(self) -> None:
        font = self._title.font()
        font.setBold(True)
        self._title.setFont(font)
        for label in (self._facts, self._words):
            label.setProperty("role", "secondary")
        self.failure.hide()
        self.failure.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.bar.setFixedHeight(3)
        self.bar.setAccessibleName("Progress")
        top = QHBoxLayout()
        top.setSpacing(8)
        words = QVBoxLayout()
        words.setSpacing(2)
        for label in (self._title, self._facts, self._words, self._warning):
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            words.addWidget(label)
        state = QHBoxLayout()
        state.setSpacing(6)
        state.addWidget(self._sign)
        state.addWidget(self.state, 1)
        words.addLayout(state)
        top.addLayout(words, 1)
        top.addLayout(self._button_row())
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 10)
        column.setSpacing(6)
        column.addLayout(top)
        column.addWidget(self.failure)
        column.addWidget(self.bar)

    def _button_row(self) -> QLayout:
        row = QHBoxLayout()
        row.setSpacing(6)
        for name in ("show", "verify", "ask", "keep", "delete", "pause", "download"):
            button = self.buttons[name] = QPushButton()
            button.setMinimumHeight(28)
            button.clicked.connect(partial(self._act, name))
            button.hide()
            row.addWidget(button)
        if self._is_first:
            self.buttons["download"].setProperty("role", "primary")
        return row

    def paintEvent(self, event: QPaintEvent) -> None:
        """A card; with an edge while it is the one that was asked for."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(QColor(theme.BUTTON))
        painter.setPen(QPen(QColor(theme.RUNNING), 2) if self._is_highlit else Qt.PenStyle.NoPen)
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 4, 4)
        painter.end()


class _Elided(QLabel):
    """A path of which the middle gives way."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def paintEvent(self, event: QPaintEvent) -> None:
        """As much as there is room for."""
        painter = QPainter(self)
        text = self.fontMetrics().elidedText(
            self.text(), Qt.TextElideMode.ElideMiddle, self.width()
        )
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter, text)
        painter.end()


# ------------------------------------------------------------------------------------ in words


def _greeting(now: ModelsNow, has_first: bool) -> str:
    if not now.gpu_bytes:
        return "No NVIDIA GPU found: the demo runs on any machine"
    size = _gpu_size(now.gpu_bytes)
    if has_first:
        return f"Recommended for your {size}"
    return f"{now.gpu_name} has {size}: the demo runs on it"


def _under_way(busy: list[ModelNow]) -> str:
    """What is on its way, as `Wan 2.1 1.3B: downloading 3.1 of 8.2 GB, 4 min left`."""
    if not busy:
        return ""
    first = min(busy, key=lambda model: model.state == "waiting")
    words = words_of(first)
    more = f", and {len(busy) - 1} more" if len(busy) > 1 else ""
    return f"{first.title.partition(',')[0]}: {words[0].lower()}{words[1:]}{more}"


def _size_words(model: ModelNow) -> str:
    size = gigabytes(model.size_bytes)
    return size if model.is_exact else f"about {size}"


def _gpu_words(model: ModelNow) -> str:
    if not model.least_gpu_gb:
        return "any machine"
    return f"for GPUs with {model.least_gpu_gb} GB or more"


def _gpu_size(gpu_bytes: int) -> str:
    """As it is sold."""
    return f"{round(gpu_bytes / 2**30)} GB"


def _button_words(name: str, model: ModelNow) -> str:
    if name == "download":
        return {"paused": "Resume", "damaged": "Repair"}.get(model.state, "Download")
    if name == "pause":
        return "Stop" if model.folder else "Pause"
    words = {"show": "Show in folder", "verify": "Verify", "ask": "Delete…", "keep": "Keep"}
    return words.get(name, "Delete")


def _paint_words(label: QLabel, words: str, colour: str) -> None:
    """Words in a colour of their own; nothing at all where there are none."""
    palette = label.palette()
    palette.setColor(label.foregroundRole(), QColor(colour))
    label.setPalette(palette)
    label.setText(words)
    label.setVisible(bool(words))


def _heading(words: str) -> QLabel:
    label = QLabel(words)
    font = label.font()
    font.setPointSizeF(font.pointSizeF() * 1.2)
    label.setFont(font)
    return label


def _show_folder(folder: str) -> None:
    """It, or the nearest folder above it that is there."""
    place = Path(folder)
    there = next((one for one in (place, *place.parents) if one.is_dir()), place)
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(there)))


def _dropped_folder(event: QDropEvent) -> str:
    paths = [url.toLocalFile() for url in event.mimeData().urls()]
    return paths[0] if len(paths) == 1 and Path(paths[0]).is_dir() else ""
