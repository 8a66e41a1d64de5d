from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices
from pytestqt.qtbot import QtBot

from desktop.remembered import Remembered
from desktop.studio import Studio
from desktop.windows.first_run import FirstRun, Mark

# The platform of the tests has no window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", "raise\\(\\)")

LEFT = Qt.MouseButton.LeftButton
GB = 10**9


@pytest.fixture
def kept(home: Path) -> Remembered:
    return Remembered()


@pytest.fixture
def window(offline: Studio, kept: Remembered, qtbot: QtBot) -> FirstRun:
    window = FirstRun(offline, kept)
    qtbot.addWidget(window)
    return window


def machine(*gpus: tuple[str, int], free: int = 214 * GB) -> dict[str, Any]:
    known = [{"name": name, "total_bytes": gb * 2**30, "free_bytes": 0} for name, gb in gpus]
    return {"gpus": known, "disk": {"total_bytes": 10**12, "free_bytes": free}, "slots": []}


def model(name: str, state: str, **fields: Any) -> dict[str, Any]:
    is_demo = name == "demo"
    known = {
        "name": name,
        "title": "Demo (koi)" if is_demo else "Wan 2.1 1.3B",
        "licence": "Apache-2.0",
        "repository": "" if is_demo else "Wan-AI/x",
        "speed": "Quick",
        "fidelity": "Good",
        "least_gpu_gb": 0 if is_demo else 12,
        "is_recommended": False,
        "state": state,
        "size_bytes": 18 * GB,
        "is_exact": True,
        "done_bytes": 0,
        "bytes_per_second": None,
        "seconds_left": None,
        "folder": "",
        "failure": None,
    }
    return known | fields


DEMO = model("demo", "installed")


def models(*others: dict[str, Any], free: int = 214 * GB) -> dict[str, Any]:
    return {
        "models": [DEMO, *others],
        "folder": "/models",
        "used_bytes": 0,
        "free_bytes": free,
        "gpu_name": "",
        "gpu_bytes": 0,
    }


def wan(state: str = "available", **fields: Any) -> dict[str, Any]:
    return model("wan", state, is_recommended=True, **fields)


# ---------------------------------------------------------------------------------- four facts


def test_a_machine_with_everything_has_ticks(window: FirstRun):
    window._hear((machine(("RTX 4090", 24)), models(wan("installed"))))
    assert [fact.mark for fact in window.facts] == [Mark.DONE] * 3 + [Mark.OPTIONAL]
    assert window.gpu.words.text() == "RTX 4090, 24 GB"
    assert window.model.words.text() == "Wan 2.1 1.3B is ready. Quick."
    assert window.download.isHidden()


@pytest.mark.parametrize(
    "gpus, words",
    [
        ([], "No NVIDIA GPU found. The demo model runs on the processor"),
        ([("GTX 1060", 6)], "GTX 1060, 6 GB. Wan models need 12 GB or more"),
    ],
)
def test_without_a_gpu_that_is_large_enough_the_demo_is_the_model(
    window: FirstRun, gpus: list[tuple[str, int]], words: str
):
    window._hear((machine(*gpus), models(model("wan", "available"))))
    assert window.gpu.mark == Mark.WARNING and window.gpu.words.text().startswith(words)
    assert window.model.mark == Mark.DONE
    assert window.model.words.text() == "Demo (koi) is ready. Quick."
    assert window.download.isHidden()


def test_several_gpus_are_all_named(window: FirstRun):
    window._hear((machine(("RTX 4090", 24), ("RTX 3060", 12)), models(wan())))
    assert window.gpu.words.text() == "RTX 4090, 24 GB and RTX 3060, 12 GB"


@pytest.mark.parametrize(
    "takes_free, models_free, done, is_enough",
    [
        (214, 214, 0, True),
        (4, 214, 0, False),
        (214, 22, 0, False),
        (214, 23, 0, True),
        (214, 10, 13, True),
    ],
)
def test_room_is_for_the_model_and_some_to_spare(
    window: FirstRun, takes_free: int, models_free: int, done: int, is_enough: bool
):
    said = models(wan(done_bytes=done * GB), free=models_free * GB)
    window._hear((machine(("RTX 4090", 24), free=takes_free * GB), said))
    assert window.storage.mark == (Mark.DONE if is_enough else Mark.WARNING)
    assert ("are needed" in window.storage.words.text()) != is_enough
    assert f"{models_free} GB" in window.storage.words.text().replace(".0 GB", " GB")


@pytest.mark.parametrize(
    "model, mark, words, can_download",
    [
        (wan(), Mark.TO_DO, "Wan 2.1 1.3B: 18.0 GB · Quick · Apache-2.0", True),
        (wan(is_exact=False), Mark.TO_DO, "Wan 2.1 1.3B: about 18.0 GB", True),
        (wan("paused", done_bytes=3 * GB), Mark.TO_DO, "3.0 GB are here", True),
        (
            wan("available", failure={"code": "x", "message": "No network.", "hint": "Wait."}),
            Mark.WARNING,
            "No network. Wait.",
            True,
        ),
        (
            wan("downloading", done_bytes=3 * GB, seconds_left=250.0),
            Mark.BUSY,
            "3.0 GB of 18.0 GB, about 4 min left",
            False,
        ),
        (wan("downloading", seconds_left=5.0), Mark.BUSY, "less than a minute left", False),
        (wan("verifying"), Mark.BUSY, "verifying", False),
        (wan("waiting"), Mark.BUSY, "waits", False),
        (wan("installed"), Mark.DONE, "is ready", False),
    ],
)
def test_the_model_turns_to_a_tick_by_itself(
    window: FirstRun, model: dict[str, Any], mark: Mark, words: str, can_download: bool
):
    window._hear((machine(("RTX 4090", 24)), models(model)))
    assert window.model.mark == mark and words in window.model.words.text()
    assert window.download.isHidden() != can_download


def test_another_model_that_is_there_is_enough(window: FirstRun):
    other = model("other", "installed", title="Wan 2.2 5B")
    window._hear((machine(("RTX 4090", 24)), models(wan(), other)))
    assert window.model.mark == Mark.DONE
    assert window.model.words.text().startswith("Wan 2.2 5B is ready")


def test_resolve_is_optional_until_it_is_known(window: FirstRun, qtbot: QtBot):
    install = window.resolve.buttons[0]
    assert window.resolve.mark == Mark.OPTIONAL and install.isHidden()
    window.say_resolve(Mark.TO_DO, "Not connected.", can_install=True)
    with qtbot.waitSignal(window.resolve_wanted):
        install.click()
    window.say_resolve(Mark.DONE, "Connected.", can_install=False)
    assert window.resolve.words.text() == "Connected." and install.isHidden()


# ----------------------------------------------------------------------------- what can be done


def test_buttons_ask_for_what_they_say(
    window: FirstRun, qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[Path] = []
    monkeypatch.setattr(
        QDesktopServices, "openUrl", lambda url: opened.append(Path(QUrl(url).toLocalFile()))
    )
    window._hear((machine(("RTX 4090", 24)), models(wan())))
    show, existing = window.storage.buttons
    show.click()
    assert opened == [home.parent]
    with qtbot.waitSignal(window.model_wanted) as told:
        existing.click()
    assert told.args == [""]
    with qtbot.waitSignal(window.model_wanted) as told:
        window.model.buttons[1].click()
    assert told.args == ["wan"]


def test_a_download_that_is_refused_says_why(window: FirstRun, qtbot: QtBot):
    window._hear((machine(("RTX 4090", 24)), models(wan())))
    window.download.click()
    qtbot.waitUntil(lambda: window.model.mark == Mark.WARNING)
    assert window.model.words.text() == "The studio is not there yet. Try again in a moment."


def test_a_sample_is_asked_for_once_and_the_window_goes(
    window: FirstRun, kept: Remembered, qtbot: QtBot
):
    window.show()
    assert not kept.preferences.is_introduced
    with qtbot.waitSignal(window.sample_wanted):
        qtbot.mouseClick(window.sample, LEFT)
    assert not window.isVisible() and kept.preferences.is_introduced


@pytest.mark.parametrize("way", ["skip", "escape"])
def test_it_can_be_skipped_and_opened_again(
    window: FirstRun, kept: Remembered, qtbot: QtBot, way: str
):
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    if way == "skip":
        qtbot.mouseClick(window.skip, LEFT)
    else:
        qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not window.isVisible() and kept.preferences.is_introduced
    window.show()
    assert window.isVisible()


def test_nobody_is_asked_while_nobody_looks(window: FirstRun):
    window.look()
    assert not window._is_asking and not window._timer.isActive()
    window.show()
    assert window._timer.isActive()
    window.close()
    assert not window._timer.isActive()


def test_without_a_studio_it_waits_and_says_so(window: FirstRun, qtbot: QtBot):
    window.show()
    qtbot.waitUntil(lambda: window.gpu.words.text() == "The studio is not there yet.")
    assert window.gpu.mark == Mark.ASKED


def test_every_fact_and_button_has_a_name(window: FirstRun):
    assert window.gpu.accessibleName() == "GPU: Looking"
    window._hear((machine(), models(wan())))
    assert window.gpu.accessibleName() == "GPU: Look at this"
    names = [button.accessibleName() for fact in window.facts for button in fact.buttons]
    assert all(names) and len(names) == len(set(names))


def test_a_studio_tells_how_things_stand(studio: Studio, qtbot: QtBot):
    window = FirstRun(studio, Remembered())
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: window.storage.mark != Mark.ASKED, timeout=60_000)
    assert window.gpu.mark in (Mark.DONE, Mark.WARNING)
    assert window.model.words.text()
