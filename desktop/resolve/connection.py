"""DaVinci Resolve, as the studio knows it: followed by its events, and asked for what it can do."""

from __future__ import annotations

import json
import secrets
import sys
import time
from typing import Any

from PySide6.QtCore import QObject, QProcess, QTimer, Signal

from desktop.resolve.words import installed_words, owner_of
from desktop.studio import Studio
from freeswim.errors import FreeswimError
from freeswim.studio.client import Json
from freeswim.studio.resolve.placer import News, ResolveNow
from freeswim.studio.resolve.planner import Verb

LOOK_EVERY_MS = 5_000  # that somebody is silent is no event


class Resolve(QObject):
    """One per app."""

    told = Signal(object)  # ResolveNow; None: the studio is not there
    happened = Signal(object)  # News: what became of a verb, wherever it was chosen
    refused = Signal(object)  # FreeswimError: a verb was not even begun
    installed = Signal(str, bool)  # what came of it, in words; whether it went wrong
    diagnosed = Signal(str)  # what the plugin's doctor says is to be done; "": all is well

    def __init__(self, studio: Studio, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.now: ResolveNow | None = None
        self.heard = 0.0  # time.monotonic() of `now`
        self._studio = studio
        self._since = time.time()  # what happened before the window was there is no news
        self._asked_about = ""  # session-like: where somebody was asked to look, to ask it once
        self._is_asking = self._is_asked_again = False
        self._installer: QProcess | None = None
        self._doctor: QProcess | None = None
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)
        studio.connected.connect(self._begin)
        studio.lost.connect(self._on_lost)
        studio.resolve_changed.connect(self._look)
        if studio.is_connected:
            self._begin()

    def do(self, verb: Verb) -> None:
        """Begin a verb where the editor is in Resolve now; `happened` or `refused` tells."""
        asked = {"verb": verb, "key": secrets.token_hex(16)}
        self._studio.order(
            lambda client: client.post("/resolve/verbs", asked), None, self.refused.emit
        )

    def look_inside(self) -> None:
        """Have Resolve say where the editor is by now; `told` follows."""
        if owner_of(self.now) is not None:
            self._studio.ask(
                lambda client: client.post("/resolve/look"), lambda _: None, lambda _: None
            )

    # ------------------------------------------------------------------------------- the plugin

    def install(self) -> None:
        """Put the menu entries into Resolve, for this user; `installed` tells."""
        if self._installer is None:
            self._installer = QProcess(self)
            self._run(self._installer, "install", self._on_installed)

    def diagnose(self) -> None:
        """Have the plugin's doctor look at everything; `diagnosed` tells."""
        if self._doctor is None:
            self._doctor = QProcess(self)
            self._run(self._doctor, "doctor", self._on_diagnosed)

    def _run(self, process: QProcess, action: str, then: Any) -> None:
        """The plugin installs itself: it stands beside the app and is never imported by it."""
        process.finished.connect(then)
        process.errorOccurred.connect(
            lambda error: then(1) if error == QProcess.ProcessError.FailedToStart else None
        )
        # -P: no modules of the folder that the app was started in
        process.start(sys.executable, ["-P", "-m", "resolve_plugin.install", action, "--json"])

    def _on_installed(self, status: int) -> None:
        process, self._installer = self._installer, None
        assert process is not None
        said = bytes(process.readAllStandardOutput().data())
        wrong = bytes(process.readAllStandardError().data()).decode(errors="replace").strip()
        process.deleteLater()
        try:
            self.installed.emit(installed_words(json.loads(said)), status != 0)
        except (ValueError, KeyError, TypeError):
            self.installed.emit(f"The menu entries were not installed. {wrong}".strip(), True)
        self.diagnose()

    def _on_diagnosed(self, _: int) -> None:
        process, self._doctor = self._doctor, None
        assert process is not None
        said = bytes(process.readAllStandardOutput().data())
        process.deleteLater()
        try:
            health = json.loads(said)
            self.diagnosed.emit("" if health["is_well"] else str(health["next_step"]))
        except (ValueError, KeyError, TypeError):  # it says nothing: what the studio says stands
            return

    # ------------------------------------------------------------------------------- the studio

    def _begin(self) -> None:
        self._timer.start()
        self._look()

    def _on_lost(self, _: object) -> None:
        self._timer.stop()
        self.now = None
        self.told.emit(None)

    def _look(self) -> None:
        """Ask how things stand; once more afterwards, where that is wanted meanwhile."""
        if self._is_asking:
            self._is_asked_again = True
            return
        self._is_asking, self._is_asked_again = True, False
        self._studio.ask(lambda client: client.get("/resolve"), self._hear, self._miss)

    def _miss(self, _: FreeswimError) -> None:
        self._is_asking = False

    def _hear(self, said: Json) -> None:
        self._is_asking = False
        self.now, self.heard = ResolveNow.model_validate(said), time.monotonic()
        self._ask_where(self.now)
        self.told.emit(self.now)
        fresh = [news for news in self.now.news if news.at > self._since]
        for news in reversed(fresh):  # the last one stands at the end
            self._since = news.at
            self._tell(news)
        if self._is_asked_again:
            self._look()

    def _tell(self, news: News) -> None:
        if news.verb != "connect":
            self.happened.emit(news)

    def _ask_where(self, now: ResolveNow) -> None:
        """Somebody is there, or the editor has gone elsewhere: have it look where that is."""
        link = owner_of(now)
        if link is None or now.state == "busy":
            self._asked_about = ""
            return
        known = link.where
        spot = f"{link.product} {link.version} {link.project} {link.timeline}"
        is_known = known is not None and (
            link.transport == "mailbox"  # there nobody says by himself where the editor is
            or (link.project, link.timeline) == (known.project, known.timeline)
        )
        if not is_known and spot != self._asked_about:
            self._asked_about = spot
            self.look_inside()
        elif is_known:
            self._asked_about = ""
