"""Report a problem: one zip that says what happened and nothing private; the person sends it.

What goes in is built from plain values by `write_report`, on a thread; the window only asks the
studio for what it knows and shows where the file is.
"""

from __future__ import annotations

import json
import platform
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from PySide6.QtCore import QFileInfo, Qt, QTimer, QUrl, qVersion
from PySide6.QtGui import QDesktopServices, QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.remembered import Place, folder
from desktop.studio import Studio
from desktop.windows.redact import WORDS, Redactor, Secrets
from freeswim import __version__, paths
from freeswim.errors import FreeswimError
from freeswim.studio.client import Client, Json
from freeswim.studio.job import Job, Shot, Take

LOG_BYTES = 2**20  # of a log's end
WATCH_MS = 50  # between two looks whether it is written
WHAT_HAPPENED = "what happened.txt"
LIBRARIES = ("torch", "diffusers", "transformers", "PySide6", "av", "numpy", "pydantic")

# Of a job, what is about the work and not about the person: numbers, and these words.
_WORDS_KEPT = frozenset(
    {
        *("id", "state", "reason", "code", "checkpoint", "kind", "weights", "expert", "guidance"),
        *("kept_precision", "step_cache", "temperature", "attention", "full_attention", "wish"),
    }
)
_CLEANED = frozenset({"message", "hint"})


@dataclass(frozen=True)
class Facts:
    """What a report is made of."""

    what_happened: str = ""  # in the person's own words
    job: Job | None = None  # the last one
    job_log: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict[str, Any])  # as the studio says
    secrets: Secrets = field(default_factory=Secrets)


def last_job(jobs: Iterable[Job]) -> Job | None:
    """The job that was last begun or ended."""
    began = [job for job in jobs if job.started_at is not None]
    return max(began, key=lambda job: max(job.started_at or 0, job.ended_at or 0), default=None)


def secrets_of(
    shots: Iterable[Shot], jobs: Iterable[Job], takes: Iterable[Take], unsent: object
) -> Secrets:
    """Everything that a person wrote or named, as far as the app knows it.

    Args:
        unsent: texts that were not sent, anywhere in plain JSON.
    """
    prompts: set[str] = set(_strings(unsent))
    names: set[str] = {shot.name for shot in shots}
    for shot in shots:
        prompts.update(_strings(shot.placement))
    for job in jobs:
        prompts |= {job.prompt, str(job.request.get("prompt") or "")}
        prompts.add(str(job.request.get("negative_prompt") or ""))
        names.add(job.shot_name)
        for path in _paths(job.request):
            names |= {Path(path).name, Path(path).stem}
    for take in takes:
        prompts.add(take.prompt)
        names |= {take.shot_name, take.file, Path(take.file).stem}
    return Secrets(tuple(filter(None, prompts)), tuple(filter(None, names)))


def write_report(into: Path, facts: Facts) -> Path:
    """Write the zip; where it is.

    Raises:
        OSError: the folder cannot be written.
    """
    redactor = Redactor(facts.secrets)
    own = Redactor(Secrets(with_words=True))  # what they write is for whoever reads it
    into.mkdir(parents=True, exist_ok=True)
    stem = time.strftime("FreeSwim report %Y-%m-%d %H.%M.%S")
    path = into / f"{stem}.zip"
    part = path.with_suffix(".part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as report:
            for name, text in _members(facts):
                report.writestr(name, (own if name == WHAT_HAPPENED else redactor).clean(text))
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path


def _members(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.what_happened.strip():
        yield WHAT_HAPPENED, facts.what_happened
    yield "system.json", _json(_system() | {"machine": dict(facts.machine)})
    if facts.job is not None:
        said = facts.job.model_dump(mode="json")
        yield "last job.json", _json(said if facts.secrets.with_words else _about_work(said))
    if facts.job_log:
        yield "last job.log", facts.job_log
    for path in sorted(paths.logs().glob("*.log*")):
        with suppress(OSError):
            yield path.name, _end_of(path)


def _system() -> dict[str, Any]:
    versions = {"freeswim": __version__, "python": sys.version, "qt": qVersion()}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    app = QGuiApplication.instance()
    screens = app.screens() if isinstance(app, QGuiApplication) else []
    return {
        "versions": versions,
        "system": {
            "name": platform.system(),
            "release": platform.release(),
            "version": platform.version(),
            "machine": platform.machine(),
        },
        "qt_platform": QGuiApplication.platformName() if app is not None else "",
        "screens": [
            {"size": list(screen.size().toTuple()), "scale": screen.devicePixelRatio()}
            for screen in screens
        ],
    }


def _about_work(said: Any, key: str = "") -> Any:
    """What a job says without the person's words: numbers, and words of our own."""
    if isinstance(said, dict):
        fields = cast("dict[str, Any]", said)
        return {name: _about_work(value, name) for name, value in fields.items()}
    if isinstance(said, list):
        return [_about_work(one, key) for one in cast("list[Any]", said)]
    if isinstance(said, str) and said and key not in _WORDS_KEPT | _CLEANED:
        return WORDS
    return said


def _end_of(path: Path) -> str:
    """The end of a log, from the beginning of a line."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - LOG_BYTES))
        content = file.read(LOG_BYTES)
    if size > LOG_BYTES:
        content = content.partition(b"\n")[2]
    return content.decode("utf-8", errors="replace")


def _json(said: object) -> str:
    return json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False)


def _strings(said: object) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, Mapping):
        for value in cast("Mapping[str, object]", said).values():
            yield from _strings(value)
    elif isinstance(said, (list, tuple)):
        for value in cast("list[object]", said):
            yield from _strings(value)


def _paths(said: object) -> Iterator[str]:
    if isinstance(said, dict):
        for name, value in cast("dict[str, object]", said).items():
            if name == "path" and isinstance(value, str):
                yield value
            yield from _paths(value)
    elif isinstance(said, (list, tuple)):
        for value in cast("list[object]", said):
            yield from _paths(value)


# ------------------------------------------------------------------------------------ the window


class ReportWindow(QWidget):
    """Non-modal. Makes the file, shows where it is, sends nothing."""

    def __init__(
        self,
        studio: Studio,
        unsent: Callable[[], object] = lambda: None,
        parent: QWidget | None = None,
    ) -> None:
        """
        Args:
            unsent: gives texts that were not sent, in plain JSON: they are kept out as well.
        """
        super().__init__(parent, Qt.WindowType.Window)
        self._studio, self._unsent = studio, unsent
        self._writer = ThreadPoolExecutor(1, "report")
        self.path: Path | None = None
        self.setWindowTitle("Report a problem")
        self._pages = QStackedWidget()
        self._build_question()
        self._build_answer()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._pages)
        self.resize(520, 420)
        # Looked for, not called back: the other thread must not be the last to hold this window.
        self._writing: Future[Path] | None = None
        self._watch = QTimer(self, interval=WATCH_MS)
        self._watch.timeout.connect(self._look)
        QShortcut(QKeySequence.StandardKey.Cancel, self, self.close)

    def _build_question(self) -> None:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(8)
        said = QLabel("&What happened?")
        self.what_happened = QPlainTextEdit()
        self.what_happened.setPlaceholderText("What you did, what you expected, what came instead")
        self.what_happened.setTabChangesFocus(True)
        said.setBuddy(self.what_happened)
        self.with_words = QCheckBox("&Include prompts and file names")
        self.contents = QLabel(wordWrap=True)
        self.contents.setProperty("role", "secondary")
        self.contents.setTextFormat(Qt.TextFormat.PlainText)
        self.failure = QLabel(wordWrap=True)
        self.failure.setProperty("role", "failed")
        self.failure.setTextFormat(Qt.TextFormat.PlainText)
        self.failure.hide()
        self.make = QPushButton("Make report")
        self.make.setProperty("role", "primary")
        self.make.setDefault(True)
        self.make.clicked.connect(self.make_report)
        self.with_words.toggled.connect(self._say_contents)
        for widget in (said, self.what_happened, self.with_words, self.contents, self.failure):
            column.addWidget(widget, 1 if widget is self.what_happened else 0)
        column.addLayout(_row(None, self.make))
        self._say_contents()
        self._pages.addWidget(page)

    def _build_answer(self) -> None:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(8)
        sign = QLabel()
        sign.setPixmap(theme.icon("done", theme.DONE).pixmap(24, 24))
        title = QLabel("The report is made. Nothing was sent.")
        font = title.font()
        font.setBold(True)
        title.setFont(font)
        what_next = QLabel("Look into it if you like, then send it to whoever helps you.")
        what_next.setWordWrap(True)
        self.where = QLabel(wordWrap=True)
        self.where.setTextFormat(Qt.TextFormat.PlainText)
        self.where.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
            | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.where.setAccessibleName("Where the report is")
        self.show_in_folder = QPushButton(theme.icon("folder"), "Show in folder")
        self.show_in_folder.clicked.connect(self._open_folder)
        self.copy_path = QPushButton("Copy path")
        self.copy_path.clicked.connect(self._copy_path)
        done = QPushButton("Close")
        done.clicked.connect(self.close)
        column.addLayout(_row(sign, title, None))
        for widget in (what_next, self.where):
            column.addWidget(widget)
        column.addLayout(_row(self.show_in_folder, self.copy_path, None))
        column.addStretch(1)
        column.addLayout(_row(None, done))
        self._pages.addWidget(page)

    def make_report(self) -> None:
        """Ask the studio for the last job, then write the file."""
        self.failure.hide()
        self.make.setEnabled(False)
        self.make.setText("Making the report")
        job = last_job(self._studio.jobs.values())

        def look(client: Client) -> tuple[Json, Json]:
            log = client.get(f"/jobs/{job.id}/log") if job is not None else {}
            return client.get("/machine"), log

        self._studio.ask(
            look,
            lambda said: self._write(job, said[0], str(said[1].get("text") or "")),
            lambda error: self._write(job, {"studio": _words_of(error)}, ""),
        )

    def open_anew(self) -> None:
        """Show the question, where a report was made before too."""
        self._pages.setCurrentIndex(0)
        self.resize(520, 420)
        self.show()
        self.raise_()
        self.activateWindow()

    def _write(self, job: Job | None, machine: Json, log: str) -> None:
        studio = self._studio
        secrets = secrets_of(
            studio.shots.values(), studio.jobs.values(), studio.takes.values(), self._unsent()
        )
        if self.with_words.isChecked():
            secrets = Secrets(with_words=True)
        facts = Facts(self.what_happened.toPlainText(), job, log, machine, secrets)
        # The first place that takes it; a person finds the first most easily.
        places = [folder(Place.DocumentsLocation), folder(Place.AppLocalDataLocation)]
        self._writing = self._writer.submit(_write_first, places, facts)
        self._watch.start()

    def _look(self) -> None:
        if self._writing is not None and self._writing.done():
            self._watch.stop()
            self._show_made(self._writing.exception() or self._writing.result())

    def _show_made(self, made: Path | BaseException) -> None:
        self.make.setEnabled(True)
        self.make.setText("Make report")
        if isinstance(made, BaseException):
            why = made.strerror if isinstance(made, OSError) and made.strerror else str(made)
            self.failure.setText(
                f"The report cannot be written: {why}. Free some space, try again."
            )
            self.failure.show()
            return
        self.path = made
        self.where.setText(f"{made}\n{_size(QFileInfo(str(made)).size())}")
        self._pages.setCurrentIndex(1)
        self.resize(520, 200)
        self.show_in_folder.setFocus()

    def _say_contents(self) -> None:
        left_out = "Your home folder, your name and the studio's key are taken out"
        if not self.with_words.isChecked():
            left_out = "Prompts, names of shots and files, folders and your name are taken out"
        self.contents.setText(
            "One zip file with the logs, the versions, the GPU and the settings of the last job. "
            f"{left_out}. Nothing is sent: you decide who gets it."
        )

    def _open_folder(self) -> None:
        if self.path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.path.parent)))

    def _copy_path(self) -> None:
        QGuiApplication.clipboard().setText(str(self.path))


def _write_first(places: Iterable[Path], facts: Facts) -> Path:
    failure: OSError | None = None
    for place in places:
        try:
            return write_report(place, facts)
        except OSError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _row(*widgets: QWidget | None) -> QHBoxLayout:
    """In a row; None: room."""
    row = QHBoxLayout()
    for widget in widgets:
        if widget is None:
            row.addStretch(1)
            continue
        row.addWidget(widget)
        if isinstance(widget, QPushButton):
            widget.setMinimumHeight(28)
    return row


def _size(num_bytes: int) -> str:
    if num_bytes < 10**6:
        return f"{max(1, round(num_bytes / 1000))} KB"
    return f"{num_bytes / 10**6:.1f} MB"


def _words_of(error: FreeswimError) -> str:
    return f"{error.code}: {error.message}"
