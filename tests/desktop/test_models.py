"""The models window: its states drawn, and its buttons against a studio and a Hub that are real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_hub import SMALL, WEIGHTS, FakeHub, fake_hub

from freeswim.models.download import Said, folder_of, is_installed
from freeswim.studio.downloads import Downloads, ModelsNow

if TYPE_CHECKING:
    from PySide6.QtWidgets import QLabel
    from pytestqt.qtbot import QtBot

    from desktop.studio import Studio
    from desktop.windows.models import ModelRow, ModelsWindow

pytestmark = pytest.mark.qt_log_ignore("does not support (propagateSizeHints|raise)")

GB = 10**9
RTX = 24 * 2**30
NAME = SMALL.name
LARGE = "wan2.2-t2v-a14b"


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub that the studio asks."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with fake_hub() as hub:
        hub.add()
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def drawn(qtbot: QtBot, home: Path, offline: Studio) -> ModelsWindow:
    """A window that nobody has told anything."""
    from desktop.windows.models import ModelsWindow

    window = ModelsWindow(offline)
    qtbot.addWidget(window)
    window.show()
    return window


def said(gpu: int = RTX, **changes: dict[str, Any]) -> ModelsNow:
    """What a studio says: fields of models that differ, by their names with `_`."""
    now = Downloads(lambda: None).look()
    models = [
        model.model_copy(
            update={"is_recommended": gpu > 0 and model.name == NAME}
            | changes.get(model.name.replace(".", "_").replace("-", "_"), {})
        )
        for model in now.models
    ]
    update = {"models": models, "gpu_bytes": gpu, "gpu_name": "RTX 4090" if gpu else ""}
    return now.model_copy(update=update | {"free_bytes": 214 * GB, "used_bytes": 57 * GB})


def half(state: str, **more: Any) -> dict[str, Any]:
    amounts = {"done_bytes": 9 * GB, "size_bytes": 29 * GB, "is_exact": True}
    return {"state": state, **amounts, **more}


def shown(row: ModelRow) -> list[str]:
    """Words of the buttons that can be seen."""
    return [button.text() for button in row.buttons.values() if not button.isHidden()]


def labels(window: ModelsWindow) -> list[str]:
    from PySide6.QtWidgets import QLabel

    found: list[QLabel] = window.findChildren(QLabel)
    return [label.text() for label in found if label.isVisibleTo(window)]


# --------------------------------------------------------------------------------------- states


def test_before_the_studio_answers_it_says_so(drawn: ModelsWindow):
    assert "Looking at what is here…" in labels(drawn)


def test_one_model_is_recommended_and_the_others_are_under_more(drawn: ModelsWindow):
    drawn.take_in(said())
    assert "Recommended for your 24 GB" in labels(drawn)
    first, demo = drawn.rows[NAME], drawn.rows["demo"]
    assert first.isVisibleTo(drawn) and shown(first) == ["Download"]
    assert demo.isVisibleTo(drawn) and shown(demo) == []
    assert demo.state.text() == "Installed: it comes with FreeSwim"
    assert not drawn.rows[LARGE].isVisibleTo(drawn)
    assert "57.0 GB used · 214.0 GB free" in labels(drawn)


def test_without_a_gpu_the_demo_is_first(drawn: ModelsWindow):
    drawn.take_in(said(gpu=0))
    assert labels(drawn)[0] == "No NVIDIA GPU found: the demo runs on any machine"


def test_a_model_that_is_too_large_says_what_it_needs(drawn: ModelsWindow):
    drawn.take_in(said())
    drawn.want(LARGE)
    assert "Needs a GPU with 32 GB; yours has 24 GB." in labels(drawn)


@pytest.mark.parametrize(
    "model, words, buttons",
    [
        ({"state": "waiting"}, "Waits for its turn", ["Pause"]),
        (half("downloading", seconds_left=250.0), "Downloading 9.0 of 29.0 GB, 4 min left", ["Pause"]),
        ({"state": "downloading"}, "Asking the Hub what it consists of", ["Pause"]),
        (half("paused"), "Paused at 9.0 of 29.0 GB", ["Delete…", "Resume"]),
        (half("verifying"), "Verifying 9.0 of 29.0 GB", ["Pause"]),
        (half("verifying", folder="/x"), "Verifying 9.0 of 29.0 GB", ["Stop"]),
        (half("installed", folder="/x"), "Installed", ["Show in folder", "Verify", "Delete…"]),
        (half("damaged"), "Damaged", ["Delete…", "Repair"]),
    ],
)  # fmt: skip
def test_each_state_has_its_words_and_buttons(
    drawn: ModelsWindow, model: dict[str, Any], words: str, buttons: list[str]
):
    drawn.take_in(said(wan2_1_t2v_1_3b=model))
    row = drawn.rows[NAME]
    assert row.state.text() == words and shown(row) == buttons
    assert row.accessibleName() == f"{SMALL.title}, {words}"
    assert row.bar.isVisibleTo(drawn) == (model["state"] not in ("installed", "damaged"))


def test_why_it_does_not_go_on_is_in_its_row(drawn: ModelsWindow):
    failure = Said(code="download", message="huggingface.co cannot be reached.", hint="Check it.")
    drawn.take_in(said(wan2_1_t2v_1_3b=half("paused", failure=failure)))
    row = drawn.rows[NAME]
    assert row.failure.text() == "huggingface.co cannot be reached. Check it."
    assert row.state.text() == "Stopped at 9.0 of 29.0 GB"


def test_what_is_under_way_and_what_was_installed_is_told(qtbot: QtBot, drawn: ModelsWindow):
    told: list[str] = []
    drawn.told.connect(told.append)
    drawn.take_in(said(wan2_1_t2v_1_3b=half("downloading", seconds_left=250.0)))
    with qtbot.waitSignal(drawn.installed) as signal:
        drawn.take_in(said(wan2_1_t2v_1_3b=half("installed", folder="/x")))
    assert signal.args == [NAME]
    assert told == ["Wan 2.1 1.3B: downloading 9.0 of 29.0 GB, 4 min left", ""]


def test_deleting_is_asked_in_the_row_with_its_size(qtbot: QtBot, drawn: ModelsWindow):
    drawn.take_in(said(wan2_1_t2v_1_3b=half("installed", folder="/x")))
    row = drawn.rows[NAME]
    row.buttons["ask"].click()
    assert row.state.text() == "Delete 9.0 GB? It can be downloaded again."
    assert shown(row) == ["Keep", "Delete"]
    row.buttons["keep"].click()
    assert row.state.text() == "Installed"
    row.buttons["ask"].click()
    with qtbot.waitSignal(row.asked) as signal:
        row.buttons["delete"].click()
    assert signal.args == ["delete"]


def test_a_row_that_is_wanted_is_shown(qtbot: QtBot, drawn: ModelsWindow):
    drawn.want(LARGE)  # before there are rows
    drawn.take_in(said())
    row = drawn.rows[LARGE]
    assert row.isVisibleTo(drawn)
    qtbot.waitUntil(lambda: not row.visibleRegion().isEmpty())


def test_every_control_has_a_name_and_the_window_is_dark(drawn: ModelsWindow):
    from PySide6.QtWidgets import QAbstractButton, QProgressBar

    drawn.take_in(said(wan2_1_t2v_1_3b=half("downloading")))
    for control in (*drawn.findChildren(QAbstractButton), *drawn.findChildren(QProgressBar)):
        if control.isVisibleTo(drawn):
            assert control.accessibleName() or control.text()
    picture = drawn.grab().toImage()
    colours = {picture.pixelColor(x, y).name() for x in range(0, 760, 7) for y in range(0, 600, 7)}
    assert {"#262626", "#333333", "#1c1c1c"} <= colours
    shades = [
        picture.pixelColor(x, y).lightness() for x in range(0, 760, 7) for y in range(0, 600, 7)
    ]
    assert sum(shades) / len(shades) < 70


# ----------------------------------------------------------------------- with a studio and a Hub


@pytest.fixture
def window(qtbot: QtBot, hub: FakeHub, studio: Studio) -> Iterator[ModelsWindow]:
    from desktop.windows.models import ModelsWindow

    window = ModelsWindow(studio)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: NAME in window.rows, timeout=60_000)
    window.want(NAME)
    yield window
    hub.released.set()
    window.stop()


def in_state(qtbot: QtBot, window: ModelsWindow, state: str) -> None:
    def holds() -> bool:
        model = window.rows[NAME].model
        return model is not None and model.state == state

    qtbot.waitUntil(holds, timeout=60_000)


def test_a_model_is_fetched_paused_resumed_verified_and_deleted(
    qtbot: QtBot, window: ModelsWindow, hub: FakeHub
):
    row = window.rows[NAME]
    hub.hold_at[WEIGHTS] = 100_000
    row.buttons["download"].click()
    in_state(qtbot, window, "downloading")
    qtbot.waitUntil(lambda: row.model is not None and row.model.done_bytes > 100_000, timeout=9000)
    row.buttons["pause"].click()
    in_state(qtbot, window, "paused")
    hub.hold_at.clear()
    hub.released.set()
    row.buttons["download"].click()
    in_state(qtbot, window, "installed")
    assert is_installed(SMALL)
    row.buttons["verify"].click()
    row.buttons["ask"].click()
    row.buttons["delete"].click()
    in_state(qtbot, window, "available")
    assert not folder_of(SMALL).exists()


def test_a_dropped_folder_is_taken_over_and_another_refused_in_place(
    qtbot: QtBot, window: ModelsWindow, hub: FakeHub, tmp_path: Path
):
    from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
    from PySide6.QtGui import QDropEvent

    folder = tmp_path / "theirs" / "Wan2.1-T2V-1.3B-Diffusers"
    for name, content in hub.repositories[str(SMALL.repository)].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    window.use_folder(str(tmp_path / "empty"))
    qtbot.waitUntil(lambda: any("holds no model" in text for text in labels(window)), timeout=9000)
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path / "theirs"))])
    left = Qt.MouseButton.LeftButton
    action, none = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    window.dropEvent(QDropEvent(QPointF(9, 9), action, mime, left, none))
    in_state(qtbot, window, "installed")
