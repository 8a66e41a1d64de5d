"""What goes wrong in the app's own process: its log, its crashes, what nobody caught.

A slot that raises costs what it was about to do, not the window: it is logged and told, and the app
goes on. A crash of the process itself leaves its stacks in crash.log, found at the next start.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import logging.handlers
import platform
import sys
import threading
import traceback
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from PySide6.QtCore import (
    QMessageLogContext,
    QObject,
    QtMsgType,
    Signal,
    qInstallMessageHandler,
    qVersion,
)

from freeswim import __version__, paths

log = logging.getLogger(__name__)

LOG_BYTES, LOGS_KEPT = 10 * 2**20, 4
MOST_ALIKE = 10  # of the same failure in the log; one in a paint event comes 60 times a second
CRASH, CRASH_BEFORE = "crash.log", "crash-before.log"

_LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.INFO,
    QtMsgType.QtWarningMsg: logging.WARNING,
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}


class Trouble(QObject):
    """One per app; from when it is made until `close` it hears of everything."""

    happened = Signal(str)  # a failure that nobody caught, in a line; told once of each kind

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.has_crashed = False  # the app, the last time it ran
        self.problem = ""  # why there is no log
        self._crash_file: IO[bytes] | None = None
        self._handler: logging.Handler | None = None
        self._alike = Counter[str]()
        self._open()
        self._hooks = sys.excepthook, threading.excepthook
        sys.excepthook = self._catch
        threading.excepthook = self._catch_of_thread
        self._qt_handler: Any = qInstallMessageHandler(_log_qt)

    def close(self) -> None:
        """Hear of nothing more. An app that ends in order leaves no crash."""
        sys.excepthook, threading.excepthook = self._hooks
        qInstallMessageHandler(self._qt_handler)
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()
        if self._crash_file is not None:
            faulthandler.disable()
            self._crash_file.close()

    def _open(self) -> None:
        folder = paths.logs()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handler = logging.handlers.RotatingFileHandler(
                folder / "app.log", maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8"
            )
            self.has_crashed = _put_crash_aside(folder)
            self._crash_file = (folder / CRASH).open("wb")
        except OSError as error:
            self.problem = f"{folder} cannot be written: {error.strerror}. There is no log."
            return
        faulthandler.enable(self._crash_file)
        self._handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
        )
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(logging.INFO)
        system = f"{platform.system()} {platform.release()}"
        versions = f"freeswim {__version__}, python {platform.python_version()}, Qt {qVersion()}"
        log.info("%s, %s", versions, system)

    def _catch(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not issubclass(kind, Exception):  # an end that was asked for
            self._hooks[0](kind, error, trace)
            return
        # Nothing here may raise again: it would be caught here.
        with contextlib.suppress(Exception):
            where = traceback.extract_tb(trace)[-1] if trace is not None else None
            place = f"{Path(where.filename).name}:{where.lineno}" if where else "?"
            alike = f"{kind.__name__} {place}"
            self._alike[alike] += 1
            if self._alike[alike] <= MOST_ALIKE:
                log.error("nobody caught this", exc_info=(kind, error, trace))
            if self._alike[alike] == 1:
                self.happened.emit(f"{kind.__name__} in {place}")

    def _catch_of_thread(self, hooked: threading.ExceptHookArgs) -> None:
        if hooked.exc_value is not None:
            self._catch(hooked.exc_type, hooked.exc_value, hooked.exc_traceback)


def _put_crash_aside(folder: Path) -> bool:
    """Whether the last run left stacks; they are kept for a report."""
    crash = folder / CRASH
    if not crash.exists() or crash.stat().st_size == 0:
        return False
    crash.replace(folder / CRASH_BEFORE)
    return True


def _log_qt(kind: QtMsgType, context: QMessageLogContext, message: str) -> None:
    name = f"qt.{context.category}" if context is not None and context.category else "qt"
    logging.getLogger(name).log(_LEVELS.get(kind, logging.WARNING), "%s", message)
