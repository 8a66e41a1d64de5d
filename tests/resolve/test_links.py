"""A click inside Resolve to a take in its place, through both ways in, whatever goes wrong meanwhile.

Everything is real but Resolve itself, the making of takes and the reading of video.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_resolve import Host, Media, Switches, World, frame_of
from fake_resolve.objects import MediaPoolItem
from PIL import Image
from rig import PREPARE, AnyMedia, Executor, Rig, Transport, daemon, until

from freeswim import paths
from freeswim.errors import Conflict, FreeswimError, NotFound
from freeswim.studio import client, database
from freeswim.studio.client import Client
from freeswim.studio.job import PlacingState
from freeswim.studio.resolve import placer
from freeswim.studio.resolve.links import Answer, Link, Links, Now, Problem, Registration
from freeswim.studio.resolve.placer import codec_for
from freeswim.studio.resolve.planner import Ask, ResolveSettings, Verb
from freeswim.studio.store import NewShot
from freeswim.video.reader import probe
from freeswim.video.writer import write_video

Json = dict[str, Any]

PLACED, POOL, WAITING, FAILED = (
    PlacingState.PLACED,
    PlacingState.POOL,
    PlacingState.WAITING,
    PlacingState.FAILED,
)
WORLD: Json = {"tier": "free 21.1"}  # which both executors can work in


@pytest.fixture(params=["http", "mailbox"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """The way into Resolve."""
    return request.param


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a Fusion profile of their own; nothing waits a minute to be tried again."""
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FREESWIM_FUSION", str(tmp_path / "fusion"))
    monkeypatch.setattr(placer, "AGAIN_S", 0.3)
    monkeypatch.setattr(placer, "LOOK_EVERY_S", 0.1)
    return tmp_path


def make_world(folder: Path, **more: Any) -> World:
    world = World(**{**WORLD, **more})
    profile = folder / "fusion" / "Default"
    profile.mkdir(parents=True, exist_ok=True)
    world.profiles = [profile]
    return world


def mark(world: World, offset: int, note: str = "koi in a pond", **more: Any) -> None:
    marker = {"color": "Mint", "duration": 24.0, "note": note, "name": "Marker 1"}
    world.timeline.markers[offset] = marker | {"customData": ""} | more


def put_clip(world: World, folder: Path, offset: int, frames: int, name: str = "pond.mov") -> Any:
    path = folder / "footage" / name
    world.add_media(path, Media(1000, "24"))
    clip = MediaPoolItem(world, str(path), world.media[str(path)])
    world.film.pool.root.clips.append(clip)
    return world.timeline.put(clip, 1, offset, frames, 100)


def ours(world: World) -> list[tuple[int, int, int]]:
    """(track, start, end) of what scripts have placed."""
    return [
        (index, one.start, one.end)
        for index, track in enumerate(world.timeline.video, 1)
        for one in track.items
        if one.is_of_script
    ]


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await story()

    asyncio.run(bounded())


async def clicked(rig: Rig, world: World, transport: Transport, verb: Verb) -> Executor:
    """A menu entry was chosen; its script stays."""
    executor = Executor(world, transport, verb)
    executor.start(lambda: rig)
    return executor


async def connected(rig: Rig) -> Link:
    async def look() -> Link | None:
        return rig.resolve.links.owner

    return await until(look)


# ------------------------------------------------------------------------------- the whole way


@pytest.mark.parametrize("rate", ["23.976", "25", "29.97 DF", "59.94"])
def test_from_a_marker_to_a_take_on_the_timeline(folders: Path, transport: Transport, rate: str):
    world = make_world(folders, rate=rate)
    mark(world, 100, "a heron\nseed: 7")

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, transport, "generate_from_markers")
            async with executor.inside(rig):
                (job,) = await rig.jobs(1)
                assert await rig.news() == "1 shot queued."
                assert rig.submitted[0]["prompt"] == "a heron" and rig.submitted[0]["seed"] == 7
                take = await rig.finish(job.id)
                placing = await rig.placing(take, PLACED, POOL, FAILED)
                start = world.timeline.start
                assert ours(world) == [(2, start + 100, start + 124)]
                where = world.timeline.rate.timecode(start + 100)
                assert placing.message == f"On V2 at {where}."
                assert world.timeline.video[1].name == "FreeSwim"

    run(story)
    assert world.misuses == []


def test_the_editors_marker_stays_and_is_not_generated_again(folders: Path, transport: Transport):
    world = make_world(folders)
    mark(world, 100)

    async def story() -> None:
        async with daemon(world) as rig, AsyncExitStack() as stack:
            first = Executor(world, transport, "generate_from_markers")
            await stack.enter_async_context(first.inside(rig))
            (job,) = await rig.jobs(1)
            take = await rig.finish(job.id)
            await rig.placing(take, PLACED)
            second = Executor(world, transport, "generate_from_markers")
            await stack.enter_async_context(second.inside(rig))
            assert (await rig.news(2)).startswith("There is no Mint marker with a prompt")
            assert world.timeline.markers[100]["note"] == "koi in a pond"

    run(story)
    assert world.misuses == []


def test_a_shot_without_a_prompt_keeps_its_place_until_there_is_one(
    folders: Path, transport: Transport
):
    """The editor goes on: another playhead, clips rippled, the marker with them."""
    world = make_world(folders)
    world.timeline.playhead = world.timeline.start + 240
    put_clip(world, folders, 0, 1000)

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, transport, "generate_at_playhead")
            async with executor.inside(rig):
                assert await rig.news() == "1 shot kept: write the prompt in FreeSwim."
                (wish,) = (await rig.resolve.look()).wishes
                assert wish.request["width"] == 3840 and wish.request["height"] == 2160
                with world.by_hand():
                    world.timeline.playhead = world.timeline.start
                    world.timeline.markers[300] = world.timeline.markers.pop(240)
                await rig.resolve._submit(  # as the desktop app does
                    wish.shot.id,
                    key="",
                    preset=wish.preset,
                    request={**wish.request, "prompt": "koi"},
                    seeds=[],
                )
                assert (await rig.resolve.look()).wishes == []
                (job,) = await rig.jobs(1)
                take = await rig.finish(job.id)
                placing = await rig.placing(take, PLACED)
                start = world.timeline.start
                assert ours(world) == [(2, start + 300, start + 420)]
                assert placing.message == (
                    "On V2 at 01:00:12:12, where its marker has moved to from 01:00:10:00."
                )

                async def gone() -> bool | None:
                    return True if not world.timeline.markers else None

                await until(gone)  # ours, that is not needed any more

    run(story)
    assert world.misuses == []


def test_a_clip_is_remade_over_itself(folders: Path, transport: Transport):
    world = make_world(folders)
    clip = put_clip(world, folders, 48, 96)
    world.timeline.selection = [clip]

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, transport, "regenerate_selection")
            async with executor.inside(rig):
                (job,) = await rig.jobs(1)
                asked = rig.submitted[0]
                assert asked["kind"] == "clip" and asked["clip_start"] == 100
                assert asked["frames"] == 96
                assert asked["clip"] == {"path": str(folders / "footage" / "pond.mov")}
                await rig.placing(await rig.finish(job.id), PLACED)
                assert ours(world) == [(2, clip.start, clip.end)]
                assert [one for one in world.timeline.video[0].items] == [clip]

    run(story)
    assert world.misuses == []


def test_as_a_take_of_the_clip_where_the_editor_wants_that(folders: Path, transport: Transport):
    world = make_world(folders)
    clip = put_clip(world, folders, 48, 96)
    world.timeline.selection = [clip]

    async def story() -> None:
        async with daemon(world) as rig:
            await rig.resolve.change_settings({"as_take": True})
            executor = Executor(world, transport, "regenerate_selection")
            async with executor.inside(rig):
                (job,) = await rig.jobs(1)
                placing = await rig.placing(await rig.finish(job.id), PLACED, FAILED, POOL)
                assert placing.message == "In the take selector of the clip at 01:00:02:00 on V1."
                assert len(clip.takes) == 2 and clip.shown_take == 1  # what it showed
                assert ours(world) == []

    run(story)
    assert world.misuses == []


def test_several_takes_of_a_shot_share_its_place(folders: Path, transport: Transport):
    world = make_world(folders)
    mark(world, 100, "koi\ntakes: 3")

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, transport, "generate_from_markers")
            async with executor.inside(rig):
                jobs = await rig.jobs(3)
                for job in jobs:
                    await rig.placing(await rig.finish(job.id), PLACED)
                start = world.timeline.start
                assert ours(world) == [(2, start + 100, start + 124)]
                assert len(world.timeline.video[1].items[0].takes) == 3

    run(story)
    assert world.misuses == []


def test_a_gap_is_filled_from_the_frames_around_it(folders: Path, transport: Transport):
    world = make_world(folders)
    put_clip(world, folders, 0, 100)
    put_clip(world, folders, 150, 100, "after.mov")
    world.timeline.playhead = world.timeline.start + 120

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, transport, "fill_gap")
            async with executor.inside(rig):
                assert await rig.news() == "1 shot kept: write the prompt in FreeSwim."
                (wish,) = (await rig.resolve.look()).wishes
                tasks = [
                    Path(str(wish.request[name]["path"])).read_text("utf-8")
                    for name in ("first_image", "last_image")
                ]
                assert '"frame": 199' in tasks[0] and "pond.mov" in tasks[0]
                assert '"frame": 100' in tasks[1] and "after.mov" in tasks[1]
                assert world.timeline.playhead == world.timeline.start + 120  # nothing was moved

    run(story)
    assert world.misuses == []


# --------------------------------------------------------------------------------- stills that lag


@pytest.mark.parametrize("num_lagging", [0, 3])
def test_a_frame_that_only_resolve_reads_is_taken_as_a_still(
    folders: Path, transport: Transport, num_lagging: int, monkeypatch: pytest.MonkeyPatch
):
    if transport == "mailbox" and num_lagging:
        num_lagging = 0  # a script there waits a second instead of looking
    monkeypatch.setattr("rig.PREPARE", UNREADABLE)
    world = make_world(folders, switches=Switches(num_lagging_stills=num_lagging))
    put_clip(world, folders, 0, 100, "camera.braw")
    world.timeline.playhead = world.timeline.start + 10

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, transport, "extend_clip")
            async with executor.inside(rig):
                assert await rig.news() == "1 shot kept: write the prompt in FreeSwim."
                (wish,) = (await rig.resolve.look()).wishes
                still = Path(str(wish.request["first_image"]["path"]))
                assert frame_of(still) == world.timeline.start + 99
                assert world.timeline.playhead == world.timeline.start + 10
                assert [path.name for path in still.parent.iterdir()] == [still.name]

    run(story)
    assert world.misuses == []


def test_a_still_that_lags_for_good_is_never_taken(
    folders: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rig.PREPARE", UNREADABLE)
    world = make_world(folders, switches=Switches(num_lagging_stills=10_000))
    put_clip(world, folders, 0, 100, "camera.braw")
    world.timeline.playhead = world.timeline.start + 10

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, transport, "extend_clip")
            async with executor.inside(rig):
                assert await rig.news() == (
                    "camera.braw extended: Resolve gave no picture of the frame at 01:00:04:03. "
                    "Park the playhead on it, wait until the viewer shows it, and choose this "
                    "again."
                )
                assert (await rig.resolve.look()).wishes == []
                assert list((paths.resolve_media() / "Stills").iterdir()) == []

                async def gone() -> bool | None:
                    return True if not world.timeline.markers else None

                await until(gone)

    run(story)
    assert world.misuses == []


SILENT = (
    "Finished. Resolve does not answer. Close the window that waits for you in it, or choose "
    "Workspace > Scripts > FreeSwim > FreeSwim Connect."
)
UNREADABLE = """
import json
print(json.dumps({"ok": False, "code": "media", "message": "It cannot be read.", "hint": ""}))
"""


# ----------------------------------------------------------------------------- what editors do


def test_a_deleted_marker_leaves_the_take_in_the_pool(folders: Path, transport: Transport):
    world = make_world(folders)
    world.timeline.playhead = world.timeline.start

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            with world.by_hand():
                world.timeline.markers.clear()
            placing = await rig.placing(await rig.finish(job_id), PLACED, POOL, FAILED)
            assert placing.message == (
                "In the media pool only, in the bin 'FreeSwim': its marker, at 01:00:00:00, was "
                "deleted."
            )
            assert ours(world) == []
            (bin_,) = world.film.pool.root.folders
            assert bin_.name == "FreeSwim" and len(bin_.clips) == 1

    run(story)


def test_a_renamed_timeline_gets_its_take(folders: Path, transport: Transport):
    world = make_world(folders)

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            with world.by_hand():
                world.timeline.name = "Final FINAL"
            await rig.placing(await rig.finish(job_id), PLACED)

    run(story)


def test_another_project_is_waited_for_and_nothing_done_in_it(folders: Path, transport: Transport):
    world = make_world(folders)
    film = world.film

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            world.open_project("Wedding")
            wedding = world.film
            take = await rig.finish(job_id)
            await rig.told(
                take,
                "Another project is open in Resolve. Open 'Film', and the take is put on its "
                "timeline.",
            )
            assert wedding.pool.root.folders == []
            with world.by_hand():
                world.generation, world.project = film.generation, film
            await rig.placing(take, PLACED)

    run(story)


def test_a_window_that_blocks_resolve_is_waited_for(folders: Path, transport: Transport):
    """Behind a dialog every call fails; the take goes on by itself when it was clicked away."""
    world = make_world(folders)

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            world.modal = True
            take = await rig.finish(job_id)
            placing = await rig.placing(take, WAITING, POOL, FAILED)
            words = {
                "http": "Resolve shows no project: open one, or close the window that waits for "
                "you in Resolve.",
                # Behind a window not even preferences are heard.
                "mailbox": "Resolve does not answer: close the window that waits for you in "
                "Resolve, or start FreeSwim in it again.",
            }
            assert placing.message in (words[transport], SILENT)
            world.dismiss()
            await rig.placing(take, PLACED)

    run(story)


def test_an_occupied_place_is_never_overwritten(folders: Path, transport: Transport):
    world = make_world(folders)

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            with world.by_hand():
                world.switches.listens_to_add_track = False
                clip = put_clip(world, folders, 0, 500)
            placing = await rig.placing(await rig.finish(job_id), POOL, PLACED, FAILED)
            assert placing.message == (
                "In the media pool only, in the bin 'FreeSwim': no track is free there, and "
                "Resolve adds none."
            )
            assert world.timeline.video[0].items == [clip]

    run(story)


def test_placements_that_resolve_doubts_are_said_to_be(folders: Path, transport: Transport):
    world = make_world(folders, switches=Switches(append_errs=1))

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            placing = await rig.placing(await rig.finish(job_id), PLACED, POOL, FAILED)
            assert placing.message == (
                "On V2 at 01:00:00:00. Resolve was not sure of it: save the project, and look "
                "whether it is there."
            )

    run(story)


def test_files_that_resolve_does_not_read_are_said(folders: Path, transport: Transport):
    world = make_world(folders, switches=Switches(import_refuses=True))

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            placing = await rig.placing(await rig.finish(job_id), PLACED, POOL, FAILED)
            assert placing.state == FAILED
            assert placing.message.startswith("Resolve cannot read ")
            assert placing.message.endswith(".mov. Import it by hand to see why.")
            world.switches.import_refuses = False
            (take,) = await rig.takes()
            await rig.resolve.place(take.id)
            await rig.placing(take, PLACED)

    run(story)


# ------------------------------------------------------------------------- ends of all kinds


def test_without_resolve_a_take_says_what_to_do_and_waits(folders: Path, transport: Transport):
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig:
            async with Executor(world, transport, "generate_at_playhead").inside(rig):
                job_id = await job_of_wish(rig)
            if transport == "http":
                rig.resolve.links.bye(next(iter(rig.resolve.links._links)))
            take = await rig.finish(job_id)
            placing = await rig.placing(take, WAITING)
            if transport == "http":
                assert placing.message == (
                    "Finished. Resolve is not connected. In it, choose Workspace > Scripts > "
                    "FreeSwim > FreeSwim Connect."
                )
            else:  # its script ends without a word: nobody takes the request
                assert "Resolve does not answer" in placing.message
            async with Executor(world, transport).inside(rig):
                await rig.placing(take, PLACED)

    run(story)


OPERATIONS = ("context", "find_marker", "ensure_bin", "import", "set_meta", "add_track", "place")


@pytest.mark.parametrize("stage", OPERATIONS)
def test_a_daemon_that_dies_in_the_middle_goes_on(folders: Path, transport: Transport, stage: str):
    """Killed right after an operation was done, before its answer was heard."""
    world = make_world(folders)
    current: list[Rig] = []

    async def story() -> None:
        async with AsyncExitStack() as inside:
            async with daemon(world) as rig:
                current[:] = [rig]
                executor = Executor(world, transport, "generate_at_playhead")
                await inside.enter_async_context(executor.inside(lambda: current[0]))
                job_id = await job_of_wish(rig)
                link = await connected(rig)
                stop_at(link, stage)
                take = await rig.finish(job_id)
                await until(lambda: came_to(link, world, stage))
            async with daemon(world) as rig:
                current[:] = [rig]
                placing = await rig.placing(take, PLACED, POOL, FAILED)
                assert placing.state == PLACED, placing
                start = world.timeline.start
                assert ours(world) == [(2, start, start + 120)]
                assert len(world.film.pool.root.folders) == 1
                assert len(world.film.pool.root.folders[0].clips) == 1
                assert len(world.timeline.video) == 2

    run(story)


def test_a_take_selector_gets_a_take_once_however_the_daemon_dies(
    folders: Path, transport: Transport
):
    world = make_world(folders)
    clip = put_clip(world, folders, 48, 96)
    world.timeline.selection = [clip]
    current: list[Rig] = []

    async def story() -> None:
        async with AsyncExitStack() as inside:
            async with daemon(world) as rig:
                current[:] = [rig]
                await rig.resolve.change_settings({"as_take": True})
                executor = Executor(world, transport, "regenerate_selection")
                await inside.enter_async_context(executor.inside(lambda: current[0]))
                (job,) = await rig.jobs(1)
                await rig.news()
                link = await connected(rig)
                stop_at(link, "add_take")
                take = await rig.finish(job.id)
                await until(lambda: came_to(link, world, "add_take"))
            async with daemon(world) as rig:
                current[:] = [rig]
                placing = await rig.placing(take, PLACED, POOL, FAILED)
                assert placing.state == PLACED  # its script has kept the answer
                assert len(clip.takes) == 2

    run(story)


def test_a_take_that_may_have_been_added_is_not_added_twice(folders: Path, transport: Transport):
    """Daemon and script are both gone: nobody knows, so the person is told to look."""
    world = make_world(folders)
    clip = put_clip(world, folders, 48, 96)
    world.timeline.selection = [clip]

    async def story() -> None:
        async with daemon(world) as rig:
            await rig.resolve.change_settings({"as_take": True})
            async with Executor(world, transport, "regenerate_selection").inside(rig):
                (job,) = await rig.jobs(1)
                await rig.news()
                link = await connected(rig)
                stop_at(link, "add_take")
                take = await rig.finish(job.id)
                await until(lambda: came_to(link, world, "add_take"))
        async with daemon(world) as rig, Executor(world, transport).inside(rig):
            placing = await rig.placing(take, PLACED, POOL, FAILED)
            assert placing.state == POOL
            assert placing.message == (
                "In the media pool only, in the bin 'FreeSwim': FreeSwim was stopped while Resolve "
                "added it as a take, and does not add it twice; look into the clip's take selector."
            )
            assert len(clip.takes) == 2

    run(story)


def test_answers_that_get_lost_do_not_repeat_what_was_done(folders: Path):
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig:
            executor = Executor(world, "http", "generate_at_playhead")
            async with executor.inside(rig):
                job_id = await job_of_wish(rig)
                executor.done.clear()
                executor.lose_answers = 20
                await rig.placing(await rig.finish(job_id), PLACED)
                assert executor.lose_answers == 0
                once = [name for name in executor.done if name in ("import", "place", "add_track")]
                assert sorted(once) == ["add_track", "import", "place"]

    run(story)


def test_the_script_that_came_last_is_the_owner(folders: Path, transport: Transport):
    """A second Resolve, or a second click: the first one is told to end."""
    world, other = make_world(folders), make_world(folders)
    other.profiles = [folders / "fusion" / "Second"]
    other.profiles[0].mkdir()

    async def story() -> None:
        async with daemon(world) as rig, AsyncExitStack() as stack:
            other.media = world.media
            first = Executor(world, transport, "generate_at_playhead")
            await stack.enter_async_context(first.inside(rig))
            job_id = await job_of_wish(rig)
            other.film.id, other.film.name = "another project", "Wedding"
            second = Executor(other, transport)
            await stack.enter_async_context(second.inside(rig))

            async def has_ended() -> bool | None:
                links = [one for one in rig.resolve.links.look() if one.is_owner]
                is_other = links and rig.resolve.links.owner.session != first_session
                return True if is_other else None

            first_session = first.session if transport == "http" else rig_owner(rig)
            await until(has_ended)
            take = await rig.finish(job_id)
            await rig.told(
                take,
                "Another project is open in Resolve. Open 'Film', and the take is put on its "
                "timeline.",
            )
            assert ours(world) == [] and ours(other) == []
            third = Executor(world, transport)  # Connect, in the first one
            await stack.enter_async_context(third.inside(rig))
            await rig.placing(take, PLACED)
            assert len(ours(world)) == 1 and ours(other) == []

    run(story)


def test_place_finished_takes_places_what_waited(folders: Path, transport: Transport):
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig, AsyncExitStack() as stack:
            await rig.resolve.change_settings({"places_by_itself": False})
            first = Executor(world, transport, "generate_at_playhead")
            await stack.enter_async_context(first.inside(rig))
            take = await rig.finish(await job_of_wish(rig))
            assert take.placing is None
            second = Executor(world, transport, "place_finished_takes")
            await stack.enter_async_context(second.inside(rig))
            assert await rig.news(2) == "1 take on the way to the timeline."
            await rig.placing(take, PLACED)
            third = Executor(world, transport, "place_finished_takes")
            await stack.enter_async_context(third.inside(rig))
            assert await rig.news(3) == "No finished take of this project waits for its place."

    run(story)


def test_a_verb_that_cannot_be_done_is_said_and_leaves_nothing(folders: Path, transport: Transport):
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig:
            async with Executor(world, transport, "regenerate_selection").inside(rig):
                assert await rig.news() == (
                    "No clip is selected, and none is under the playhead. Park the playhead on the "
                    "clip, and choose this again."
                )
            assert world.timeline.markers == {}

    run(story)


# ------------------------------------------------------------------------------- links by hand


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def registration(**more: Any) -> Registration:
    said = {"session": secrets.token_hex(16), "protocol": 1, "stays": True}
    return Registration.model_validate({**said, **more})


def test_a_session_that_is_silent_for_a_minute_is_gone():
    async def story() -> None:
        clock = Clock()
        links = Links(clock=clock)
        link = links.register(registration())
        assert links.owner is link
        clock.now += 59
        links.beat(link.session, 3)
        clock.now += 59
        assert links.owner is link
        clock.now += 2
        assert links.owner is None and links.look() == []

    asyncio.run(story())


def test_another_protocol_is_refused_with_what_to_do():
    with pytest.raises(Conflict) as caught:
        Links().register(registration(protocol=2))
    assert caught.value.message == "The plugin speaks version 2 of the protocol, FreeSwim 1."
    assert "Install the plugin again" in caught.value.hint


def test_who_never_registered_is_not_known():
    async def story() -> None:
        for ask in (
            Links().poll("0" * 32, 0, Now()),
            Links().answer(Answer(session="0" * 32, id="1", ok=True)),
        ):
            with pytest.raises(NotFound):
                await ask

    asyncio.run(story())


def test_an_operation_is_handed_out_until_its_answer_is_here():
    async def story() -> None:
        links = Links()
        link = links.register(registration())
        done = asyncio.create_task(link.do(Ask("context")))
        first = await links.poll(link.session, 1, Now())
        second = await links.poll(link.session, 1, Now())
        assert first.operation is not None and first == second
        await links.answer(Answer(session=link.session, id="another's", ok=True))
        assert not done.done()
        failed = Answer(
            session=link.session,
            id=first.operation.id,
            ok=False,
            error=Problem(code="no_project"),
        )
        await links.answer(failed)
        assert (await done).error == "no_project"
        assert (await links.poll(link.session, 0, Now())).operation is None

    asyncio.run(story())


def test_ids_are_new_unless_the_same_is_meant():
    async def story() -> None:
        ids: list[str] = []
        for key in ("", "", "k", "k"):
            links = Links()
            link = links.register(registration())
            done = asyncio.create_task(link.do(Ask("add_take", {"track": 1}), key=key))
            operation = (await links.poll(link.session, 1, Now())).operation
            assert operation is not None
            ids.append(operation.id)
            links.bye(link.session)
            assert (await done).error == "lost"
        assert len(set(ids)) == 3 and ids[2] == ids[3]

    asyncio.run(story())


def test_a_busy_resolve_is_said_to_wait_for_a_click(folders: Path):
    async def story() -> None:
        async with daemon() as rig:
            said = await rig.resolve.look()
            assert said.state == "not_connected"
            assert said.message == (
                "Resolve is not connected. In it, choose Workspace > Scripts > FreeSwim > "
                "FreeSwim Connect."
            )
            await rig.resolve.register(registration())
            assert (await rig.resolve.look()).state == "connected"
            link = await connected(rig)
            rig.resolve.links.beat(link.session, 12)
            said = await rig.resolve.look()
            assert said.state == "busy"
            assert said.message == (
                "Resolve does not go on: look whether a window of it waits for you."
            )

    run(story)


def test_an_executor_that_talks_nonsense_hurts_nobody(folders: Path):
    """Facts of a plugin that is broken, or not ours."""
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig:
            async with Executor(world, "http", "generate_at_playhead").inside(rig):
                job_id = await job_of_wish(rig)
            nonsense = registration(now={"project": world.film.id})
            await rig.resolve.register(nonsense)
            take = await rig.finish(job_id)
            while True:
                reply = await rig.resolve.poll(nonsense.session, 1, Now(project=world.film.id))
                if reply.operation is not None:
                    break
            said = {"session": nonsense.session, "id": reply.operation.id, "ok": True}
            await rig.resolve.answer(Answer.model_validate({**said, "facts": {"project": [1]}}))
            placing = await rig.placing(take, FAILED)
            assert placing.message == (
                "What the plugin in Resolve answers cannot be read. Install the plugin again from "
                "FreeSwim."
            )

    run(story)


# ---------------------------------------------------------------- the real daemon, the real plugin


@pytest.fixture
def served(home: Path) -> Iterator[Client]:
    """A daemon in a process of its own; its worker makes takes in no time."""
    program = [sys.executable, str(Path(__file__).with_name("serve_resolve.py")), PREPARE]
    shared = str(Path(__file__).parents[1] / "studio")
    environment = {**os.environ, "FAKE_STEP_S": "0.001", "PYTHONPATH": shared}
    with subprocess.Popen(program, env=environment) as process:
        try:
            deadline = time.monotonic() + 30
            while (found := client.connect()) is None:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            yield found
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_the_plugin_and_the_daemon_put_a_take_into_its_place(
    served: Client,
    start_resolve: Callable[..., Host],
    menu: Callable[[str], Path],
):
    """Over HTTP, each in its process: two markers, one of them moved before its take was there."""
    host = start_resolve(tier="free 20.3", rate="29.97 DF")
    world = host.world
    world.media = AnyMedia(world)
    for offset in (100, 400):
        mark(world, offset, f"koi {offset}\npreset: demo", duration=30.0)
    host.run(menu("generate_from_markers"), sys.executable)

    def said() -> Json:
        return served.get("/resolve")

    deadline = time.monotonic() + 60
    while not said()["news"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert said()["news"][0]["message"] == "2 shots queued."
    assert said()["state"] == "connected"
    (link,) = said()["links"]
    assert link["is_owner"] and link["version"] == "20.3.2.9" and link["edition"] == "free"
    while True:
        takes = served.get("/takes")["takes"]
        states = [take["placing"] and take["placing"]["state"] for take in takes]
        if states == ["placed", "placed"]:
            break
        assert time.monotonic() < deadline, (states, takes, said())
        time.sleep(0.05)
    start = world.timeline.start
    assert ours(world) == [(2, start + 100, start + 130), (2, start + 400, start + 430)]
    assert takes[0]["placing"]["message"].startswith("On V2 at 01:00:")
    # A menu entry while the first script stays: a process of its own that ends.
    script = host.run(menu("place_finished_takes"), sys.executable)
    while len(said()["news"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert said()["news"][0]["message"] == ("No finished take of this project waits for its place.")
    script.wait()
    assert served.get(f"/shots/{takes[0]['shot_id']}")["shot"]["placement"]["resolve"]["rate"] == (
        "30000/1001"
    )


def test_settings_and_wishes_are_seen_through_the_api(
    served: Client, start_resolve: Callable[..., Host], menu: Callable[[str], Path]
):
    settings = served.get("/resolve")["settings"]
    assert settings["preset"] == ResolveSettings().preset
    served.patch("/resolve/settings", {"preset": "demo"})
    said = served.patch("/resolve/settings", {"size": "preset"})["settings"]
    assert said == {**settings, "preset": "demo", "size": "preset"}
    host = start_resolve()
    host.world.media = AnyMedia(host.world)
    host.run(menu("generate_at_playhead"), sys.executable)
    deadline = time.monotonic() + 60
    while not (wishes := served.get("/resolve")["wishes"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (wish,) = wishes
    (job,) = served.submit(
        {
            "shot_id": wish["shot"]["id"],
            "preset": wish["preset"],
            "request": {**wish["request"], "prompt": "koi"},
        }
    )
    while True:
        take_id = served.get(f"/jobs/{job['id']}")["job"]["take_id"]
        placing = take_id and served.get(f"/takes/{take_id}")["take"]["placing"]
        if placing and placing["state"] == "placed":
            break
        assert time.monotonic() < deadline, placing
        time.sleep(0.05)
    assert placing["message"] == "On V2 at 01:00:00:00."
    with pytest.raises(FreeswimError, match="was placed already"):
        served.post(f"/takes/{take_id}/place")


# ------------------------------------------------------------------------ databases of before


def test_a_database_from_before_placements_is_carried_on(folders: Path):
    _database_of_before()
    with closing(database.open_database().store) as store:
        assert [shot.name for shot in store.shots()] == ["Pond"]
        assert store.to_place() == []


def test_a_backup_from_before_placements_is_restored(folders: Path):
    _database_of_before()
    paths.backups().mkdir()
    shutil.copyfile(paths.database(), paths.backups() / f"studio-{1:020d}.db")
    paths.database().write_bytes(b"damage")
    opened = database.open_database()
    with closing(opened.store) as store:
        assert opened.restored_from is not None
        assert [shot.name for shot in store.shots()] == ["Pond"]


def _database_of_before() -> None:
    with closing(database.open_database().store) as store:
        store.add_shot(NewShot("5" * 16, "Pond"))
    with closing(sqlite3.connect(paths.database())) as connection:
        connection.executescript("ALTER TABLE takes DROP COLUMN placing; PRAGMA user_version = 1;")


# ------------------------------------------------------------------------------- media, for real


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60000/1001"])
def test_a_master_has_the_timelines_exact_rate_and_frames(folders: Path, rate: str):
    take = make_video(folders / "take.mp4", frames=17)
    frames = math.ceil(17 / Fraction(16) * Fraction(rate)) - 1
    target = folders / "out" / "take.mov"
    task = {
        "task": "master",
        "source": str(take),
        "target": str(target),
        "codec": codec_for("linux", 256, 128),
        "rate": rate,
        "frames": frames,
    }
    for _ in range(2):  # a second time nothing is done
        assert prepared(task) == {"ok": True}
    master = probe(target)
    assert (master.frame_rate, master.num_frames) == (Fraction(rate), frames)
    assert (master.width, master.height, master.codec) == (256, 128, "dnxhd")
    assert master.start_timecode in ("", "00:00:00:00", "00:00:00;00")


def test_a_frame_is_the_files_own(folders: Path):
    take = make_video(folders / "take.mp4", frames=5)
    for frame, shown in ((0, 0), (3, 3), (99, 4)):
        target = folders / "out" / f"{frame}.png"
        task = {"task": "frame", "source": str(take), "target": str(target), "frame": frame}
        assert prepared(task) == {"ok": True}
        assert abs(float(np.asarray(Image.open(target)).mean()) - 40 * shown) < 3


def test_what_is_no_video_is_said_in_a_sentence(folders: Path):
    (folders / "take.mp4").write_bytes(b"no video")
    task = {
        "task": "frame",
        "source": str(folders / "take.mp4"),
        "target": str(folders / "out.png"),
        "frame": 0,
    }
    said = prepared(task)
    assert said["code"] == "media" and "take.mp4" in said["message"] and said["hint"]


def test_a_decoder_that_dies_costs_a_sentence_and_no_daemon(
    folders: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rig.PREPARE", "import os; os.abort()")
    world = make_world(folders)

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            placing = await rig.placing(await rig.finish(job_id), FAILED, PLACED, POOL)
            assert placing.message.startswith("The process that reads video died (-6).")

    run(story)


def make_video(path: Path, *, frames: int) -> Path:
    """Grey, 40 brighter with every frame; 16 frames per second."""
    pictures = (np.full((128, 256, 3), 40 * 257 * (n % 6), np.uint16) for n in range(frames))
    write_video(
        path,
        pictures,
        codec="h264",
        width=256,
        height=128,
        frame_rate=Fraction(16),
        num_frames=frames,
    )
    return path


def prepared(task: Json) -> Json:
    done = subprocess.run(
        placer.PREPARE, input=json.dumps(task), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---------------------------------------------------------------------------------- what they share


class shot_at_playhead:
    """A daemon, a Resolve that is connected, and a job for the playhead."""

    def __init__(self, world: World, transport: Transport) -> None:
        self._world, self._transport = world, transport
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> tuple[Rig, str]:
        rig = await self._stack.enter_async_context(daemon(self._world))
        executor = Executor(self._world, self._transport, "generate_at_playhead")
        await self._stack.enter_async_context(executor.inside(rig))
        return rig, await job_of_wish(rig)

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()
        assert self._world.misuses == []


async def job_of_wish(rig: Rig) -> str:
    """The prompt is written: the job's id."""

    async def look() -> Any:
        return next(iter((await rig.resolve.look()).wishes), None)

    wish = await until(look)
    await rig.news()
    await rig.resolve._submit(
        wish.shot.id,
        key="",
        preset=wish.preset,
        request={**wish.request, "prompt": "koi"},
        seeds=[],
    )
    return (await rig.jobs(1))[0].id


def rig_owner(rig: Rig) -> str:
    owner = rig.resolve.links.owner
    assert owner is not None
    return owner.session


def stop_at(link: Link, stage: str) -> None:
    """Hold back the answer to an operation: the daemon is killed before it hears it."""
    take = link.take

    def held(answer: Answer) -> None:
        asked = link._asked[0] if link._asked else None
        if asked is not None and asked.operation.id == answer.id and asked.operation.name == stage:
            link.__dict__["came_to"] = stage
            return
        take(answer)

    link.__dict__["take"] = held


async def came_to(link: Link, world: World, stage: str) -> bool | None:
    return True if link.__dict__.get("came_to") == stage else None
