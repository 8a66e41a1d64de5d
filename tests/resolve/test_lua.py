"""The Lua executor: the same operations as the Python one, inside what the sandbox leaves."""

from __future__ import annotations

import base64
import json
import secrets
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from fake_resolve import Media, Switches, World, wrapped
from hypothesis import given, settings
from hypothesis import strategies as st
from lua_host import EXECUTOR, make_lua

from freeswim.studio.mailbox import PAD_BYTES, unseal
from resolve_plugin.freeswim_resolve import border, operations

Json = dict[str, Any]

# Run inside the executor's chunk, to reach what it keeps to itself.
HOOK = (
    "\nreturn { run = run, encode = encode, decode = decode, sealed = sealed, text = text_of,"
    " bytes_as_text = function(...) return text_of(string.char(...)) end,"
    " look = look_at_resolve, answer = function(request) return talk.answer_to(decode(request))"
    " end }\n"
)


def executor(world: World) -> Any:
    """The executor's inner functions."""
    source = EXECUTOR.read_text("ascii")
    assert source.endswith("return { run = run }\n")
    lua = make_lua(world)
    inner = lua.execute(source.removesuffix("return { run = run }\n") + HOOK)
    inner.look(lua.globals().resolve)
    return inner


class Both:
    """The same operation, done by both executors in worlds of their own."""

    def __init__(self, folder: Path, **of_world: Any) -> None:
        self.folder = folder
        self.python = World(**of_world)
        self.lua = World(**deepcopy(of_world))
        for world in (self.python, self.lua):
            world.add_media(folder / "koi.mov", Media(200, "24"))
            world.add_media(folder / "frog.mov", Media(200, "24", has_audio=True))
        self.border = border.Border(wrapped(self.python, self.python.resolve))
        self.lua_executor = executor(self.lua)

    def worlds(self) -> tuple[World, World]:
        return self.python, self.lua

    def do(self, name: str, /, **arguments: Any) -> Json:
        """What both answer: it has to be the same."""
        try:
            facts = operations.execute(self.border, name, arguments)
            python = {"ok": True, "facts": facts, "error": None}
        except operations.CannotDo as reason:
            error = {"code": reason.code, "message": reason.message}
            python = {"ok": False, "facts": reason.facts, "error": error}
        asked = {"id": secrets.token_hex(8), "name": name, "arguments": arguments}
        lua = json.loads(self.lua_executor.answer(json.dumps(asked)))
        answer = {name: lua[name] for name in ("ok", "facts", "error")}
        assert answer == json.loads(json.dumps(python))
        return answer

    @property
    def at(self) -> Json:
        assert self.python.film.id == self.lua.film.id
        return {"project": self.python.film.id, "timeline": self.python.timeline.id}


@pytest.fixture
def both(tmp_path: Path) -> Any:
    made: list[Both] = []

    def make(**of_world: Any) -> Both:
        made.append(Both(tmp_path, **{"tier": "free 21.1", **of_world}))
        return made[-1]

    yield make
    for one in made:
        assert one.python.misuses == [] and one.lua.misuses == []


# ------------------------------------------------------------------------------------- the sandbox


def test_the_sandbox_has_nothing_that_talks_to_the_machine():
    lua = make_lua(World(tier="free 21.1"))
    for name in ("io", "ffi", "require", "package", "debug", "python", "load", "bit"):
        assert lua.execute(f"return {name}") is None
    assert lua.execute("return os.execute or os.remove or os.getenv") is None


def test_the_executor_is_plain_ascii_and_does_nothing_by_itself():
    world = World(tier="free 21.1")
    lua = make_lua(world)
    lua.execute(EXECUTOR.read_text("ascii"))
    assert world.calls == []


def test_the_executor_names_nothing_that_is_never_called():
    source = EXECUTOR.read_text("ascii")
    for name in ("SaveProject", "DeleteTrack", "DeleteTimelines", "UIManager", "StartRendering"):
        assert name not in source


# ---------------------------------------------------------------------------------- JSON, sealing

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, min_size=1, max_size=4)
    ),
    max_leaves=6,
)
INNER = executor(World(tier="free 21.1"))
TEXT_OF = INNER.bytes_as_text  # of single bytes, for Lua's strings come out as text only


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=20), JSONS, min_size=1, max_size=5))
def test_json_goes_in_and_comes_out_the_same(value: Json):
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert json.loads(INNER.encode(INNER.decode(text))) == value


@given(st.text(max_size=200))
def test_an_answer_is_sealed_by_its_pad_alone(text: str):
    words = json.dumps({"note": text}, ensure_ascii=False)
    pad = secrets.token_bytes(PAD_BYTES)
    said = INNER.sealed(words, base64.b64encode(pad).decode())
    assert said.isascii()
    assert unseal(said, pad).decode() == words


@given(st.binary(max_size=100))
def test_names_of_any_bytes_become_text(name: bytes):
    cleaned = TEXT_OF(*name)
    assert "\0" not in cleaned
    if b"\0" not in name:
        assert len(cleaned.encode()) == len(name)


# --------------------------------------------------------------------------- the same as in Python


def test_who_it_is_is_the_same_but_for_its_language(both: Any):
    one = both()
    python = operations.execute(one.border, "hello", {})
    asked = {"id": "1", "name": "hello", "arguments": {}}
    lua = json.loads(one.lua_executor.answer(json.dumps(asked)))["facts"]
    assert lua == {**python, "python": ""}


@pytest.mark.parametrize("rate", ["23.976", "24", "25", "29.97", "29.97 DF", "30", "50", "59.94"])
@pytest.mark.parametrize("start", ["01:00:00:00", "00:00:00:00"])
def test_the_context_is_the_same(both: Any, rate: str, start: str):
    one = both(rate=rate, start_timecode=start)
    for world in one.worlds():
        timeline = world.timeline
        clip = _pool_clip(world, one.folder / "koi.mov")
        item = timeline.put(clip, 1, 24, 48, 7)
        timeline.put(clip, 1, 90, 10)
        timeline.playhead = item.start + 3
        timeline.selection = [item]
        timeline.mark = {"video": {"in": 3, "out": 40}}
        timeline.markers[5] = _marker("Teich mit Übermut 鯉 😀\nseed: 4")
        timeline.markers[2] = _marker("x" * 9000)
    seen = one.do("context")
    assert seen["facts"]["timeline"]["markers"][1]["note"] == "Teich mit Übermut 鯉 😀\nseed: 4"


def test_an_empty_resolve_is_the_same(both: Any):
    one = both()
    for world in one.worlds():
        world.project = None
    assert one.do("context")["facts"]["project"] is None


def test_what_is_around_a_place_is_the_same(both: Any):
    one = both()
    for world in one.worlds():
        clip = _pool_clip(world, one.folder / "koi.mov")
        for offset in (0, 100, 150, 400):
            world.timeline.put(clip, 1, offset, 50)
    for start, end in (
        (86400, 86401),
        (86450, 86500),
        (86449, 86451),
        (86390, 87000),
        (90000, 90001),
    ):
        one.do("readback", **one.at, track=1, start=start, end=end)
    assert one.do("readback", **one.at, track=2, start=0, end=1)["error"]["code"] == "no_track"


@pytest.mark.parametrize("collision", ["dropped", "null_id", "none"])
@pytest.mark.parametrize("inclusive", [False, True])
def test_a_take_is_placed_the_same(both: Any, collision: str, inclusive: bool):
    one = both(switches=Switches(inclusive_end=inclusive, collision=collision))
    where = _placed(one)
    again = one.do("place", **where)
    assert again["facts"]["was_there"]
    beside = {**where, "record_frame": where["record_frame"] + 50}
    assert one.do("place", **beside)["error"]["code"] == "occupied"
    for world in one.worlds():
        world.timeline.video[1].is_locked = True
    assert one.do("place", **beside)["error"]["code"] == "track_locked"
    early = {**where, "record_frame": 3, "track": 1}
    assert one.do("place", **early)["error"]["code"] == "before_start"


def test_a_doubtful_placement_is_the_same(both: Any):
    one = both(switches=Switches(append_errs=1))
    where = _in_bin(one)
    one.do("add_track", **one.at, name="FreeSwim")
    assert one.do("place", **where)["facts"]["is_certain"] is False


def test_a_take_selector_is_the_same(both: Any):
    one = both()
    where = _placed(one)
    for _ in range(2):
        item = one.do("readback", **one.at, track=2, start=86500, end=86501)["facts"]["items"][0]
        one.do(
            "add_take",
            **one.at,
            bin=["FreeSwim"],
            track=2,
            start=86500,
            item=item["id"],
            media=where["media"],
            start_frame=0,
            end_frame=100,
            select=False,
        )
    gone = {**one.at, "bin": ["FreeSwim"], "track": 2, "start": 86500, "item": "gone"}
    more = {"media": where["media"], "start_frame": 0, "end_frame": 100, "select": False}
    assert one.do("add_take", **gone, **more)["error"]["code"] == "no_item"


def test_markers_are_the_same(both: Any):
    one = both()
    mark = {"offset": 100, "custom_data": "freeswim:1", "name": "Koi", "color": "Mint"}
    one.do("add_marker", **one.at, **mark)
    one.do("add_marker", **one.at, **mark)
    one.do("find_marker", **one.at, custom_data="freeswim:1")
    one.do("delete_marker", **one.at, custom_data="freeswim:1")
    for world in one.worlds():
        world.timeline.markers[7] = _marker("the editor's")
        world.timeline.markers[8] = _marker("somebody's") | {"customData": "other"}
    one.do("add_marker", **one.at, **{**mark, "offset": 7})
    one.do("find_marker", **one.at, custom_data="freeswim:1")
    assert one.do("add_marker", **one.at, **{**mark, "offset": 8, "custom_data": "freeswim:2"})[
        "error"
    ] == {"code": "marker_taken", "message": "The marker there is somebody's."}
    one.do("delete_marker", **one.at, custom_data="freeswim:1")
    assert one.lua.timeline.markers == one.python.timeline.markers
    assert one.do("add_marker", **one.at, offset=3, custom_data="other")["error"]["code"] == (
        "bad_arguments"
    )


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("render", {}),
        ("readback", {"track": 1}),
        ("find_marker", {"custom_data": 3}),
        ("add_track", {"name": "x", "lock": True}),
    ],
)
def test_what_is_no_operation_is_refused(both: Any, name: str, arguments: Json):
    one = both()
    asked = {"id": "1", "name": name, "arguments": {**one.at, **arguments}}
    answer = json.loads(one.lua_executor.answer(json.dumps(asked)))
    assert answer["error"]["code"] in ("unknown_operation", "bad_arguments")


def test_other_projects_and_timelines_are_refused_the_same(both: Any):
    one = both()
    at = one.at
    assert (
        one.do("find_marker", project=at["project"], timeline="?", custom_data="freeswim:1")[
            "error"
        ]["code"]
        == "no_timeline"
    )
    for world in one.worlds():
        world.open_project("Other")
    assert one.do("find_marker", **at, custom_data="freeswim:1")["error"]["code"] == "other_project"


def test_behind_a_window_everything_fails_the_same(both: Any):
    one = both()
    at = one.at
    for world in one.worlds():
        world.modal = True
    assert one.do("context")["facts"]["project"] is None
    assert one.do("find_marker", **at, custom_data="freeswim:1")["error"]["code"] == "no_project"


def test_an_operation_is_done_once_however_often_it_is_asked_for(both: Any):
    one = both()
    asked = {"id": "same", "name": "add_track", "arguments": {**one.at, "name": "FreeSwim"}}
    first = one.lua_executor.answer(json.dumps(asked))
    assert one.lua_executor.answer(json.dumps(asked)) == first
    assert len(one.lua.timeline.video) == 2


def test_a_long_answer_leaves_markers_out(both: Any):
    one = both()
    for offset in range(400):
        one.lua.timeline.markers[offset] = _marker(f"{offset} " + "koi " * 500)
    asked = {"id": "1", "name": "context", "arguments": {}}
    answer = one.lua_executor.answer(json.dumps(asked))
    assert len(answer) <= PAD_BYTES
    timeline = json.loads(answer)["facts"]["timeline"]
    assert len(timeline["markers"]) > 5
    assert timeline["markers_left_out"] == 400 - len(timeline["markers"])


@pytest.mark.parametrize("tier", ["Studio 18.5", "free 21.1"])
@pytest.mark.parametrize("switches", [Switches(), Switches(inclusive_end=True, collision="none")])
def test_the_probe_of_the_checklist_tells_how_a_resolve_is(
    tier: str, switches: Switches, tmp_path: Path
):
    """People run it in a Resolve of theirs: what it writes down is to be right."""
    page = Path(__file__).parents[2] / "docs" / "resolve-checklist.md"
    _, _, rest = page.read_text("utf-8").partition("```lua\n")
    world = World(tier=tier, switches=switches)
    world.add_media(tmp_path / "koi.mov", Media(240))
    world.timeline.put(_pool_clip(world, tmp_path / "koi.mov"), 1, 0, 240)
    make_lua(world).execute(rest.partition("```")[0])
    said = [world.prefs[f"Global.Probe.Line{number}"] for number in range(1, 12)]
    length = 49 if switches.inclusive_end else 48
    assert said == [
        f"version {world.product} {'.'.join(map(str, world.version))}",
        "HOLES of lua_host.py nil nil nil function nil userdata",  # ours is a function of Python
        "Switches.fabricate nil",
        "rates.py 24 0",
        "Timeline 86400 01:00:00:00 01:00:00:00 nil",
        "Dead 1 nil there 0 1",
        "Switches.listens_to_add_track true 2",
        f"Switches.inclusive_end: 48 is False, 49 is True 1 {length} there 1 2",
        "Switches.collision 0 nil there 1 2",
        "Switches.metadata_sticks true koi",
        "ImportMedia 1 2",
    ]
    assert world.misuses == []


def _pool_clip(world: World, path: Path) -> Any:
    """A clip of the editor's in the media pool."""
    from fake_resolve.objects import MediaPoolItem

    clip = MediaPoolItem(world, str(path), world.media[str(path)])
    world.film.pool.root.clips.append(clip)
    return clip


def _marker(note: str) -> Json:
    return {"color": "Mint", "duration": 1.0, "note": note, "name": "Marker 1", "customData": ""}


def _in_bin(one: Both) -> Json:
    pool = {"project": one.at["project"], "bin": ["FreeSwim"]}
    one.do("ensure_bin", **pool)
    one.do("ensure_bin", **pool)
    path = str(one.folder / "frog.mov")
    media = one.do("import", **pool, path=path)["facts"]["id"]
    assert not one.do("import", **pool, path=path)["facts"]["is_new"]
    one.do("set_meta", **pool, media=media, values={"freeswim.take": "1"})
    return {
        **one.at,
        "bin": ["FreeSwim"],
        "media": media,
        "track": 2,
        "record_frame": 86500,
        "start_frame": 10,
        "end_frame": 110,
    }


def _placed(one: Both) -> Json:
    where = _in_bin(one)
    one.do("add_track", **one.at, name="FreeSwim")
    assert one.do("place", **where)["ok"]
    return where
