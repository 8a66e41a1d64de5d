"""A click inside Resolve to a take in its place, whatever goes wrong meanwhile, through both ways in.

Takes come at once here, and masters of them are taken as made; test_round_trip.py makes both.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from fake_resolve import Media, Switches, World, frame_of
from fake_resolve.objects import MediaPoolItem
from rig import Executor, Rig, Transport, daemon, until

from freeswim import paths
from freeswim.studio import database
from freeswim.studio.job import PlacingState
from freeswim.studio.resolve import placer
from freeswim.studio.resolve.links import Answer, Link, Now, Registration
from freeswim.studio.store import NewShot

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


async def connected(rig: Rig) -> Link:
    async def look() -> Link | None:
        return rig.resolve.links.owner

    return await until(look)


# ------------------------------------------------------------------------------- the whole way


def test_the_editors_markers_stay_and_are_not_generated_again(folders: Path, transport: Transport):
    world = make_world(folders)
    notes = {100: "koi in a pond", 200: "a heron"}
    for offset, note in notes.items():
        mark(world, offset, note)

    async def story() -> None:
        async with daemon(world) as rig, AsyncExitStack() as stack:
            first = Executor(world, transport, "generate_from_markers")
            await stack.enter_async_context(first.inside(rig))
            for job in await rig.jobs(2):
                await rig.placing(await rig.finish(job.id), PLACED)
            assert await rig.news() == "2 shots queued."
            second = Executor(world, transport, "generate_from_markers")
            await stack.enter_async_context(second.inside(rig))
            assert (await rig.news(2)).startswith("There is no Mint marker with a prompt")
            assert {at: one["note"] for at, one in world.timeline.markers.items()} == notes

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


def deletes_the_marker(world: World, folder: Path) -> None:
    world.timeline.markers.clear()


def renames_the_timeline(world: World, folder: Path) -> None:
    world.timeline.name = "Final FINAL"


def fills_the_place(world: World, folder: Path) -> None:
    """And no track can be added."""
    world.switches.listens_to_add_track = False
    put_clip(world, folder, 0, 500)


def doubts_what_it_places(world: World, folder: Path) -> None:
    world.switches.append_errs = 1


def cannot_read_the_file(world: World, folder: Path) -> None:
    world.switches.import_refuses = True


IN_POOL = "In the media pool only, in the bin 'FreeSwim': "


@pytest.mark.parametrize(
    ("happens", "state", "words"),
    [
        (
            deletes_the_marker,
            POOL,
            IN_POOL + "its marker, at 01:00:00:00, was deleted.",
        ),
        (renames_the_timeline, PLACED, "On V2 at 01:00:00:00."),
        (
            fills_the_place,
            POOL,
            IN_POOL + "no track is free there, and Resolve adds none.",
        ),
        (
            doubts_what_it_places,
            PLACED,
            "On V2 at 01:00:00:00. Resolve was not sure of it: save the project, and look whether "
            "it is there.",
        ),
        (
            cannot_read_the_file,
            FAILED,
            "Resolve cannot read {file}. Import it by hand to see why.",
        ),
    ],
)
def test_what_happens_while_a_take_is_made_is_told(
    folders: Path,
    transport: Transport,
    happens: Callable[[World, Path], None],
    state: PlacingState,
    words: str,
):
    """Nothing of the editor's is overwritten, and the take lies in its bin unless nobody reads it."""
    world = make_world(folders)

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            with world.by_hand():
                happens(world, folders)
                edits = [*world.timeline.video[0].items]
            placing = await rig.placing(await rig.finish(job_id), PLACED, POOL, FAILED)
            (master,) = (paths.resolve_media() / "Takes").iterdir()
            assert (placing.state, placing.message) == (state, words.format(file=master.name))
            start = world.timeline.start
            assert ours(world) == ([(2, start, start + 120)] if state == PLACED else [])
            assert world.timeline.video[0].items == edits
            (folder,) = world.film.pool.root.folders
            assert folder.name == "FreeSwim"
            assert len(folder.clips) == (state != FAILED)

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


def test_a_take_that_failed_is_placed_when_it_is_asked_for_again(
    folders: Path, transport: Transport
):
    world = make_world(folders, switches=Switches(import_refuses=True))

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            take = await rig.finish(job_id)
            await rig.placing(take, FAILED)
            world.switches.import_refuses = False
            await rig.resolve.place(take.id)
            await rig.placing(take, PLACED)

    run(story)


def test_a_decoder_that_dies_costs_a_sentence_and_no_daemon(
    folders: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rig.PREPARE", "import os; os.abort()")
    world = make_world(folders)

    async def story() -> None:
        async with shot_at_playhead(world, transport) as (rig, job_id):
            placing = await rig.placing(await rig.finish(job_id), FAILED, PLACED, POOL)
            assert placing.message == (
                "The process that reads video died (-6). Look whether the file plays; the log "
                "says more: freeswim logs."
            )

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


def test_an_executor_that_talks_nonsense_hurts_nobody(folders: Path):
    """Facts of a plugin that is broken, or not ours."""
    world = make_world(folders)

    async def story() -> None:
        async with daemon(world) as rig:
            async with Executor(world, "http", "generate_at_playhead").inside(rig):
                job_id = await job_of_wish(rig)
            nonsense = Registration(
                session="0" * 32, protocol=1, stays=True, now=Now(project=world.film.id)
            )
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
