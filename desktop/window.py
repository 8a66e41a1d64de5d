"""The window: what to make on the left, the take on the right, how far it is below."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from PySide6.QtCore import QElapsedTimer, QStandardPaths, Qt, QUrl, Signal
from PySide6.QtGui import QCloseEvent, QDesktopServices, QKeySequence, QShortcut, QStandardItemModel
from PySide6.QtMultimedia import QMediaPlayer
from PySide6.QtMultimediaWidgets import QVideoWidget
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from desktop.generation import Course, Failure, FinishedTake, Generation, Progress
from freeswim import paths
from freeswim.cli.options import DEFAULT_PRESETS
from freeswim.models.catalog import find_checkpoint
from freeswim.output import free_path, take_name
from freeswim.presets import Preset, load_preset, preset_names
from freeswim.request import MAX_PROMPT, MAX_SEED

EXAMPLE = "two orange koi swimming left in green water"  # what the demo checkpoint knows
STAGE_WORDS = {
    "load": "Loading the model",
    "encode prompt": "Reading the prompt",
    "base": "Base pass",
    "upsample": "Upsampling",
    "refine": "Refine pass",
    "write": "Writing the file",
}

Margins = tuple[int, int, int, int]  # pixels: left, top, right, bottom
CONTROL_PX = 28  # height of a control of one line


class Window(QWidget):
    """Everything an editor needs for one take."""

    def __init__(self) -> None:
        super().__init__(windowTitle="FreeSwim")
        self.generation = Generation(self)
        self.generation.progressed.connect(self._show_progress)
        self.generation.made.connect(self._show_take)
        self.generation.failed.connect(self._show_failure)
        self.generation.cancelled.connect(lambda: self._end("Cancelled. Nothing was written."))
        self._course = Course(is_draft=False)
        self._since_start = QElapsedTimer()

        upper = _row()
        upper.addWidget(self._settings())
        upper.addLayout(self._result(), 1)
        self.bar = QProgressBar(maximum=1000, textVisible=False)
        self.bar.setAccessibleName("Progress")
        self.bar.setFixedHeight(4)
        whole = _column(self)
        whole.addLayout(upper, 1)
        whole.addWidget(self.bar)
        whole.addLayout(self._status())
        self.setMinimumSize(1000, 600)
        self.resize(1280, 760)

        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            QShortcut(QKeySequence(keys), self).activated.connect(self._generate)
        QShortcut(QKeySequence("Escape"), self).activated.connect(self._cancel)
        self._choose_preset()
        self._say("Ready")
        self.prompt.setFocus()

    # ---------------------------------------------------------------------------------- parts

    def _settings(self) -> QWidget:
        self.preset = _preset_box()
        self.preset.currentIndexChanged.connect(self._choose_preset)
        self.about = _label(role="secondary")
        self.prompt = QPlainTextEdit(tabChangesFocus=True)
        self.prompt.textChanged.connect(self._refresh)
        self.use_example = _button("Use the example", self._fill_in_example, role="link")
        self.seed = QDoubleSpinBox(decimals=0, maximum=MAX_SEED)  # a QSpinBox ends at 2^31
        self.is_new_seed = QCheckBox("New each time")
        self.is_new_seed.setChecked(True)
        self.is_new_seed.toggled.connect(self._refresh)
        movies = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.MoviesLocation)
        self.folder = QLineEdit(str(Path(movies, "FreeSwim")))
        self.folder.textChanged.connect(self._refresh)
        self.choose_folder = _button("Change…", self._choose_folder)
        self.choose_folder.setAccessibleName("Change the folder")
        self.is_draft = QCheckBox("Draft only")
        self.is_draft.setToolTip("Stops after the base pass: quick, at native size.")
        self.is_draft.toggled.connect(self._refresh)
        self.button = _button("Generate", self._generate_or_cancel, role="primary")
        self.obstacle = _label(role="secondary")

        panel = QWidget()
        panel.setFixedWidth(340)
        column = _column(panel, spacing=16, margins=(16, 16, 16, 16))
        column.addLayout(_field("&Preset", self.preset, below=self.about))
        column.addLayout(_field("P&rompt", self.prompt, below=self.use_example))
        column.addLayout(_field("&Seed", self.seed, beside=self.is_new_seed))
        column.addLayout(_field("&Folder for the takes", self.folder, beside=self.choose_folder))
        column.addWidget(self.is_draft)
        column.addStretch(1)
        last = _column(spacing=6)
        last.addWidget(self.button)
        last.addWidget(self.obstacle)
        column.addLayout(last)
        return panel

    def _result(self) -> QVBoxLayout:
        self.viewer = Viewer()
        self.viewer.playing_changed.connect(self._show_playing)
        self.viewer.failed.connect(self._say)
        self.play = _button("Play", self.viewer.toggle)
        self.play.setFixedWidth(80)
        self.facts = _label(role="secondary")
        self.facts.setWordWrap(False)
        self.show_in_folder = _button("Show in folder", self._show_in_folder)
        below = _row(spacing=12)
        below.addWidget(self.play)
        below.addWidget(self.facts, 1)
        below.addWidget(self.show_in_folder)
        for control in (self.play, self.show_in_folder):
            control.setEnabled(False)
        column = _column(spacing=8, margins=(0, 16, 16, 12))
        column.addWidget(self.viewer, 1)
        column.addLayout(below)
        return column

    def _status(self) -> QVBoxLayout:
        self.message, self.hint = _label(), _label(role="secondary")
        column = _column(spacing=2, margins=(16, 8, 16, 10))
        for label in (self.message, self.hint):
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            column.addWidget(label)
        return column

    # ------------------------------------------------------------------------------- settings

    def _choose_preset(self) -> None:
        preset: Preset = self.preset.currentData()
        is_demo = preset.defaults["checkpoint"] == "demo"
        self.about.setText(preset.description)
        self.prompt.setPlaceholderText(EXAMPLE if is_demo else "What the shot shows")
        self.use_example.setVisible(is_demo)
        self.is_draft.setVisible(not preset.defaults.get("draft"))  # some make nothing else
        self._refresh()

    def _makes_draft(self) -> bool:
        return self.is_draft.isChecked() or bool(self.preset.currentData().defaults.get("draft"))

    def _fill_in_example(self) -> None:
        self.prompt.setPlainText(EXAMPLE)
        self.button.setFocus()

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the takes", self.folder.text())
        if chosen:
            self.folder.setText(chosen)

    def _obstacle(self) -> str:
        """What keeps a take from being made, in words; empty: nothing."""
        length = len(self.prompt.toPlainText().strip())
        if not length:
            return "Say in the prompt what the shot shows."
        if length > MAX_PROMPT:
            return f"The prompt has {length:,} characters; {MAX_PROMPT:,} are the most."
        if not self.folder.text().strip():
            return "Name a folder for the takes."
        return ""

    def _refresh(self) -> None:
        """What the button says, whether it can be pressed, and why not."""
        obstacle, is_running = self._obstacle(), self.generation.is_running
        self.seed.setEnabled(not self.is_new_seed.isChecked())
        self.obstacle.setText("" if is_running else obstacle)
        self.button.setEnabled(not self.generation.is_stopping if is_running else not obstacle)
        what = "Generate draft" if self._makes_draft() else "Generate"
        self.button.setText("Cancel" if is_running else what)
        self.button.setToolTip("Escape" if is_running else "Ctrl+Return")

    # ----------------------------------------------------------------------------- generation

    def _generate_or_cancel(self) -> None:
        if not self.generation.is_running:
            self._generate()
        elif self._since_start.elapsed() > QApplication.doubleClickInterval():
            self._cancel()  # the second click of a double one is no wish to cancel

    def _generate(self) -> None:
        if self.generation.is_running or self._obstacle():
            return
        if self.is_new_seed.isChecked():
            self.seed.setValue(random.randint(0, MAX_SEED))
        prompt, seed = self.prompt.toPlainText().strip(), int(self.seed.value())
        folder = Path(self.folder.text().strip()).expanduser().absolute()
        with suppress(OSError):  # the command says what is wrong with the folder
            folder.mkdir(parents=True, exist_ok=True)
        is_draft = self._makes_draft()
        self._course = Course(is_draft=is_draft)
        self._say("Starting")
        self.bar.setValue(0)
        self._since_start.start()
        self.generation.start(
            prompt=prompt,
            preset=self.preset.currentData().name,
            seed=seed,
            is_draft=is_draft,
            output=free_path(folder / take_name(prompt, seed, is_draft=is_draft), ".json"),
        )
        self._refresh()

    def _cancel(self) -> None:
        if self.generation.is_running:
            self.generation.cancel()
            self._say("Cancelling")
            self._refresh()

    def _show_progress(self, progress: Progress) -> None:
        done = self._course.follow(progress)
        self.bar.setValue(round(1000 * done))
        self.setWindowTitle(f"{done:.0%} – FreeSwim")
        if not self.generation.is_stopping:
            count = f" {progress.step} of {progress.num_steps}" if progress.num_steps > 1 else ""
            self._say(f"{STAGE_WORDS.get(progress.stage, progress.stage.capitalize())}{count}")

    def _show_take(self, take: FinishedTake) -> None:
        seconds = take.seconds["all"]
        self.facts.setText(
            f"{take.width} × {take.height} · {take.frames} frames · "
            f"{float(take.frame_rate):.6g} fps · seed {take.seed} · {seconds:.1f} s"
        )
        self.facts.setToolTip(take.media.name)
        self.viewer.show_take(take.media)
        self.play.setEnabled(True)
        self.show_in_folder.setEnabled(True)
        self._end(f"{take.media.name} is finished.", " ".join(take.notes))
        if self.button.hasFocus():
            self.viewer.setFocus()  # Space now plays, and does not start another

    def _show_failure(self, failure: Failure) -> None:
        self._end(failure.message, failure.hint, role="failed")

    def _end(self, message: str, hint: str = "", role: str = "") -> None:
        self.bar.reset()
        self.setWindowTitle("FreeSwim")
        self._say(message, hint, role)
        self._refresh()

    def _say(self, message: str, hint: str = "", role: str = "") -> None:
        self.message.setText(message)
        self.hint.setText(hint)
        self.message.setProperty("role", role)
        self.message.style().polish(self.message)  # looks at the role again

    # ----------------------------------------------------------------------------------- take

    def _show_playing(self, is_playing: bool) -> None:
        self.play.setText("Pause" if is_playing else "Play")

    def _show_in_folder(self) -> None:
        folder = self.viewer.media.parent
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(folder)):
            self._say("No program here shows folders.", f"The take is in {folder}.")

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stops what runs; nobody is asked, and nothing half-written stays."""
        self.hide()  # stopping takes as long as a step
        self.viewer.close_take()
        self.generation.close()
        super().closeEvent(event)


class Viewer(QStackedWidget):
    """Plays a take in a loop; Space starts and stops it.

    Signals:
        playing_changed: whether it plays now.
        failed: sentence and hint.
    """

    playing_changed = Signal(bool)
    failed = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("viewer")
        self.setAccessibleName("Viewer")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        empty = _label("The take appears here.", role="empty")
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.addWidget(empty)
        self._video = QVideoWidget()
        self.addWidget(self._video)
        self.media = Path()  # of the take that is shown
        self.player = QMediaPlayer(self, loops=QMediaPlayer.Loops.Infinite)
        self.player.setVideoOutput(self._video)
        self.player.playingChanged.connect(self.playing_changed)
        self.player.errorOccurred.connect(self._on_error)
        space = QShortcut(QKeySequence("Space"), self)
        space.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        space.activated.connect(self.toggle)

    def show_take(self, media: Path) -> None:
        """Play the video at `media`."""
        self.media = media
        self.setCurrentWidget(self._video)
        self.player.setSource(QUrl.fromLocalFile(media))
        self.player.play()

    def close_take(self) -> None:
        """Let go of the file."""
        self.player.stop()
        self.player.setSource(QUrl())

    def toggle(self) -> None:
        """Stop at the frame that is shown, or go on."""
        if self.player.isPlaying():
            self.player.pause()
        else:
            self.player.play()

    def _on_error(self, _: QMediaPlayer.Error, reason: str) -> None:
        self.failed.emit("The take cannot be played here.", f"It is whole in its folder. {reason}")


# -------------------------------------------------------------------------------------- controls


def _preset_box() -> QComboBox:
    """All presets; those whose checkpoint is not here cannot be chosen and say how to get it.

    Those that need a LoRA are left out: this window has no place to give one yet.
    """
    box = QComboBox()
    available: list[str] = []
    presets = [preset for preset in map(load_preset, preset_names()) if not preset.needs_lora]
    for index, preset in enumerate(presets):
        checkpoint = find_checkpoint(preset.defaults["checkpoint"])
        if checkpoint.repository is None or (paths.models() / checkpoint.name).is_dir():
            box.addItem(preset.title, preset)
            available.append(preset.name)
            continue
        box.addItem(f"{preset.title} – not on this machine", preset)
        how = (
            f"{checkpoint.title} ({checkpoint.licence}) is not on this machine. "
            f"Download {checkpoint.repository} from huggingface.co "
            f"into {paths.models() / checkpoint.name}, then start FreeSwim again."
        )
        box.setItemData(index, how, Qt.ItemDataRole.ToolTipRole)
        box.setItemData(index, how, Qt.ItemDataRole.AccessibleDescriptionRole)
        cast(QStandardItemModel, box.model()).item(index).setEnabled(False)
    chosen = next(name for name in DEFAULT_PRESETS if name in available)
    box.setCurrentIndex(next(i for i in range(box.count()) if box.itemData(i).name == chosen))
    return box


def _field(
    title: str, control: QWidget, *, beside: QWidget | None = None, below: QWidget | None = None
) -> QVBoxLayout:
    """A control under its name."""
    name = _label(title)
    name.setBuddy(control)
    row = _row(spacing=8)
    control.setMinimumHeight(CONTROL_PX)
    row.addWidget(control, 1)
    if beside:
        row.addWidget(beside)
    column = _column(spacing=6)
    column.addWidget(name)
    column.addLayout(row)
    if below:
        column.addWidget(below)
    return column


def _column(
    parent: QWidget | None = None, *, spacing: int = 0, margins: Margins = (0, 0, 0, 0)
) -> QVBoxLayout:
    column = QVBoxLayout() if parent is None else QVBoxLayout(parent)
    column.setSpacing(spacing)
    column.setContentsMargins(*margins)
    return column


def _row(spacing: int = 0) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(spacing)
    return row


def _label(text: str = "", *, role: str = "") -> QLabel:
    """Text that is never read as HTML and never widens the window."""
    label = QLabel(text, textFormat=Qt.TextFormat.PlainText, wordWrap=True)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    label.setProperty("role", role)
    return label


def _button(text: str, slot: Callable[[], object], *, role: str = "") -> QPushButton:
    button = QPushButton(text, autoDefault=False)
    button.clicked.connect(lambda: slot())  # without the state that Qt would hand over
    button.setProperty("role", role)
    button.setMinimumHeight(CONTROL_PX)
    return button
