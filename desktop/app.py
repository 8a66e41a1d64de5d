"""The `freeswim-desktop` command: one window per data folder, over the studio of that folder."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Qt's system libraries may be missing: `main` says so
    from PySide6.QtCore import QTimer

# Libraries for screen capture and video cards that Qt looks for in vain are no news to anyone.
QUIET = "qt.multimedia.symbolsresolver.warning=false;qt.multimedia.*.info=false"


def main(arguments: Sequence[str] | None = None) -> int:
    """Open the window, or the one that is open already; returns the exit status when it is closed."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("QT_LOGGING_RULES", QUIET)
    try:  # Qt's own libraries come along, those of the system may be missing
        import PySide6.QtWidgets  # noqa: F401
    except ImportError as error:
        sys.stderr.write(
            f"freeswim-desktop: The window cannot be opened: {error}.\n"
            "  Install the system package that holds this library.\n"
        )
        return 1
    with _temporary_home() if options.temp_home else _home():
        return _run(options.files, is_debugged=options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freeswim-desktop", description="Make and remake shots in a window."
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="clips, images, presets, takes")
    parser.add_argument(
        "--temp-home",
        action="store_true",
        help="everything in a folder that is gone afterwards, with a studio of its own",
    )
    parser.add_argument("--debug", action="store_true", help="log more, and to the terminal too")
    return parser


@contextmanager
def _home() -> Iterator[None]:
    yield


@contextmanager
def _temporary_home() -> Iterator[None]:
    from freeswim.studio.client import connect

    with tempfile.TemporaryDirectory(prefix="freeswim-", ignore_cleanup_errors=True) as folder:
        os.environ["FREESWIM_HOME"] = folder
        for name in ("FREESWIM_TAKES", "FREESWIM_MODELS"):
            os.environ.pop(name, None)
        try:
            yield
        finally:
            if (studio := connect()) is not None:
                studio.stop()


def _run(files: Sequence[str], *, is_debugged: bool) -> int:
    from PySide6.QtWidgets import QApplication

    from desktop import theme
    from desktop.instance import first_or_hand_over
    from desktop.remembered import Remembered
    from desktop.studio import Studio
    from desktop.trouble import Trouble
    from desktop.window import Window
    from freeswim import paths
    from freeswim.errors import FreeswimError

    app = QApplication(sys.argv[:1])
    app.setApplicationName("FreeSwim")
    theme.apply(app)
    try:
        instance = first_or_hand_over(paths.home(), files)
    except FreeswimError as error:
        sys.stderr.write(f"freeswim-desktop: {error.message}\n  {error.hint}\n")
        return 1
    if instance is None:
        return 0
    trouble = Trouble()
    if is_debugged:
        logging.getLogger().addHandler(logging.StreamHandler())
        logging.getLogger().setLevel(logging.DEBUG)
    studio = Studio()
    try:
        window = Window(studio, Remembered(), trouble)
    except BaseException:  # without a window there is nobody to tell but the terminal
        trouble.close()
        raise
    instance.called.connect(window.open_files)
    window.show()
    studio.start()
    if files:
        window.open_files([Path(file).absolute() for file in files])
    beat = _obey_signals(window.leave)
    status = app.exec()
    beat.stop()
    studio.close()
    trouble.close()
    instance.close()
    return status


def _obey_signals(leave: Callable[[], None]) -> QTimer:
    """Leave in order at Ctrl-C and at the end of the session; as long as the timer runs.

    Python's handlers run between two lines of Python, and Qt's loop has none: the timer's are these.
    """
    from PySide6.QtCore import QTimer

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: leave())
    beat = QTimer(interval=200)
    beat.timeout.connect(lambda: None)
    beat.start()
    return beat


if __name__ == "__main__":
    sys.exit(main())
