"""The installer, the uninstaller and the doctor, on each of the three systems."""

from __future__ import annotations

import asyncio
import json
import os
import plistlib
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_resolve import TIERS, Host, World, prefs
from hypothesis import given
from hypothesis import strategies as st
from lua_host import Installed
from lupa import luajit21
from rig import daemon, until
from stand_in import StandIn

from freeswim import paths
from freeswim.studio.job import PlacingState
from resolve_plugin import entries, signs
from resolve_plugin import install as installer
from resolve_plugin.doctor import Health, check, diagnostics
from resolve_plugin.entries import MENU, UnusableFolder, lua_string
from resolve_plugin.freeswim_resolve import menu, process
from resolve_plugin.install import install, uninstall
from resolve_plugin.machine import Machine
from resolve_plugin.signs import find_resolve, last_start

SYSTEMS = ["linux", "darwin", "win32"]
UTILITY = {
    "linux": ".local/share/DaVinciResolve/Fusion/Scripts/Utility",
    "darwin": "Library/Application Support/Blackmagic Design/DaVinci Resolve/Fusion/Scripts/Utility",
    "win32": "AppData/Roaming/Blackmagic Design/DaVinci Resolve/Support/Fusion/Scripts/Utility",
}
RESOLVE = {
    "linux": "opt/resolve/bin/resolve",
    "darwin": "Applications/DaVinci Resolve/DaVinci Resolve.app",
    "win32": "Program Files/Blackmagic Design/DaVinci Resolve/Resolve.exe",
}
BUNDLED = {  # the Python that Resolve brings from 21.1 on
    "linux": "opt/resolve/ResolvePython",
    "darwin": RESOLVE["darwin"] + "/Contents/Applications/ResolvePython",
    "win32": "Program Files/Blackmagic Design/DaVinci Resolve/ResolvePython/ResolvePython.exe",
}
# Everything that a name may hold and a way of writing it in Lua may trip over.
NASTY = 'Jörg\'s "koi" ]] ]=] ]==] [[ \\n %s @VERB@ 鯉'


@pytest.fixture(params=SYSTEMS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """One of each system, with a Python on it and a Resolve that was never started."""
    user = tmp_path / "users" / "Jörg O'Neil"
    user.mkdir(parents=True)
    usual = tmp_path / "usr" / "local" / "bin" / "python3"
    usual.parent.mkdir(parents=True)
    usual.touch(0o755)
    (user / "AppData/Local/Programs/Python/Python312").mkdir(parents=True)
    (user / "AppData/Local/Programs/Python/Python312/python.exe").touch()
    machine = Machine(request.param, user, {"PATH": str(usual.parent)}, tmp_path)
    program = tmp_path / RESOLVE[request.param]
    program.mkdir(parents=True)
    return machine


@pytest.fixture
def freeswim(machine: Machine) -> Path:
    """FreeSwim's own folder."""
    return machine.user / "FreeSwim"


def put(machine: Machine, home: Path) -> installer.Report:
    return install(machine, home, ["freeswim-desktop"], "1.0")


def scripts(machine: Machine) -> Path:
    return machine.user / UTILITY[machine.platform] / "FreeSwim"


def sign(home: Path, **changed: Any) -> None:
    """That a script ran inside Resolve."""
    said = {"at": time.time(), "verb": "connect", "plugin": "1", "python": "3.6.15"}
    said |= {"product": "DaVinci Resolve", "version_words": "20.3.2.9", "edition": "free"}
    (home / "resolve").mkdir(parents=True, exist_ok=True)
    (home / "resolve" / "seen.json").write_text(json.dumps({**said, **changed}))


def starts(machine: Machine, product: str, version: str, at: str = "2026-09-10 08:00:00") -> None:
    """What Resolve writes into its log when it starts."""
    machine.log().parent.mkdir(parents=True, exist_ok=True)
    with machine.log().open("a") as log:
        log.write(f"0x7fc6 | Main  | INFO  | {at},075 | Running {product} v{version} (Clang)\n")
        log.write(f"0x7fc6 | Main  | INFO  | {at},076 | BMD_BUILD_UUID 254c9474\n")


def starts_tier(machine: Machine, tier: str) -> None:
    product, version = TIERS[tier]
    starts(machine, product, "{}.{}.{}.{:04}".format(*version))


def brings_python(machine: Machine) -> Path:
    bundled = machine.root / BUNDLED[machine.platform]
    bundled.parent.mkdir(parents=True, exist_ok=True)
    bundled.touch()
    return bundled


def listed(machine: Machine, tier: str) -> list[str]:
    """What the editor sees in the menu."""
    lists_python = World(tier=tier).lists_python
    there = scripts(machine).iterdir()
    return sorted(path.stem for path in there if lists_python or path.suffix == ".lua")


def leaves(machine: Machine, **values: str) -> None:
    """What a Lua entry has in Fusion's preferences."""
    profile = machine.profiles() / "Default"
    profile.mkdir(parents=True, exist_ok=True)
    said = {f"Global.FreeSwim.{name}": value for name, value in values.items()}
    prefs.path(profile).write_bytes(prefs.as_bytes({"Global.Übung": "x", **said}))


def lua_sign(at: float | None = None, edition: str = "free", version: str = "21.1.0.17") -> str:
    return f"{int(time.time() if at is None else at)} fill_gap 1 {edition} {version}"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_menu_has_every_verb_of_the_plugin():
    assert set(MENU.values()) == menu.VERBS


def test_menu_entries_are_where_resolve_lists_them(machine: Machine, freeswim: Path):
    starts_tier(machine, "free 20.3")
    report = put(machine, freeswim)
    assert {path.name for path in scripts(machine).iterdir()} == {f"{name}.py" for name in MENU}
    assert len(report.written) == len(MENU) + 1
    assert report.left == report.removed == []
    for path in scripts(machine).iterdir():
        assert path.read_bytes().isascii()
        compile(path.read_text("ascii"), path.name, "exec")
    assert all(state == "current" for state in check(machine, freeswim).scripts.values())


@pytest.mark.parametrize("tier", TIERS)
def test_each_entry_is_listed_once_by_every_tier(tier: str, machine: Machine, freeswim: Path):
    starts_tier(machine, tier)
    put(machine, freeswim)
    assert listed(machine, tier) == sorted(MENU)
    assert "Is it not listed? Start Resolve again." in check(machine, freeswim).next_step


@pytest.mark.parametrize("tier", TIERS)
def test_a_resolve_that_nobody_knows_lists_every_entry(tier: str, machine: Machine, freeswim: Path):
    """Twice, perhaps, until it was started; then the doctor says what to do about it."""
    assert check(machine, freeswim).tier == "not known yet"
    put(machine, freeswim)
    assert set(listed(machine, tier)) == set(MENU)
    starts_tier(machine, tier)
    step = check(machine, freeswim).next_step
    assert step == (
        "Install the menu entries again, for Resolve lists each of them twice: "
        "freeswim resolve install."
    )
    assert len(put(machine, freeswim).removed) == len(MENU)
    assert listed(machine, tier) == sorted(MENU)


def test_an_update_to_21_1_free_gets_the_entries_that_it_lists(machine: Machine, freeswim: Path):
    """Known by the Python that it brings before it was started, by its log from then on."""
    starts_tier(machine, "free 21.0")
    put(machine, freeswim)
    sign(freeswim, version_words="21.0.3.7", python="3.12.1", at=time.time() - 86400)
    brings_python(machine)
    assert listed(machine, "free 21.1") == []

    def health() -> Health:
        return check(machine, freeswim)

    assert health().next_step == (
        "Install the menu entries again, for this Resolve lists another kind of them: "
        "freeswim resolve install."
    )
    assert health().tier == "free: mailbox"
    assert "version 21.1 or newer" in diagnostics(machine, health(), "1.0")
    assert len(put(machine, freeswim).removed) == len(MENU)
    assert listed(machine, "free 21.1") == sorted(MENU)
    starts(machine, "DaVinci Resolve", "21.1.0.0017", "2036-11-20 08:00:00")
    assert health().resolve.version == "21.1.0.17"
    assert put(machine, freeswim).written == []


def test_a_change_to_studio_brings_the_python_entries_back(machine: Machine, freeswim: Path):
    starts_tier(machine, "free 21.1")
    put(machine, freeswim)
    brings_python(machine)
    leaves(machine, Seen=lua_sign(edition="studio"), Owner="a" * 32)  # Studio lists Lua too
    assert put(machine, freeswim).removed
    assert listed(machine, "Studio 21.1") == sorted(MENU)
    assert {path.suffix for path in scripts(machine).iterdir()} == {".py"}


def test_without_a_python_every_resolve_gets_lua(machine: Machine, freeswim: Path):
    starts_tier(machine, "free 20.3")
    (machine.root / "usr/local/bin/python3").unlink()
    (machine.user / "AppData/Local/Programs/Python/Python312/python.exe").unlink()
    put(machine, freeswim)
    assert {path.suffix for path in scripts(machine).iterdir()} == {".lua"}
    assert check(machine, freeswim).tier == "free: mailbox"
    sign(freeswim)  # of a Python that Resolve finds and we do not
    put(machine, freeswim)
    assert {path.suffix for path in scripts(machine).iterdir()} == {".py"}


def test_python_is_found_where_resolve_finds_it(tmp_path: Path):
    program_files = tmp_path / "Program Files"
    for version in ("9", "10", "12"):
        (program_files / f"Python3{version}").mkdir(parents=True)
        (program_files / f"Python3{version}" / "python.exe").touch()
    windows = Machine("win32", tmp_path, {"PROGRAMFILES": str(program_files)}, tmp_path)
    assert Path(windows.python()).parent.name == "Python312"  # the highest (resolve.md 2.7)
    (tmp_path / "brew" / "bin").mkdir(parents=True)
    (tmp_path / "brew" / "bin" / "python3").touch()
    mac = Machine("darwin", tmp_path, {"PYTHON3HOME": str(tmp_path / "brew")}, tmp_path)
    assert mac.python() == str(tmp_path / "brew" / "bin" / "python3")


def test_installing_again_writes_nothing(machine: Machine, freeswim: Path):
    put(machine, freeswim)
    before = everything(machine.user)
    assert put(machine, freeswim).written == []
    assert everything(machine.user) == before


def test_entries_of_another_version_are_renewed(machine: Machine, freeswim: Path):
    install(machine, freeswim.with_name("Elsewhere ]=] @VERB@"), [], "0.9")
    assert set(check(machine, freeswim).scripts.values()) == {"outdated"}
    put(machine, freeswim)
    assert set(check(machine, freeswim).scripts.values()) == {"current"}


def test_program_that_was_damaged_is_renewed(machine: Machine, freeswim: Path):
    starts_tier(machine, "free 20.3")
    put(machine, freeswim)
    program = freeswim / "resolve" / "plugin" / "freeswim_resolve"
    (program / "menu.py").write_text("broken")
    (program / "other.py").touch()
    assert check(machine, freeswim).program == "outdated"
    assert len(put(machine, freeswim).written) == 1
    assert check(machine, freeswim).program == "current"
    assert not (program / "other.py").exists()
    assert sorted(path.name for path in (freeswim / "resolve").iterdir()) == ["plugin"]


@pytest.mark.parametrize("content", ["print('mine')\n", "", "\udcff", "our own\nwith more"])
@pytest.mark.parametrize("name", ["Fill gap.py", "Fill gap.lua"])
def test_files_of_others_are_never_touched(
    content: str, name: str, machine: Machine, freeswim: Path
):
    theirs = scripts(machine) / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text(content, "utf-8", errors="surrogateescape")
    before = theirs.read_bytes()
    report = put(machine, freeswim)
    assert report.left == [str(theirs)]
    assert check(machine, freeswim).scripts[name] == "foreign"
    assert f"Rename {name}" in check(machine, freeswim).next_step
    report = uninstall(machine, freeswim)
    assert report.left == [str(theirs)]
    assert everything(machine.user / UTILITY[machine.platform]) == {str(theirs): before}


def test_what_is_not_needed_and_not_ours_is_let_be(machine: Machine, freeswim: Path):
    starts_tier(machine, "free 20.3")
    theirs = scripts(machine) / "Fill gap.lua"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("-- mine")
    report = put(machine, freeswim)
    assert report.left == report.removed == []
    assert uninstall(machine, freeswim).left == [str(theirs)]
    assert theirs.read_text() == "-- mine"


@pytest.mark.parametrize("name", ["Fill gap.py", "Fill gap.lua"])
def test_entry_that_was_changed_by_hand_is_no_longer_ours(
    name: str, machine: Machine, freeswim: Path
):
    put(machine, freeswim)
    changed = scripts(machine) / name
    changed.write_text(changed.read_text("utf-8") + "print('more')\n", "utf-8")
    assert put(machine, freeswim).left == [str(changed)]
    assert uninstall(machine, freeswim).left == [str(changed)]


def test_entry_under_another_name_is_not_ours(machine: Machine, freeswim: Path):
    """A copy that the editor made."""
    put(machine, freeswim)
    copy = scripts(machine) / "My gap.lua"
    copy.write_bytes((scripts(machine) / "Fill gap.lua").read_bytes())
    assert uninstall(machine, freeswim).left == [str(copy)]
    assert copy.is_file()


@pytest.mark.parametrize("name", ["Fill gap.py", "Fill gap.lua"])
def test_link_of_somebodys_is_not_followed(
    name: str, machine: Machine, freeswim: Path, tmp_path: Path
):
    target = tmp_path / "target"
    scripts(machine).mkdir(parents=True)
    (scripts(machine) / name).symlink_to(target)
    assert len(put(machine, freeswim).left) == 1
    assert not target.exists()


def test_uninstalling_leaves_no_trace(machine: Machine, freeswim: Path):
    theirs = machine.user / UTILITY[machine.platform] / "Another.lua"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    freeswim.mkdir()
    (freeswim / "studio.db").touch()
    before = everything(machine.user)
    put(machine, freeswim)
    assert {path.suffix for path in scripts(machine).iterdir()} == {".py", ".lua"}
    sign(freeswim)
    uninstall(machine, freeswim)
    assert everything(machine.user) == before
    assert not scripts(machine).exists()
    assert [path.name for path in freeswim.iterdir()] == ["studio.db"]
    assert uninstall(machine, freeswim).removed == []


def test_store_edition_is_said_to_take_no_scripts(tmp_path: Path):
    machine = Machine("darwin", tmp_path, {}, tmp_path)
    (tmp_path / "Library/Containers/com.blackmagic-design.DaVinciResolveLite").mkdir(parents=True)
    health = check(machine, tmp_path / "FreeSwim")
    assert "Apple's store" in health.next_step
    assert not health.is_well


def test_version_is_read_from_the_program_on_macos(tmp_path: Path):
    machine = Machine("darwin", tmp_path, {}, tmp_path)
    plist = tmp_path / RESOLVE["darwin"] / "Contents" / "Info.plist"
    plist.parent.mkdir(parents=True)
    plist.write_bytes(plistlib.dumps({"CFBundleShortVersionString": "18.1.4"}))
    health = check(machine, tmp_path / "FreeSwim")
    assert health.resolve.version == "18.1.4"
    assert "Update Resolve: it is 18.1.4" in health.next_step


def test_doctor_says_the_one_next_step(machine: Machine, freeswim: Path):
    def health() -> Health:
        return check(machine, freeswim)

    starts_tier(machine, "free 20.3")
    assert health().next_step == "Install the menu entries: freeswim resolve install."
    put(machine, freeswim)
    assert "FreeSwim Connect, once a session. Is it not listed?" in health().next_step
    sign(freeswim)
    assert (health().tier, health().is_well) == ("free: Python", True)
    assert health().next_step.endswith("FreeSwim Connect, once a session.")
    (machine.root / RESOLVE[machine.platform]).rename(machine.root / "gone")
    assert health().is_well  # it runs from somewhere else


def test_doctor_says_the_one_next_step_of_the_mailbox(machine: Machine, freeswim: Path):
    def health() -> Health:
        return check(machine, freeswim)

    machine = replace(machine, user=machine.user.parent / "koi")
    freeswim = machine.user / "FreeSwim"
    starts_tier(machine, "free 21.1")
    put(machine, freeswim)
    assert health().next_step == (
        "Open FreeSwim, then in Resolve choose Workspace > Scripts > FreeSwim > FreeSwim Connect, "
        "once a session. Is it not listed? Start Resolve again."
    )
    leaves(machine, Seen=lua_sign(time.time() - 600), Owner="a" * 32)
    assert health().next_step == (
        "Open FreeSwim: it has not heard yet what was chosen 10 minutes ago. "
        "While Resolve stays open, that goes on by itself."
    )
    (freeswim / "mailbox" / "heard").write_text("a" * 32)
    assert health().is_well
    assert health().next_step == (
        "Open FreeSwim, then in Resolve choose Workspace > Scripts > FreeSwim > FreeSwim Connect, "
        "once a session."
    )
    (freeswim / "mailbox" / "heard").write_text("b" * 32)  # an older one
    assert not health().is_well
    leaves(machine, Seen=lua_sign(time.time() - 600), Lost=str(int(time.time() - 300)))
    assert health().next_step == (
        "An entry did not find FreeSwim's program 5 minutes ago. Choose the entry again."
    )
    leaves(machine, Seen=lua_sign(), Lost=str(int(time.time() - 300)), Owner="b" * 32)
    assert health().is_well


def test_a_folder_that_windows_may_not_read_is_said(tmp_path: Path):
    """`loadfile` takes the code page there; nobody knows yet whether Resolve's does (8.3)."""
    machine = Machine("win32", tmp_path / "Jörg", {}, tmp_path)
    home = machine.user / "FreeSwim"
    starts_tier(machine, "free 21.1")
    put(machine, home)
    step = (
        "On Windows Resolve may not read a folder whose name has letters like ä, as FreeSwim's "
        "has. Set FREESWIM_HOME to a folder named with the letters a to z alone, open FreeSwim, "
        "and install again."
    )
    assert check(machine, home).next_step.endswith(f"Does nothing happen? {step}")
    leaves(machine, Lost=str(int(time.time())))
    assert check(machine, home).next_step == (
        f"An entry did not find FreeSwim's program just now. {step}"
    )
    leaves(machine, Seen=lua_sign(), Owner="a" * 32)  # it can
    assert step not in check(machine, home).next_step


def test_doctor_knows_21_1_by_the_python_that_it_brings(machine: Machine, freeswim: Path):
    bundled = brings_python(machine)
    put(machine, freeswim)
    health = check(machine, freeswim)
    assert health.resolve.python == str(bundled)
    assert health.tier == "21.1 or newer: Python if it is Studio, the mailbox if it is free"
    assert {path.suffix for path in scripts(machine).iterdir()} == {".py", ".lua"}


@pytest.mark.parametrize(
    "changed, tier",
    [
        ({}, "free: Python"),
        ({"version_words": "21.1.0.17"}, "free: mailbox"),
        ({"version_words": "21.1.0.14", "edition": "studio"}, "Studio: Python"),
        ({"version_words": "18.5.1.6", "edition": "studio"}, "Studio: Python"),
        ({"version_words": "18.1.4"}, "too old: 18.5 is the oldest that can place clips"),
    ],
)
def test_doctor_names_the_tier(
    changed: dict[str, str], tier: str, machine: Machine, freeswim: Path
):
    sign(freeswim, **changed)
    assert check(machine, freeswim).tier == tier


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"at": "now"}', '{"at": NaN}', "[" * 50_000])
def test_sign_that_is_broken_is_none(content: str, machine: Machine, freeswim: Path):
    (freeswim / "resolve").mkdir(parents=True)
    (freeswim / "resolve" / "seen.json").write_text(content)
    assert check(machine, freeswim).seen is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 1000,
        b"FreeSwim = {",
        b"FreeSwim = { Seen = ",
        b'FreeSwim = { Seen = "now fill_gap 1 free 21.1" }',
        b'FreeSwim = { Seen = "1763000000 fill_gap 1 home 21.1", Lost = "never" }',
        b'FreeSwim = { Seen = "9999999999999 fill_gap 1 free 21.1" }',
        b'Other = { Seen = "1763000000 fill_gap 1 free 21.1" }',
    ],
)
def test_preferences_that_are_broken_say_nothing(content: bytes, machine: Machine):
    leaves(machine)
    prefs.path(machine.profiles() / "Default").write_bytes(content)
    assert signs.preferences(machine) == signs.Preferences()


def test_the_profile_in_which_an_entry_ran_last_is_read(machine: Machine):
    for name, at in (("Old", 1000), ("New", 2000), ("Older", 500)):
        leaves(machine, Seen=lua_sign(at), Owner=name)
        (machine.profiles() / "Default").rename(machine.profiles() / name)
    leaves(machine)
    assert signs.preferences(machine).owner == "New"


def test_the_last_start_in_the_log_counts(machine: Machine, freeswim: Path):
    starts(machine, "DaVinci Resolve", "19.1.3.0007", "2026-01-01 10:00:00")
    starts(machine, "DaVinci Resolve Studio", "21.1.0.0014", "2026-09-09 10:00:00")
    assert find_resolve(machine, freeswim).version == "21.1.0.14"
    assert find_resolve(machine, freeswim).edition == "studio"
    sign(freeswim, at=time.mktime((2026, 9, 8, 0, 0, 0, 0, 0, -1)))  # an entry, before that
    assert find_resolve(machine, freeswim).edition == "studio"
    sign(freeswim, at=time.mktime((2026, 9, 10, 0, 0, 0, 0, 0, -1)))  # and after it
    assert find_resolve(machine, freeswim).version == "20.3.2.9"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00" * 1000,
        b"| 2026-13-45 10:00:00,1 | Running DaVinci Resolve v21.1.0.17",
        b"| 2026-01-01 10:00:00,1 | Running DaVinci Resolve v",
        b"| 2026-01-01 10:00:00,1 | Running DaVinci Resolve Lite v21.1",
    ],
)
def test_a_log_that_says_nothing_is_none(content: bytes, machine: Machine):
    machine.log().parent.mkdir(parents=True)
    machine.log().write_bytes(content)
    assert last_start(machine) is None


def test_diagnostics_name_everything_and_nobody(machine: Machine, freeswim: Path):
    starts_tier(machine, "free 20.3")
    put(machine, freeswim)
    sign(freeswim, at=time.time() - 300)
    (freeswim / "run").mkdir()
    (freeswim / "run" / "studio.json").write_text('{"token": "secret"}')
    said = diagnostics(machine, check(machine, freeswim), "1.0")
    assert "Last seen: 5 minutes ago (connect), DaVinci Resolve 20.3.2.9" in said
    assert "Fill gap.py: current" in said
    assert "Next: In Resolve choose" in said
    assert "Neil" not in said
    assert "secret" not in said


def test_diagnostics_of_the_mailbox(machine: Machine, freeswim: Path):
    starts_tier(machine, "free 21.1")
    put(machine, freeswim)
    leaves(machine, Seen=lua_sign(time.time() - 300), Owner="a" * 32)
    said = diagnostics(machine, check(machine, freeswim), "1.0")
    assert "Tier: free: mailbox\n" in said
    assert "  Fill gap.lua: current\n" in said
    assert "Last seen: 5 minutes ago (fill_gap), DaVinci Resolve 21.1.0.17, Lua, plugin 1\n" in said
    assert "Connected: through the mailbox; the studio has not heard it\n" in said
    (freeswim / "mailbox" / "heard").write_text("a" * 32)
    said = diagnostics(machine, check(machine, freeswim), "1.0")
    assert "Connected: through the mailbox; the studio has heard it\n" in said


# --------------------------------------------------------------------------------- what Lua reads


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0")) | st.text("]=[ä\\\"'@ "))
def test_any_name_is_read_by_lua_as_it_is(words: str):
    lua = luajit21.LuaRuntime()
    assert lua.execute(f"return {lua_string(words)}") == words


def test_a_name_that_is_no_text_is_read_by_lua_as_it_is():
    home = Path(os.fsdecode(b"/home/koi\xff ]=]"))
    entry = entries.menu(home, [".lua"])["Fill gap.lua"]
    lua = luajit21.LuaRuntime(encoding=None)
    lua.execute(b"function loadfile(name) asked = name end fusion = { SetPrefs = function() end }")
    lua.execute(b"function fusion.SavePrefs() end")
    lua.execute(entry)
    assert lua.globals()[b"asked"] == bytes(entries.program(home) / "executor.lua")


@pytest.mark.parametrize("letter", "\n\r")
def test_a_line_break_in_a_name_is_refused_where_lua_must_read_it(
    letter: str, machine: Machine, tmp_path: Path
):
    home = tmp_path / f"Free{letter}Swim"
    starts_tier(machine, "free 20.3")
    put(machine, home)
    starts_tier(machine, "free 21.1")
    before = everything(tmp_path)
    with pytest.raises(UnusableFolder, match="has a line break in its name"):
        put(machine, home)
    assert everything(tmp_path) == before


def test_the_mailbox_is_there_before_an_entry_needs_it(
    machine: Machine, freeswim: Path, monkeypatch: pytest.MonkeyPatch
):
    starts_tier(machine, "free 21.1")
    entries.mailbox(freeswim).mkdir(0o755, parents=True)  # of somebody who knew no better
    put(machine, freeswim)
    monkeypatch.setenv("FREESWIM_HOME", str(freeswim))
    assert entries.mailbox(freeswim) == paths.mailbox()
    assert stat.S_IMODE(paths.mailbox().stat().st_mode) == 0o700


def test_the_doctor_looks_where_the_studio_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("FREESWIM_FUSION", raising=False)
    assert Machine.this().profiles() == paths.fusion_profiles()
    monkeypatch.setenv("FREESWIM_FUSION", str(tmp_path))
    assert Machine.this().profiles() == paths.fusion_profiles()


# ----------------------------------------------------------------------- as they were installed


def test_entry_runs_as_it_was_installed_and_the_doctor_sees_it(
    machine: Machine, freeswim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From the installer to the studio: with what the entry knows of itself alone."""
    starts_tier(machine, "free 20.3")
    put(machine, freeswim)
    monkeypatch.setenv("FREESWIM_HOME", str(freeswim))
    with StandIn().open() as studio:
        monkeypatch.delenv("FREESWIM_HOME")
        host = Host(World(), tmp_path)
        try:
            script = host.run(scripts(machine) / "FreeSwim Connect.py", sys.executable)
            assert studio.registered.get(timeout=120)["stays"]
            health = check(machine, freeswim)
            assert (health.is_connected, health.is_well) == (True, True)
            assert health.seen is not None
            studio.end = True
            script.wait()
        finally:
            host.close()
    assert not process.is_connected(freeswim / "run")
    assert host.world.misuses == studio.faults == []


def test_lua_entry_runs_as_it_was_installed_and_its_take_arrives(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    """From the installer to the timeline: what is on the disk, in the sandbox, before the daemon."""
    freeswim = machine.user / NASTY
    starts_tier(machine, "free 21.1")
    put(machine, freeswim)
    monkeypatch.setenv("FREESWIM_HOME", str(freeswim))
    monkeypatch.setenv("FREESWIM_FUSION", str(machine.profiles()))
    world = World(tier="free 21.1")
    world.profiles = [machine.profiles() / "Default"]
    world.profiles[0].mkdir(parents=True)
    marker = {"color": "Mint", "duration": 24.0, "note": "a koi", "name": "1", "customData": ""}
    world.timeline.markers[100] = marker
    entry = Installed(world, scripts(machine) / "Generate from markers.lua").start()

    async def story() -> None:
        await until_seen(machine)
        assert "it has not heard yet" in check(machine, freeswim).next_step
        async with asyncio.timeout(60), daemon(world) as rig:
            (job,) = await rig.jobs(1)
            await rig.placing(await rig.finish(job.id), PlacingState.PLACED)

    asyncio.run(story())
    entry.stop()
    assert (entry.error, world.misuses) == ("", [])
    health = check(machine, freeswim)
    assert health.seen is not None
    assert (health.seen.verb, health.seen.version) == ("generate_from_markers", "21.1.0.17")
    assert (health.is_well, health.is_heard) == (True, True)


async def until_seen(machine: Machine) -> None:
    async def look() -> object:
        return signs.preferences(machine).seen

    await until(look)


@pytest.mark.parametrize("tier", TIERS)
def test_lua_entry_leaves_its_sign_in_every_tier(tier: str, machine: Machine, freeswim: Path):
    """Both kinds are there as long as nobody knows the tier; whichever is chosen makes it known."""
    put(machine, freeswim)
    world = World(tier=tier)
    world.profiles = [machine.profiles() / "Default"]
    world.profiles[0].mkdir(parents=True)
    entry = Installed(world, scripts(machine) / "FreeSwim Connect.lua").start()
    asyncio.run(until_seen(machine))
    entry.stop()
    assert (entry.error, world.misuses) == ("", [])
    resolve = find_resolve(machine, freeswim)
    assert resolve.edition == ("studio" if tier.startswith("Studio") else "free")
    assert resolve.version == ".".join(map(str, TIERS[tier][1]))
    put(machine, freeswim)
    assert listed(machine, tier) == sorted(MENU)


def test_lua_entry_without_its_program_leaves_a_sign(machine: Machine, freeswim: Path):
    starts_tier(machine, "free 21.1")
    put(machine, freeswim)
    (entries.program(freeswim) / "executor.lua").unlink()
    world = World(tier="free 21.1")
    world.profiles = [machine.profiles() / "Default"]
    world.profiles[0].mkdir(parents=True)
    entry = Installed(world, scripts(machine) / "Fill gap.lua")
    entry._run()
    assert (entry.error, world.misuses) == ("", [])
    assert signs.preferences(machine).is_lost
    put(machine, freeswim)
    assert "An entry did not find FreeSwim's program" in check(machine, freeswim).next_step


def test_command_line_does_all_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    machine = Machine("linux", tmp_path, {}, tmp_path)
    monkeypatch.setattr(Machine, "this", lambda: machine)
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    starts_tier(machine, "free 21.1")
    assert installer.main(["install"]) == 0
    assert "written: " in capsys.readouterr().out
    assert installer.main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["program"] == "current"
    assert installer.main(["doctor"]) == 1
    assert "Next: Open FreeSwim, then in Resolve choose" in capsys.readouterr().out
    machine.log().unlink()
    assert installer.main(["doctor"]) == 1
    assert "Next: Install DaVinci Resolve 18.5" in capsys.readouterr().out
    assert installer.main(["uninstall", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["removed"]) == len(MENU) + 1


def test_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / ".local").touch()
    machine = Machine("linux", tmp_path, {}, tmp_path)
    monkeypatch.setattr(Machine, "this", lambda: machine)
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    assert installer.main(["install"]) == 1
    assert "Not a directory" in capsys.readouterr().err


def test_folder_that_cannot_be_named_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    machine = Machine("linux", tmp_path, {}, tmp_path)
    monkeypatch.setattr(Machine, "this", lambda: machine)
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "free\nswim"))
    starts_tier(machine, "free 21.1")
    for action in ("install", "doctor"):
        assert installer.main([action]) == 1
        assert "Set FREESWIM_HOME to another folder" in capsys.readouterr().err
