"""DaVinci Resolve, as the window knows it: who is connected, what happened last, the menu entries."""

from __future__ import annotations

import sys

from PySide6.QtCore import QObject, QProcess, QTimer, Signal

from desktop.studio import Studio
from freeswim.studio.client import Json

LOOK_EVERY_MS = 3_000


class Resolve(QObject):
    """Asks the studio about Resolve while there is a studio."""

    told = Signal(str, bool)  # how it stands, in words; whether it is connected
    happened = Signal(str, bool)  # what became of a click inside Resolve; whether it went wrong
    installed = Signal(str, bool)  # what the installer says; whether it went wrong

    def __init__(self, studio: Studio, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self._last = 0.0  # time of the newest news that was told
        self._installer: QProcess | None = None
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)
        studio.connected.connect(self._begin)
        studio.lost.connect(self._on_lost)

    def install(self) -> None:
        """Put the menu entries into Resolve, for this user; `installed` tells."""
        if self._installer is not None:
            return
        self._installer = process = QProcess(self)
        process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        process.finished.connect(self._on_installed)
        process.start(sys.executable, ["-m", "resolve_plugin.install", "install"])

    def _on_installed(self, status: int) -> None:
        process, self._installer = self._installer, None
        assert process is not None
        said = bytes(process.readAllStandardOutput().data()).decode(errors="replace").strip()
        process.deleteLater()
        self.installed.emit(said, status != 0)

    def _begin(self) -> None:
        self._timer.start()
        self._look()

    def _on_lost(self, _: object) -> None:
        self._timer.stop()
        self.told.emit("Resolve: not connected", False)

    def _look(self) -> None:
        self._studio.ask(lambda client: client.get("/resolve"), self._hear, lambda _: None)

    def _hear(self, said: Json) -> None:
        self.told.emit(said["message"], said["state"] != "not_connected")
        fresh = [news for news in said["news"] if news["at"] > self._last]
        for news in reversed(fresh):  # the last one stands at the end
            words = f"{news['message']} {news['hint']}".strip()
            self.happened.emit(words, news["is_error"])
            self._last = news["at"]
