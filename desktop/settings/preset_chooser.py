"""Several presets at once: which ones a shot is to be made with."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QFrame, QPushButton, QVBoxLayout, QWidget

from desktop.settings.sheet import Library, Sheet


class PresetChooser(QFrame):
    """Lets some presets be chosen, and says how many jobs that makes."""

    chosen = Signal(object)  # list of names

    def __init__(self, library: Library, sheet: Sheet, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setAccessibleName("Presets to add")
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(8)
        self.boxes: dict[str, QCheckBox] = {}
        for name, preset in library.all().items():
            obstacle = library.obstacle_of(preset, sheet)
            box = QCheckBox(" · ".join(part for part in (preset.title, obstacle) if part))
            box.setToolTip(preset.description)
            box.setEnabled(library.can_wait(preset, sheet))
            box.setChecked(name == sheet.preset and box.isEnabled())
            box.toggled.connect(self._count)
            column.addWidget(box)
            self.boxes[name] = box
        self.button = QPushButton()
        self.button.setProperty("role", "primary")
        self.button.clicked.connect(self._accept)
        column.addWidget(self.button)
        self._count()

    def _names(self) -> list[str]:
        return [name for name, box in self.boxes.items() if box.isChecked()]

    def _count(self) -> None:
        count = len(self._names())
        self.button.setText(f"Add {count} job{'' if count == 1 else 's'}")
        self.button.setEnabled(count > 0)

    def _accept(self) -> None:
        names = self._names()
        self.close()
        self.chosen.emit(names)
