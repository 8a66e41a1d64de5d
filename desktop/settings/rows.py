"""Rows of a form: a label and a field each, for values that the preset sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtGui import QTextCursor
from PySide6.QtWidgets import QGridLayout, QLabel, QPlainTextEdit, QWidget

from desktop.settings.fields import Choice, FieldLabel, Number, Size, Strength, row
from desktop.settings.file_fields import Loras
from desktop.settings.sheet import Flat, Sheet

LABEL_PX = 76


@dataclass(frozen=True)
class Row:
    """A label with its field, and how they show a sheet."""

    label: FieldLabel
    field: QWidget
    show: Callable[[Flat], None]  # gets the request's values
    usual: Callable[[Flat], str]  # gets those of the preset: how its value is written
    is_changed: Callable[[Sheet], bool]
    reset: Callable[[], None]


class Rows(QWidget):
    """A grid of rows. It holds no values: it shows those of a sheet, and says what is changed."""

    tuned = Signal(object)  # Flat: values that are not the preset's any more
    untuned = Signal(object)  # names of those that are to be the preset's again

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.grid = QGridLayout(self)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(8)
        self.grid.setVerticalSpacing(6)
        self.grid.setColumnMinimumWidth(0, LABEL_PX)
        self.grid.setColumnStretch(1, 1)

    def show_sheet(self, sheet: Sheet, values: Flat, usual: Flat) -> None:
        """Show a sheet's values; `usual` are those that hold where nothing is changed."""
        for made in self.rows:
            made.show(values)
            made.label.set_changed(made.is_changed(sheet), made.usual(usual))

    def num_changed(self, sheet: Sheet) -> int:
        """How many rows are not as the preset has them."""
        return sum(made.is_changed(sheet) for made in self.rows)

    def line(self, text: str, field: QWidget, help_text: str = "") -> FieldLabel:
        """A label, and beside it a field."""
        label = FieldLabel(text, help_text)
        label.setBuddy(field.number if isinstance(field, Strength) else field.focusProxy() or field)
        number = self.grid.rowCount()
        is_tall = isinstance(field, QPlainTextEdit | Loras | Size)
        place = Qt.AlignmentFlag.AlignTop if is_tall else Qt.AlignmentFlag.AlignVCenter
        self.grid.addWidget(label, number, 0, place)
        self.grid.addWidget(field, number, 1)
        return label

    def add(
        self,
        text: str,
        field: QWidget,
        names: Sequence[str],
        show: Callable[[Flat], None],
        usual: Callable[[Flat], str],
        help_text: str,
    ) -> None:
        """A row for fields that the preset sets."""
        label = self.line(text, field, help_text)
        self.keep(
            Row(
                label,
                field,
                show,
                usual,
                lambda sheet: any(name in sheet.tuned.get(sheet.preset, {}) for name in names),
                lambda: self.untuned.emit(names),
            )
        )

    def keep(self, made: Row) -> None:
        """A row that is shown and reset as it says itself."""
        made.label.reset.connect(made.reset)
        self.rows.append(made)

    def field(
        self,
        text: str,
        field: Number | Choice,
        name: str,
        words: Callable[[Any], str],
        help_text: str,
    ) -> None:
        """A row for one field of the preset."""
        self.add(
            *(text, field, (name,)),
            lambda values: field.show_value(values[name]),
            lambda usual: words(usual[name]),
            help_text,
        )
        field.edited.connect(lambda value: self.tuned.emit({name: value}))

    def choice(
        self,
        text: str,
        name: str,
        items: Sequence[tuple[str, str]],
        help_text: str,
    ) -> None:
        """A row for a field that is one of some values."""
        words = dict(items)
        self.field(
            *(text, Choice(text, items), name),
            lambda value: words.get(value, str(value)).lower(),
            help_text,
        )

    def pair(self, text: str, numbers: Sequence[Number], name: str, help_text: str) -> None:
        """A number of each pass."""
        names = [f"{part}.{name}" for part in ("base", "refine")]

        def show(values: Flat) -> None:
            for number, one in zip(numbers, names, strict=True):
                number.show_value(values[one])

        field = QWidget()
        field.setLayout(row(*numbers))
        field.setFocusProxy(numbers[0])
        self.add(
            *(text, field, names, show),
            lambda usual: " and ".join(f"{usual[one]:g}" for one in names),
            help_text,
        )
        for number, one in zip(numbers, names, strict=True):
            number.edited.connect(lambda value, one=one: self.tuned.emit({one: value}))


def secondary(text: str = "") -> QLabel:
    """Words that stand back."""
    label = QLabel(text)
    label.setProperty("role", "secondary")
    return label


def text_field(name: str, height: int) -> QPlainTextEdit:
    """A field for words; Tab leaves it."""
    edit = QPlainTextEdit(tabChangesFocus=True)
    edit.setAccessibleName(name)
    edit.setFixedHeight(height)
    return edit


def show_text(edit: QPlainTextEdit, text: str, *, keeps_undo: bool = True) -> None:
    """Show words that nobody typed here; `keeps_undo`: Qt's undo goes back to those before."""
    if edit.toPlainText() == text:
        return
    with QSignalBlocker(edit):
        if not keeps_undo:
            edit.setPlainText(text)
            return
        cursor = edit.textCursor()
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(text)
