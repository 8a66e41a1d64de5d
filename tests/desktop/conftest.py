from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from desktop import app

if TYPE_CHECKING:  # Qt's system libraries may be missing: the tests say so, not this file
    from pond import Pond
    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

    from desktop.studio import Studio
    from desktop.window import Window

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QT_LOGGING_RULES"] = app.QUIET


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, with no checkpoint but the demo's."""
    home = tmp_path / "home"
    monkeypatch.setenv("FREESWIM_HOME", str(home))
    for name in ("FREESWIM_TAKES", "FREESWIM_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more wait for each other where cores are busy
    return home


@pytest.fixture
def look(qapp: QApplication) -> None:
    """The look of the app, for what is not opened by the window."""
    from desktop import theme

    theme.apply(qapp)


@pytest.fixture
def offline(qapp: QApplication, look: None) -> Iterator[Studio]:
    """A studio that nobody answers, to be told things by the test."""
    from desktop.studio import Studio

    studio = Studio()
    yield studio
    studio.close()


@pytest.fixture
def studio(qtbot: QtBot, home: Path, look: None) -> Iterator[Studio]:
    """A studio that runs, in a process of its own and with the real worker."""
    from desktop.studio import Studio
    from freeswim.studio import client

    studio = Studio()
    with qtbot.waitSignal(studio.connected, timeout=120_000):
        studio.start()
    yield studio
    studio.close()
    if (running := client.connect()) is not None:
        running.stop()


@pytest.fixture
def window(qtbot: QtBot, home: Path, look: None) -> Iterator[Window]:
    """The window as an editor first sees it, over a studio that it has started."""
    from desktop.remembered import Remembered
    from desktop.studio import Studio
    from desktop.trouble import Trouble
    from desktop.window import Window
    from freeswim.studio import client

    studio, trouble = Studio(), Trouble()
    troubles: list[str] = []
    trouble.happened.connect(troubles.append)
    remembered = Remembered()
    remembered.prefer(is_introduced=True)
    window = Window(studio, remembered, trouble)
    qtbot.addWidget(window)
    with qtbot.waitSignal(studio.connected, timeout=120_000), qtbot.waitActive(window):
        window.show()
        window.activateWindow()
        studio.start()
    yield window
    window.leave()
    studio.close()
    trouble.close()
    if (running := client.connect()) is not None:
        running.stop()
    assert troubles == []


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pond]:
    """A studio with a shot and its takes, for all tests of a file."""
    from pond import stocked

    with stocked(tmp_path_factory.mktemp("pond")) as pond:
        yield pond


@pytest.fixture
def at_pond(qtbot: QtBot, pond: Pond, look: None) -> Iterator[Studio]:
    """The window's side of it."""
    from pond import beside

    with beside(qtbot, pond) as studio:
        yield studio
