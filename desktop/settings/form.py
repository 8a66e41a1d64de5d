"""The form: one sheet, field by field."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import (
    QApplication,
    QButtonGroup,
    QLineEdit,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.settings.advanced import Advanced
from desktop.settings.fields import (
    CONTROL_PX,
    SHORT,
    Choice,
    Length,
    Number,
    Seed,
    Size,
    Strength,
    row,
)
from desktop.settings.file_fields import MediaSlot
from desktop.settings.rows import Row, Rows, secondary, show_text, text_field
from desktop.settings.sheet import Flat, Library, Sheet, media_of, seconds_of
from desktop.shots.intake import Found, Intake
from freeswim.errors import RequestError
from freeswim.models.catalog import find_checkpoint
from freeswim.timeline.timecode import frames_of as frames_of_timecode
from freeswim.timeline.timecode import timecode_of

LABEL_PX = 76
PROMPT_PX = 64
EXAMPLE = "two orange koi swimming left in green water"  # what the demo checkpoint knows
KINDS = (("text", "Text", "From a prompt"), ("image", "Image", "From a first image"))
KINDS = (*KINDS, ("clip", "Clip", "A clip made again at high resolution"))


class Form(QWidget):
    """Shows a sheet and changes it in place."""

    changed = Signal()
    refused = Signal(str)  # why a file that was dropped cannot be used

    def __init__(self) -> None:
        super().__init__()
        self.sheet, self.library = Sheet(), Library()
        self._found: dict[str, Found] = {}  # by path
        self._asked: set[str] = set()
        self._intake = Intake()
        self._intake.found.connect(self._on_found)
        self.advanced = Advanced()
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(6)
        column.addLayout(self._kind_buttons())
        column.addWidget(self._media())
        column.addWidget(self._main())
        column.addWidget(self._fold())
        column.addWidget(self.advanced)
        self.open_advanced(False)
        column.addStretch(1)
        self.advanced.negative.textChanged.connect(self._on_negative)
        self.advanced.negative_reset.connect(lambda: self._set(negative_prompt=None))
        self.advanced.loras.edited.connect(lambda loras: self._set(loras=loras))
        for rows in (self.rows, self.advanced):
            rows.tuned.connect(self._tune)
            rows.untuned.connect(self._untune)
        self.show_sheet(self.sheet, self.library)

    # ---------------------------------------------------------------------------------- parts

    def _kind_buttons(self) -> Any:
        self.kinds: dict[str, QToolButton] = {}
        group = QButtonGroup(self)
        for kind, words, tip in KINDS:
            button = QToolButton()
            button.setText(words)
            button.setIcon(theme.icon(kind))
            button.setToolTip(tip)
            button.setCheckable(True)
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            button.setFixedHeight(CONTROL_PX)
            button.setAccessibleName(f"{words}: {tip.lower()}")
            button.clicked.connect(lambda _, kind=kind: self._set(kind=kind))
            group.addButton(button)
            self.kinds[kind] = button
        return row(*self.kinds.values(), spacing=2)

    def _media(self) -> QWidget:
        self.slots = {
            "first_image": MediaSlot("First image", "image", is_video=False),
            "last_image": MediaSlot("Last image", "image", is_video=False),
            "clip": MediaSlot("Clip", "clip", is_video=True),
        }
        for name, slot in self.slots.items():
            slot.edited.connect(lambda path, name=name: self._set_media(name, path))
            slot.refused.connect(self.refused)
        self.clip_words = secondary()
        self.media = QWidget()
        column = QVBoxLayout(self.media)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row(*self.slots.values(), spacing=8))
        column.addWidget(self.clip_words)
        return self.media

    def _main(self) -> Rows:
        self.rows = rows = Rows()
        self.preset = Choice("Preset")
        self.preset.edited.connect(lambda name: self._set(preset=name))
        self.prompt = text_field("Prompt", PROMPT_PX)
        self.prompt.textChanged.connect(lambda: self._set(prompt=self.prompt.toPlainText()))
        self.size_field, self.length, self.strength = Size(), Length(), Strength()
        self.seed = Seed()
        self.seed.edited.connect(lambda said: self._set(seed=said[0], is_seed_locked=said[1]))
        rows.line("&Preset", self.preset)
        rows.line("P&rompt", self.prompt)
        self.start = self._start(rows)
        rows.add(
            *("Si&ze", self.size_field, ("width", "height", "draft")),
            self._show_size,
            lambda usual: "draft" if usual["draft"] else f"{usual['width']} × {usual['height']}",
            "Twice the size: about four times the memory and the time.",
        )
        self.size_field.edited.connect(self._tune)
        rows.add(
            *("&Length", self.length, ("frames",)),
            self._show_length,
            lambda usual: f"{usual['frames']} frames",
            "The longer, the slower, and more memory. Lengths of 4n + 1 frames are computed.",
        )
        self.length.edited.connect(lambda frames: self._tune({"frames": frames}))
        rows.add(
            *("S&trength", self.strength, ("refine.strength",)),
            self._show_strength,
            lambda usual: f"{usual['refine.strength']:.2f}",
            "Low keeps the picture; high makes more anew, and takes longer.",
        )
        self.strength.edited.connect(lambda value: self._tune({"refine.strength": value}))
        rows.line("See&d", self.seed, "The same seed and settings give the same take.")
        return rows

    def _start(self, rows: Rows) -> Row:
        """Where in the clip the take begins."""
        self.timecode = QLineEdit()
        self.timecode.setAccessibleName("First frame of the clip, timecode")
        self.timecode.setFixedHeight(CONTROL_PX)
        self.timecode.editingFinished.connect(self._on_timecode)
        self.start_frame = Number("First frame of the clip", 0, 10**7, unit="f")
        self.start_frame.edited.connect(lambda frame: self._set(clip_start=frame))
        field = QWidget()
        field.setLayout(row(self.timecode, self.start_frame))
        field.setFocusProxy(self.timecode)
        made = Row(
            rows.line("Fro&m", field, "First frame of the clip that is remade."),
            field,
            self._show_start,
            lambda _: "the clip's first frame",
            lambda sheet: sheet.clip_start != 0,
            lambda: self._set(clip_start=0),
        )
        rows.keep(made)
        return made

    def _fold(self) -> QToolButton:
        self.fold = QToolButton()
        self.fold.setCheckable(True)
        self.fold.setAutoRaise(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.fold.setFixedHeight(CONTROL_PX)
        self.fold.toggled.connect(self.open_advanced)
        return self.fold

    # -------------------------------------------------------------------------------- showing

    def show_sheet(self, sheet: Sheet, library: Library, *, keeps_undo: bool = False) -> None:
        """Show a sheet; from now on it is changed by what is typed.

        Args:
            keeps_undo: whether the text fields can go back to what they show now.
        """
        self.sheet, self.library = sheet, library
        if library and sheet.preset not in library.all():
            sheet.preset = library.default()
        show_text(self.prompt, sheet.prompt, keeps_undo=keeps_undo)
        self.refresh()

    def refresh(self) -> None:
        """Show the sheet as it is now."""
        sheet, is_known = self.sheet, bool(self.library)
        if sheet.clip in self._found and sheet.clip_facts is None:
            sheet.clip_facts = self._found[sheet.clip].clip
        for kind, button in self.kinds.items():
            button.setChecked(kind == sheet.kind)
            button.setPalette(_palette_of(is_chosen=kind == sheet.kind))
        for name, slot in self.slots.items():
            slot.setVisible(name in media_of(sheet.kind))
            path = getattr(sheet, name)
            slot.show_file(path, self._found.get(path))
            if path and name in media_of(sheet.kind):
                self._look_at(path)
        self.media.setVisible(sheet.kind != "text")
        self.clip_words.setVisible(sheet.kind == "clip" and sheet.clip_facts is not None)
        for part in (self.start.label, self.start.field):
            part.setVisible(sheet.kind == "clip")
        self.advanced.setEnabled(is_known)
        for made in self.rows.rows:
            made.field.setEnabled(is_known)
        self.preset.setEnabled(is_known)
        self.seed.show_value(sheet.seed, sheet.is_seed_locked)
        if is_known:
            self._show_values()
        else:
            self.preset.set_items([("", "Connecting to the studio…")])
        self._paint_fold()

    def _show_values(self) -> None:
        sheet, library = self.sheet, self.library
        values, usual = library.values(sheet), library.baseline(sheet)
        self._show_presets()
        is_demo = values["checkpoint"] == "demo"
        placeholder = f"{EXAMPLE}\n(the demo knows koi only)" if is_demo else "What the shot shows"
        if sheet.kind == "clip":
            placeholder = "What the clip shows; may be left empty"
        self.prompt.setPlaceholderText(placeholder)
        self.advanced.loras.show_value(
            sheet.loras, has_experts=find_checkpoint(values["checkpoint"]).num_experts > 1
        )
        for rows in (self.rows, self.advanced):
            rows.show_sheet(sheet, values, usual)

    def _show_presets(self) -> None:
        items: list[tuple[str, str]] = []
        obstacles: list[str] = []
        for name, preset in self.library.all().items():
            obstacles.append(self.library.obstacle_of(preset, self.sheet))
            items.append((name, " · ".join(part for part in (preset.title, obstacles[-1]) if part)))
        self.preset.set_items(items)
        for index, (obstacle, preset) in enumerate(
            zip(obstacles, self.library.all().values(), strict=True)
        ):
            colour = QColor(theme.DISABLED if obstacle else theme.TEXT)
            self.preset.setItemData(index, colour, Qt.ItemDataRole.ForegroundRole)
            self.preset.setItemData(index, preset.description, Qt.ItemDataRole.ToolTipRole)
            self.preset.setItemData(index, preset.title, SHORT)
        self.preset.show_value(self.sheet.preset)
        self.preset.setToolTip(self.library.preset_of(self.sheet).description)

    def _show_size(self, values: Flat) -> None:
        usual = self.library.baseline(self.sheet)
        self.size_field.show_value(
            values,
            (usual["width"], usual["height"]),
            find_checkpoint(values["checkpoint"]),
            is_clip=self.sheet.kind == "clip",
        )

    def _show_length(self, values: Flat) -> None:
        most = find_checkpoint(values["checkpoint"]).max_frames
        self.length.show_value(values["frames"], self.library.rate_of(self.sheet), most)

    def _show_strength(self, values: Flat) -> None:
        self.strength.show_value(values["refine.strength"], is_clip=self.sheet.kind == "clip")

    def _show_start(self, values: Flat) -> None:
        clip, start = self.sheet.clip_facts, self.sheet.clip_start
        self.start_frame.show_value(start)
        self.timecode.setEnabled(clip is not None)
        if clip is None:
            self.clip_words.setText("")
            self.timecode.setText("")
            return
        self.start_frame.setMaximum(max(start, clip.num_frames - 1))
        if not self.timecode.hasFocus():
            self._show_timecode()
        self.clip_words.setText(
            f"{clip.width} × {clip.height} · {clip.num_frames} frames · "
            f"{seconds_of(clip.num_frames, clip.frame_rate):.2f} s · "
            f"{float(clip.frame_rate):.6g} fps"
        )

    def _paint_fold(self) -> None:
        num_changed = self.advanced.num_changed(self.sheet) + bool(self.sheet.loras)
        is_open = self.fold.isChecked()
        words = f" · {num_changed} changed" if num_changed and not is_open else ""
        self.fold.setText(f"&Advanced{words}")
        self.fold.setAccessibleName(f"Advanced{words}")
        self.fold.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)

    def open_advanced(self, is_open: bool) -> None:
        """Show or hide what is seldom changed."""
        self.fold.setChecked(is_open)
        self.advanced.setVisible(is_open)
        self._paint_fold()

    # -------------------------------------------------------------------------------- editing

    def tune(self, changes: Flat) -> None:
        """Change values that the preset sets, or the preset itself."""
        if "preset" in changes:
            self._set(**changes)
        else:
            self._tune(changes)

    def reset_focused(self) -> None:
        """Give the field that has the focus the preset's value again."""
        focused = QApplication.focusWidget()
        for made in (*self.rows.rows, *self.advanced.rows):
            if focused is not None and (made.field is focused or made.field.isAncestorOf(focused)):
                made.reset()

    @property
    def problem(self) -> str:
        """Why a file of the sheet cannot be used; empty: nothing is known against them."""
        for name in media_of(self.sheet.kind):
            found = self._found.get(getattr(self.sheet, name))
            if found is not None and found.kind != ("clip" if name == "clip" else "image"):
                return found.reason or f"{found.path.name} cannot be used here."
        return ""

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.sheet, name, value)
        self.refresh()
        self.changed.emit()

    def _tune(self, changes: Flat) -> None:
        usual = self.library.baseline(self.sheet)
        for name, value in changes.items():
            if value == usual.get(name):
                self.sheet.changes.pop(name, None)
            else:
                self.sheet.changes[name] = value
        self.refresh()
        self.changed.emit()

    def _untune(self, names: Sequence[str]) -> None:
        for name in names:
            self.sheet.changes.pop(name, None)
        self.refresh()
        self.changed.emit()

    def _on_negative(self) -> None:
        usual = self.library.baseline(self.sheet)["negative_prompt"] if self.library else ""
        text = self.advanced.negative.toPlainText()
        self._set(negative_prompt=None if text == usual else text)

    def _on_timecode(self) -> None:
        clip = self.sheet.clip_facts
        if clip is None:
            return
        try:
            frame = frames_of_timecode(self.timecode.text(), _timed(clip.frame_rate))
        except RequestError as error:
            self.refused.emit(error.message)
        else:
            start = min(max(0, frame - self._first()), clip.num_frames - 1)
            if start != self.sheet.clip_start:
                self._set(clip_start=start)
        self._show_timecode()

    def _show_timecode(self) -> None:
        clip = self.sheet.clip_facts
        if clip is not None:
            words = timecode_of(self._first() + self.sheet.clip_start, _timed(clip.frame_rate))
            self.timecode.setText(words)

    def _first(self) -> int:
        """Timecode of the clip's first frame, in frames; 0 where it carries none."""
        clip = self.sheet.clip_facts
        if clip is None or not clip.start_timecode:
            return 0
        try:
            return frames_of_timecode(clip.start_timecode, _timed(clip.frame_rate))
        except RequestError:
            return 0

    # ---------------------------------------------------------------------------------- files

    def _set_media(self, name: str, path: str) -> None:
        values: dict[str, Any] = {name: path}
        if name == "clip":
            values |= {"clip_facts": None, "clip_start": 0}
        self._found.pop(path, None)
        self._set(**values)

    def _look_at(self, path: str) -> None:
        if path not in self._found and path not in self._asked:
            self._asked.add(path)
            self._intake.look_at_media(Path(path))

    def _on_found(self, found: list[Found]) -> None:
        for one in found:
            path = str(one.path)
            self._asked.discard(path)
            self._found[path] = one
        self.refresh()
        self.changed.emit()


def _palette_of(*, is_chosen: bool) -> QPalette:
    """Colours of a button that is the chosen one of several."""
    palette = QApplication.palette()
    if is_chosen:
        # Darker, for the style lightens what is pressed.
        palette.setColor(QPalette.ColorRole.Button, QColor(theme.ACCENT).darker(130))
        palette.setColor(QPalette.ColorRole.ButtonText, QColor(theme.ON_ACCENT))
    return palette


def _timed(rate: Fraction) -> Fraction:
    """A rate that timecode can count."""
    return max(rate, Fraction(1))
