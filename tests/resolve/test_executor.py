"""The plugin in a process of its own, as Resolve's child, in front of the daemon that people have.

A stand-in of the daemon is there only for what that one never does: it breaks a connection off,
cannot prove who it is, or asks for something unheard of.
"""

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
from fake_resolve import Host, Media, Switches, frame_of
from fake_resolve.host import Script
from fake_resolve.objects import MediaPoolItem
from living import living_in, until
from pythons import find
from stand_in import StandIn

from freeswim import paths
from freeswim.studio.client import Client
from freeswim.studio.resolve.planner import ResolveSettings
from resolve_plugin.freeswim_resolve import menu as menu_module
from resolve_plugin.freeswim_resolve import process

PYTHONS = find()
PACKAGE = Path(process.__file__).parent
KEPT = "1 shot kept: write the prompt in FreeSwim."

Start = Callable[..., Host]
Menu = Callable[[str], Path]
Json = dict[str, Any]


def connected(host: Host, menu: Menu, studio: Client) -> Script:
    """A script that stays."""
    script = host.run(menu("connect"), sys.executable)
    until(lambda: owner(studio) == host.world.film.id, "it does not connect")
    return script


def owner(studio: Client) -> str:
    """The project that is open where a script stays."""
    links = studio.get("/resolve")["links"]
    return next((link["project"] for link in links if link["is_owner"]), "")


def said_of(verb: str, since: float, studio: Client) -> str:
    """What came of a menu entry."""

    def look() -> str:
        news = studio.get("/resolve")["news"]
        found = [one for one in news if one["verb"] == verb and one["at"] >= since]
        return f"{found[0]['message']} {found[0]['hint']}".strip() if found else ""

    return until(look, f"nothing is said of {verb}")


def wish_of(host: Host, studio: Client) -> Json:
    """The shot that waits for its prompt in this Resolve."""

    def look() -> Json | None:
        for wish in studio.get("/resolve")["wishes"]:
            if wish["shot"]["placement"]["resolve"]["project"] == host.world.film.id:
                return wish
        return None

    return until(look, "no shot waits")


def put_clip(host: Host, path: Path) -> None:
    """A clip of a camera whose files only Resolve reads."""
    clip = MediaPoolItem(host.world, host.world.add_media(path, Media(200)), Media(200))
    host.world.film.pool.root.clips.append(clip)
    host.world.timeline.put(clip, 1, 0, 100)


def hang(host: Host, studio: Client) -> None:
    """The script that stays sits in a call that does not come back."""
    host.world.switches.hang_on = "GetTrackCount"
    studio.post("/resolve/look")
    host.world.wait_until_it_hangs()
    host.world.switches.hang_on = ""


# ------------------------------------------------------------------------------ the whole way


@pytest.mark.parametrize("python", PYTHONS.values(), ids=PYTHONS)
def test_every_python_brings_a_take_to_where_the_playhead_was(
    python: str, start_resolve: Start, real_studio: Client, menu: Menu
):
    host = start_resolve()
    timeline = host.world.timeline
    timeline.playhead = timeline.start + 48
    settings = "preset: demo\ncheckpoint: wan2.1-i2v-14b-480p"  # which begins on a picture
    timeline.AddMarker(48.0, "Mint", "Pond", settings, 12.0)
    script = host.run(menu("generate_at_playhead"), python)
    wish = wish_of(host, real_studio)
    timeline.playhead = timeline.start + 999  # the editor goes on
    assert frame_of(Path(wish["request"]["first_image"]["path"])) == timeline.start + 48
    written = {"prompt": "koi", "width": 128, "height": 128, "frames": 4, "base": {"steps": 2}}
    shot_id = wish["shot"]["id"]
    real_studio.submit({"shot_id": shot_id, "preset": "demo", "request": written})
    until(lambda: len(timeline.video) == 2 and timeline.video[1].items, "no take arrives")
    lower, upper = timeline.video
    assert [(one.start, one.length) for one in upper.items] == [(timeline.start + 48, 12)]
    assert lower.items == []
    assert timeline.playhead == timeline.start + 999
    assert f"FreeSwim: {KEPT}" in script.said
    sign = json.loads((paths.home() / "resolve" / "seen.json").read_text())
    version = next(one for one in PYTHONS if PYTHONS[one] == python)
    assert sign["python"].startswith(version + ".")


EMPTY = {
    "extend_clip": "No clip is selected, and none is under the playhead. Park the playhead on the "
    "clip, and choose this again.",
    "fill_gap": "The playhead is in no gap between two clips. Park it in the gap, and choose this "
    "again.",
    "generate_at_playhead": KEPT,
    "generate_from_markers": "There is no Mint marker with a prompt on this timeline. Add a marker, "
    "make it Mint, and write the prompt into its note.",
    "place_finished_takes": "No finished take of this project waits for its place.",
    "regenerate_selection": "No clip is selected, and none is under the playhead. Park the playhead "
    "on the clip, and choose this again.",
}


@pytest.mark.parametrize("verb", sorted(menu_module.VERBS - {"connect"}))
def test_menu_entry_says_what_came_of_it_and_ends(
    verb: str, start_resolve: Start, real_studio: Client, menu: Menu
):
    """On an empty timeline, while another script stays."""
    host = start_resolve()
    staying = connected(host, menu, real_studio)
    script = host.run(menu(verb), sys.executable)
    assert f"FreeSwim: {EMPTY[verb]}\n" in script.wait()
    until(lambda: len(real_studio.get("/resolve")["links"]) == 1, "it has not said bye")
    assert staying.is_running and owner(real_studio) == host.world.film.id


def test_what_a_script_that_ends_cannot_do_is_done_by_the_one_that_stays(
    start_resolve: Start, real_studio: Client, menu: Menu, tmp_path: Path
):
    """To take a marker away again."""
    host = start_resolve(switches=Switches(stills_fail=True))
    connected(host, menu, real_studio)
    put_clip(host, tmp_path / "camera.braw")
    said = host.run(menu("extend_clip"), sys.executable).wait()
    assert "Resolve gave no picture of the frame at 01:00:04:03." in said
    until(lambda: not host.world.timeline.markers, "its marker stays")
    log = (paths.logs() / "resolve.log").read_text("utf-8")
    assert "delete_marker not_here" in log and "delete_marker done" in log


def test_free_21_1_lists_no_python(start_resolve: Start, menu: Menu):
    host = start_resolve(tier="free 21.1")
    with pytest.raises(LookupError):
        host.run(menu("connect"), sys.executable)


# ------------------------------------------------------------------------------ ends, and others


def test_script_ends_with_resolve(start_resolve: Start, real_studio: Client, menu: Menu):
    """While it waits for the studio, which may keep it for 25 s."""
    host = start_resolve()
    script = connected(host, menu, real_studio)
    host.crash()
    script.wait(10)


def test_script_ends_with_resolve_in_the_middle_of_a_call(
    start_resolve: Start, real_studio: Client, menu: Menu
):
    host = start_resolve()
    script = connected(host, menu, real_studio)
    hang(host, real_studio)
    host.crash()
    script.wait(10)


def test_script_ends_where_resolve_answers_nothing_any_more(
    start_resolve: Start, real_studio: Client, menu: Menu
):
    host = start_resolve()
    script = connected(host, menu, real_studio)
    host.world.quit()
    real_studio.post("/resolve/look")
    script.wait()
    assert real_studio.get("/resolve")["message"] == (
        "Resolve is not connected. In it, choose Workspace > Scripts > FreeSwim > FreeSwim Connect."
    )


@pytest.mark.parametrize("does_hang", [False, True])
def test_connecting_again_takes_over(
    does_hang: bool, start_resolve: Start, real_studio: Client, menu: Menu
):
    host = start_resolve()
    first = connected(host, menu, real_studio)
    if does_hang:
        hang(host, real_studio)
    second = host.run(menu("connect"), sys.executable)
    first.wait()
    until(lambda: "connected." in second.said, "the second does not connect")
    assert second.is_running
    host.world.release()


def test_a_second_resolve_takes_over_when_it_is_asked_to(
    start_resolve: Start, real_studio: Client, menu: Menu
):
    """Until then the first one has the connection, and the second one's entries end at once."""
    first, second = start_resolve(), start_resolve(tier="Studio 20")
    staying = connected(first, menu, real_studio)
    said = second.run(menu("generate_at_playhead"), sys.executable).wait()
    assert f"FreeSwim: {KEPT}" in said
    assert staying.is_running and owner(real_studio) == first.world.film.id
    connected(second, menu, real_studio)
    staying.wait()
    (link,) = real_studio.get("/resolve")["links"]
    assert (link["edition"], link["version"]) == ("studio", "20.1.0.20")


def test_dialog_that_holds_a_call_up_is_told_of_meanwhile(
    start_resolve: Start, real_studio: Client, menu: Menu
):
    host = start_resolve()
    connected(host, menu, real_studio)
    hang(host, real_studio)
    until(lambda: real_studio.get("/resolve")["state"] == "busy", "nothing is said")
    assert real_studio.get("/resolve")["message"] == (
        "Resolve does not go on: look whether a window of it waits for you."
    )
    host.world.release()
    until(lambda: real_studio.get("/resolve")["state"] == "connected", "it does not go on")


# ------------------------------------------------------------------------------ the studio's side


def test_studio_that_starts_anew_is_found_again(tmp_path: Path, start_resolve: Start, menu: Menu):
    """By the same script, which goes on where the one before was told to stop."""
    host = start_resolve()
    with living_in(tmp_path) as before:
        script = connected(host, menu, before)
        before.stop()
    with living_in(tmp_path) as after:
        until(lambda: owner(after) == host.world.film.id, "it does not come back")
        since = time.time()
        host.run(menu("generate_at_playhead"), sys.executable)
        assert said_of("generate_at_playhead", since, after) == KEPT
        assert script.is_running
        assert [one["color"] for one in host.world.timeline.markers.values()] == ["Mint"]


def test_studio_that_does_not_want_the_plugin_is_heard(
    start_resolve: Start, real_studio: Client, menu: Menu, tmp_path: Path
):
    """One of another version."""
    script = menu("connect")
    package = tmp_path / "plugin" / "freeswim_resolve" / "__init__.py"
    package.write_text(package.read_text("ascii").replace("PROTOCOL = 1", "PROTOCOL = 2"))
    assert (
        "FreeSwim: The plugin speaks version 2 of the protocol, FreeSwim 1. Install the plugin "
        "again from FreeSwim, then choose this again.\n"
    ) in start_resolve().run(script, sys.executable).wait()


def test_lost_answer_is_given_again_and_nothing_is_done_twice(
    start_resolve: Start, studio: StandIn, menu: Menu, tmp_path: Path
):
    host = start_resolve()
    host.run(menu("connect"), sys.executable)
    assert studio.registered.get(timeout=120)["stays"]
    pool = {"project": host.world.film.id, "bin": ["FreeSwim"]}
    path = host.world.add_media(tmp_path / "koi_v01.mov", Media(frames=96))
    studio.facts("ensure_bin", **pool)
    clip = studio.facts("import", **pool, path=path)
    spot = {"track": 1, "record_frame": 86448, "start_frame": 0, "end_frame": 96}
    studio.answers_to_drop = 1
    at = {**pool, "timeline": host.world.timeline.id}
    assert studio.facts("place", **at, media=clip["id"], **spot)["was_there"] is False
    appended = [call for call in host.world.calls if call.name == "AppendToTimeline"]
    assert len(appended) == 1


def test_what_is_unheard_of_is_refused_and_a_bye_obeyed(
    start_resolve: Start, studio: StandIn, menu: Menu
):
    script = start_resolve().run(menu("connect"), sys.executable)
    assert studio.ask("place")["error"]["code"] == "bad_arguments"
    assert studio.ask("unheard_of")["error"]["code"] == "unknown_operation"
    assert studio.ask("bye")["ok"]
    script.wait()


@pytest.mark.usefixtures("home")
def test_who_cannot_prove_it_is_the_studio_learns_nothing(start_resolve: Start, menu: Menu):
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


def test_settings_are_changed_one_by_one(real_studio: Client):
    before = real_studio.get("/resolve")["settings"]
    assert before == ResolveSettings().model_dump()
    real_studio.patch("/resolve/settings", {"preset": "demo"})
    said = real_studio.patch("/resolve/settings", {"handles": 3})["settings"]
    assert said == {**before, "preset": "demo", "handles": 3}
    real_studio.patch("/resolve/settings", before)


# ----------------------------------------------------------------------------- nothing is raised


@pytest.mark.usefixtures("home")
def test_dialog_is_said_to_be_open(start_resolve: Start, menu: Menu):
    host = start_resolve()
    host.world.modal = True
    said = host.run(menu("generate_at_playhead"), sys.executable).wait()
    assert said == "FreeSwim: Resolve does not answer. A window of it may be waiting for you.\n"


def test_project_that_is_closed_is_no_accident(
    start_resolve: Start, real_studio: Client, menu: Menu
):
    host = start_resolve()
    host.world.project = None
    since = time.time()
    script = host.run(menu("fill_gap"), sys.executable)
    words = (
        "Resolve shows no project. Open one; if one is open, close the window that waits for you "
        "in Resolve."
    )
    assert said_of("fill_gap", since, real_studio) == words
    until(lambda: words in script.said, "it is not said in Resolve")
    assert "Traceback" not in script.said


def test_home_that_cannot_be_written_is_no_accident(
    start_resolve: Start, menu: Menu, tmp_path: Path
):
    nowhere = tmp_path / "file"
    nowhere.touch()
    extra = {"FREESWIM_HOME": str(nowhere / "home")}
    said = start_resolve().run(menu("fill_gap"), sys.executable, extra).wait()
    assert "not running" in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("home")
def test_plugin_that_is_gone_says_what_to_do(start_resolve: Start, menu: Menu, tmp_path: Path):
    path = menu("connect")
    (tmp_path / "plugin").rename(tmp_path / "elsewhere")
    said = start_resolve().run(path, sys.executable).wait()
    assert "Install the menu entries again: freeswim resolve install" in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("home")
def test_script_outside_of_resolve_says_so(capfd: pytest.CaptureFixture[str]):
    menu_module.run("connect", {})
    assert "does not answer" in capfd.readouterr().out


@pytest.mark.usefixtures("home")
def test_mistake_of_ours_is_told_and_not_raised(capfd: pytest.CaptureFixture[str]):
    menu_module.run("unheard_of", {})
    assert "did not work (ValueError)" in capfd.readouterr().out


def test_neither_log_nor_console_holds_the_token_or_a_prompt(
    start_resolve: Start, real_studio: Client, menu: Menu
):
    host = start_resolve()
    host.world.timeline.AddMarker(7.0, "Mint", "secret koi", "a secret koi\npreset: nothing", 1.0)
    script = host.run(menu("generate_from_markers"), sys.executable)
    until(lambda: "There is no preset called" in script.said, "nothing is said")
    run = paths.home() / "run"
    token = json.loads((run / "studio.json").read_text())["token"]
    written = [paths.logs() / "resolve.log", paths.home() / "resolve" / "seen.json"]
    written += [path for path in run.iterdir() if path.name.startswith("resolve.")]
    assert len(written) == 4
    for words in [script.said, *(path.read_text() for path in written)]:
        assert token not in words and "secret" not in words
    assert (
        "There is no preset" not in (paths.logs() / "resolve.log").read_text()
    )  # nor what it says
    assert stat.S_IMODE((run / "studio.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("coding", ["ascii", "utf-8"])
def test_words_reach_the_console_in_every_code_page(
    coding: str, start_resolve: Start, real_studio: Client, menu: Menu, tmp_path: Path
):
    host = start_resolve()
    put_clip(host, tmp_path / "錦鯉.mov")
    (tmp_path / "錦鯉.mov").unlink()
    script = host.run(menu("regenerate_selection"), sys.executable, {"PYTHONIOENCODING": coding})
    words = "錦鯉" if coding == "utf-8" else "\\u9326\\u9bc9"
    until(lambda: f"{words}.mov cannot be read" in script.said, "nothing is said")


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
