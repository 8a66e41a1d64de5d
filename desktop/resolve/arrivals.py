"""Shots that were asked for inside Resolve since the window was opened, as they arrive."""

from __future__ import annotations

import time

from PySide6.QtCore import QObject, Signal

from desktop.resolve.words import spot_of
from desktop.studio import Changed, Studio
from freeswim.studio.job import Shot

BURST_S = 10.0  # between two shots that were asked for with one click


class Arrivals(QObject):
    """Watches the studio."""

    arrived = Signal(object)  # list[Shot]: those of one click so far, in their order

    def __init__(self, studio: Studio, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self._since = time.time()
        self._known: set[str] = set()  # ids
        self._burst: list[Shot] = []
        studio.changed.connect(self._look)

    def _look(self, changed: Changed) -> None:
        found = sorted(
            (
                shot
                for shot_id in changed.shots - self._known
                if (shot := self._studio.shots[shot_id]).created_at >= self._since
                and spot_of(shot) is not None
            ),
            key=lambda shot: shot.created_at,
        )
        if not found:
            return
        self._known |= {shot.id for shot in found}
        if self._burst and found[0].created_at - self._burst[-1].created_at > BURST_S:
            self._burst = []
        self._burst += found
        self.arrived.emit(list(self._burst))
