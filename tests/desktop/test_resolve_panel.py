"""DaVinci Resolve in the app: the fake stands for Resolve alone; plugin, studio and worker are real."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

try:
    import PySide6.QtMultimedia  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

import inside
from inside import Inside
from lua_host import Script
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QAction
from PySide6.QtWidgets import QAbstractButton, QAbstractItemView, QApplication
from pytestqt.qtbot import QtBot

from desktop.resolve.panel import ResolvePanel
from desktop.window import SAMPLE_PROMPT, Window
from freeswim import paths
from freeswim.studio import client
from freeswim.studio.client import Client
from freeswim.studio.job import Take

LEFT = Qt.MouseButton.LeftButton
CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
PATIENCE_MS = 60_000
SMALL = {"width": 128, "height": 128, "frames": 5}

Start = Callable[..., Inside]


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the person's own, where menu entries and preferences of Resolve are."""
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("FREESWIM_FUSION", str(tmp_path / "fusion"))
    return folder


@pytest.fixture
def start(tmp_path: Path, user: Path) -> Iterator[Start]:
    """Starts a Resolve; what no script may do must not have been done in it."""
    with ExitStack() as running:

        def begin(**of_world: object) -> Inside:
            return running.enter_context(_resolve(tmp_path, user, of_world))

        yield begin


def _resolve(
    folder: Path, user: Path, of_world: dict[str, object]
) -> AbstractContextManager[Inside]:
    return inside.resolve(folder, user, **of_world)


@pytest.fixture
def panel(window: Window, qtbot: QtBot) -> ResolvePanel:
    """As an editor opens it."""
    asked().patch("/resolve/settings", {"preset": "demo", "size": "preset", "seconds": 1})
    qtbot.mouseClick(window.status.resolve, LEFT)
    assert window.resolve_panel.isVisible()
    qtbot.waitUntil(lambda: window.resolve_panel.state.text() == "● Not connected")
    return window.resolve_panel


def asked() -> Client:
    found = client.connect()
    assert found is not None
    return found


def connect(running: Inside, panel: ResolvePanel, user: Path, qtbot: QtBot) -> None:
    """The menu entries are put there by the app's own button, and one of them chosen."""
    if not list(user.rglob("FreeSwim Connect.py")):
        with qtbot.waitSignal(panel._resolve.installed, timeout=PATIENCE_MS):
            qtbot.mouseClick(panel.install, LEFT)
    running.choose("FreeSwim Connect")
    qtbot.waitUntil(lambda: panel.project.text() == "Film", timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: panel.button("generate_at_playhead").isEnabled(), timeout=PATIENCE_MS)


def until_wish(window: Window, qtbot: QtBot) -> None:
    """A shot has come that waits for its prompt, and the prompt for the keyboard."""
    qtbot.waitUntil(
        lambda: (
            [row.state for row in window.shots.model.rows] == ["wish"]
            and QApplication.focusWidget() is window.settings.form.prompt
        ),
        timeout=PATIENCE_MS,
    )


def send_small(window: Window, qtbot: QtBot) -> None:
    """Type into what has the focus, ask for as little as can be, and send it."""
    window.settings.form.tune(SMALL)
    qtbot.keyClicks(QApplication.focusWidget(), SAMPLE_PROMPT)
    qtbot.waitUntil(lambda: window.settings.button.isEnabled(), timeout=PATIENCE_MS)
    qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Return, CONTROL)


def until_take(window: Window, qtbot: QtBot, state: str) -> Take:
    """The only take, once this has become of it in Resolve."""
    takes = window.queue.studio.takes

    def is_so() -> bool:
        return any(take.placing and take.placing.state == state for take in takes.values())

    qtbot.waitUntil(is_so, timeout=120_000)
    (take,) = takes.values()
    return take


def mark(running: Inside, offset: int, note: str) -> None:
    """A marker of ours, as an editor sets one."""
    running.world.timeline.markers[offset] = {
        "color": "Mint",
        "duration": 24.0,
        "note": note,
        "name": "Marker 1",
        "customData": "",
    }


def said_of(window: Window, take: Take, role: Qt.ItemDataRole) -> str:
    return str(window.takes.model.index_of(take.id).data(role))


def test_from_a_button_of_the_app_to_a_take_on_the_timeline(
    window: Window, panel: ResolvePanel, qtbot: QtBot, start: Start, user: Path
):
    """Nothing but the fake Resolve is not what an editor has."""
    running = start(tier="free 20.3", rate="23.976")
    timeline = running.world.timeline
    timeline.playhead = timeline.start + 240
    assert not panel.facts.isVisible()
    connect(running, panel, user, qtbot)
    assert panel.state.text() == "● Connected" and not panel.help.isVisible()
    assert panel.product.text() == "DaVinci Resolve 20.3.2.9, free: Python plugin"
    assert panel.timeline.text() == "Edit, 23.976 fps, starts at 01:00:00:00"
    assert panel.contact.text() == "now"
    assert window.status.resolve.text() == "Resolve: Film / Edit"

    qtbot.mouseClick(panel.button("generate_at_playhead"), LEFT)

    until_wish(window, qtbot)
    (row,) = window.shots.model.rows
    assert (
        row.spoken == "Shot, waits for its prompt, 0 takes, from Resolve, for 01:00:10:00 on Edit"
    )
    assert window.settings.spot_words.text() == (
        "For 01:00:10:00 on Edit of Film: 24 frames at 23.976 fps."
    )
    sheet = window.settings.sheet
    assert (sheet.preset, sheet.kind) == ("demo", "text")
    assert window.settings._library.values(sheet)["frames"] == 9  # 1.001 s at its 8 fps
    timeline.playhead = timeline.start  # the editor goes on
    send_small(window, qtbot)

    take = until_take(window, qtbot, "placed")
    there = window.takes.model.placed(take)
    assert there is not None and there.short == "V2 01:00:10:00"
    spoken = said_of(window, take, Qt.ItemDataRole.AccessibleTextRole)
    assert "in Resolve: On V2 at 01:00:10:00" in spoken
    assert "<p>On V2 at 01:00:10:00.</p>" in said_of(window, take, Qt.ItemDataRole.ToolTipRole)
    (item,) = timeline.video[1].items
    assert (item.start - timeline.start, item.length) == (240, 24)
    qtbot.waitUntil(lambda: timeline.markers == {}, timeout=PATIENCE_MS)
    window.takes.choose(take.id)
    assert not window.takes.place.isEnabled()  # it is there
    assert panel.news.item(0).text().endswith("1 shot kept: write the prompt in FreeSwim.")


def test_the_whole_way_by_keyboard(
    window: Window, qtbot: QtBot, start: Start, user: Path, monkeypatch: pytest.MonkeyPatch
):
    asked().patch("/resolve/settings", {"preset": "demo", "size": "preset", "seconds": 1})
    inside.install(user)
    running = start(tier="free 19.0")
    window.viewer.setFocus()
    qtbot.keyClick(window, Qt.Key.Key_3, CONTROL | SHIFT)
    panel = window.resolve_panel
    assert panel.isVisible() and panel.isAncestorOf(QApplication.focusWidget())
    connect(running, panel, user, qtbot)
    window.viewer.setFocus()
    panel.focus()
    assert QApplication.focusWidget() is panel.button("generate_at_playhead")
    seen: list[str] = []
    for _ in range(8):
        focused = QApplication.focusWidget()
        seen.append(QAccessible.queryAccessibleInterface(focused).text(QAccessible.Text.Name))
        qtbot.keyClick(focused, Qt.Key.Key_Tab)
    assert seen[:5] == [
        *("Generate at playhead", "Regenerate selection", "Generate from markers"),
        *("Fill gap", "Extend clip"),  # what cannot be done is passed over
    ]
    panel.focus()
    qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Space)
    until_wish(window, qtbot)
    send_small(window, qtbot)
    until_take(window, qtbot, "placed")
    panel.focus()
    qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Escape)
    assert not panel.isVisible() and QApplication.focusWidget() is window.viewer
    assert not window._remembered.window.is_resolve_open


def test_without_resolve_each_button_says_why_and_what_comes_first(
    window: Window, panel: ResolvePanel, qtbot: QtBot, user: Path
):
    for verb, action in panel.verbs.items():
        button = panel.button(verb)
        assert not button.isEnabled() and not action.isEnabled()
        assert button.accessibleDescription() == button.toolTip() == "Resolve is not connected."
    qtbot.waitUntil(lambda: panel.step.text().startswith("Install DaVinci Resolve"))
    with qtbot.waitSignal(panel._resolve.installed, timeout=PATIENCE_MS):
        qtbot.mouseClick(panel.install, LEFT)
    assert list(user.rglob("Fill gap.py"))
    assert window.banner.texts()[-1] == (
        "The menu entries were installed. Install DaVinci Resolve 18.5 or newer, and start it once."
    )
    assert window.status.resolve.text() == "Resolve: not connected"
    assert "choose Workspace > Scripts > FreeSwim" in window.status.resolve.toolTip()
    for widget in (*panel.findChildren(QAbstractButton), *panel.findChildren(QAbstractItemView)):
        interface = QAccessible.queryAccessibleInterface(widget)
        assert interface.text(QAccessible.Text.Name).strip(), widget
    assert window._remembered.window.is_resolve_open
    panel.close_button.click()
    assert not panel.isVisible() and not window.show_resolve.isChecked()


def test_shots_that_come_with_their_prompts_are_announced_and_selected(
    window: Window, panel: ResolvePanel, qtbot: QtBot, start: Start, user: Path
):
    asked().patch("/queue", {"mode": "pause"})
    running = start(tier="free 21.0")
    connect(running, panel, user, qtbot)
    for offset in (24, 72, 120):
        mark(running, offset, f"koi {offset}")
    panel.setFocus()
    running.choose("Generate from markers")
    qtbot.waitUntil(
        lambda: "3 shots arrived from Resolve." in window.banner.texts(), timeout=PATIENCE_MS
    )
    qtbot.waitUntil(lambda: len(window.shots.list.selectedIndexes()) == 3)
    qtbot.waitUntil(
        lambda: [row.state for row in window.shots.model.rows] == ["queued"] * 3,
        timeout=PATIENCE_MS,
    )
    (dismiss,) = [
        button
        for button in window.banner.findChildren(QAbstractButton)
        if button.accessibleName() == "Dismiss: 3 shots arrived from Resolve."
    ]
    qtbot.mouseClick(dismiss, LEFT)
    assert "3 shots arrived from Resolve." not in window.banner.texts()
    # Somebody who writes meanwhile goes on writing where they are.
    window.shots.new_shot()
    draft = window.settings.key
    window.settings.form.prompt.setFocus()
    qtbot.keyClicks(window.settings.form.prompt, "a white ")
    mark(running, 168, "one more koi")
    running.choose("Generate from markers")
    qtbot.waitUntil(lambda: len(window.shots.model.rows) == 5, timeout=PATIENCE_MS)
    qtbot.keyClicks(QApplication.focusWidget(), "koi")
    assert window.settings.key == draft
    assert window.settings.form.prompt.toPlainText() == "a white koi"


def test_what_a_marker_says_beside_its_prompt_is_in_the_settings_and_in_what_is_sent(
    window: Window, panel: ResolvePanel, qtbot: QtBot, start: Start, user: Path
):
    asked().patch("/queue", {"mode": "pause"})
    running = start(tier="free 19.1", rate="50")
    connect(running, panel, user, qtbot)
    mark(running, 0, "name: Koi pond\ntakes: 2\nseed: 7\nstrength: 0.55")
    qtbot.mouseClick(panel.button("generate_at_playhead"), LEFT)
    until_wish(window, qtbot)
    sheet = window.settings.sheet
    assert window.shots.model.rows[0].name == "Koi pond"
    assert (sheet.seed, sheet.is_seed_locked) == (7, True)
    assert window.settings._library.values(sheet)["refine.strength"] == 0.55
    assert window.settings.button.text() == "Add 2 takes to queue"
    send_small(window, qtbot)
    jobs = window.queue.studio.jobs
    qtbot.waitUntil(lambda: len(jobs) == 2, timeout=PATIENCE_MS)
    assert sorted(job.request["seed"] for job in jobs.values()) == [7, 8]
    assert {job.shot_name for job in jobs.values()} == {"Koi pond"}
    assert {job.request["refine"]["strength"] for job in jobs.values()} == {0.55}
    assert window.settings.button.text() == "Add to queue"  # the wish is fulfilled
    assert window.settings.spot.isVisible()  # and every further take goes to the same place


def test_a_wish_is_thrown_away_with_its_marker_and_not_before_that_is_certain(
    window: Window, panel: ResolvePanel, qtbot: QtBot, start: Start, user: Path
):
    running = start(tier="Studio 20")
    connect(running, panel, user, qtbot)
    qtbot.mouseClick(panel.button("generate_at_playhead"), LEFT)
    until_wish(window, qtbot)
    window.shots.list.setFocus()
    qtbot.keyClick(window.shots.list, Qt.Key.Key_Delete)
    assert window.shots.model.rows == []
    qtbot.mouseClick(window.shots.undo, LEFT)
    assert [row.state for row in window.shots.model.rows] == ["wish"]
    assert len(running.world.timeline.markers) == 1
    qtbot.keyClick(window.shots.list, Qt.Key.Key_Delete)
    assert window.shots.model.rows == []
    window.shots._undo_timer.timeout.emit()
    qtbot.waitUntil(lambda: running.world.timeline.markers == {}, timeout=PATIENCE_MS)
    assert window.shots.model.rows == []


def test_what_went_wrong_in_resolve_is_said_here(
    window: Window, panel: ResolvePanel, qtbot: QtBot, start: Start, user: Path
):
    """In it nothing can be shown but a console that nobody looks at."""
    running = start(tier="free 20.3")
    connect(running, panel, user, qtbot)
    running.choose("Fill gap")
    words = (
        "The playhead is in no gap between two clips. Park it in the gap, and choose this again."
    )
    qtbot.waitUntil(lambda: words in window.banner.texts(), timeout=PATIENCE_MS)
    assert panel.news.item(0).text().endswith(words)
    running.world.page = "media"
    panel._look()
    button = panel.button("generate_at_playhead")
    qtbot.waitUntil(lambda: not button.isEnabled(), timeout=PATIENCE_MS)
    assert button.toolTip() == (
        "This page of Resolve has no playhead: go to the Edit or the Cut page."
    )
    assert panel.button("generate_from_markers").isEnabled()
    qtbot.mouseClick(panel.button("generate_from_markers"), LEFT)
    none = "There is no Mint marker with a prompt on this timeline."
    qtbot.waitUntil(
        lambda: any(text.startswith(none) for text in window.banner.texts()), timeout=PATIENCE_MS
    )


def test_after_a_studio_that_was_killed_and_a_file_that_was_refused_the_take_is_placed(
    window: Window, panel: ResolvePanel, qtbot: QtBot, start: Start, user: Path
):
    running = start(tier="free 20.3")
    connect(running, panel, user, qtbot)
    studio = window.queue.studio
    with qtbot.waitSignal(studio.lost, timeout=PATIENCE_MS):
        os.kill(asked().pid, signal.SIGKILL)
    assert panel.state.text() == "● The studio is not there"
    assert panel.button("fill_gap").toolTip() == "The studio is not there."
    qtbot.waitUntil(lambda: panel.state.text() == "● Connected", timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: panel.button("generate_at_playhead").isEnabled(), timeout=PATIENCE_MS)
    qtbot.mouseClick(panel.button("generate_at_playhead"), LEFT)
    until_wish(window, qtbot)
    running.world.switches.import_refuses = True
    send_small(window, qtbot)
    take = until_take(window, qtbot, "failed")
    there = window.takes.model.placed(take)
    assert there is not None and there.short == "Not placed"
    assert there.sentence.startswith("Resolve cannot read Shot_take01_")
    window.takes.choose(take.id)
    assert window.takes.place.isEnabled()
    assert window.takes.place.text() == "&Place on the timeline again"
    running.world.switches.import_refuses = False
    window.takes.view.setFocus()
    qtbot.keyClick(window.takes.view, Qt.Key.Key_P)
    until_take(window, qtbot, "placed")


def test_free_resolve_from_21_1_on_through_the_mailbox(
    window: Window, panel: ResolvePanel, qtbot: QtBot, tmp_path: Path
):
    """The same button, though nothing in that Resolve can open a connection."""
    from fake_resolve import World

    world = World(tier="free 21.1", rate="25")
    profile = tmp_path / "fusion" / "Default"
    profile.mkdir(parents=True)
    world.profiles = [profile]
    script = Script(world, paths.mailbox(), "connect").start()
    try:
        qtbot.waitUntil(lambda: panel.project.text() == "Film", timeout=PATIENCE_MS)
        assert panel.product.text() == "DaVinci Resolve 21.1.0.17, free: Lua script"
        assert panel.timeline.text() == "Edit, 25 fps, starts at 01:00:00:00"
        qtbot.mouseClick(panel.button("generate_at_playhead"), LEFT)
        until_wish(window, qtbot)
        (row,) = window.shots.model.rows
        assert row.spot == "01:00:00:00 on Edit"
    finally:
        script.stop()
    assert script.error == "" and world.misuses == []


def test_the_menu_has_what_the_panel_has(window: Window):
    (menu,) = [one for one in window.menus if one.title() == "&Resolve"]
    shown: list[QAction] = menu.actions()
    assert [one.text().replace("&", "") for one in shown if one.text()] == [
        *("Generate at playhead", "Regenerate selection", "Generate from markers"),
        *("Fill gap", "Extend clip", "Place finished takes"),
        *("Show the Resolve panel", "Preferences for Resolve…"),
    ]
    window.show_resolve.trigger()
    window._hide_right.trigger()
    assert not window.resolve_panel.isVisible()
    window.show_resolve.trigger()
    window.show_resolve.trigger()
    assert window.resolve_panel.isVisible() and window.queue.isVisible()
