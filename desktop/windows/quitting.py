"""Leaving while a job runs: the one thing that the app asks before it is done.

The studio goes on without the window, so closing it costs nothing; who wants the computer to be
quiet says so here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from desktop.remembered import Remembered
from desktop.studio import Studio
from freeswim.studio.job import IN_QUEUE, JobState


class Choice(StrEnum):
    """What becomes of the studio when the window closes."""

    CLOSE = "close"  # it goes on
    FINISH = "finish"  # the jobs that run, and begins none
    STOP = "stop"  # at the next step; jobs go on the next time


OFFERED = {
    Choice.CLOSE: ("&Close the window", "The studio goes on with the queue in the background."),
    Choice.FINISH: ("&Finish this job, then stop", "No other job is begun until you resume."),
    Choice.STOP: ("&Stop now", "Within a step. Jobs go on where they were, the next time."),
}


def carry_out(choice: Choice, studio: Studio) -> None:
    """Tell the studio; the window is closed right after it.

    What was ordered is still carried out. A studio that was told to stop is not followed any more:
    it must not be found missing and started again.
    """
    if choice == Choice.FINISH:
        studio.order(lambda client: client.patch("/queue", {"mode": "stop_after"}))
    elif choice == Choice.STOP:
        studio.order(lambda client: client.post("/stop"))
        studio.close()


class QuitSheet(QDialog):
    """On the window, and modal to it; Escape stays."""

    def __init__(
        self, studio: Studio, parent: QWidget, remembered: Remembered | None = None
    ) -> None:
        super().__init__(parent)
        self._studio, self._remembered = studio, remembered
        self._then: Callable[[], None] | None = None
        self.setWindowTitle("Close FreeSwim")
        self.setModal(True)
        self.title = QLabel()
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.facts = QLabel(wordWrap=True)
        for label in (self.title, self.facts):
            label.setTextFormat(Qt.TextFormat.PlainText)
        self.facts.setProperty("role", "secondary")
        self.buttons = {choice: QPushButton(words) for choice, (words, _) in OFFERED.items()}
        self.is_not_asked_again = QCheckBox("&Do not ask again: close, the studio goes on")
        self.is_not_asked_again.setVisible(remembered is not None)
        self.stay = QPushButton("Stay")
        self.stay.setMinimumHeight(28)
        self._lay_out()
        for choice, button in self.buttons.items():
            button.clicked.connect(partial(self._choose, choice))
        self.stay.clicked.connect(self.reject)
        studio.changed.connect(lambda _: self._say())
        studio.progressed.connect(lambda _: self._say())

    def ask(self, then: Callable[[], None]) -> None:
        """Ask what becomes of the studio; `then` is called unless the person stays."""
        self._then = then
        self._say()
        self.open()
        self.buttons[Choice.CLOSE].setFocus()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 16, 20, 16)
        column.setSpacing(4)
        column.addWidget(self.title)
        column.addWidget(self.facts)
        column.addSpacing(12)
        for choice, button in self.buttons.items():
            button.setMinimumHeight(32)
            button.setDefault(choice == Choice.CLOSE)
            button.setAutoDefault(True)
            about = QLabel(OFFERED[choice][1])
            about.setProperty("role", "secondary")
            button.setAccessibleDescription(about.text())
            column.addWidget(button)
            column.addWidget(about)
            column.addSpacing(8)
        self.buttons[Choice.CLOSE].setProperty("role", "primary")
        row = QHBoxLayout()
        row.addWidget(self.is_not_asked_again)
        row.addStretch(1)
        row.addWidget(self.stay)
        column.addLayout(row)
        self.setMinimumWidth(440)

    def _say(self) -> None:
        """What runs, while it is asked."""
        jobs = self._studio.jobs
        running = [jobs[job_id] for job_id in sorted(self._studio.running) if job_id in jobs]
        waiting = sum(
            job.state in IN_QUEUE - {JobState.RUNNING, JobState.PAUSED} for job in jobs.values()
        )
        if not running:
            self.title.setText("Nothing runs any more")
        elif len(running) == 1:
            self.title.setText(f"{running[0].shot_name} is being made")
        else:
            self.title.setText(f"{len(running)} takes are being made")
        words = {0: "No other job waits.", 1: "1 more job waits."}
        self.facts.setText(words.get(waiting, f"{waiting} more jobs wait."))

    def _choose(self, choice: Choice) -> None:
        if self._remembered is not None and self.is_not_asked_again.isChecked():
            self._remembered.prefer(ask_at_close=False)
        self.accept()
        carry_out(choice, self._studio)
        if self._then is not None:
            self._then()
