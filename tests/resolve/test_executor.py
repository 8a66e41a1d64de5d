"""The plugin in a process of its own, as Resolve's child, under the Pythons that are here."""

from __future__ import annotations

import ast
import json
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_resolve import TIERS, Host, Media, Switches, frame_of
from pythons import find
from stand_in import StandIn

from resolve_plugin.freeswim_resolve import menu as menu_module
from resolve_plugin.freeswim_resolve import process

PYTHONS = find()
PACKAGE = Path(process.__file__).parent
VERBS = sorted(menu_module.VERBS - {"connect"})

Start = Callable[..., Host]
Menu = Callable[[str], Path]
Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("home")


def until(is_so: Callable[[], object], what: str, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def at(host: Host) -> Json:
    return {"project": host.world.film.id, "timeline": host.world.timeline.id}


def connected(host: Host, menu: Menu, studio: StandIn) -> Any:
    """A script that stays."""
    script = host.run(menu("connect"), sys.executable)
    assert studio.registered.get(timeout=30)["stays"]
    return script


def place(host: Host, studio: StandIn, folder: Path) -> Json:
    """What has a take placed, up to the last operation."""
    pool = {"project": at(host)["project"], "bin": ["FreeSwim"]}
    path = host.world.add_media(folder / "koi_v01.mov", Media(frames=96))
    studio.facts("ensure_bin", **pool)
    clip = studio.facts("import", **pool, path=path)
    track = studio.facts("add_track", **at(host), name="FreeSwim")["track"]
    spot = {"track": track, "record_frame": 86448, "start_frame": 0, "end_frame": 96}
    return {**at(host), "bin": pool["bin"], "media": clip["id"], **spot}


@pytest.mark.parametrize("python", PYTHONS.values(), ids=PYTHONS)
def test_take_arrives_where_the_playhead_was(
    python: str, start_resolve: Start, studio: StandIn, menu: Menu, tmp_path: Path
):
    host = start_resolve()
    world = host.world
    world.timeline.playhead = 86448
    still = tmp_path / "still.png"
    studio.for_verb = [
        ("still", {**at(host), "path": str(still), "timecode": "01:00:02:00"}),
    ]
    script = host.run(menu("generate_at_playhead"), python)
    asked = studio.verbs.get(timeout=30)
    assert studio.answers.get(timeout=30)["ok"]
    world.timeline.playhead = 86400 + 999  # the editor goes on
    assert asked["context"]["timeline"]["playhead"] == "01:00:02:00"
    assert frame_of(still) == 86448

    placed = studio.facts("place", **place(host, studio, tmp_path))

    assert (placed["item"]["start"], placed["item"]["end"]) == (86448, 86544)
    lower, upper = world.timeline.video
    assert [(one.start, one.length) for one in upper.items] == [(86448, 96)]
    assert lower.items == []
    assert world.timeline.playhead == 86400 + 999
    studio.end = True
    script.wait()
    version = next(one for one in PYTHONS if PYTHONS[one] == python)
    assert studio.registered.get()["python"].startswith(version + ".")


@pytest.mark.parametrize("tier", [tier for tier in TIERS if tier != "free 21.1"])
def test_every_tier_with_python_registers_as_what_it_is(
    tier: str, start_resolve: Start, studio: StandIn, menu: Menu
):
    host = start_resolve(tier=tier)
    script = connected(host, menu, studio)
    said = next(iter(studio.sessions.values()))["resolve"]
    assert said["edition"] == ("studio" if "Studio" in tier else "free")
    assert said["version"] == list(host.world.version[:3])
    studio.end = True
    script.wait()
    assert "connected" in script.said


@pytest.mark.parametrize("verb", VERBS)
def test_menu_entry_says_what_was_chosen_and_ends(
    verb: str, start_resolve: Start, studio: StandIn, menu: Menu
):
    host = start_resolve()
    staying = connected(host, menu, studio)
    studio.say = "Queued."
    studio.for_verb = [
        ("readback", {**at(host), "track": 1, "start": 86400, "end": 86500}),
        ("ensure_bin", {"project": at(host)["project"], "bin": ["FreeSwim"]}),
    ]
    script = host.run(menu(verb), sys.executable)
    asked = studio.verbs.get(timeout=30)
    assert asked["verb"] == verb
    assert asked["context"]["timeline"]["id"] == host.world.timeline.id
    assert studio.answers.get(timeout=30)["ok"]
    assert studio.answers.get(timeout=30)["error"]["code"] == "not_here"
    assert "FreeSwim: Queued." in script.wait()
    assert studio.byes.get(timeout=30)["why"] == "done"
    assert staying.is_running
    assert studio.facts("context")["project"]["name"] == "Film"


def test_free_21_1_lists_no_python(start_resolve: Start, menu: Menu):
    host = start_resolve(tier="free 21.1")
    with pytest.raises(LookupError):
        host.run(menu("connect"), sys.executable)


# ------------------------------------------------------------------------------ ends, and others


def test_script_ends_with_resolve(start_resolve: Start, studio: StandIn, menu: Menu):
    host = start_resolve()
    script = connected(host, menu, studio)
    studio.polls_for = 25
    host.crash()
    script.wait(10)


def test_script_ends_with_resolve_in_the_middle_of_a_call(
    start_resolve: Start, studio: StandIn, menu: Menu
):
    host = start_resolve(switches=Switches(hang_on="GetTrackCount"))
    script = connected(host, menu, studio)
    studio.ask_without_waiting("context")
    host.world.wait_until_it_hangs()
    host.crash()
    script.wait(10)


def test_script_ends_where_resolve_answers_nothing_any_more(
    start_resolve: Start, studio: StandIn, menu: Menu
):
    host = start_resolve()
    script = connected(host, menu, studio)
    host.world.quit()
    assert studio.byes.get(timeout=30)["why"] == "resolve_silent"
    script.wait()


@pytest.mark.parametrize("hangs", [False, True])
def test_connecting_again_takes_over(
    hangs: bool, start_resolve: Start, studio: StandIn, menu: Menu
):
    host = start_resolve()
    first = connected(host, menu, studio)
    if hangs:
        host.world.switches.hang_on = "GetTrackCount"
        studio.ask_without_waiting("context")
        host.world.wait_until_it_hangs()
        host.world.switches.hang_on = ""
    second = host.run(menu("connect"), sys.executable)
    assert studio.registered.get(timeout=30)["stays"]
    first.wait()
    assert second.is_running
    host.world.release()


def test_dialog_that_holds_a_call_up_is_told_of_meanwhile(
    start_resolve: Start, studio: StandIn, menu: Menu
):
    host = start_resolve()
    connected(host, menu, studio)
    host.world.switches.hang_on = "GetTrackCount"
    studio.ask_without_waiting("context")
    beat = studio.beats.get(timeout=30)
    assert beat["busy_s"] > 0
    host.world.release()
    assert studio.answers.get(timeout=30)["id"] == beat["operation"]


def test_operation_bye_ends_the_script(start_resolve: Start, studio: StandIn, menu: Menu):
    script = connected(start_resolve(), menu, studio)
    assert studio.ask("bye")["ok"]
    script.wait()


# ------------------------------------------------------------------------------ the studio's side


def test_lost_answer_is_given_again_and_nothing_is_done_twice(
    start_resolve: Start, studio: StandIn, menu: Menu, tmp_path: Path
):
    host = start_resolve()
    connected(host, menu, studio)
    asked = place(host, studio, tmp_path)
    studio.answers_to_drop = 1
    placed = studio.ask("place", **asked)
    assert placed["facts"]["was_there"] is False
    appended = [call for call in host.world.calls if call.name == "AppendToTimeline"]
    assert len(appended) == 1


def test_studio_that_starts_anew_is_found_again(home: Path, start_resolve: Start, menu: Menu):
    host = start_resolve()
    with StandIn().open() as before:
        script = connected(host, menu, before)
    with StandIn().open() as after:
        again = after.registered.get(timeout=30)
        assert again["session"] in before.sessions
        assert after.facts("context")["project"]["name"] == "Film"
    assert before.faults == after.faults == []
    assert script.is_running


def test_studio_that_forgot_the_session_is_told_again(
    start_resolve: Start, studio: StandIn, menu: Menu
):
    connected(start_resolve(), menu, studio)
    studio.sessions.clear()
    assert studio.registered.get(timeout=30)["stays"]


def test_studio_that_does_not_want_the_plugin_is_heard(
    start_resolve: Start, studio: StandIn, menu: Menu
):
    host = start_resolve()
    script = connected(host, menu, studio)
    studio.refusal = (409, "conflict")
    assert "FreeSwim: No." in script.wait()


def test_who_cannot_prove_it_is_the_studio_learns_nothing(
    home: Path, start_resolve: Start, menu: Menu
):
    host = start_resolve()
    with StandIn(can_prove=False).open() as impostor:
        script = host.run(menu("generate_at_playhead"), sys.executable)
        until(lambda: "not running" in script.said, "it says nothing")
        assert {path.split("?")[0] for path in impostor.requests} == {"/v1/hello"}
        assert impostor.faults == []


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_file_that_others_may_have_written_is_not_believed(
    mode: int, start_resolve: Start, studio: StandIn, home: Path, menu: Menu
):
    (home / "run" / "studio.json").chmod(mode)
    script = start_resolve().run(menu("fill_gap"), sys.executable)
    until(lambda: "not running" in script.said, "it says nothing")
    assert studio.requests == []


@pytest.mark.parametrize("content", ["", "[]", "{", '{"port": 0}', '{"port": 1, "token": "ä"}'])
def test_file_that_says_nothing_is_as_none(
    content: str, start_resolve: Start, home: Path, menu: Menu
):
    (home / "run").mkdir()
    path = home / "run" / "studio.json"
    path.touch(0o600)
    path.write_text(content)
    script = start_resolve().run(menu("fill_gap"), sys.executable)
    until(lambda: "not running" in script.said, "it says nothing")


def test_app_is_opened_where_nothing_runs(
    home: Path, start_resolve: Start, menu: Menu, tmp_path: Path
):
    host = start_resolve()
    script_path = menu("generate_at_playhead")
    program = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)))"
    opened = tmp_path / "opened.json"
    said = {
        "home": str(home),
        "start": [sys.executable, "-c", program, str(opened)],
        "version": "1",
    }
    (tmp_path / "plugin" / "freeswim_resolve" / "installation.json").write_text(json.dumps(said))
    host.world.timeline.playhead = 86500
    foreign = {"PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": "/nowhere"}
    script = host.run(script_path, sys.executable, foreign)
    until(lambda: opened.is_file() and opened.read_text().endswith("}"), "the app is not opened")
    host.world.timeline.playhead = 86999  # the editor does not wait for it
    with StandIn().open() as studio:
        context = studio.verbs.get(timeout=30)["context"]
        assert context["timeline"]["playhead"] == "01:00:04:04"
    assert studio.faults == []
    assert "opening it" in script.said
    surroundings = json.loads(opened.read_text())
    assert surroundings["FREESWIM_HOME"] == str(home)
    assert not {"PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"} & set(surroundings)


# ----------------------------------------------------------------------------- nothing is raised


def test_dialog_is_said_to_be_open(start_resolve: Start, studio: StandIn, menu: Menu):
    host = start_resolve()
    host.world.modal = True
    said = host.run(menu("generate_at_playhead"), sys.executable).wait()
    assert "does not answer" in said
    assert "Traceback" not in said
    assert studio.requests == []


def test_project_that_is_closed_is_no_accident(start_resolve: Start, studio: StandIn, menu: Menu):
    host = start_resolve()
    host.world.project = None
    script = host.run(menu("fill_gap"), sys.executable)
    assert studio.verbs.get(timeout=30)["context"] == {
        "page": "edit",
        "project": None,
        "timeline": None,
    }
    assert studio.ask("place")["error"]["code"] == "bad_arguments"
    assert studio.ask("unheard_of")["error"]["code"] == "unknown_operation"
    studio.end = True
    assert "Traceback" not in script.wait()


def test_home_that_cannot_be_written_is_no_accident(
    start_resolve: Start, studio: StandIn, home: Path, menu: Menu, tmp_path: Path
):
    nowhere = tmp_path / "file"
    nowhere.touch()
    extra = {"FREESWIM_HOME": str(nowhere / "home")}
    said = start_resolve().run(menu("fill_gap"), sys.executable, extra).wait()
    assert "not running" in said
    assert "Traceback" not in said


def test_plugin_that_is_gone_says_what_to_do(start_resolve: Start, menu: Menu, tmp_path: Path):
    path = menu("connect")
    (tmp_path / "plugin").rename(tmp_path / "elsewhere")
    said = start_resolve().run(path, sys.executable).wait()
    assert "Open the FreeSwim app" in said
    assert "Traceback" not in said


def test_script_outside_of_resolve_says_so(menu: Menu, capfd: pytest.CaptureFixture[str]):
    menu_module.run("connect", {})
    assert "does not answer" in capfd.readouterr().out


def test_mistake_of_ours_is_told_and_not_raised(capfd: pytest.CaptureFixture[str]):
    menu_module.run("unheard_of", {})
    assert "did not work (ValueError)" in capfd.readouterr().out


def test_neither_log_nor_console_holds_the_token_or_a_prompt(
    start_resolve: Start, studio: StandIn, home: Path, menu: Menu
):
    host = start_resolve()
    host.world.timeline.AddMarker(7.0, "Blue", "secret koi", "a secret koi in a pond", 1.0)
    studio.say = "Queued: a secret koi in a pond."
    script = host.run(menu("generate_from_markers"), sys.executable)
    said = studio.verbs.get(timeout=30)["context"]["timeline"]["markers"]
    assert said[0]["note"] == "a secret koi in a pond"
    studio.facts("context")
    assert "Queued: a secret koi" in script.said
    studio.end = True
    script.wait()
    kept = [path.read_text() for path in home.rglob("*") if path.is_file()]
    kept = [words for words in kept if studio.token in words or "secret" in words]
    assert len(kept) == 1  # the studio's own file
    assert studio.token not in script.said
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home / "run").iterdir()}
    assert modes["studio.json"] == 0o600


@pytest.mark.parametrize("coding", ["ascii", "utf-8"])
def test_words_reach_the_console_in_every_code_page(
    coding: str, start_resolve: Start, studio: StandIn, menu: Menu
):
    host = start_resolve()
    connected(host, menu, studio)
    studio.say = "Queued: 錦鯉."
    said = host.run(menu("fill_gap"), sys.executable, {"PYTHONIOENCODING": coding}).wait()
    assert ("錦鯉" if coding == "utf-8" else "\\u9326\\u9bc9") in said


def test_script_leaves_a_sign_for_the_doctor(
    start_resolve: Start, studio: StandIn, home: Path, menu: Menu
):
    script = connected(start_resolve(tier="Studio 20"), menu, studio)
    sign = json.loads((home / "resolve" / "seen.json").read_text())
    assert (sign["edition"], sign["version_words"], sign["verb"]) == (
        "studio",
        "20.1.0.20",
        "connect",
    )
    studio.end = True
    script.wait()


# ------------------------------------------------------------------------------------- by itself


@pytest.mark.parametrize(
    "program, is_itself",
    [
        ("/opt/resolve/bin/resolve", True),
        ("/Applications/DaVinci Resolve/DaVinci Resolve.app/Contents/MacOS/Resolve", True),
        ("C:/Program Files/Blackmagic Design/DaVinci Resolve/Resolve.exe", True),
        ("/opt/resolve/bin/ResolvePython", False),
        ("/opt/resolve/libs/Fusion/fuscript", False),
        ("/usr/bin/python3.6", False),
        ("", False),
    ],
)
def test_nothing_stays_inside_resolves_own_process(
    program: str, is_itself: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process, "_program", lambda: program)
    assert process.is_resolve_itself() is is_itself


SOURCES = sorted(PACKAGE.glob("*.py"))
NEWER = {"dataclasses", "contextvars", "zoneinfo", "graphlib", "tomllib", "__future__"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_source_is_python_3_6_of_the_standard_library(path: Path):
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 6))
    for node in ast.walk(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            package = name.split(".")[0]
            assert package in sys.stdlib_module_names - NEWER, name
