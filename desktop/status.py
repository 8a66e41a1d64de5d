"""The status bar: what takes are made on, how much room is left, and the app's state in a word."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QLabel, QPushButton, QStatusBar, QWidget

from desktop import theme
from desktop.studio import Studio
from freeswim.studio.job import QueueMode

LOOK_EVERY_MS = 5_000
GB = 1e9
LOW_BYTES = 5 * GB  # of disk: less is worth a warning


class StatusBar(QStatusBar):
    """Asks the studio of the machine while it is shown."""

    machine_chosen = Signal()
    resolve_chosen = Signal()
    disk_chosen = Signal()
    machine_seen = Signal(object)  # the answer of /machine

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self.setSizeGripEnabled(False)
        self.machine = self._part("Looking for GPUs", self.machine_chosen)
        self.resolve = self._part("Resolve: not connected", self.resolve_chosen)
        self.resolve.setAccessibleDescription("Opens and closes the Resolve panel")
        self.disk = self._part("", self.disk_chosen)
        self.disk.setAccessibleName("Room where takes are kept")
        self.message = QLabel()
        self.message.setProperty("role", "secondary")
        self.addWidget(self.message, 1)
        self.state = QLabel("Connecting")
        self.state.setAccessibleName("State")
        self.addPermanentWidget(self.state)

        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)
        studio.connected.connect(self._look)
        studio.connected.connect(self._timer.start)
        studio.lost.connect(self._timer.stop)
        for signal in (studio.connected, studio.lost, studio.changed):
            signal.connect(lambda *_: self._show_state())

    def say_resolve(self, words: str, tip: str) -> None:
        """How Resolve stands, in few words and in whole."""
        self.resolve.setText(words)
        self.resolve.setToolTip(tip)

    def say(self, text: str) -> None:
        """Show a line until the next one."""
        self.message.setText(text)

    def _part(self, text: str, chosen: Any) -> QPushButton:
        part = QPushButton(text, flat=True)
        part.setProperty("role", "part")
        part.clicked.connect(chosen)
        self.addWidget(part)
        return part

    def _look(self) -> None:
        self._studio.ask(lambda client: client.get("/machine"), self._show_machine, lambda _: None)

    def _show_machine(self, machine: dict[str, Any]) -> None:
        gpus = machine["gpus"]
        if gpus:
            first = gpus[0]
            used, total = first["total_bytes"] - first["free_bytes"], first["total_bytes"]
            more = f" and {len(gpus) - 1} more" if len(gpus) > 1 else ""
            self.machine.setText(f"{first['name']} {used / GB:.1f}/{total / GB:.0f} GB{more}")
        else:
            self.machine.setText("No NVIDIA GPU: the demo model runs on the processor")
        self.disk.setText(f"{machine['disk']['free_bytes'] / GB:.0f} GB free")
        self.machine_seen.emit(machine)

    def _show_state(self) -> None:
        word, colour = state_of(self._studio)
        self.state.setText(f"● {word}")
        self.state.setStyleSheet(f"color: {colour}")


def state_of(studio: Studio) -> tuple[str, str]:
    """The app's state in a word, and its colour."""
    if not studio.is_connected:
        return "Not connected", theme.FAILED
    is_running = bool(studio.running)
    if studio.mode == QueueMode.PAUSE:
        return "Paused", theme.WARNING
    if studio.mode == QueueMode.STOP_AFTER:
        return ("Stopping after this" if is_running else "Stopped"), theme.WARNING
    return ("Running", theme.RUNNING) if is_running else ("Ready", theme.DONE)
