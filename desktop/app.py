"""The `freeswim-desktop` command: the application, its look, its window."""

from __future__ import annotations

import os
import signal
import sys

# Libraries for screen capture and video cards that Qt looks for in vain are no news to anyone.
QUIET = "qt.multimedia.symbolsresolver.warning=false;qt.multimedia.*.info=false"


def main() -> int:
    """Open the window; returns the exit status when it is closed."""
    os.environ.setdefault("QT_LOGGING_RULES", QUIET)
    try:  # Qt's own libraries come along, those of the system may be missing
        from PySide6.QtWidgets import QApplication

        from desktop import theme
        from desktop.window import Window
    except ImportError as error:
        sys.stderr.write(
            f"freeswim-desktop: The window cannot be opened: {error}.\n"
            "  Install the system package that holds this library.\n"
        )
        return 1
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Qt's loop never returns to Python's handler
    app = QApplication(sys.argv)
    app.setApplicationName("FreeSwim")
    theme.apply(app)
    window = Window()
    window.show()
    return app.exec()


if __name__ == "__main__":
    sys.exit(main())
