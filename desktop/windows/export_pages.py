"""What an export window asks: for which editor, or as which files, of which takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QRegularExpression,
    Qt,
    Signal,
)
from PySide6.QtGui import QRegularExpressionValidator
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QSpinBox,
    QToolButton,
    QWidget,
)

from desktop import theme
from desktop.studio import Studio
from freeswim.studio.job import Shot, Take, Verdict
from freeswim.timeline.editors import EDITORS, FILES, Editor
from freeswim.video.codecs import CODECS

MOST_HANDLES = 1000  # frames

RATES = ("23.976", "24", "25", "29.97", "30", "48", "50", "59.94", "60")
WAYS = (
    ("Make frames in between", "interpolate"),
    ("Blend neighbours", "blend"),
    ("Take the nearest frame", "nearest"),
)
OTHERS = (
    ("As alternatives of the clip", "keys"),
    ("As disabled clips over it", "tracks"),
    ("Leave them out", "none"),
)


class EditorPage(QWidget):
    """What `freeswim export` can be told."""

    changed = Signal()

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self.selected: list[Take] = []
        self._approved: dict[str, list[Take]] = {}  # as they are listed
        self._make_fields()
        self._lay_out()
        self._follow_editor()
        for field in (self.editor, self.source, self.others):
            field.currentIndexChanged.connect(self._follow)
        self.editor.currentIndexChanged.connect(self._follow_editor)
        self.project.textChanged.connect(self._follow)
        self.start.textChanged.connect(self._follow)
        self.shots.itemChanged.connect(self._follow)
        self._follow()

    def _make_fields(self) -> None:
        self.editor = _combo([(editor.title, editor) for editor in EDITORS])
        self.about = theme.label("secondary")
        self.about.setWordWrap(False)
        self.source = _combo(
            [
                ("Approved takes of all shots", "all"),
                ("Approved takes of chosen shots", "chosen"),
                ("Selected takes", "selected"),
            ]
        )
        self.shots = QListWidget()
        self.shots.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.shots.setMaximumHeight(130)
        self.project = QLineEdit("FreeSwim")
        self.codec = QComboBox()
        self.others = _combo(OTHERS)
        self.handles = QSpinBox(maximum=MOST_HANDLES, suffix=" frames")
        self.rate = _combo([("What suits the takes", ""), *((f"{one} fps", one) for one in RATES)])
        self.way = _combo(WAYS)
        timecode = QRegularExpression(r"\d\d:\d\d:\d\d[:;]\d\d")
        self.start = QLineEdit("01:00:00:00")
        self.start.setValidator(QRegularExpressionValidator(timecode, self))
        self.proxies = QCheckBox("Small &copies as well (ProRes Proxy)")
        self.native = QCheckBox("The takes as they &are as well (H.264)")

    def _lay_out(self) -> None:
        self._form = form = _form(self)
        form.addRow("Export &for", self.editor)
        form.addRow("", self.about)
        form.addRow("&Takes", self.source)
        form.addRow("S&hots, in the cut's order", self.shots)
        form.addRow("&Project", self.project)
        form.addRow("&Masters", self.codec)
        form.addRow("&Other approved takes", self.others)
        form.addRow("Hand&les", self.handles)
        self.more = QToolButton()
        self.more.setText("More settings")
        self.more.setCheckable(True)
        self.more.setAutoRaise(True)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more.toggled.connect(self._show_more)
        form.addRow("", self.more)
        form.addRow("Frame &rate", self.rate)
        form.addRow("Takes of another rate", self.way)
        form.addRow("Timeline &starts at", self.start)
        form.addRow("", self.proxies)
        form.addRow("", self.native)
        _name_fields(self)
        self._show_more(False)

    def _show_more(self, is_shown: bool) -> None:
        self.more.setIcon(theme.icon("up" if is_shown else "down"))
        for field in (self.rate, self.way, self.start, self.proxies, self.native):
            self._form.setRowVisible(field, is_shown)

    def refresh(self, selected: Sequence[Take]) -> None:
        """What there is to export, as the studio says by now."""
        self.selected = list(selected)
        number = len(self.selected)
        self.source.setItemText(2, "Selected take" if number == 1 else f"{number} selected takes")
        item = self.source.model().item(2)  # pyright: ignore[reportAttributeAccessIssue]
        item.setEnabled(bool(number))
        if not number and self.source.currentData() == "selected":
            self.source.setCurrentIndex(0)
        self._list_shots()
        self._follow()

    def _list_shots(self) -> None:
        approved = approved_takes(self._studio)
        if approved == self._approved:
            return  # nothing that the person sees moves without need
        self._approved = approved
        left_out = {name for name, is_checked in self._rows() if not is_checked}
        known = [name for name, _ in self._rows()]
        order = {name: number for number, name in enumerate(known)}
        names = sorted(approved, key=lambda name: order.get(name, len(order)))
        self.shots.blockSignals(True)
        self.shots.clear()
        for name in names:
            takes = approved[name]
            more = f", and {len(takes) - 1} more" if len(takes) > 1 else ""
            item = QListWidgetItem(f"{name}   take {takes[0].number}{more}")
            item.setData(Qt.ItemDataRole.UserRole, name)
            state = Qt.CheckState.Unchecked if name in left_out else Qt.CheckState.Checked
            item.setCheckState(state)
            self.shots.addItem(item)
        self.shots.blockSignals(False)

    def _rows(self) -> list[tuple[str, bool]]:
        items = [self.shots.item(row) for row in range(self.shots.count())]
        return [
            (item.data(Qt.ItemDataRole.UserRole), item.checkState() == Qt.CheckState.Checked)
            for item in items
        ]

    def _chosen(self) -> list[str]:
        return [name for name, is_checked in self._rows() if is_checked]

    def _follow(self) -> None:
        self._form.setRowVisible(self.shots, self.source.currentData() == "chosen")
        self.others.setEnabled(self.source.currentData() != "selected")
        self.changed.emit()

    def _follow_editor(self) -> None:
        editor: Editor = self.editor.currentData()
        chosen = self.codec.currentData()
        self.codec.clear()
        self.codec.addItem(f"{CODECS[editor.codec].title} (suits {editor.title})", "")
        for codec in CODECS.values():
            # Pictures of a sequence have no rate to check; proxies are no masters.
            if codec.name != editor.codec and not codec.is_sequence and codec.scale == 1:
                self.codec.addItem(codec.title, codec.name)
        self.codec.setCurrentIndex(max(0, self.codec.findData(chosen) if chosen else 0))
        self.about.setText(f"Timeline as {', '.join(_suffix(kind) for kind in editor.kinds)}")

    @property
    def num_masters(self) -> int:
        """How many files will be made, as far as that is known."""
        with_others = self.others.currentData() != "none"
        approved = approved_takes(self._studio)
        names = list(approved) if self.source.currentData() == "all" else self._chosen()
        number = sum(len(approved.get(name, ())) if with_others else 1 for name in names)
        if self.source.currentData() == "selected":
            number = len(self.selected)
        return number * (2 if self.proxies.isChecked() else 1)

    @property
    def obstacle(self) -> str:
        """Why it cannot be exported as it is; empty: it can."""
        source = self.source.currentData()
        if source != "selected" and not self.shots.count():
            return "No take is approved. Approve one in the takes strip first."
        if source == "chosen" and not self._chosen():
            return "Choose one shot at least."
        if not self.project.text().strip():
            return "Give the project a name."
        if not self.start.hasAcceptableInput():
            return "The timeline starts at a timecode, such as 01:00:00:00."
        return ""

    @property
    def button_words(self) -> str:
        """What the button does."""
        if self.source.currentData() == "selected":
            return _words("take", len(self.selected))
        chosen = self.source.currentData() == "chosen"
        return _words("shot", len(self._chosen()) if chosen else self.shots.count())

    def arguments(self, files: Sequence[Path]) -> list[str]:
        """Of the command line; `files` are those of the selected takes."""
        words = ["export", "--json", f"--for={self.editor.currentData().name}"]
        words += [
            f"--project={self.project.text().strip()}",
            f"--takes={self.others.currentData()}",
        ]
        words += [f"--handles={self.handles.value()}", f"--start={self.start.text()}"]
        words += _master_words(self.codec, self.rate, self.way)
        words += ["--proxies"] if self.proxies.isChecked() else []
        words += ["--native"] if self.native.isChecked() else []
        what = {"all": [], "chosen": self._chosen(), "selected": [str(path) for path in files]}
        return [*words, "--", *what[self.source.currentData()]]


class FilesPage(QWidget):
    """What `freeswim takes export` can be told."""

    changed = Signal()

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self.selected: list[Take] = []
        self.source = _combo([("Selected takes", "selected"), ("All approved takes", "approved")])
        self.codec = _combo([(codec.title, codec.name) for codec in CODECS.values()])
        self.codec.setCurrentIndex(self.codec.findData("prores-hq"))
        self.rate = _combo([("That of the take", ""), *((f"{one} fps", one) for one in RATES)])
        self.way = _combo(WAYS)
        form = _form(self)
        form.addRow("&Takes", self.source)
        form.addRow("&Codec", self.codec)
        form.addRow("Frame &rate", self.rate)
        form.addRow("Takes of another rate", self.way)
        _name_fields(self)
        self.source.currentIndexChanged.connect(lambda: self.changed.emit())
        self.rate.currentIndexChanged.connect(self._follow_rate)
        self._follow_rate()

    def _follow_rate(self) -> None:
        self.way.setEnabled(bool(self.rate.currentData()))

    def refresh(self, selected: Sequence[Take]) -> None:
        """What there is to export, as the studio says by now."""
        self.selected = list(selected)
        number = len(self.selected)
        self.source.setItemText(0, "Selected take" if number == 1 else f"{number} selected takes")
        item = self.source.model().item(0)  # pyright: ignore[reportAttributeAccessIssue]
        item.setEnabled(bool(number))
        if not number:
            self.source.setCurrentIndex(1)
        self.changed.emit()

    @property
    def takes(self) -> list[Take]:
        """What is exported."""
        if self.source.currentData() == "selected":
            return self.selected
        return [take for takes in approved_takes(self._studio).values() for take in takes]

    @property
    def num_masters(self) -> int:
        """How many files will be made."""
        return len(self.takes)

    @property
    def obstacle(self) -> str:
        """Why it cannot be exported as it is; empty: it can."""
        return "" if self.takes else "No take is approved. Approve one in the takes strip first."

    @property
    def button_words(self) -> str:
        """What the button does."""
        return _words("take", len(self.takes))

    def arguments(self, files: Sequence[Path]) -> list[str]:
        """Of the command line."""
        words = ["takes", "export", "--json", *_master_words(self.codec, self.rate, self.way)]
        return [*words, "--", *(take.id for take in self.takes)]


def approved_takes(studio: Studio) -> dict[str, list[Take]]:
    """By name of the shot, in the order in which shots came; of each the newest take first."""
    by_name: dict[str, list[Take]] = {}
    shots: list[Shot] = sorted(studio.shots.values(), key=lambda shot: shot.created_at)
    for shot in shots:
        found = [
            take
            for take in studio.takes.values()
            if take.shot_id == shot.id and take.verdict == Verdict.APPROVED
        ]
        if found:
            newest_first = sorted(found, key=lambda take: -take.number)
            by_name.setdefault(shot.name, []).extend(newest_first)
    return by_name


def _combo(items: Sequence[tuple[str, Any]]) -> QComboBox:
    combo = QComboBox()
    for words, data in items:
        combo.addItem(words, data)
    return combo


def _form(page: QWidget) -> QFormLayout:
    form = QFormLayout(page)
    form.setContentsMargins(8, 12, 8, 8)
    form.setVerticalSpacing(6)
    form.setHorizontalSpacing(12)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def _name_fields(page: QWidget) -> None:
    """Every field is called as its label says."""
    for label in page.findChildren(QLabel):
        if (field := label.buddy()) is not None:
            field.setAccessibleName(label.text().replace("&", ""))


def _master_words(codec: QComboBox, rate: QComboBox, way: QComboBox) -> list[str]:
    words = [f"--way={way.currentData()}"]
    words += [f"--codec={codec.currentData()}"] if codec.currentData() else []
    return [*words, f"--rate={rate.currentData()}"] if rate.currentData() else words


def _suffix(kind: Any) -> str:
    return Path(FILES[kind].format(name="x", track="V1")).suffix


def _words(what: str, count: int) -> str:
    """Of the button."""
    return f"Export {count} {what}{'' if count == 1 else 's'}"
