"""The installer, the uninstaller and the doctor, on each of the three systems."""

from __future__ import annotations

import json
import plistlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_resolve import Host, World
from stand_in import StandIn

from resolve_plugin import install as installer
from resolve_plugin.freeswim_resolve import menu, process
from resolve_plugin.install import MENU, Health, Machine, check, diagnostics, install, uninstall

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


@pytest.fixture(params=SYSTEMS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """One of each system, with a Resolve and a Python on it."""
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


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_menu_has_every_verb_of_the_plugin():
    assert set(MENU.values()) == menu.VERBS


def test_menu_entries_are_where_resolve_lists_them(machine: Machine, freeswim: Path):
    report = put(machine, freeswim)
    assert {path.stem for path in scripts(machine).iterdir()} == set(MENU)
    assert len(report.written) == len(MENU) + 1
    assert report.left == []
    for path in scripts(machine).iterdir():
        assert path.read_bytes().isascii()
        compile(path.read_text("ascii"), path.name, "exec")
    assert all(state == "current" for state in check(machine, freeswim).scripts.values())


def test_installing_again_writes_nothing(machine: Machine, freeswim: Path):
    put(machine, freeswim)
    before = everything(machine.user)
    assert put(machine, freeswim).written == []
    assert everything(machine.user) == before


def test_entries_of_another_version_are_renewed(machine: Machine, freeswim: Path):
    install(machine, freeswim.with_name("Elsewhere"), [], "0.9")
    assert set(check(machine, freeswim).scripts.values()) == {"outdated"}
    put(machine, freeswim)
    assert set(check(machine, freeswim).scripts.values()) == {"current"}


def test_program_that_was_damaged_is_renewed(machine: Machine, freeswim: Path):
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
def test_files_of_others_are_never_touched(content: str, machine: Machine, freeswim: Path):
    theirs = scripts(machine) / "Fill gap.py"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(content, "utf-8", errors="surrogateescape")
    before = theirs.read_bytes()
    report = put(machine, freeswim)
    assert report.left == [str(theirs)]
    assert check(machine, freeswim).scripts["Fill gap.py"] == "foreign"
    assert "Rename Fill gap.py" in check(machine, freeswim).next_step
    report = uninstall(machine, freeswim)
    assert report.left == [str(theirs)]
    assert everything(machine.user / UTILITY[machine.platform]) == {str(theirs): before}


def test_entry_that_was_changed_by_hand_is_no_longer_ours(machine: Machine, freeswim: Path):
    put(machine, freeswim)
    changed = scripts(machine) / "Fill gap.py"
    changed.write_text(changed.read_text() + "print('more')\n")
    assert put(machine, freeswim).left == [str(changed)]
    assert uninstall(machine, freeswim).left == [str(changed)]


def test_link_of_somebodys_is_not_followed(machine: Machine, freeswim: Path, tmp_path: Path):
    target = tmp_path / "target.py"
    scripts(machine).mkdir(parents=True)
    (scripts(machine) / "Fill gap.py").symlink_to(target)
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
    sign(freeswim)
    uninstall(machine, freeswim)
    assert everything(machine.user) == before
    assert not scripts(machine).exists()
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
    assert health.resolve_version == "18.1.4"
    assert "Update Resolve: it is 18.1.4" in health.next_step


def test_doctor_says_the_one_next_step(machine: Machine, freeswim: Path):
    def health() -> Health:
        return check(machine, freeswim)

    assert "freeswim resolve install" in health().next_step
    put(machine, freeswim)
    assert "FreeSwim Connect, once a session. Is it not listed?" in health().next_step
    assert health().tier == "not known yet"
    sign(freeswim)
    assert (health().tier, health().is_well) == ("free: Python", True)
    assert health().next_step.endswith("FreeSwim Connect, once a session.")
    (machine.root / RESOLVE[machine.platform]).rename(machine.root / "gone")
    assert health().is_well  # it runs from somewhere else


def test_doctor_knows_21_1_by_the_python_that_it_brings(machine: Machine, freeswim: Path):
    put(machine, freeswim)
    program = machine.root / RESOLVE[machine.platform]
    bundled = {
        "linux": program.parent / "ResolvePython",
        "darwin": program / "Contents/Applications/ResolvePython",
        "win32": program.parent / "ResolvePython/ResolvePython.exe",
    }[machine.platform]
    bundled.parent.mkdir(parents=True, exist_ok=True)
    bundled.touch()
    health = check(machine, freeswim)
    assert health.python == str(bundled)
    assert "lists no Python scripts from 21.1 on" in health.next_step


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


def test_missing_python_is_said_where_scripts_are_not_listed(machine: Machine, freeswim: Path):
    put(machine, freeswim)
    (machine.root / "usr/local/bin/python3").unlink()
    (machine.user / "AppData/Local/Programs/Python/Python312/python.exe").unlink()
    assert "Resolve finds no Python" in check(machine, freeswim).next_step


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"at": "now"}', "{" * 100_000])
def test_sign_that_is_broken_is_none(content: str, machine: Machine, freeswim: Path):
    (freeswim / "resolve").mkdir(parents=True)
    (freeswim / "resolve" / "seen.json").write_text(content)
    assert check(machine, freeswim).seen is None


def test_diagnostics_name_everything_and_nobody(machine: Machine, freeswim: Path):
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


def test_entry_runs_as_it_was_installed_and_the_doctor_sees_it(
    machine: Machine, freeswim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From the installer to the studio: with what the entry knows of itself alone."""
    put(machine, freeswim)
    monkeypatch.setenv("FREESWIM_HOME", str(freeswim))
    with StandIn().open() as studio:
        monkeypatch.delenv("FREESWIM_HOME")
        host = Host(World(), tmp_path)
        try:
            script = host.run(scripts(machine) / "FreeSwim Connect.py", sys.executable)
            assert studio.registered.get(timeout=30)["stays"]
            health = check(machine, freeswim)
            assert (health.is_connected, health.is_well) == (True, True)
            assert health.seen is not None
            studio.end = True
            script.wait()
        finally:
            host.close()
    assert not process.is_connected(freeswim / "run")
    assert host.world.misuses == studio.faults == []


def test_command_line_does_all_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    machine = Machine("linux", tmp_path, {}, tmp_path)
    monkeypatch.setattr(Machine, "this", lambda: machine)
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    assert installer.main(["install"]) == 0
    assert "written: " in capsys.readouterr().out
    assert installer.main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["program"] == "current"
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
