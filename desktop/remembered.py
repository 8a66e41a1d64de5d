"""What the app remembers from one start to the next: the person's preferences, and its window.

A frozen dataclass with defaults is the schema of each file. A file is replaced in one step, so that
whatever ends the app, the last one that was written is whole. What is not known here is kept: a
newer version's. What cannot be read is put aside, never lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, get_type_hints

from pydantic import JsonValue, TypeAdapter, ValidationError
from PySide6.QtCore import (
    QByteArray,
    QEvent,
    QIODevice,
    QObject,
    QSaveFile,
    QStandardPaths,
    QTimer,
    Signal,
)
from PySide6.QtWidgets import QSplitter, QWidget

from freeswim import paths

WATCH_MS = 50  # between two looks whether something is written
REST_MS = 400  # from a change to its being written, however many follow
MOST_BYTES = 16 * 2**20  # of a file; a larger one is none of ours

Place = QStandardPaths.StandardLocation


class Notify(StrEnum):
    """What the person is told of while the window is not in front."""

    OFF = "off"
    FINISHED = "finished"  # the queue is through, a job failed, or a long one is done
    EVERY = "every"  # job


@dataclass(frozen=True)
class Preferences:
    """What the person chose for good."""

    notifications: Notify = Notify.FINISHED
    ask_at_close: bool = True  # while a job runs
    is_introduced: bool = False  # the first run was seen
    comes_forward: bool = True  # the window, when a shot of Resolve's waits for its prompt


@dataclass(frozen=True)
class WindowState:
    """How the person left the window."""

    geometry: str = ""  # QWidget.saveGeometry, base64
    splitters: dict[str, str] = field(default_factory=dict[str, str])  # QSplitter.saveState, base64
    shot: str = ""  # id of the chosen one
    drafts: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])  # what was not sent
    viewer_mode: str = "wipe"
    volume: int = 100  # of the viewer, 0 to 100
    is_muted: bool = False
    is_advanced_open: bool = False
    is_finished_open: bool = False  # the queue's group of finished jobs
    is_resolve_open: bool = False  # the Resolve panel


def folder(place: Place) -> Path:
    """The app's own folder of a kind; all of them in one where `FREESWIM_HOME` is set."""
    if os.environ.get("FREESWIM_HOME"):
        return paths.home() / "app"
    return Path(QStandardPaths.writableLocation(place))


class Remembered(QObject):
    """One per app. Read when it is made; written soon after each change, and by `flush`."""

    preferences_changed = Signal(object)  # Preferences
    failed = Signal(str)  # what could not be written; told once, until it can

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._files = (
            _File(folder(Place.AppConfigLocation) / "settings.json", Preferences),
            _File(folder(Place.StateLocation) / "window.json", WindowState),
        )
        self._writer = ThreadPoolExecutor(1, "remembered")  # the disk may be slow
        self._writing: list[tuple[_File[Any], Future[str]]] = []
        self._is_failing = False
        self._timer = QTimer(self, interval=REST_MS, singleShot=True)
        self._timer.timeout.connect(self._save)
        # Looked for, not called back: the other thread must not be the last to hold this object.
        self._watch = QTimer(self, interval=WATCH_MS)
        self._watch.timeout.connect(self._look)

    @property
    def preferences(self) -> Preferences:
        """As they are now."""
        return self._files[0].content

    @property
    def window(self) -> WindowState:
        """As it is now."""
        return self._files[1].content

    @property
    def problems(self) -> list[str]:
        """What could not be read, in words."""
        return [file.problem for file in self._files if file.problem]

    def prefer(self, **changes: Any) -> None:
        """Change fields of the preferences."""
        before, file = self.preferences, self._files[0]
        file.content = replace(before, **changes)
        if file.content != before:
            self._touch()
            self.preferences_changed.emit(file.content)

    def keep(self, **changes: Any) -> None:
        """Change fields of the window's state."""
        before, file = self.window, self._files[1]
        file.content = replace(before, **changes)
        if file.content != before:
            self._touch()

    def forget(self) -> None:
        """Everything is as at the first start; unsent texts stay."""
        self.keep(**asdict(replace(WindowState(), drafts=self.window.drafts)))
        self.prefer(**asdict(replace(Preferences(), is_introduced=True)))

    def flush(self) -> None:
        """Write what is not written yet, and wait until it is; for the end of the app."""
        self._timer.stop()
        self._save()
        for _, future in self._writing:
            future.result()
        self._look()

    def follow_window(self, window: QWidget, splitters: Mapping[str, QSplitter]) -> None:
        """Put a window back to where it was, and remember from now on where it is put."""
        window.restoreGeometry(_bytes(self.window.geometry))
        for name, splitter in splitters.items():
            splitter.restoreState(_bytes(self.window.splitters.get(name, "")))
            splitter.splitterMoved.connect(
                lambda *_, name=name, splitter=splitter: self.keep(
                    splitters=self.window.splitters | {name: _text(splitter.saveState())}
                )
            )
        _Geometry(window, self)

    def _touch(self) -> None:
        if not self._timer.isActive():  # what changes all the time is written all the same
            self._timer.start()

    def _save(self) -> None:
        for file in self._files:
            if (content := file.unwritten()) is not None:
                self._writing.append((file, self._writer.submit(_write, file.path, content)))
                self._watch.start()

    def _look(self) -> None:
        """What became of what was to be written."""
        while self._writing and self._writing[0][1].done():  # they are written one by one
            file, future = self._writing.pop(0)
            self._settle(file, future.result())
        if not self._writing:
            self._watch.stop()

    def _settle(self, file: _File[Any], why: str) -> None:
        if why:
            file.written = b""  # with the next change, or at the end, it is tried again
            if not self._is_failing:
                self.failed.emit(f"{file.path} cannot be written: {why}.")
        self._is_failing = bool(why)


T = TypeVar("T", Preferences, WindowState)


class _File(Generic[T]):
    """One file, as it was read and as it is to be written."""

    def __init__(self, path: Path, schema: type[T]) -> None:
        self.path = path
        self.problem = ""
        self._raw: dict[str, Any] = {}
        try:
            self._raw = _read(path)
        except (OSError, ValueError, RecursionError) as error:
            self.problem = _put_aside(path, error)
        self.content = _parsed(self._raw, schema)
        self.written = self._bytes()  # nothing is, for defaults

    def unwritten(self) -> bytes | None:
        """What is to be written; None: nothing is. It counts as written from then on."""
        content = self._bytes()
        if content == self.written:
            return None
        self.written = content
        return content

    def _bytes(self) -> bytes:
        said = self._raw | asdict(self.content)
        return json.dumps(said, indent=1, sort_keys=True).encode()


class _Geometry(QObject):
    """Remembers where a window is."""

    def __init__(self, window: QWidget, remembered: Remembered) -> None:
        super().__init__(window)
        self._window, self._remembered = window, remembered
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        kinds = (QEvent.Type.Move, QEvent.Type.Resize, QEvent.Type.WindowStateChange)
        if event.type() in kinds and self._window.isVisible():
            self._remembered.keep(geometry=_text(self._window.saveGeometry()))
        return False


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError("it is too large")
    said: object = json.loads(content)
    if not isinstance(said, dict):
        raise ValueError("it is no object")
    return cast("dict[str, Any]", said)


def _write(path: Path, content: bytes) -> str:
    """Replace a file in one step; why that failed, or nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    saved = QSaveFile(str(path))
    is_written = (
        saved.open(QIODevice.OpenModeFlag.WriteOnly)
        and saved.write(content) == len(content)
        and saved.commit()
    )
    return "" if is_written else saved.errorString()


def _put_aside(path: Path, error: Exception) -> str:
    """Keep a file that cannot be read under another name; says so."""
    aside = path.with_name(f"{path.name}.bad")
    try:
        path.replace(aside)
    except OSError:
        return f"{path} cannot be read: {error}. It is left as it is."
    return f"{path.name} could not be read and is now {aside}. The app begins with its defaults."


def _parsed(said: Mapping[str, Any], schema: type[T]) -> T:
    """What is said, as far as it can be; defaults for the rest."""
    known: dict[str, Any] = {}
    for name in said.keys() & {one.name for one in fields(schema)}:
        try:
            known[name] = _adapter(schema, name).validate_json(json.dumps(said[name]), strict=True)
        except (ValidationError, ValueError, RecursionError):
            continue
    return schema(**known)


@cache
def _adapter(schema: type[Any], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(schema)[name])


def _text(content: QByteArray) -> str:
    return bytes(content.toBase64().data()).decode()


def _bytes(text: str) -> QByteArray:
    return QByteArray.fromBase64(text.encode(errors="replace"))
