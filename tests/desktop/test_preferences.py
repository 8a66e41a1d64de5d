from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QAction, QDesktopServices
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QLineEdit,
    QPushButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from desktop.remembered import Notify, Preferences, Remembered
from desktop.resolve.connection import Resolve
from desktop.resolve.settings import ResolveSettingsForm
from desktop.studio import Studio
from desktop.windows.preferences import PreferencesWindow
from freeswim import paths
from freeswim.studio import awake, client

# The platform of the tests has no window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", "raise\\(\\)")

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def kept(home: Path) -> Remembered:
    return Remembered()


@pytest.fixture
def window(offline: Studio, kept: Remembered, qtbot: QtBot) -> PreferencesWindow:
    window = PreferencesWindow(offline, kept, Resolve(offline))
    qtbot.addWidget(window)
    window.show()
    return window


def button(window: QWidget, words: str) -> QPushButton:
    [found] = [one for one in window.findChildren(QPushButton) if one.text() == words]
    return found


def pages(window: PreferencesWindow) -> list[str]:
    return [window.pages.item(row).text() for row in range(window.pages.count())]


def test_the_pages_are_those_of_what_is_there(window: PreferencesWindow):
    assert pages(window) == [
        "General",
        "Models & storage",
        "Notifications",
        "Shortcuts",
        "Advanced",
    ]


def test_notifications_take_effect_at_once(
    window: PreferencesWindow, kept: Remembered, qtbot: QtBot
):
    assert window.notify[Notify.FINISHED].isChecked()
    window.open_page("Notifications")
    for wish in (Notify.OFF, Notify.EVERY):
        with qtbot.waitSignal(kept.preferences_changed):
            window.notify[wish].click()
        assert kept.preferences.notifications is wish
    kept.flush()
    assert Remembered().preferences.notifications is Notify.EVERY


def test_to_be_asked_at_closing_is_chosen_here_and_follows_what_others_choose(
    window: PreferencesWindow, kept: Remembered
):
    window.ask_at_close.click()
    assert not kept.preferences.ask_at_close
    kept.prefer(ask_at_close=True)
    assert window.ask_at_close.isChecked()


def test_the_studio_is_told_at_once_whether_to_keep_the_computer_awake(
    window: PreferencesWindow,
):
    assert window.keep_awake.isChecked() and awake.is_wanted()
    window.keep_awake.click()
    assert not awake.is_wanted()
    window.keep_awake.click()
    assert awake.is_wanted()


def test_where_the_environment_says_otherwise_the_box_says_so(
    window: PreferencesWindow, monkeypatch: pytest.MonkeyPatch
):
    window.keep_awake.click()
    monkeypatch.setenv(awake.SWITCH, "0")
    window.keep_awake.click()
    assert not window.keep_awake.isChecked() and awake.SWITCH in window.awake_words.text()


def test_where_the_folder_cannot_be_written_the_box_says_so(window: PreferencesWindow, home: Path):
    home.write_text("in the way")
    window.keep_awake.click()
    assert window.keep_awake.isChecked()
    assert f"{home} cannot be written" in window.awake_words.text()


def test_other_windows_are_asked_for(window: PreferencesWindow, qtbot: QtBot):
    for words, signal in (
        ("Open models…", window.models_wanted),
        ("Report a problem…", window.report_wanted),
        ("Show first steps", window.first_run_wanted),
    ):
        with qtbot.waitSignal(signal):
            button(window, words).click()


def test_folders_are_shown_also_those_that_are_not_there_yet(
    window: PreferencesWindow, home: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[Path] = []
    monkeypatch.setattr(
        QDesktopServices, "openUrl", lambda url: opened.append(Path(QUrl(url).toLocalFile()))
    )
    button(window, "Show logs").click()
    assert opened == [home.parent]
    paths.logs().mkdir(parents=True)
    button(window, "Show logs").click()
    button(window, "Show settings").click()
    assert opened[1:] == [paths.logs(), home]


def test_a_reset_can_be_undone(window: PreferencesWindow, kept: Remembered, qtbot: QtBot):
    kept.prefer(notifications=Notify.EVERY, ask_at_close=False)
    kept.keep(shot="a", drafts={"": "koi"}, viewer_mode="side")
    before = kept.preferences, kept.window
    window.open_page("Advanced")
    qtbot.mouseClick(window.reset, LEFT)
    assert kept.preferences == Preferences(is_introduced=True)
    assert kept.window.viewer_mode == "wipe" and kept.window.drafts == {"": "koi"}
    assert window.notify[Notify.FINISHED].isChecked() and window.ask_at_close.isChecked()
    qtbot.mouseClick(window.undo, LEFT)
    assert (kept.preferences, kept.window) == before
    assert window.undo.isHidden()
    window._reset()
    window._undo_timer.timeout.emit()
    assert window.undo.isHidden() and "stay" in window.reset_words.text()


def test_resolve_has_a_page_from_when_something_is_known_of_it(
    window: PreferencesWindow, qtbot: QtBot
):
    window.show_resolve("Not connected.", can_install=True)
    assert pages(window)[2] == "Resolve"
    window.open_page("Resolve")
    with qtbot.waitSignal(window.resolve_wanted):
        qtbot.mouseClick(window.install, LEFT)
    window.show_resolve("Connected: project “Harbor”.", can_install=False)
    assert pages(window).count("Resolve") == 1 and not window.install.isVisible()
    window.open_page("Advanced")
    assert window.reset.isVisible()


@pytest.fixture
def form(studio: Studio, qtbot: QtBot) -> ResolveSettingsForm:
    """How shots of Resolve's are made, in front of a real studio."""
    form = ResolveSettingsForm(Resolve(studio), studio)
    qtbot.addWidget(form)
    form.show()
    qtbot.waitUntil(lambda: form.isEnabled() and form.preset.count() > 3, timeout=60_000)
    return form


def test_how_shots_of_resolve_are_made_is_kept_by_the_studio(
    form: ResolveSettingsForm, qtbot: QtBot
):
    assert form.preset.currentData() == "wan21-1.3b-1080p"
    form.preset.setFocus()
    qtbot.keyClicks(form.preset, "Demo")
    form.preset.activated.emit(form.preset.currentIndex())
    form.delivered.setCurrentIndex(1)
    form.delivered.activated.emit(1)
    for field, words in ((form.seconds, "12"), (form.handles, "24")):
        field.setFocus()
        field.selectAll()
        qtbot.keyClicks(field, words)
        qtbot.keyClick(field, Qt.Key.Key_Return)
    form.marker_color.setCurrentText("Rose")
    form.marker_color.activated.emit(form.marker_color.currentIndex())
    form.as_take.click()
    form.places_by_itself.click()

    def is_kept() -> bool:
        asked = client.connect()
        assert asked is not None
        return asked.get("/resolve")["settings"] == {
            "preset": "demo",
            "size": "preset",
            "seconds": 12,
            "handles": 24,
            "marker_color": "Rose",
            "as_take": True,
            "places_by_itself": False,
        }

    qtbot.waitUntil(is_kept, timeout=60_000)


def test_what_others_choose_for_resolve_is_shown(form: ResolveSettingsForm, qtbot: QtBot):
    asked = client.connect()
    assert asked is not None
    form.seconds.setFocus()
    form.seconds.selectAll()
    qtbot.keyClicks(form.seconds, "3")  # half typed: neither sent nor lost
    asked.patch("/resolve/settings", {"handles": 12, "as_take": True})
    qtbot.waitUntil(lambda: form.handles.value() == 12 and form.as_take.isChecked(), timeout=60_000)
    assert form.seconds.text() == "3 s"
    assert asked.get("/resolve")["settings"]["seconds"] == 5


def test_without_a_studio_nothing_of_resolve_can_be_chosen(offline: Studio, qtbot: QtBot):
    form = ResolveSettingsForm(Resolve(offline), offline)
    qtbot.addWidget(form)
    form.show()
    assert not form.isEnabled()
    form.setEnabled(True)  # as if it had gone a moment ago
    form.places_by_itself.click()
    qtbot.waitUntil(form.refusal.isVisible)
    assert form.refusal.text() == "The studio is not there yet. Try again in a moment."


def test_the_shortcuts_are_those_of_the_actions(window: PreferencesWindow):
    window.shortcuts.show_actions([QAction("Play", window)])
    window.open_page("Shortcuts")
    assert window.shortcuts.tree.topLevelItemCount() == 1


def test_without_a_studio_the_room_is_not_known(window: PreferencesWindow, qtbot: QtBot):
    qtbot.waitUntil(lambda: window.takes_room.text() == "Free space is not known yet")
    assert window.models_words.text() == "The studio is not there yet."


def test_a_studio_tells_the_room_and_the_models(studio: Studio, qtbot: QtBot):
    window = PreferencesWindow(studio, Remembered(), Resolve(studio))
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: window.takes_room.text().endswith(" GB free"), timeout=60_000)
    assert window.models_room.text().endswith(" GB free")
    assert window.models_words.text() == "On this machine: Demo (koi)."


def test_escape_closes_and_every_control_has_a_name(window: PreferencesWindow, qtbot: QtBot):
    window.show_resolve("", can_install=True)
    for kind in (QAbstractButton, QComboBox, QLineEdit):
        for control in window.findChildren(kind):
            text = control.text() if isinstance(control, QAbstractButton) else ""
            is_inner = (
                control.objectName().startswith("qt_")
                or control.parent() is window.shortcuts.search
            )
            assert text or control.accessibleName() or is_inner, control
    with qtbot.waitActive(window):
        window.activateWindow()
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not window.isVisible()
