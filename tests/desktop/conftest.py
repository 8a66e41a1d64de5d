from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from desktop import app

if TYPE_CHECKING:  # Qt's system libraries may be missing: the tests say so, not this file
    from pytestqt.qtbot import QtBot

    from desktop.window import Window

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QT_LOGGING_RULES"] = app.QUIET


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    """The window as an editor first sees it, on a machine with no checkpoint but the demo's."""
    from PySide6.QtWidgets import QApplication

    from desktop import theme
    from desktop.window import Window

    monkeypatch.setenv("FREESWIM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more wait for each other where cores are busy
    application = QApplication.instance()
    assert isinstance(application, QApplication)
    theme.apply(application)
    window = Window()
    window.folder.setText(str(tmp_path / "takes"))
    qtbot.addWidget(window)
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    yield window
    window.close()
