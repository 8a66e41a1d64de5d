"""The viewer as the window knows it: what it shows, its keys, its words."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAction,
    QColor,
    QFont,
    QImage,
    QKeyEvent,
    QKeySequence,
    QPalette,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QBoxLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.studio import Studio
from desktop.viewer.canvas import Canvas, Mode, Words
from desktop.viewer.counter import Counter
from desktop.viewer.frames import Clip
from desktop.viewer.player import Pair, Player
from desktop.viewer.sound import LOUDEST, Sound
from desktop.viewer.stills import save_still
from desktop.viewer.transport import ScrubBar, TimecodeField, VolumeSlider
from freeswim import paths
from freeswim.errors import FreeswimError, RequestError

LARGE_STEP = 10  # frames
WIPE_STEP = 0.02  # of the frame's width

_HELD_S = 0.3  # a key that is down for longer is held, not tapped
_CALM_MS = 120  # without another size, before pictures are made in the new one
_NOTE_MS = 8000
_NARROW_PX = 730  # below, the buttons lie in two rows
_POLL_MS = 50
_FULL_SPEED = 0.9  # of its rate, below which a clip's speed is told

_EMPTY = "Send clips from Resolve (Workspace ▸ Scripts ▸ FreeSwim),\nor drop video files here."

_NATIVE = QKeySequence.SequenceFormat.NativeText
_FULL = {Mode.A: 0, Mode.B: 1}  # modes that show one clip in full -> which it is

Slot = Callable[[], object]


class Viewer(QWidget):
    """Shows one clip, or compares two."""

    frame_saved = Signal(Path)
    dropped = Signal(str, Path)  # "A" or "B", and the file, which is shown there already
    sample_requested = Signal()

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.stills_folder = paths.takes() / "Frames"
        self._studio = studio
        self._counter = Counter.of(Fraction(24))
        self._preview_job = ""
        self._toggled: tuple[Mode, int, float] | None = None  # before T, and when it went down
        self._heard = 1  # A, 0, or B, 1, as it was chosen last
        self._saving: list[Future[Path]] = []
        self._savers = ThreadPoolExecutor(1, "stills")
        self.player = Player(self)
        self.sound = Sound(self.player, self)
        self.canvas = Canvas()
        self.scrub = ScrubBar()
        self.volume = VolumeSlider(LOUDEST)
        self._menu = [*self._play_actions(), None, *self._compare_actions()]
        self._menu += [None, *self._view_actions(), None, *self._sound_actions()]
        self.addActions([action for action in self._menu if action is not None])
        self.timecode = TimecodeField(self.actions_for)
        self._build()
        self._connect()
        self._show_course()
        self._show_sound()

    # ------------------------------------------------------------------------------ for the window

    def show_clips(self, a: Clip | None, b: Clip | None) -> None:
        """Show one clip or two; what was shown stays until the first picture is there."""
        self._preview_job = ""
        self.player.preview(None)
        self.player.load(a, b)
        self._pages.setCurrentIndex(int(bool(a or b)))
        self.note.hide()

    def show_preview(self, job_id: str, image: bytes, label: str) -> None:
        """What a running job has so far, as A; B stays.

        Args:
            job_id: of the job, for `end_preview`.
            image: a JPEG or PNG; one that cannot be read is passed over.
            label: as `Preview, refine 6/20`.
        """
        picture = QImage.fromData(image)
        if picture.isNull():
            return
        self._preview_job = job_id
        a, b = self.clips
        if b is None and a is not None:
            self.player.load(None, a)
        picture = picture.convertToFormat(QImage.Format.Format_RGB32)
        self._pages.setCurrentIndex(1)
        self.player.preview(picture, label)

    def end_preview(self, job_id: str) -> None:
        """The job ended without a take: A is a clip again, or nothing."""
        if job_id == self._preview_job:
            self._preview_job = ""
            self.player.preview(None)
            has_clip = self.player.clip(0) or self.player.clip(1)
            self._pages.setCurrentIndex(int(bool(has_clip)))

    @property
    def clips(self) -> tuple[Clip | None, Clip | None]:
        """What was loaded as A and as B."""
        return self.player.clip(0), self.player.clip(1)

    def actions_for(self) -> list[QAction | None]:
        """For a menu, in its order; None is a line."""
        return list(self._menu)

    # ------------------------------------------------------------------------------------- actions

    def _play_actions(self) -> list[QAction | None]:
        player, make = self.player, self._action
        self.play = make("&Play", "Space", self._toggle_play, "play", "Play or stop")
        self.loop = make("&Loop", "Ctrl+/", self._set_looping, "loop", "Play again from the start")
        self.loop.setCheckable(True)
        self.loop.setChecked(player.is_looping)
        first = make("&First Frame", "Home", lambda: player.seek(0), "first")
        last = make("L&ast Frame", "End", lambda: player.seek(player.num_frames - 1), "last")
        back = make("Pre&vious Frame", "Left", lambda: player.step(-1), "step-back")
        on = make("&Next Frame", "Right", lambda: player.step(1), "step-forward")
        self._transport = [first, back, self.play, on, last, self.loop]
        return [
            self.play,
            make("Play &Backward", "J", lambda: player.shuttle(-1), "", "Again: twice as fast"),
            make("&Stop", "K", player.stop),
            make("Play &Forward", "L", lambda: player.shuttle(1), "", "Again: twice as fast"),
            make("Play &In to Out", "/", lambda: player.play(in_marks=True)),
            self.loop,
            None,
            *(back, on),
            make("10 Frames Bac&k", "Shift+Left", lambda: player.step(-LARGE_STEP)),
            make("10 Fra&mes On", "Shift+Right", lambda: player.step(LARGE_STEP)),
            *(first, last),
            make("&Go to Timecode", "=", self._type_timecode, "", "Type a timecode, +12 or -12"),
            None,
            make("Mark I&n", "I", self._mark_in),
            make("Mark &Out", "O", self._mark_out),
            make("&Clear In and Out", "Alt+X", lambda: player.mark(None, None)),
        ]

    def _compare_actions(self) -> list[QAction | None]:
        canvas, make = self.canvas, self._action

        def mode(text: str, key: str, mode: Mode, icon: str, tip: str) -> QAction:
            action = make(text, key, lambda: self._set_mode(mode), icon, tip)
            action.setCheckable(True)
            self._modes[mode] = action
            return action

        self._modes: dict[Mode, QAction] = {}
        toggle = make("&Toggle A and B", "T", self._toggle, "", "Hold to look, tap to switch")
        toggle.setAutoRepeat(False)
        self.swap = make("S&wap A and B", "X", self._swap, "", "A goes right and B left")
        return [
            mode("Show &A", "1", Mode.A, "", "Only the left clip"),
            mode("Show &B", "2", Mode.B, "", "Only the right clip"),
            toggle,
            mode("&Wipe", "W", Mode.WIPE, "wipe", "A left of an edge that you drag, B right of it"),
            make("Move Wipe &Left", "[", lambda: canvas.move_wipe(-WIPE_STEP)),
            make("Move Wipe &Right", "]", lambda: canvas.move_wipe(WIPE_STEP)),
            mode("&Side by Side", "S", Mode.SIDE, "side", "Both in full"),
            mode(
                "&Difference", "D", Mode.DIFFERENCE, "difference", "What differs, 4 times as bright"
            ),
            self.swap,
        ]

    def _view_actions(self) -> list[QAction | None]:
        canvas, make = self.canvas, self._action
        self.one_to_one = make("&1:1", "Z", canvas.one_to_one, "", "A pixel for a pixel")
        self.fit = make("&Fit", "F", canvas.fit, "fit", "All of the frame")
        self.overlays = make("&Names and Timecode", "H", self._set_overlays)
        self.overlays.setCheckable(True)
        self.overlays.setChecked(True)
        self.save = make("&Save Frames as PNG", "Ctrl+Shift+S", self.save_frames, "image")
        return [
            *(self.one_to_one, self.fit),
            make("Fi&ll", "Shift+Z", canvas.fill, "", "No surround"),
            make("Zoom &In", "Ctrl++", lambda: canvas.zoom_by(1.25)),
            make("Zoom &Out", "Ctrl+-", lambda: canvas.zoom_by(0.8)),
            self.overlays,
            None,
            self.save,
        ]

    def _sound_actions(self) -> list[QAction | None]:
        make = self._action
        self.mute = make(
            "&Mute", "Shift+M", self._set_muted, "sound", "Keep the volume, hear nothing"
        )
        self.mute.setCheckable(True)
        self.other = make("&Hear the Other Clip", "Shift+T", self._hear_other, "", "A instead of B")
        return [self.mute, self.other]

    def _action(self, text: str, key: str, slot: Slot, icon: str = "", tip: str = "") -> QAction:
        action = QAction(text, self)
        action.setShortcut(QKeySequence(key))
        action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        words = text.replace("&", "")
        shown = action.shortcut().toString(_NATIVE)
        action.setStatusTip(tip or words)
        action.setToolTip(f"{tip or words} ({shown})")
        if icon:
            action.setIcon(theme.icon(icon))
        action.triggered.connect(lambda: slot())
        return action

    # -------------------------------------------------------------------------------------- layout

    def _build(self) -> None:
        self._pages = QStackedWidget()
        self._pages.addWidget(self._empty_page())
        self._pages.addWidget(self.canvas)
        self.note = QLabel(self.canvas, textFormat=Qt.TextFormat.PlainText, wordWrap=True)
        self.note.setMargin(6)
        self.note.setAutoFillBackground(True)
        self.note.hide()
        self._note_timer = QTimer(self, singleShot=True, interval=_NOTE_MS)
        self._bars = QHBoxLayout()
        self._bars.setSpacing(4)
        self._bars.addLayout(self._transport_row())
        self._bars.addStretch(1)
        self._bars.addLayout(self._compare_row())
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(4)
        whole.addWidget(self._pages, 1)
        whole.addLayout(self._bars)
        whole.addWidget(self.scrub)

    def _empty_page(self) -> QWidget:
        page = QWidget(autoFillBackground=True)
        palette = page.palette()
        palette.setColor(QPalette.ColorRole.Window, QColor(theme.SURROUND))
        page.setPalette(palette)
        self.note_palette = palette
        words = QLabel(_EMPTY, alignment=Qt.AlignmentFlag.AlignCenter)
        words.setProperty("role", "empty")
        self.sample = QPushButton("Open a sample")
        self.sample.setProperty("role", "link")
        self.sample.setCursor(Qt.CursorShape.PointingHandCursor)
        self.sample.clicked.connect(self.sample_requested)
        column = QVBoxLayout(page)
        column.setSpacing(8)
        column.addStretch(1)
        column.addWidget(words)
        column.addWidget(self.sample, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)
        return page

    def _transport_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(4)
        for action in self._transport:
            row.addWidget(_button(action))
        row.addSpacing(4)
        row.addWidget(self.timecode)
        self.frame = QLabel(textFormat=Qt.TextFormat.PlainText)
        self.frame.setProperty("role", "secondary")
        tabular = QFont(self.frame.font())
        tabular.setFeature(QFont.Tag("tnum"), 1)
        self.frame.setFont(tabular)
        row.addWidget(self.frame)
        row.addStretch(1)
        return row

    def _compare_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(4)
        for mode in (Mode.A, Mode.B):
            self._modes[mode].setIconText(mode.value.upper())
            row.addWidget(_button(self._modes[mode]))
        for mode in (Mode.WIPE, Mode.SIDE, Mode.DIFFERENCE):
            row.addWidget(_button(self._modes[mode]))
        row.addSpacing(8)
        row.addWidget(_button(self.one_to_one))
        row.addWidget(_button(self.fit))
        row.addWidget(_button(self.save))
        row.addSpacing(8)
        self.speaker = _button(self.mute)
        self.speaker.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        row.addWidget(self.speaker)
        row.addWidget(self.volume)
        return row

    def _connect(self) -> None:
        self.player.shown.connect(self._show_pair)
        self.player.changed.connect(self._show_course)
        self.player.waiting.connect(self._show_waiting)
        self.scrub.scrubbed.connect(self.player.seek)
        self.timecode.entered.connect(self._go_to)
        self.timecode.left.connect(self.canvas.setFocus)
        self.canvas.sizes_changed.connect(self._take_sizes)
        self.canvas.mode_changed.connect(lambda _: self._show_mode())
        self.volume.valueChanged.connect(self.sound.set_volume)
        self.sound.changed.connect(self._show_sound)
        self.sound.failed.connect(self._say_sound)
        self.canvas.dropped.connect(self._take_drop)
        self._note_timer.timeout.connect(self.note.hide)
        self._sizes = (QSize(), QSize())
        self._calm = QTimer(self, singleShot=True, interval=_CALM_MS)
        self._calm.timeout.connect(lambda: self.player.set_sizes(*self._sizes))
        self._poll = QTimer(self, interval=_POLL_MS)
        self._poll.timeout.connect(self._see_saved)
        savers = self._savers
        self.destroyed.connect(lambda: savers.shutdown(wait=False))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Where there is little room, the buttons lie in two rows."""
        super().resizeEvent(event)
        is_narrow = self.width() < _NARROW_PX
        across, down = QBoxLayout.Direction.LeftToRight, QBoxLayout.Direction.TopToBottom
        self._bars.setDirection(down if is_narrow else across)
        self._place_note()

    # ----------------------------------------------------------------------------- what is shown

    def _show_course(self) -> None:
        player = self.player
        self._counter = Counter.of(player.frame_rate, player.start_timecode)
        self.canvas.set_clips(*player.clip_sizes)
        self.scrub.set_course(player.num_frames, player.marks)
        self.play.setText("&Stop" if player.is_playing else "&Play")
        self.play.setIcon(theme.icon("pause" if player.is_playing else "play"))
        self.loop.setChecked(player.is_looping)
        has_two = len(self.canvas.pair.sides) == 2
        for action in self._menu:
            if action is not None:
                action.setEnabled(player.num_frames > 0)
        for widget in (self.scrub, self.timecode):
            widget.setEnabled(player.num_frames > 0)
        self.swap.setEnabled(has_two)
        if not player.num_frames:
            self._show_pair(Pair(0, None, None))
        elif not player.is_playing:
            self.canvas.set_words(self._words())
        self._show_mode()

    def _show_pair(self, pair: Pair) -> None:
        self.canvas.show_pair(pair, self._words(pair))
        self.timecode.show_timecode(self._counter.text(pair.position) if pair.sides else "")
        self.frame.setText(f"{pair.position + 1} / {self.player.num_frames}" if pair.sides else "")
        if not self.scrub.isSliderDown():
            self.scrub.setValue(pair.position)
        if not self.player.is_playing:
            labels = [self.canvas.label(name) for name in "ab" if getattr(pair, name)]
            self.canvas.setAccessibleDescription(", ".join([*labels, self._words(pair).left]))
            self.swap.setEnabled(len(pair.sides) == 2)
            self._listen()

    def _words(self, pair: Pair | None = None, *, is_waiting: bool = False) -> Words:
        pair = pair or self.canvas.pair
        clips = [side for side in pair.sides if side.facts is not None]
        if not clips:
            return Words("", self._speed_words(is_waiting))
        numbers = {f"{side.frame + 1} / {side.num_frames}" for side in clips}
        if len(numbers) == 1:
            left = f"{self._counter.text(pair.position)}   {numbers.pop()}"
        else:
            each = [
                f"{name} {side.frame + 1} / {side.num_frames}"
                for name, side in (("A", pair.a), ("B", pair.b))
                if side is not None and side.facts is not None
            ]
            left = "   ".join([self._counter.text(pair.position), *each])
        rates = {side.facts.frame_rate for side in clips if side.facts}
        if len(rates) > 1:
            left += f"   matched by time at {_decimal(self.player.frame_rate)} fps"
        return Words(left, self._speed_words(is_waiting))

    def _speed_words(self, is_waiting: bool) -> str:
        player = self.player
        if is_waiting and player.is_loading:
            return "Opening…"
        if is_waiting:
            is_there = self.canvas.pair.position == player.position
            how = " in this size" if is_there and self.canvas.pair.sides else ""
            return f"Reading frame {player.position + 1}{how}…"
        if player.speed not in (0, 1):
            return f"{player.speed} ×".replace("-", "−")
        rate, reached = float(player.frame_rate), player.shown_per_s
        if player.speed and 0 < reached < _FULL_SPEED * rate:
            return f"{reached:.0f} of {_decimal(player.frame_rate)} fps"
        return ""

    def _show_waiting(self, is_waiting: bool) -> None:
        if is_waiting or self.canvas.words.right:
            self.canvas.set_words(self._words(is_waiting=is_waiting))

    def _show_mode(self) -> None:
        for mode, action in self._modes.items():
            action.setChecked(mode is self.canvas.mode)
        self._listen()

    def _listen(self) -> None:
        """Hear what is shown in full; of two that are seen, the one chosen last that has sound."""
        shown, has = self.canvas.shown_mode, self.sound.has_sound
        if shown in _FULL:
            self.sound.listen(_FULL[shown])
        else:
            self.sound.listen(self._heard if has(self._heard) else 1 - self._heard)
        self.other.setEnabled(shown not in _FULL and has(0) and has(1))

    def _show_sound(self) -> None:
        sound = self.sound
        self._listen()
        why, key = sound.why_silent, self.mute.shortcut().toString(_NATIVE)
        self.mute.setChecked(sound.is_muted)
        self.mute.setIcon(theme.icon("muted" if sound.is_muted or why else "sound"))
        self.mute.setIconText("AB"[sound.side] if sound.has_sound(sound.side) else "–")
        heard = f"{'Muted: sound' if sound.is_muted else 'Sound'} of {'AB'[sound.side]}"
        self.mute.setToolTip(f"{why or heard} ({key})")
        self.volume.setToolTip(f"Volume {sound.volume} %")
        self.volume.setValue(sound.volume)

    def _say_sound(self, error: FreeswimError) -> None:
        self._say(f"{error} The picture is not touched by it. {error.hint}", is_failure=True)

    def _say(self, words: str, *, is_failure: bool = False) -> None:
        """Say it on the picture's lower edge; a failure stays until something else is done."""
        self.note.setProperty("role", "failed" if is_failure else "secondary")
        self.note.style().polish(self.note)
        self.note.setPalette(self.note_palette)
        self.note.setText(words)
        self._place_note()
        self.note.show()
        if is_failure:
            self._note_timer.stop()
        else:
            self._note_timer.start()

    def _place_note(self) -> None:
        width = min(self.canvas.width() - 16, 520)
        self.note.setFixedWidth(max(120, width))
        self.note.adjustSize()
        x = (self.canvas.width() - self.note.width()) // 2
        self.note.move(x, self.canvas.height() - self.note.height() - 40)

    # --------------------------------------------------------------------------------- what is done

    def _toggle_play(self) -> None:
        if self.player.is_playing:
            self.player.stop()
        else:
            self.player.play()

    def _set_looping(self) -> None:
        self.player.set_looping(self.loop.isChecked())

    def _set_overlays(self) -> None:
        self.canvas.has_overlays = self.overlays.isChecked()
        self.canvas.update()

    def _mark_in(self) -> None:
        self.player.mark(self.canvas.pair.position, self.player.marks[1])

    def _mark_out(self) -> None:
        self.player.mark(self.player.marks[0], self.canvas.pair.position)

    def _set_muted(self) -> None:
        self.sound.set_muted(self.mute.isChecked())

    def _hear_other(self) -> None:
        self._heard = 1 - self.sound.side
        self._listen()

    def _set_mode(self, mode: Mode) -> None:
        self._heard = _FULL.get(mode, self._heard)
        self.canvas.set_mode(mode)
        self._show_mode()

    def _toggle(self) -> None:
        self._toggled = self.canvas.mode, self._heard, time.monotonic()
        self._set_mode(Mode.A if self.canvas.mode is Mode.B else Mode.B)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        """T was held: as it was before."""
        if event.key() == Qt.Key.Key_T and not event.isAutoRepeat() and self._toggled is not None:
            mode, heard, since = self._toggled
            self._toggled = None
            if time.monotonic() - since > _HELD_S:
                self._heard = heard
                self._set_mode(mode)
        super().keyReleaseEvent(event)

    def _swap(self) -> None:
        a, b = self.clips
        self.player.load(b, a)

    def _type_timecode(self) -> None:
        self.timecode.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.timecode.selectAll()

    def _go_to(self, text: str) -> None:
        self.note.hide()
        step = Counter.step(text)
        try:
            position = self.player.position + step if step else self._counter.position(text)
            if not 0 <= position < self.player.num_frames:
                first = self._counter.text(0)
                last = self._counter.text(self.player.num_frames - 1)
                raise RequestError(
                    f"{text} is not in the clip.", hint=f"It goes from {first} to {last}."
                )
        except RequestError as error:
            self._say(f"{error} {error.hint}", is_failure=True)
            self.timecode.selectAll()
            return
        self.canvas.setFocus()
        self.player.seek(position)

    def _take_sizes(self, a: QSize, b: QSize) -> None:
        is_first = [size.isEmpty() for size in self._sizes] != [a.isEmpty(), b.isEmpty()]
        self._sizes = (a, b)
        if is_first:
            self.player.set_sizes(a, b)
        else:
            self._calm.start()

    def _take_drop(self, side: str, path: Path) -> None:
        a, b = self.clips
        clip = Clip(path, self._name_of(path))
        self.show_clips(*((clip, b) if side == "A" else (a, clip)))
        self.dropped.emit(side, path)

    def _name_of(self, path: Path) -> str:
        takes = self._studio.takes.values()
        if path.parent == paths.takes():
            for take in takes:
                if take.file == path.name:
                    return f"{take.shot_name} take {take.number}"
        return path.name

    def save_frames(self) -> None:
        """Save what is shown, each side in its own size."""
        self.note.hide()
        for index, side in enumerate((self.canvas.pair.a, self.canvas.pair.b)):
            clip = self.player.clip(index)
            if side is not None and side.facts is not None and side.error is None and clip:
                call = self._savers.submit(save_still, clip, side.frame, self.stills_folder)
                self._saving.append(call)
        if self._saving:
            self._poll.start()

    def _see_saved(self) -> None:
        if not all(saving.done() for saving in self._saving):
            return
        self._poll.stop()
        done, self._saving = self._saving, []
        names: list[str] = []
        for saving in done:
            error = saving.exception()
            if isinstance(error, FreeswimError):
                self._say(f"{error} {error.hint}", is_failure=True)
                return
            path = saving.result()
            names.append(path.name)
            self.frame_saved.emit(path)
        self._say(f"Saved {' and '.join(names)} in {self.stills_folder}.")


def _button(action: QAction) -> QToolButton:
    """Of an action; a click leaves the focus where the keys are."""
    button = QToolButton(autoRaise=True)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    button.setDefaultAction(action)
    button.setIconSize(QSize(16, 16))
    button.setMinimumSize(28, 28)
    action.changed.connect(lambda: button.setAccessibleName(action.text().replace("&", "")))
    action.changed.emit()
    return button


def _decimal(rate: Fraction) -> str:
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")
