"""The mailbox's wire: a file one way, Fusion's preferences the other (resolve.md 3.3)."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_resolve import World, prefs
from hypothesis import given
from hypothesis import strategies as st
from lua_host import Script
from rig import Executor, Rig, daemon, until

from freeswim import paths
from freeswim.studio import mailbox
from freeswim.studio.job import PlacingState
from freeswim.studio.mailbox import parse_prefs, read_prefs, unseal
from freeswim.studio.resolve.planner import Ask

Json = dict[str, Any]
SECRET = "zq7 a very private koi"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a Fusion of their own."""
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FREESWIM_FUSION", str(tmp_path / "fusion"))
    return tmp_path


def make_world(folder: Path, *profiles: str, **more: Any) -> World:
    world = World(**{"tier": "free 21.1", **more})
    for name in profiles or ("Default",):
        profile = folder / "fusion" / name
        profile.mkdir(parents=True, exist_ok=True)
        world.profiles.append(profile)
    return world


def mark(world: World, note: str) -> None:
    world.timeline.markers[100] = {
        "color": "Mint",
        "duration": 24.0,
        "note": note,
        "name": "Marker 1",
        "customData": "",
    }


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await story()

    asyncio.run(bounded())


async def passed(world: World) -> None:
    """Until the script has looked around a few more times."""
    before = len(world.calls)

    async def look() -> bool | None:
        return True if len(world.calls) > before + 10 else None

    await until(look)


async def connected(rig: Rig, but: str = "") -> str:
    """The session of the owner, once there is one (another than before)."""

    async def look() -> str | None:
        owner = rig.resolve.links.owner
        return owner.session if owner is not None and owner.session != but else None

    return await until(look)


# -------------------------------------------------------------------------------- what goes out


def test_a_request_is_what_the_script_loads(folders: Path):
    """`return {id=…, body=[==[json]==]}`, ASCII, its bracket not in it, for this user alone."""
    world = make_world(folders)
    seen: list[bytes] = []

    async def story() -> None:
        async with daemon(world) as rig, Executor(world, "mailbox").inside(rig):
            await connected(rig)
            request = paths.mailbox() / "request.lua"
            seen.append(request.read_bytes())
            if os.name == "posix":
                assert request.stat().st_mode & 0o777 == 0o600
                assert paths.mailbox().stat().st_mode & 0o777 == 0o700

    run(story)
    (text,) = seen
    assert text.isascii()
    match = re.fullmatch(
        rb'return \{id="(\d+)", to="[0-9a-f]{32}", body=\[(=+)\[(.*)\]\2\]\}\n', text
    )
    assert match and b"]" + match[2] + b"]" not in match[3]


@given(st.text())
def test_no_words_of_the_editor_break_out_of_a_request(words: str):
    operation = mailbox.Operation(id="1", name="add_track", arguments={"name": words + "]==]]]=]"})
    text = mailbox._Sent("1", "0" * 32, operation, b"pad").lua()
    from lua_host import make_lua

    lua = make_lua(World(tier="free 21.1"))
    request = lua.execute(text.decode("ascii"))
    assert (
        request.id == "1" and mailbox.json.loads(request.body)["operation"]["name"] == "add_track"
    )


def test_nothing_is_left_for_a_script_when_the_daemon_ends(folders: Path):
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig, Executor(world, "mailbox").inside(rig):
            await connected(rig)
        assert not (paths.mailbox() / "request.lua").exists()

    run(story)


def test_what_a_dead_daemon_left_is_withdrawn(folders: Path):
    paths.mailbox().mkdir(parents=True)
    (paths.mailbox() / "request.lua").write_text("return {}")

    async def story() -> None:
        async with daemon():

            async def gone() -> bool | None:
                return None if (paths.mailbox() / "request.lua").exists() else True

            await until(gone)

    run(story)


# --------------------------------------------------------------------------------- what comes back


def test_no_prompt_and_no_name_can_be_read_in_the_preferences(folders: Path):
    """Not as they are, and not behind base64: what is there is noise without its request."""
    world = make_world(folders)
    mark(world, SECRET)
    world.film.name = SECRET
    written: list[bytes] = []

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, "mailbox", "generate_from_markers")
            async with executor.inside(rig):
                watch = asyncio.create_task(_collect(written))
                (job,) = await rig.jobs(1)
                await rig.placing(await rig.finish(job.id), PlacingState.PLACED)
                watch.cancel()
                assert rig.submitted[0]["prompt"] == SECRET

    run(story)
    assert len(written) > 5
    for content in written:
        assert SECRET.encode() not in content and b"private" not in content
        for value in re.findall(rb'"([0-9A-Za-z+/=:]{16,})"', content):
            sealed = value.rpartition(b":")[2]
            with_padding = sealed + b"=" * (-len(sealed) % 4)
            said = base64.b64decode(with_padding, validate=False)
            assert b"private" not in said and b"koi" not in said and b"project" not in said


async def _collect(written: list[bytes]) -> None:
    """Every content that the preferences have had."""
    path = paths.fusion_profiles() / "Default" / "Fusion.prefs"
    while True:
        content = path.read_bytes() if path.exists() else b""
        if content not in written:
            written.append(content)
        await asyncio.sleep(0.001)


def test_preferences_are_written_in_answer_only(folders: Path):
    """While idle it would crash Resolve's end (resolve.md 2.6)."""
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig, Executor(world, "mailbox").inside(rig):
            await connected(rig)

            async def is_idle() -> bool | None:
                before = len(world.calls)
                await passed(world)
                since = [call.name for call in world.calls[before:]]
                return True if since and set(since) == {"GetPrefs"} else None

            await until(is_idle)

    run(story)


@given(st.floats(0, 1))
def test_half_written_preferences_say_nothing_wrong(cut_at: float):
    """Cut anywhere: what is read is what was written, or nothing."""
    said = {"Owner": "a" * 32, "Ack": "17", "Response": "17:" + "QUJD" * 50}
    content = prefs.as_bytes({f"Global.FreeSwim.{k}": v for k, v in said.items()}, cut_at=cut_at)
    assert parse_prefs(content) in ({}, said)


@given(st.binary())
def test_preferences_of_any_bytes_are_read(content: bytes):
    for around in (content, b"FreeSwim = {" + content + b"}"):
        for name, value in parse_prefs(around).items():
            assert name.isascii() and value.isascii()


def test_another_code_page_around_our_values_changes_nothing():
    content = prefs.as_bytes({"Global.FreeSwim.Ack": "17", "Global.Übung.Name": "Müller 5 %"})
    with pytest.raises(UnicodeDecodeError):
        content.decode("utf-8")
    assert parse_prefs(content) == {"Ack": "17"}


def test_the_profile_that_is_used_is_found(folders: Path):
    """Another one keeps what it had, from another time."""
    make_world(folders, "Old", "New")
    for index, (name, ack) in enumerate((("Old", "1"), ("New", "2"), ("None", ""))):
        profile = folders / "fusion" / name
        profile.mkdir(exist_ok=True)
        said = {"Global.FreeSwim.Ack": ack} if ack else {"Global.Other": "x"}
        prefs.path(profile).write_bytes(prefs.as_bytes(said))
        os.utime(prefs.path(profile), (1000 + index, 1000 + index))
    assert read_prefs() == [{"Ack": "2"}, {"Ack": "1"}]


def test_a_half_written_answer_is_waited_for(folders: Path):
    """The file is read in the middle of being written, again and again."""
    world = make_world(folders)
    mark(world, "koi")
    cuts = iter([0.3, 0.5, 0.7, 0.9, 0.97] * 40)
    path = prefs.path(world.profiles[0])
    write = type(path).write_bytes

    def half(self: Path, content: bytes) -> int:
        if self == path and (cut := next(cuts, None)) is not None:
            write(self, content[: int(len(content) * cut)])
        return write(self, content)

    async def story() -> None:
        async with daemon(world) as rig:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(path), "write_bytes", half)
                executor = Executor(world, "mailbox", "generate_from_markers")
                async with executor.inside(rig):
                    (job,) = await rig.jobs(1)
                    await rig.placing(await rig.finish(job.id), PlacingState.PLACED)

    run(story)
    assert next(cuts, None) is None or world.misuses == []


@given(st.binary(max_size=60), st.integers(0, 100))
def test_what_is_cut_off_or_changed_is_no_answer(content: bytes, keep: int):
    pad = secrets.token_bytes(64)
    sealed = base64.b64encode(
        bytes(one ^ other for one, other in zip(content, pad, strict=False))
    ).decode()
    assert unseal(sealed, pad) == content
    sent = mailbox._Sent("17", "0" * 32, mailbox.Operation(id="op", name="hello"), pad)
    for said in (sealed, sealed[:keep], "not base64 at all", "QUJD" * 100):
        assert mailbox._reply_to(sent, [{"Response": f"17:{said}"}]) is None
    assert mailbox._reply_to(sent, [{"Response": f"16:{sealed}"}]) is None
    assert mailbox._reply_to(sent, [{}]) is None


def test_an_answer_of_somebody_without_the_pad_is_not_taken():
    pad = secrets.token_bytes(1000)
    sent = mailbox._Sent("17", "0" * 32, mailbox.Operation(id="op", name="hello"), pad)
    forged = base64.b64encode(b'{"id": "op", "ok": true, "facts": {}, "owner": ""}').decode()
    assert mailbox._reply_to(sent, [{"Response": f"17:{forged}"}]) is None


# ----------------------------------------------------------------------------------- one owner


def test_a_second_click_takes_over_and_the_first_script_ends(folders: Path):
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig:
            first = Script(world, paths.mailbox(), "connect").start()
            session = await connected(rig)
            second = Script(world, paths.mailbox(), "connect").start()
            await connected(rig, but=session)

            async def is_over() -> bool | None:
                return None if first.is_running else True

            await until(is_over)
            assert second.is_running and first.error == second.error == ""
            await asyncio.to_thread(second.stop)

    run(story)


def test_a_request_that_was_begun_is_not_begun_by_another_run(folders: Path):
    """It was acknowledged: whoever did that may still be at it."""
    world = make_world(folders)
    world.fusion.SetPrefs("Global.FreeSwim.Ack", "5")
    operation = mailbox.Operation(
        id="op",
        name="add_track",
        arguments={"project": world.film.id, "timeline": world.timeline.id, "name": "X"},
    )
    paths.mailbox().mkdir(parents=True)
    script = Script(world, paths.mailbox(), "connect").start()

    async def story() -> None:
        async def owner() -> str | None:
            return next((said.get("Owner") for said in read_prefs()), None)

        token = await until(owner)
        for number in ("5", "6"):
            sent = mailbox._Sent(number, token, operation, secrets.token_bytes(5000))
            mailbox._write_request(sent)
            if number == "5":
                await passed(world)
                assert len(world.timeline.video) == 1

        async def is_done() -> bool | None:
            (said,) = read_prefs() or [{}]
            return True if said.get("Response", "").startswith("6:") else None

        await until(is_done)

    run(story)
    script.stop()
    assert len(world.timeline.video) == 2 and world.misuses == []


def test_a_click_is_heard_once_though_the_daemon_starts_anew(folders: Path):
    world = make_world(folders)
    world.timeline.playhead = world.timeline.start

    async def story() -> None:
        executor = Executor(world, "mailbox", "generate_at_playhead")
        async with daemon(world) as rig:
            executor.start(lambda: rig)
            await rig.news()
        async with daemon(world) as rig:
            await connected(rig)
            (wish,) = (await rig.resolve.look()).wishes
            await rig.resolve.drop(wish.shot.id)

            async def gone() -> bool | None:
                return True if not world.timeline.markers else None

            await until(gone)
        async with daemon(world) as rig:
            await connected(rig)
            link = rig.resolve.links.owner
            assert link is not None
            await link.do(Ask("context"))  # after what was chosen would have been
            said = await rig.resolve.look()
            assert said.wishes == [] and said.news == []
        await executor.stop()

    run(story)
    assert world.misuses == []


def test_a_script_that_was_behind_a_window_comes_back(folders: Path):
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig, Executor(world, "mailbox").inside(rig):
            await connected(rig)
            world.modal = True
            link = rig.resolve.links.owner
            assert link is not None
            said = await link.do(Ask("context"))
            assert said.error == "lost"
            assert rig.resolve.links.why_nobody.startswith("Resolve does not answer.")
            world.dismiss()
            await connected(rig)
            assert (await rig.resolve.look()).message == ""

    run(story)


def test_a_fusion_that_is_not_there_is_no_trouble(folders: Path):
    async def story() -> None:
        async with daemon() as rig:
            assert await rig.mailbox._owners() == []
            assert (await rig.resolve.look()).links == []

    run(story)
