"""Fields of the settings that hold files: dropped on them or chosen, and taken out again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QIcon, QImage, QPixmap
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.settings.fields import CONTROL_PX, Choice, Number, row, tool
from desktop.settings.sheet import LoraChoice
from desktop.shots.intake import IMAGES, VIDEOS, Found, paths_in, refusal
from freeswim.request import MAX_LORAS


class MediaSlot(QFrame):
    """A file that the shot is made from: dropped, pasted or chosen, shown, and taken out again."""

    edited = Signal(str)  # path; "": none
    refused = Signal(str)  # why a file that was dropped cannot be used

    def __init__(self, name: str, icon: str, *, is_video: bool) -> None:
        super().__init__()
        self.setAcceptDrops(True)
        self._name, self._icon = name, icon
        self._allowed = VIDEOS if is_video else IMAGES
        self.path = ""
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.button = QToolButton(autoRaise=True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        self.button.setIconSize(QSize(96, 54))
        self.button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.button.clicked.connect(self._choose)
        self.clear = tool("close", f"Take out: {name.lower()}")
        self.clear.setFixedSize(24, 24)
        self.clear.clicked.connect(lambda: self.edited.emit(""))
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.button, 0, 0)
        corner = Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignRight
        grid.addWidget(self.clear, 0, 0, corner)
        self.setFixedHeight(84)
        self.setFocusProxy(self.button)
        self.show_file("", None)

    def show_file(self, path: str, found: Found | None) -> None:
        """Show a file; None: it was not looked at yet."""
        self.path = path
        picture = found.picture if found is not None else None
        self.button.setIcon(_thumbnail(picture) if picture else theme.icon(self._icon))
        self.button.setIconSize(QSize(96, 54) if picture else QSize(24, 24))
        name = Path(path).name if path else self._name
        words = self.fontMetrics().elidedText(name, Qt.TextElideMode.ElideMiddle, 110)
        self.button.setText(words)
        self.button.setAccessibleName(f"{self._name}: {name}" if path else self._name)
        self.setToolTip(path or f"{self._name}: drop a file here, or click to choose one")
        self.clear.setVisible(bool(path))

    def _choose(self) -> None:
        kinds = " ".join(f"*.{suffix}" for suffix in self._allowed)
        chosen, _ = QFileDialog.getOpenFileName(self, self._name, self.path, f"({kinds})")
        if chosen:
            self.edited.emit(chosen)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if paths_in(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        paths = paths_in(event.mimeData())
        if not paths:
            return
        if reason := refusal(paths[0], self._allowed):
            self.refused.emit(reason)
        else:
            self.edited.emit(str(paths[0]))
        event.acceptProposedAction()


def _thumbnail(picture: QImage) -> QIcon:
    return QIcon(QPixmap.fromImage(picture))


class Loras(QWidget):
    """The LoRAs that are added, each with its weight."""

    edited = Signal(object)  # list[LoraChoice]

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)
        self._loras: list[LoraChoice] = []
        self._has_experts = False
        self._rows = QVBoxLayout()
        self._rows.setSpacing(4)
        self.add = QToolButton()
        self.add.setText("Add LoRA…")
        self.add.setToolTip("A .safetensors file; or drop it here")
        self.add.setFixedHeight(CONTROL_PX)
        self.add.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.add.clicked.connect(self._choose)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(self._rows)
        column.addWidget(self.add)
        self.setFocusProxy(self.add)

    def show_value(self, loras: Sequence[LoraChoice], *, has_experts: bool) -> None:
        """Show LoRAs; each for one expert where there are two."""
        if self._loras == list(loras) and self._has_experts == has_experts:
            return
        self._loras = [lora.model_copy() for lora in loras]
        self._has_experts = has_experts
        while (item := self._rows.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        for index, lora in enumerate(self._loras):
            self._rows.addWidget(self._row(index, lora))
        self.add.setEnabled(len(self._loras) < MAX_LORAS)

    def _row(self, index: int, lora: LoraChoice) -> QWidget:
        file = Path(lora.path).name
        name = QLabel()
        name.setToolTip(lora.path)
        name.setText(self.fontMetrics().elidedText(file, Qt.TextElideMode.ElideMiddle, 84))
        weight = Number(f"Weight of {file}", -4, 4, decimals=2, step=0.05)
        weight.setToolTip("Weight: 0 adds nothing, 1 is as it was trained")
        weight.show_value(lora.weight)
        weight.setFixedWidth(60)
        weight.edited.connect(lambda value: self._change(index, weight=value))
        widgets: list[QWidget] = [name, weight]
        if self._has_experts:
            expert = Choice(
                f"Expert of {file}", [("both", "Both"), ("high", "High"), ("low", "Low")]
            )
            expert.show_value(lora.expert)
            expert.edited.connect(lambda value: self._change(index, expert=value))
            widgets.append(expert)
        remove = tool("close", f"Take out {file}")
        remove.clicked.connect(lambda: self._remove(index))
        holder = QWidget()
        layout = row(*widgets, remove)
        layout.setStretch(0, 1)
        holder.setLayout(layout)
        return holder

    def _change(self, index: int, **values: Any) -> None:
        self._loras[index] = self._loras[index].model_copy(update=values)
        self.edited.emit(list(self._loras))

    def _remove(self, index: int) -> None:
        self.edited.emit([lora for number, lora in enumerate(self._loras) if number != index])
        self.add.setFocus()

    def _choose(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Add LoRA", "", "(*.safetensors)")
        self._add(chosen)

    def _add(self, paths: Sequence[str]) -> None:
        added = [LoraChoice(path=path) for path in paths]
        if added:
            self.edited.emit([*self._loras, *added][:MAX_LORAS])

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(path.suffix == ".safetensors" for path in paths_in(event.mimeData())):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        files = [path for path in paths_in(event.mimeData()) if path.suffix == ".safetensors"]
        self._add([str(path) for path in files])
        event.acceptProposedAction()
