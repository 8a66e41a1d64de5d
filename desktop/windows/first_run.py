"""First steps: four facts about this machine, each of which turns to a tick by itself.

No wizard: nothing has to be done here, and everything can be done elsewhere as well.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import (
    QCloseEvent,
    QDesktopServices,
    QHideEvent,
    QKeySequence,
    QShortcut,
    QShowEvent,
)
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.remembered import Remembered
from desktop.studio import Studio
from freeswim import paths
from freeswim.errors import FreeswimError
from freeswim.studio.client import Client, Json
from freeswim.studio.downloads import ModelNow, ModelsNow

LOOK_EVERY_MS = 2_000
GB = 1e9
SPARE_BYTES = 5 * GB  # of disk, beside the model
BUSY = frozenset({"waiting", "downloading", "verifying"})


class Mark(Enum):
    """How a fact stands: its icon, colour and word."""

    ASKED = ("clock", theme.SECONDARY, "Looking")
    DONE = ("done", theme.DONE, "Done")
    TO_DO = ("add", theme.TEXT, "To do")
    BUSY = ("download", theme.RUNNING, "On its way")
    WARNING = ("warning", theme.WARNING, "Look at this")
    OPTIONAL = ("more", theme.SECONDARY, "Optional")


class Fact(QFrame):
    """A line: how it stands, what it is, what can be done."""

    def __init__(self, title: str, *verbs: str) -> None:
        super().__init__()
        self.mark = Mark.ASKED
        self._sign = QLabel(alignment=Qt.AlignmentFlag.AlignTop)
        self._title = QLabel(title)
        font = self._title.font()
        font.setBold(True)
        self._title.setFont(font)
        self.words = QLabel(wordWrap=True, alignment=Qt.AlignmentFlag.AlignTop)
        self.words.setProperty("role", "secondary")
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.buttons = [QPushButton(verb) for verb in verbs]
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 8, 0, 8)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(2)
        grid.addWidget(self._sign, 0, 0)
        grid.addWidget(self._title, 0, 1)
        grid.addWidget(self.words, 1, 1)
        row = QHBoxLayout()
        row.setSpacing(8)
        for button in self.buttons:
            button.setMinimumHeight(28)
            button.setAccessibleName(f"{title}: {button.text()}")
            row.addWidget(button)
        grid.addLayout(row, 0, 2, 2, 1, Qt.AlignmentFlag.AlignVCenter)
        grid.setColumnStretch(1, 1)
        self.say(Mark.ASKED, "Looking…")

    def say(self, mark: Mark, words: str) -> None:
        """Show how it stands."""
        icon, colour, word = mark.value
        self.mark = mark
        self._sign.setPixmap(theme.icon(icon, colour).pixmap(16, 16))
        self._sign.setToolTip(word)
        self.words.setText(words)
        self.setAccessibleName(f"{self._title.text()}: {word}")
        self.setAccessibleDescription(words)


class FirstRun(QWidget):
    """Non-modal; asks the studio while it is seen."""

    model_wanted = Signal(str)  # its name: show it among the models
    resolve_wanted = Signal()  # its menu entry is to be installed
    sample_wanted = Signal()  # the demo preset with a good prompt, and the button focused

    def __init__(
        self, studio: Studio, remembered: Remembered, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self._studio, self._remembered = studio, remembered
        self._wanted = ""  # checkpoint that is offered
        self._is_asking = False
        self.setWindowTitle("First steps")
        self.gpu = Fact("GPU")
        self.storage = Fact("Storage", "Show takes", "Use existing models…")
        self.model = Fact("Model", "Download", "More…")
        self.resolve = Fact("DaVinci Resolve", "Install the menu entries")
        self.facts = (self.gpu, self.storage, self.model, self.resolve)
        self.sample = QPushButton("Make a sample")
        self.skip = QPushButton("Skip")
        self._lay_out()
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self.look)
        studio.connected.connect(self.look)
        studio.lost.connect(self._miss)
        show_takes, existing = self.storage.buttons
        self.download, more = self.model.buttons
        show_takes.clicked.connect(_show_takes)
        existing.clicked.connect(lambda: self.model_wanted.emit(""))
        more.clicked.connect(lambda: self.model_wanted.emit(self._wanted))
        self.download.clicked.connect(self._download)
        self.download.hide()
        self.resolve.buttons[0].clicked.connect(self.resolve_wanted)
        self.say_resolve(Mark.OPTIONAL, "Optional: FreeSwim works without it.", can_install=False)
        self.sample.clicked.connect(self._make_sample)
        self.skip.clicked.connect(self.close)
        QShortcut(QKeySequence.StandardKey.Cancel, self, self.close)

    def say_resolve(self, mark: Mark, words: str, *, can_install: bool) -> None:
        """How Resolve stands, from whoever talks to it."""
        self.resolve.say(mark, words)
        self.resolve.buttons[0].setVisible(can_install)

    def look(self) -> None:
        """Ask the studio how things stand, where somebody looks."""
        if self._is_asking or not self.isVisible():
            return
        self._is_asking = True

        def ask(client: Client) -> tuple[Json, Json]:
            return client.get("/machine"), client.get("/models")

        self._studio.ask(ask, self._hear, self._miss)

    # -------------------------------------------------------------------------------- inside

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 16, 20, 16)
        column.setSpacing(0)
        welcome = QLabel("What this machine has, and what it lacks")
        font = welcome.font()
        font.setPointSizeF(1.25 * font.pointSizeF())
        welcome.setFont(font)
        column.addWidget(welcome)
        column.addSpacing(8)
        for fact in self.facts:
            column.addWidget(fact)
        column.addStretch(1)
        column.addSpacing(12)
        note = QLabel("A sample takes about a minute on any machine.")
        note.setProperty("role", "secondary")
        self.sample.setProperty("role", "primary")
        self.sample.setToolTip("Three koi in a pond: the demo model makes them, nothing is fetched")
        self.skip.setMinimumHeight(28)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(note)
        row.addStretch(1)
        row.addWidget(self.skip)
        row.addWidget(self.sample)
        column.addLayout(row)
        self.resize(640, 400)

    def _hear(self, said: tuple[Json, Json]) -> None:
        self._is_asking = False
        machine, models = said[0], ModelsNow.model_validate(said[1])
        offered = _offered(models)
        self._wanted = offered.name if offered is not None else ""
        self._say_gpu(machine, models)
        self._say_storage(machine, models, offered)
        self._say_model(models, offered)

    def _miss(self, error: FreeswimError) -> None:
        self._is_asking = False
        for fact in (self.gpu, self.storage, self.model):
            if fact.mark != Mark.DONE:
                fact.say(Mark.ASKED, error.message)

    def _say_gpu(self, machine: Json, models: ModelsNow) -> None:
        gpus: list[dict[str, Any]] = machine["gpus"]
        least = min((one.least_gpu_gb for one in models.models if one.least_gpu_gb), default=0)
        if not gpus:
            words = (
                "No NVIDIA GPU found. The demo model runs on the processor; "
                f"the others need a GPU with {least} GB or more."
            )
            self.gpu.say(Mark.WARNING, words)
            return
        names = " and ".join(f"{gpu['name']}, {_memory(gpu['total_bytes'])}" for gpu in gpus)
        if _offered(models) is not None:
            self.gpu.say(Mark.DONE, names)
        else:
            words = f"{names}. Wan models need {least} GB or more; the demo model runs anywhere."
            self.gpu.say(Mark.WARNING, words)

    def _say_storage(self, machine: Json, models: ModelsNow, offered: ModelNow | None) -> None:
        free = machine["disk"]["free_bytes"]
        words = [
            f"Takes: {paths.takes()}, {_room(free)} free",
            f"Models: {models.folder}, {_room(models.free_bytes)} free",
        ]
        needed = 0
        if offered is not None and offered.state != "installed":
            needed = offered.size_bytes - offered.done_bytes
        is_enough = free >= SPARE_BYTES and models.free_bytes >= needed + SPARE_BYTES
        if not is_enough:
            words.append(f"{_room(needed + SPARE_BYTES)} free are needed. Make room on this disk.")
        self.storage.say(Mark.DONE if is_enough else Mark.WARNING, "\n".join(words))

    def _say_model(self, models: ModelsNow, offered: ModelNow | None) -> None:
        ready = [one for one in models.models if one.state == "installed"]
        real = [one for one in ready if one.repository]
        can_download = False
        if offered is None:
            if real or ready:
                one = (real or ready)[0]
                self.model.say(Mark.DONE, f"{one.title} is ready. {one.speed}.")
        elif offered.state == "installed":
            self.model.say(Mark.DONE, f"{offered.title} is ready. {offered.speed}.")
        elif offered.state in BUSY:
            self.model.say(Mark.BUSY, _course(offered))
        elif real:
            self.model.say(Mark.DONE, f"{real[0].title} is ready. {real[0].speed}.")
        else:
            can_download = True
            mark = Mark.TO_DO if offered.failure is None else Mark.WARNING
            self.model.say(mark, _offer(offered))
        self.download.setVisible(can_download)

    def _download(self) -> None:
        name = self._wanted
        self.download.hide()
        self._studio.order(
            lambda client: client.post(f"/models/{name}/download"),
            lambda _: self.look(),
            lambda error: self.model.say(Mark.WARNING, f"{error.message} {error.hint}".strip()),
        )

    def _make_sample(self) -> None:
        self.close()
        self.sample_wanted.emit()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._timer.start()
        self.look()
        self.sample.setFocus()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.stop()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Seen once, it does not come by itself again; it is under Help."""
        self._remembered.prefer(is_introduced=True)
        event.accept()


def _offered(models: ModelsNow) -> ModelNow | None:
    """What is recommended for this GPU; None: no GPU, or one too small."""
    return next((one for one in models.models if one.is_recommended and one.repository), None)


def _offer(model: ModelNow) -> str:
    about = "" if model.is_exact else "about "
    facts = [f"{model.title}: {about}{_room(model.size_bytes)}", model.speed, model.licence]
    if model.done_bytes:
        facts.insert(1, f"{_room(model.done_bytes)} are here")
    said = " · ".join(facts)
    return (
        said if model.failure is None else f"{model.failure.message} {model.failure.hint}\n{said}"
    )


def _course(model: ModelNow) -> str:
    if model.state == "verifying":
        return f"{model.title}: verifying."
    if model.state == "waiting":
        return f"{model.title}: waits for another download."
    left = ""
    if model.seconds_left is not None:
        minutes = round(model.seconds_left / 60)
        left = f", about {minutes} min left" if minutes else ", less than a minute left"
    said = f"{_room(model.done_bytes)} of {_room(model.size_bytes)}{left}"
    return f"{model.title}: {said}. You can look around meanwhile."


def _memory(num_bytes: float) -> str:
    return f"{round(num_bytes / 2**30)} GB"


def _room(num_bytes: float) -> str:
    gigabytes = num_bytes / GB
    return f"{gigabytes:.0f} GB" if gigabytes >= 100 else f"{gigabytes:.1f} GB"


def _show_takes() -> None:
    folder = paths.takes()
    shown = next(one for one in (folder, *folder.parents) if one.is_dir())
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(shown)))
