from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QGuiApplication, QKeySequence
from PySide6.QtWidgets import QMenu, QMenuBar, QWidget
from pytestqt.qtbot import QtBot

from desktop.windows.shortcuts import Line, ShortcutsWindow, ShortcutTable, as_text, lines_of

# The platform of the tests has no window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", "raise\\(\\)")


def action(
    owner: QWidget, text: str, *keys: str, tip: str = "", is_visible: bool = True
) -> QAction:
    made = QAction(text, owner)
    made.setShortcuts([QKeySequence(key) for key in keys])
    made.setStatusTip(tip)
    made.setVisible(is_visible)
    return made


@pytest.fixture
def bar(qtbot: QtBot) -> QMenuBar:
    """Two menus, one with a menu in it."""
    bar = QMenuBar()
    qtbot.addWidget(bar)
    shot = bar.addMenu("&Shot")
    shot.addAction(action(bar, "&Add to queue…", "Ctrl+Return", tip="Adds a job."))
    shot.addSeparator()
    shot.addAction(action(bar, "Cut && paste", "", "Ctrl+X", "Shift+Del"))
    more = shot.addMenu("&More")
    more.addAction(action(bar, "Add with 4 seeds"))
    view = bar.addMenu("&View")
    view.addAction(action(bar, "&Wipe", "W"))
    view.addAction(action(bar, "Not for you", "Q", is_visible=False))
    return bar


def actions_of(bar: QMenuBar) -> list[QAction | None]:
    menus = [one.menu() for one in bar.actions()]
    return [one for menu in menus if isinstance(menu, QMenu) for one in (*menu.actions(), None)]


def test_every_action_is_a_line_under_its_menu(bar: QMenuBar):
    assert lines_of(actions_of(bar)) == [
        Line("Shot", "Add to queue", "Ctrl+Return", "Adds a job."),
        Line("Shot", "Cut & paste", "Ctrl+X, Shift+Del", ""),
        Line("Shot ▸ More", "Add with 4 seeds", "", ""),
        Line("View", "Wipe", "W", ""),
    ]


def test_an_action_without_a_menu_is_a_line_too(bar: QMenuBar):
    assert lines_of([None, action(bar, "Loose", "L")]) == [Line("Other", "Loose", "L", "")]


def test_the_text_has_everything_in_columns(bar: QMenuBar):
    assert as_text(lines_of(actions_of(bar))) == (
        "SHOT\n"
        "  Ctrl+Return        Add to queue\n"
        "  Ctrl+X, Shift+Del  Cut & paste\n"
        "\n"
        "SHOT ▸ MORE\n"
        "                     Add with 4 seeds\n"
        "\n"
        "VIEW\n"
        "  W                  Wipe\n"
    )
    assert as_text([]) == "\n"


def shown(table: ShortcutTable) -> list[str]:
    names: list[str] = []
    for at in range(table.tree.topLevelItemCount()):
        group = table.tree.topLevelItem(at)
        assert group is not None
        if not group.isHidden():
            inner = [group.child(row) for row in range(group.childCount())]
            names += [one.text(0) for one in inner if one is not None and not one.isHidden()]
    return names


@pytest.mark.parametrize(
    "words, found",
    [
        ("", ["Add to queue", "Cut & paste", "Add with 4 seeds", "Wipe"]),
        ("ADD", ["Add to queue", "Add with 4 seeds"]),
        ("ctrl", ["Add to queue", "Cut & paste"]),
        ("more seeds", ["Add with 4 seeds"]),
        ("a job", ["Add to queue"]),
        ("view", ["Wipe"]),
        ("nothing like it", []),
    ],
)
def test_words_of_actions_keys_and_menus_are_found(
    bar: QMenuBar, qtbot: QtBot, words: str, found: list[str]
):
    table = ShortcutTable()
    qtbot.addWidget(table)
    table.show_actions(actions_of(bar))
    qtbot.keyClicks(table.search, words)
    assert shown(table) == found
    assert table.tree.isHidden() == (not found)
    if not found:
        assert table.empty.text() == f"No action matches “{words}”."


def test_the_window_shows_what_can_be_done_now_and_copies_it(bar: QMenuBar, qtbot: QtBot):
    window = ShortcutsWindow()
    qtbot.addWidget(window)
    window.show_actions(actions_of(bar))
    window.table.search.setText("wipe")
    window.close()
    bar.addAction(action(bar, "New one"))
    window.show_actions([*actions_of(bar), *bar.actions()[-1:]])
    assert shown(window.table)[-1] == "New one" and window.table.search.text() == ""
    qtbot.mouseClick(window.table.copy, Qt.MouseButton.LeftButton)
    assert "Ctrl+Return        Add to queue" in QGuiApplication.clipboard().text()
    qtbot.waitUntil(window.isActiveWindow)
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not window.isVisible()


def test_screen_readers_hear_the_action_and_its_key(bar: QMenuBar, qtbot: QtBot):
    table = ShortcutTable()
    qtbot.addWidget(table)
    table.show_actions(actions_of(bar))
    group = table.tree.topLevelItem(0)
    assert group is not None
    first = group.child(0)
    assert first is not None
    said = first.data(0, Qt.ItemDataRole.AccessibleTextRole)
    assert said == "Add to queue, Ctrl+Return"
    assert table.tree.accessibleName() and table.search.accessibleName()
