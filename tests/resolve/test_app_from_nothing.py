"""A menu entry where nothing of FreeSwim runs: as the installer left things, down to the window."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_resolve import Host, World
from living import until

from freeswim.studio import client
from resolve_plugin.entries import FOLDER
from resolve_plugin.install import install, start_command
from resolve_plugin.machine import Machine

try:
    import PySide6.QtWidgets  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

OPENING = "FreeSwim: FreeSwim is not running; opening it.\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Of a user who has just installed FreeSwim."""
    return Machine(sys.platform, tmp_path / "user", {"PATH": os.environ["PATH"]}, tmp_path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FreeSwim's folder. Resolve was not started from a shell, and knows nothing of it."""
    monkeypatch.delenv("FREESWIM_HOME")
    monkeypatch.setenv("FREESWIM_FUSION", str(tmp_path / "fusion"))
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "Jörg's FreeSwim"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(World(), tmp_path)
    yield host
    host.close()
    assert host.world.misuses == []


def test_the_app_opens_and_has_the_shot_of_the_click(
    machine: Machine, home: Path, host: Host, monkeypatch: pytest.MonkeyPatch
):
    install(machine, home, start_command(), "1")
    timeline = host.world.timeline
    timeline.AddMarker(48.0, "Mint", "Pond", "two orange koi\npreset: demo", 12.0)
    script = host.run(machine.scripts() / FOLDER / "Generate from markers.py", sys.executable)
    until(lambda: "FreeSwim: 1 shot queued.\n" in script.said, "the shot does not arrive")
    assert script.said.startswith(OPENING)
    (app,) = psutil.Process(script.pid).children()
    monkeypatch.setenv("FREESWIM_HOME", str(home))
    studio = client.connect()
    assert studio is not None
    try:
        assert app.cmdline()[-1].endswith("freeswim-desktop")
        (job,) = studio.get("/jobs")["jobs"]
        assert (job["shot_name"], job["prompt"]) == ("Pond", "two orange koi")
        (link,) = studio.get("/resolve")["links"]
        assert link["project"] == host.world.film.id
        assert timeline.markers[48]["customData"] == f"freeswim-adopted:{job['shot_id']}"
        studio.post(f"/jobs/{job['id']}/cancel")
    finally:
        app.terminate()
        # The script that opened it does not wait for it: what is left is an entry without a process.
        ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        until(lambda: not app.is_running() or app.status() in ended, "the app does not end")
        if (running := client.connect()) is not None:
            running.stop()
    assert "Traceback" not in script.said


def test_the_app_is_opened_without_what_resolve_has_set_for_itself(
    machine: Machine, home: Path, host: Host, tmp_path: Path
):
    """And while it is waited for, whoever waits ends with Resolve."""
    opened = tmp_path / "opened.json"
    program = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)))"
    install(machine, home, [sys.executable, "-c", program, str(opened)], "1")
    foreign = {"PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": "/nowhere"}
    entry = machine.scripts() / FOLDER / "Generate at playhead.py"
    script = host.run(entry, sys.executable, foreign)
    until(lambda: opened.is_file() and opened.read_text().endswith("}"), "nothing is opened")
    surroundings = json.loads(opened.read_text())
    assert surroundings["FREESWIM_HOME"] == str(home)
    assert not {"PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"} & set(surroundings)
    assert script.said == OPENING
    second = host.run(entry, sys.executable)
    until(lambda: second.said == OPENING, "nothing is said of the second click")
    host.crash()
    for waiting in (script, second):
        waiting.wait(10)


def test_an_app_that_is_not_there_any_more_is_to_be_opened_by_hand(
    machine: Machine, home: Path, host: Host, tmp_path: Path
):
    install(machine, home, [str(tmp_path / "gone" / "freeswim-desktop")], "1")
    script = host.run(machine.scripts() / FOLDER / "Fill gap.py", sys.executable)
    until(lambda: "by hand" in script.said, "nothing is said")
    assert script.said == OPENING + (
        "FreeSwim: FreeSwim cannot be opened (No such file or directory). Open it by hand.\n"
    )
