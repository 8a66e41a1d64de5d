"""All about one job: what was asked for, how far it is, how long it took, what its worker said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QColor, QFontDatabase, QGuiApplication, QPalette, QTextCursor
from PySide6.QtWidgets import (
    QDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from desktop.queue.notice import CONTROL
from desktop.queue.row import COLOURS
from desktop.queue.words import Sight, describe, duration, facts, failure_text, kind_of, stage_title
from desktop.studio import Changed, Studio
from freeswim.studio.job import Job, JobState
from freeswim.studio.runner import JobProgress

Role = QFormLayout.ItemRole

NAMES = 112  # pixels, width of the names of what is said
LOG_MS = 2000  # between two looks at the log of a job that runs


class JobDetails(QDialog):
    """A window about one job, which follows it. It holds nothing up."""

    def __init__(
        self,
        studio: Studio,
        job_id: str,
        way: str,
        stage_seconds: Callable[[], Mapping[str, float]],
        parent: QWidget | None = None,
    ) -> None:
        """Show it as it is now.

        Args:
            way: how it is made, in words.
            stage_seconds: of the job's stages, while it runs.
        """
        super().__init__(parent)
        self._studio = studio
        self._job_id = job_id
        self._way = way
        self._stage_seconds = stage_seconds
        self._seconds: dict[str, float] = {}  # of the stages of a take that is done
        self.setWindowFlag(Qt.WindowType.Window)
        self.resize(560, 640)
        self._lay_out()
        self._look_again = QTimer(self, interval=LOG_MS)
        self._look_again.timeout.connect(self._ask_log)
        studio.changed.connect(self._on_change)
        studio.progressed.connect(self._on_progress)
        self._say()
        self._ask_log()
        self._ask_take()

    @property
    def job(self) -> Job:
        """As it is now."""
        return self._studio.jobs[self._job_id]

    def text(self) -> str:
        """All of it as text, to be copied."""
        parts = [f"{self.heading.text()}\n{self.state.text()}"]
        if self.job.failure is not None:
            parts.append(failure_text(self.job.failure))
        parts.append("\n".join(f"{name}: {value}" for name, value in request_words(self.job)))
        parts.append("\n".join(f"{name}: {value}" for name, value in self._times()))
        parts.append(f"Log:\n{self.log.toPlainText()}")
        return "\n\n".join(parts)

    def _lay_out(self) -> None:
        self.heading = QLabel()
        font = self.heading.font()
        font.setBold(True)
        font.setPointSizeF(font.pointSizeF() * 1.2)
        self.heading.setFont(font)
        self.state = QLabel(wordWrap=True)
        self.failure = QLabel(wordWrap=True)
        self.failure.setProperty("role", "failed")
        self.failure.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.request_form, self.times_form = QFormLayout(), QFormLayout()
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(8)
        for title, form in (("Request", self.request_form), ("Times", self.times_form)):
            form.setHorizontalSpacing(16)
            form.setVerticalSpacing(4)
            column.addWidget(QLabel(f"<b>{title}</b>"))
            column.addLayout(form)
        column.addStretch(1)
        scroll = QScrollArea(widgetResizable=True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(inside)
        self.log = QPlainTextEdit(readOnly=True)
        self.log.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.log.setAccessibleName("Log")
        self.log.setPlaceholderText("Nothing was said yet.")
        self.copy_button, close = QPushButton("&Copy"), QPushButton("Close")
        self.copy_button.clicked.connect(self._copy)
        close.clicked.connect(self.close)
        buttons = QHBoxLayout()
        for button in (self.copy_button, close):
            button.setMinimumHeight(CONTROL)
        buttons.addStretch(1)
        buttons.addWidget(self.copy_button)
        buttons.addWidget(close)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(16, 16, 16, 16)
        whole.setSpacing(8)
        for widget in (self.heading, self.state, self.failure):
            whole.addWidget(widget)
        whole.addWidget(scroll, 3)
        whole.addWidget(QLabel("<b>Log</b>"))
        whole.addWidget(self.log, 2)
        whole.addLayout(buttons)

    # ------------------------------------------------------------------------------ what is shown

    def _on_change(self, changed: Changed) -> None:
        if self._job_id in changed.jobs:
            self._say()
            self._ask_log()
            self._ask_take()

    def _on_progress(self, progress: JobProgress) -> None:
        if progress.job_id == self._job_id:
            self._say()

    def _say(self) -> None:
        job = self.job
        progress = self._studio.progress.get(job.id)
        row = describe(job, Sight(progress=progress, mode=self._studio.mode))
        self.setWindowTitle(f"{job.shot_name}, job {job.number}")
        self.heading.setText(f"{job.shot_name} · {self._way}")
        self.state.setText(row.state if job.failure else row.status)
        palette = self.state.palette()
        palette.setColor(QPalette.ColorRole.WindowText, QColor(COLOURS[row.tone]))
        self.state.setPalette(palette)
        self.failure.setVisible(job.failure is not None)
        self.failure.setText(failure_text(job.failure) if job.failure else "")
        _fill(self.request_form, request_words(job))
        _fill(self.times_form, self._times())
        if (job.state == JobState.RUNNING) != self._look_again.isActive():
            run = job.state == JobState.RUNNING
            self._look_again.start() if run else self._look_again.stop()

    def _times(self) -> Iterator[tuple[str, str]]:
        job = self.job
        yield "Added", _moment(job.created_at)
        if job.started_at:
            again = f" (attempt {job.attempt})" if job.attempt > 1 else ""
            yield "Started", _moment(job.started_at) + again
        if job.ended_at:
            took = f", after {duration(job.ended_at - job.started_at)}" if job.started_at else ""
            yield "Ended", _moment(job.ended_at) + took
        for stage, seconds in (self._seconds or self._stage_seconds()).items():
            if stage != "all":
                yield stage_title(stage), duration(seconds)

    def _ask_log(self) -> None:
        path = f"/jobs/{self._job_id}/log"
        self._studio.ask(lambda client: client.get(path), self._show_log, lambda _: None)

    def _show_log(self, said: dict[str, Any]) -> None:
        text = said["text"].rstrip()
        if text == self.log.toPlainText():
            return
        bar = self.log.verticalScrollBar()
        is_at_end = bar.value() == bar.maximum()
        self.log.setPlainText(text)
        if is_at_end:
            self.log.moveCursor(QTextCursor.MoveOperation.End)

    def _ask_take(self) -> None:
        """How long its stages took; the take says so."""
        if self.job.take_id and not self._seconds:
            path = f"/takes/{self.job.take_id}"
            self._studio.ask(lambda client: client.get(path), self._learn_take, lambda _: None)

    def _learn_take(self, said: dict[str, Any]) -> None:
        self._seconds = dict(said["sidecar"].get("seconds", {}))
        self._say()

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.text())


def request_words(job: Job) -> Iterator[tuple[str, str]]:
    """What was asked for, in the words of the settings."""
    request = job.request
    yield "Prompt", job.prompt
    if request.get("negative_prompt"):
        yield "Without", request["negative_prompt"]
    yield "Model", kind_of(job).model
    yield "Result", facts(job)
    for field, title in (
        ("clip", "Clip"),
        ("first_image", "First frame"),
        ("last_image", "Last frame"),
    ):
        if request.get(field):
            yield title, Path(request[field]["path"]).name
    if "base" in kind_of(job).stages:
        yield "Base pass", _pass_words(request.get("base", {}))
    if "refine" in kind_of(job).stages:
        yield "Refine pass", _pass_words(request.get("refine", {}))
    for lora in request.get("loras", []):
        yield "LoRA", f"{Path(lora['file']['path']).name} × {lora.get('weight', 1):g}"
    if request.get("weights", "plain") != "plain":
        yield "Weights", str(request["weights"])


def _pass_words(settings: Mapping[str, Any]) -> str:
    said = [f"{settings['steps']} steps"] if "steps" in settings else []
    if "strength" in settings:
        said.append(f"strength {settings['strength']:g}")
    if "guidance_scale" in settings:
        said.append(f"guidance {settings['guidance_scale']:g}")
    return " · ".join(said)


def _fill(form: QFormLayout, said: Iterator[tuple[str, str]]) -> None:
    """Lines of a form; those that are there say the new words, so that what is read stays put."""
    lines = list(said)
    while form.rowCount() > len(lines):
        form.removeRow(form.rowCount() - 1)
    while form.rowCount() < len(lines):
        label, text = QLabel(), QLabel(wordWrap=True)
        label.setProperty("role", "secondary")
        label.setAlignment(Qt.AlignmentFlag.AlignTop)
        label.setMinimumWidth(NAMES)
        text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        form.addRow(label, text)
    for number, line in enumerate(lines):
        for role, words in zip((Role.LabelRole, Role.FieldRole), line, strict=True):
            place = form.itemAt(number, role)
            shown = place.widget() if place is not None else None
            if isinstance(shown, QLabel) and shown.text() != words:
                shown.setTextFormat(Qt.TextFormat.PlainText)  # what people wrote
                shown.setText(words)


def _moment(seconds: float) -> str:
    then, now = time.localtime(seconds), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == now[:3] else "%d %b %H:%M", then)
