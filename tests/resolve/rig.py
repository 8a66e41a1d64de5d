"""The daemon's side of Resolve, whole, in front of a fake Resolve; takes come without being made."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fake_resolve import Media, World, wrapped
from lua_host import Script
from pydantic import JsonValue

from freeswim import paths
from freeswim.studio import database
from freeswim.studio.desk import Desk
from freeswim.studio.job import Job, JobState, NewTake, Placing, Take
from freeswim.studio.mailbox import Mailbox, Patience
from freeswim.studio.resolve.links import Answer, Next, Now, Operation, Registration
from freeswim.studio.resolve.placer import ResolveDesk, VerbSaid
from freeswim.studio.resolve.planner import Verb
from freeswim.studio.store import NewJob, NewShot, Store
from resolve_plugin.freeswim_resolve import context, operations
from resolve_plugin.freeswim_resolve.border import Border

Json = dict[str, Any]
Transport = Literal["http", "mailbox"]

# In place of freeswim.prepare: says that it did what it was asked to, and what that was.
PREPARE = """
import json, pathlib, sys
task = json.load(sys.stdin)
target = pathlib.Path(task["target"])
target.parent.mkdir(parents=True, exist_ok=True)
target.write_bytes(json.dumps(task).encode())
print(json.dumps({"ok": True}))
"""
QUICK = Patience(look_s=0.02, poll_s=0.005, ack_s=2.0, answer_s=5.0)
DEADLINE_S = 120.0


class AnyMedia(dict[str, Media]):
    """Every file of the takes folder is a video, of the timeline's rate."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def get(self, path: str, default: Any = None) -> Any:
        if path not in self and Path(path).suffix == ".mov" and Path(path).is_file():
            return Media(10_000, self._world.timeline.settings["timelineFrameRate"].split()[0])
        return super().get(path, default)


@dataclass
class Rig:
    """One daemon; `World` outlives it."""

    store: Store
    desk: Desk
    resolve: ResolveDesk
    mailbox: Mailbox
    submitted: list[Json] = field(default_factory=list)

    async def takes(self) -> list[Take]:
        return await self.desk.ask(lambda store: store.takes())

    async def finish(self, job_id: str, *, frames: int = 81) -> Take:
        """A job's take is made and published."""

        def make(store: Store) -> Take:
            job = store.job(job_id)
            store.change(job_id, JobState.RUNNING)
            take = NewTake(
                id=secrets.token_hex(8),
                file=f"take-{secrets.token_hex(4)}.mp4",
                sha256="0" * 64,
                width=3840,
                height=2160,
                frames=frames,
                frame_rate="16",
                seed=1,
                is_draft=False,
                number=store.next_take_number(job.shot_id),
            )
            store.change(job_id, JobState.PUBLISHING, publishing=take)
            return store.finish(job_id, take)

        return await self.desk.change(make)

    async def placing(self, take: Take, *states: str) -> Placing:
        """What is said of a take, once it is one of these."""

        async def look() -> Placing | None:
            found = (await self.desk.ask(lambda store: store.take(take.id))).placing
            return found if found is not None and found.state in states else None

        try:
            return await until(look)
        except TimeoutError:
            now = (await self.desk.ask(lambda store: store.take(take.id))).placing
            raise AssertionError(f"the take is {now!r}") from None

    async def told(self, take: Take, words: str) -> None:
        """Until this is said of a take."""
        said: list[str] = []

        async def look() -> bool | None:
            placing = (await self.desk.ask(lambda store: store.take(take.id))).placing
            if placing is not None and placing.message not in said:
                said.append(placing.message)
            return True if words in said else None

        try:
            await until(look)
        except TimeoutError:
            raise AssertionError(f"it was said instead: {said}") from None

    async def jobs(self, count: int) -> list[Job]:
        """The queue, once it has so many jobs."""

        async def look() -> list[Job] | None:
            found = await self.desk.ask(lambda store: store.queued())
            return found if len(found) >= count else None

        return await until(look)

    async def news(self, number: int = 1) -> str:
        """The last sentence about a menu entry, once there are so many."""

        async def look() -> str | None:
            news = (await self.resolve.look()).news
            return f"{news[0].message} {news[0].hint}".strip() if len(news) >= number else None

        return await until(look)


async def until(look: Callable[[], Any]) -> Any:
    """What `look` gives, once it gives something."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await look()
            if found is not None:
                return found
            await asyncio.sleep(0.01)


@asynccontextmanager
async def daemon(world: World | None = None) -> AsyncIterator[Rig]:
    """A daemon of the current home, until the block ends."""
    if world is not None and not isinstance(world.media, AnyMedia):
        known = world.media
        world.media = AnyMedia(world)
        world.media.update(known)
    paths.home().mkdir(parents=True, exist_ok=True)
    store = database.open_database().store
    desk = Desk(store)
    submitted: list[Json] = []

    async def submit(
        shot_id: str,
        *,
        key: str,
        preset: str,
        request: Mapping[str, JsonValue],
        seeds: Sequence[int],
    ) -> list[Job]:
        submitted.append({"shot_id": shot_id, "key": key, "preset": preset, **request})
        text = json.dumps({"prompt": "", **request})
        jobs = [NewJob(secrets.token_hex(8), text) for _ in seeds or [0]]
        return await desk.change(lambda store: store.add(jobs, shot=NewShot(shot_id, ""), key=key))

    resolve = ResolveDesk(desk, submit, (sys.executable, "-I", "-c", PREPARE))
    rig = Rig(store, desk, resolve, Mailbox(resolve, QUICK), submitted)
    await resolve.start()
    await rig.mailbox.start()
    try:
        yield rig
    finally:
        await rig.mailbox.stop()
        await resolve.stop()
        await desk.close()


class Executor:
    """Inside Resolve: the Python plugin's operations, or the Lua script's, until the block ends."""

    def __init__(self, world: World, transport: Transport, verb: Verb = "connect") -> None:
        self.world, self.transport, self.verb = world, transport, verb
        self.session = secrets.token_hex(16)
        self.done: list[str] = []  # names of operations
        self.lose_answers = 0  # so many of them never arrive
        self.stop_before = ""  # an operation that kills the script
        self._border = Border(wrapped(world, world.resolve))
        self._answers: dict[str, Json] = {}
        self._task: asyncio.Task[None] | None = None
        self._script: Script | None = None

    @asynccontextmanager
    async def inside(self, rig: Rig | Callable[[], Rig]) -> AsyncIterator[Executor]:
        find = rig if callable(rig) else lambda: rig
        self.start(find)
        try:
            yield self
        finally:
            await self.stop()

    def start(self, find: Callable[[], Rig]) -> None:
        if self.transport == "mailbox":
            self._script = Script(self.world, paths.mailbox(), self.verb).start()
            return
        seen = context.snapshot(self._border)
        self._task = asyncio.create_task(self._talk(find, seen))

    async def stop(self) -> None:
        if self._script is not None:
            await asyncio.to_thread(self._script.stop)
            assert self._script.error == ""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_over(self) -> bool:
        if self._script is not None:
            return not self._script.is_running
        return self._task is not None and self._task.done()

    async def _talk(self, find: Callable[[], Rig], seen: Json) -> None:
        """As freeswim_resolve.session does."""
        verb: Verb | None = self.verb if self.verb != "connect" else None
        registered: Rig | None = None
        while True:
            rig = find()
            try:
                if registered is not rig:
                    said = operations.execute(self._border, "hello", {})
                    reply = await rig.resolve.register(
                        Registration.model_validate(
                            {
                                "session": self.session,
                                "protocol": 1,
                                "stays": True,
                                "resolve": said,
                                "now": context.brief(self._border),
                            }
                        )
                    )
                    registered = rig
                elif verb is not None:
                    key = secrets.token_hex(16)
                    asked = {"session": self.session, "verb": verb, "key": key, "context": seen}
                    verb = None
                    reply = await rig.resolve.verb(VerbSaid.model_validate(asked))
                else:
                    now = Now.model_validate(context.brief(self._border))
                    reply = await rig.resolve.poll(self.session, 0.2, now)
                while reply.operation is not None:
                    reply = await self._answer(rig, reply.operation)
                if reply.end:
                    return
            except (sqlite3.ProgrammingError, RuntimeError, KeyError):
                await asyncio.sleep(0.01)  # the daemon is gone
            await asyncio.sleep(0.001)

    async def _answer(self, rig: Rig, operation: Operation) -> Next:
        if operation.name == self.stop_before:
            raise asyncio.CancelledError
        if operation.id not in self._answers:
            self.done.append(operation.name)
            self._answers[operation.id] = await asyncio.to_thread(self._execute, operation)
        if self.lose_answers:
            self.lose_answers -= 1
            return Next()  # the connection broke: the executor polls again
        await asyncio.sleep(0.001)  # as the wire would
        said = {"session": self.session, "id": operation.id, **self._answers[operation.id]}
        return await rig.resolve.answer(Answer.model_validate(said))

    def _execute(self, operation: Operation) -> Json:
        try:
            facts = operations.execute(self._border, operation.name, operation.arguments)
        except operations.CannotDo as reason:
            error = {"code": reason.code, "message": reason.message}
            return {"ok": False, "facts": reason.facts, "error": error}
        return {"ok": True, "facts": json.loads(json.dumps(facts)), "error": None}
