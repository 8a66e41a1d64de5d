"""What becomes of a click inside Resolve, and of every take that is to go there.

A verb makes shots: its context is planned (planner.py), the marker set that keeps the place, the
frames fetched that a shot begins or ends with, the job added. A finished take is conformed to its
timeline in a process of its own and put there (placing.py) by the owner of the link (links.py). All
that is to be done is derived from what the store says of shots and takes, so a daemon that was
killed in the middle of anything goes on with it; every end is a sentence for the person.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
import sys
import time
from collections import deque
from collections.abc import Awaitable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from freeswim import paths
from freeswim.errors import Conflict, FreeswimError, MediaError, NotFound, RequestError, StudioError
from freeswim.request import MAX_SEED
from freeswim.studio.desk import Desk
from freeswim.studio.job import Job, Placing, PlacingState, Shot, Take, Verdict
from freeswim.studio.publish import file_name
from freeswim.studio.resolve.links import (
    Answer,
    Link,
    LinkNow,
    Links,
    Next,
    Now,
    Registration,
    SessionId,
)
from freeswim.studio.resolve.placing import (
    Code,
    Delivery,
    add_marker,
    clear_marker,
    marker_of,
    place_take,
)
from freeswim.studio.resolve.planner import (
    Ask,
    Facts,
    Picture,
    Place,
    ResolveSettings,
    Seen,
    ShotPlan,
    Verb,
    plan_shots,
)
from freeswim.studio.store import NewShot, Store

log = logging.getLogger(__name__)

Answered = TypeVar("Answered")

# -I: nothing of the current folder or the person's Python settings.
PREPARE = (sys.executable, "-I", "-X", "utf8", "-m", "freeswim.prepare")
PREPARE_S = 3600.0  # for a master of the longest take
LOOK_EVERY_S = 5.0
AGAIN_S = 60.0  # until a take is tried again though nothing seems to have changed
MOST_NEWS = 50
FORGOTTEN: Mapping[str, JsonValue] = {"forgotten": True}  # placement of a shot that nobody wants


class VerbSaid(BaseModel):
    """A menu entry was chosen."""

    model_config = ConfigDict(frozen=True)

    session: SessionId
    verb: Verb
    key: str = Field(pattern=r"^[0-9a-f]{32}$")  # the same again is not done again
    context: dict[str, JsonValue]


class News(BaseModel):
    """What came of a menu entry."""

    model_config = ConfigDict(frozen=True)

    at: float  # seconds UTC
    verb: Verb
    message: str
    hint: str = ""
    is_error: bool = False


class Wish(BaseModel):
    """A shot that waits for its prompt: ask for jobs with its id, preset and request."""

    model_config = ConfigDict(frozen=True)

    shot: Shot
    preset: str
    request: dict[str, JsonValue]
    takes: int


class ResolveNow(BaseModel):
    """Who is there, what waits, and what happened last."""

    model_config = ConfigDict(frozen=True)

    state: Literal["connected", "busy", "not_connected"]
    message: str
    links: list[LinkNow]
    settings: ResolveSettings
    wishes: list[Wish]
    news: list[News]  # the last first


class Submit(Protocol):
    """How jobs are added: `Studio.submit` for a shot that is there."""

    def __call__(
        self,
        shot_id: str,
        *,
        key: str,
        preset: str,
        request: Mapping[str, JsonValue],
        seeds: Sequence[int],
    ) -> Awaitable[list[Job]]: ...


@dataclass(frozen=True)
class _Tried:
    """How things were when a take was tried last."""

    how: object
    at: float


class ResolveDesk:
    """The daemon's side of Resolve."""

    def __init__(self, desk: Desk, submit: Submit, prepare: Sequence[str] = ()) -> None:
        """
        Args:
            submit: adds jobs for a shot.
            prepare: command that works on media; none: freeswim.prepare.
        """
        self._desk = desk
        self._submit = submit
        self._prepare = prepare or PREPARE
        self.links = Links(on_change=self._ring)
        self.is_busy = False  # with a take on its way
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = deque[News](maxlen=MOST_NEWS)
        self._keys = deque[str](maxlen=1000)  # of verbs that were begun
        self._tried: dict[str, _Tried] = {}  # by take
        self._masters: dict[str, Path] = {}  # by take
        self._changed = asyncio.Event()
        self._one_master = asyncio.Lock()  # at a time: they take all the cores
        self._is_looking = False  # whether somebody inside is being asked where the editor is
        self.change = 0  # counts up with everything that `look` says

    async def start(self) -> None:
        """Go on with what was on its way into a timeline."""
        self._spawn(self._serve())

    async def stop(self) -> None:
        """Let executors go; what is under way is begun anew by the next daemon."""
        self.links.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -------------------------------------------------------------- what executors say

    async def register(self, said: Registration) -> Next:
        """Somebody inside Resolve is there."""
        self.links.register(said)
        return Next()

    async def poll(self, session: str, wait_s: float, now: Now) -> Next:
        """What an executor is to do next."""
        return await self.links.poll(session, wait_s, now)

    async def answer(self, answer: Answer) -> Next:
        """What came of an operation; what is next."""
        return await self.links.answer(answer)

    async def verb(self, said: VerbSaid) -> Next:
        """Begin what a menu entry asks for. The same key again begins nothing."""
        link = self.links.find(said.session)
        if said.key not in self._keys:
            self._keys.append(said.key)
            link.see(said.context)
            self._begin(said.verb, said.key, link, said.context)
        return await link.next_of_verb()

    # -------------------------------------------------------------- what clients ask

    async def look(self) -> ResolveNow:
        """Who is there, what waits, and what happened last."""
        links = self.links.look()
        shots = await self._desk.ask(Store.shots_without_jobs)
        owner = self.links.owner
        state: Literal["connected", "busy", "not_connected"] = "connected"
        message = ""
        if owner is None:
            state, message = "not_connected", self.links.why_nobody
        elif owner.is_busy:
            state = "busy"
            message = "Resolve does not go on: look whether a window of it waits for you."
        return ResolveNow(
            state=state,
            message=message,
            links=links,
            settings=await self.settings(),
            wishes=[wish for shot in shots if (wish := _wish(shot)) is not None],
            news=list(reversed(self._news)),
        )

    async def do(self, verb: Verb, key: str) -> None:
        """Begin what a menu entry does, where the editor is now. The same key again begins nothing.

        What comes of it is in the news.

        Raises:
            Conflict: nobody is connected inside Resolve, or it waits for a click.
        """
        owner = self.links.owner
        if owner is None:
            raise Conflict(self.links.why_nobody)
        if owner.is_busy:
            raise Conflict(
                "Resolve does not go on.", hint="Close the window of it that waits for you."
            )
        if key not in self._keys:
            self._keys.append(key)
            self._begin(verb, key, owner, None)

    def look_inside(self) -> None:
        """Have whoever is connected say where the editor is now; `look` tells when it has come."""
        owner = self.links.owner
        if owner is not None and not self._is_looking:
            self._is_looking = True
            self._spawn(self._ask_where(owner))

    async def _ask_where(self, link: Link) -> None:
        try:
            await link.do(Ask("context"))
        finally:
            self._is_looking = False
            self._ring()

    async def settings(self) -> ResolveSettings:
        """How shots are made that are asked for inside Resolve."""
        said = await self._desk.ask(lambda store: store.resolve_settings)
        try:
            return ResolveSettings.model_validate_json(said) if said else ResolveSettings()
        except ValidationError:  # of an older or newer FreeSwim
            return ResolveSettings()

    async def change_settings(self, changes: Mapping[str, Any]) -> None:
        """How they are made from now on; `changes` are of ResolveSettings."""
        settings = (await self.settings()).model_copy(update=changes)
        await self._desk.change(
            lambda store: store.set_resolve_settings(settings.model_dump_json())
        )
        self._ring()

    async def drop(self, shot_id: str) -> Shot:
        """Forget a shot that waits for its prompt, and its marker. Raises NotFound, Conflict."""
        await self._desk.ask(lambda store: store.shot(shot_id))
        waiting = await self._desk.ask(Store.shots_without_jobs)
        shot = next((one for one in waiting if one.id == shot_id and _wish(one)), None)
        if shot is None:
            raise Conflict("This shot waits for no prompt.", hint="Cancel its jobs instead.")
        place = _place_of(shot)
        if place is not None and place.is_marked and (owner := self.links.owner) is not None:
            self._spawn(self._remove_marker(owner, shot_id, place))
        return await self._desk.change(lambda store: store.set_placement(shot_id, FORGOTTEN))

    async def place(self, take_id: str) -> Take:
        """Put a take into its timeline, now or again."""
        take = await self._desk.ask(lambda store: store.take(take_id))
        shot = await self._desk.ask(lambda store: store.shot(take.shot_id))
        if _place_of(shot) is None:
            raise Conflict(
                f"{take.file} was not asked for inside Resolve.", hint="Export it instead."
            )
        if take.placing is not None and take.placing.state == PlacingState.PLACED:
            raise Conflict(f"{take.file} was placed already.", hint=take.placing.message)
        return await self._want(take)

    # ------------------------------------------------------------------------- a verb

    def _begin(
        self, verb: Verb, key: str, link: Link, context: Mapping[str, JsonValue] | None
    ) -> None:
        """`context` None: it is asked for first."""
        link.begin_verb()
        self._spawn(self._do_verb(verb, key, link, context))

    async def _do_verb(
        self, verb: Verb, key: str, link: Link, context: Mapping[str, JsonValue] | None
    ) -> None:
        try:
            if context is None:
                context = await self._context(link)
            words = await self._words_of_verb(verb, key, link, context)
            self._tell(link, News(at=time.time(), verb=verb, message=words))
        except FreeswimError as error:
            words = News(
                at=time.time(),
                verb=verb,
                message=error.message,
                hint=error.hint,
                is_error=True,
            )
            self._tell(link, words)
        finally:
            link.end_verb()

    def _tell(self, link: Link, news: News) -> None:
        self._news.append(news)
        link.say(f"{news.message} {news.hint}".strip())
        self._ring()

    async def _words_of_verb(
        self, verb: Verb, key: str, link: Link, context: Mapping[str, JsonValue]
    ) -> str:
        if verb == "connect":
            return "Connected."
        seen = _seen(context)
        if verb == "place_finished_takes":
            return await self._place_finished(seen)
        settings = await self.settings()
        plans = await self._plans(verb, seen, settings, link)
        added = 0
        waiting = 0
        for index, plan in enumerate(plans):
            if await self._add(plan, f"{key}-{index}", settings, link):
                added += 1
            else:
                waiting += 1
        return " ".join(
            (
                *([f"{_count(added, 'shot')} queued."] if added else []),
                *(
                    [f"{_count(waiting, 'shot')} kept: write the prompt in FreeSwim."]
                    if waiting
                    else []
                ),
            )
        )

    async def _context(self, link: Link) -> Mapping[str, JsonValue]:
        """Where the editor is now. Raises StudioError: Resolve does not say."""
        said = await self._do(Ask("context"), link)
        if said.error:
            raise StudioError(
                "Resolve does not answer.",
                hint="Close the window that waits for you in it, and choose this again.",
            )
        return said.facts

    async def _plans(
        self, verb: Verb, seen: Seen, settings: ResolveSettings, link: Link
    ) -> list[ShotPlan]:
        """What is to be made, asking inside Resolve what has to be known besides."""
        steps = plan_shots(verb, seen, settings)
        answer: Facts | None = None
        while True:
            # Beside the loop: presets are files. StopIteration cannot cross a future.
            step = await asyncio.to_thread(_step, steps, answer)
            if isinstance(step, list):
                return step
            answer = await self._do(step, link)

    async def _add(self, plan: ShotPlan, key: str, settings: ResolveSettings, link: Link) -> bool:
        """Add a shot with its job; False: it waits for its prompt."""
        shot_id = hashlib.sha256(key.encode()).hexdigest()[:16]
        marker = add_marker(shot_id, plan.name, plan.place, settings.marker_color)
        said = await self._do(marker, link)
        place = plan.place.model_copy(update={"is_marked": not said.error})
        try:
            pictures = await self._pictures(plan, shot_id, link)
            request: dict[str, Any] = {**plan.request, **pictures}
            shot = NewShot(
                shot_id,
                plan.name,
                {
                    "resolve": place.model_dump(mode="json"),
                    "places_by_itself": settings.places_by_itself,
                    "wish": {"preset": plan.preset, "request": request, "takes": plan.takes},
                },
            )
            await self._desk.change(lambda store: store.add_shot(shot))
            if plan.needs_prompt:
                return False
            seeds: list[int] = []
            if plan.takes > 1:
                first = request.get("seed", secrets.randbelow(MAX_SEED - plan.takes))
                seeds = [first + number for number in range(plan.takes)]
            await self._submit(shot_id, key=key, preset=plan.preset, request=request, seeds=seeds)
        except FreeswimError as error:
            with contextlib.suppress(NotFound):
                await self._desk.change(lambda store: store.set_placement(shot_id, FORGOTTEN))
            if place.is_marked:
                await self._remove_marker(link, shot_id, place)
            raise type(error)(f"{plan.name}: {error.message}", hint=error.hint) from error
        return True

    async def _remove_marker(self, link: Link, shot_id: str, place: Place) -> None:
        asked = {
            "project": place.project,
            "timeline": place.timeline,
            "custom_data": marker_of(shot_id),
        }
        await self._do(Ask("delete_marker", asked), link)

    async def _do(self, ask: Ask, link: Link) -> Facts:
        """Through the menu entry's own link; through the owner what that cannot do any more."""
        said = await link.do(ask)
        owner = self.links.owner
        if said.error in (Code.LOST, "not_here") and owner is not None and owner is not link:
            return await owner.do(ask)
        return said

    # ----------------------------------------------------------------- frames by their paths

    async def _pictures(
        self, plan: ShotPlan, shot_id: str, link: Link
    ) -> dict[str, dict[str, str]]:
        """Fields of a request: the frames that the shot begins and ends with."""
        folder = paths.resolve_media() / "Stills"
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        found: dict[str, dict[str, str]] = {}
        for picture in plan.pictures:
            part = picture.field.partition("_")[0]
            target = folder / f"{file_name(plan.name)}_{shot_id[:8]}_{part}.png"
            await self._picture(picture, plan.place, target, link)
            found[picture.field] = {"path": str(target)}
        return found

    async def _picture(self, picture: Picture, place: Place, target: Path, link: Link) -> None:
        """What the editor sees at the playhead; elsewhere our own decode of the file.

        To show another frame the playhead has to be moved, and its viewer lags (resolve.md 1.7):
        that is done only where there is no file to decode.
        """
        await asyncio.to_thread(target.unlink, missing_ok=True)
        if picture.is_at_playhead and await self._still(picture, place, target, link, move=False):
            return
        if picture.file:
            task = {
                "task": "frame",
                "source": picture.file,
                "target": str(target),
                "frame": picture.frame,
            }
            try:
                await self._prepared(task)
                return
            except MediaError:  # a format of cameras that only Resolve reads
                log.info("a source frame cannot be decoded; asking Resolve for it")
        if not await self._still(picture, place, target, link, move=True):
            raise MediaError(
                f"Resolve gave no picture of the frame at {picture.timecode}.",
                hint="Park the playhead on it, wait until the viewer shows it, and choose this again.",
            )

    async def _still(
        self, picture: Picture, place: Place, target: Path, link: Link, *, move: bool
    ) -> bool:
        """Whether Resolve wrote the frame, and not the one that it showed before."""
        said = await self._do(
            Ask(
                "still",
                {
                    "project": place.project,
                    "timeline": place.timeline,
                    "path": str(target),
                    "timecode": picture.timecode,
                    "move": move,
                },
            ),
            link,
        )
        is_there = await asyncio.to_thread(target.is_file)
        if said.error or not is_there or not said.facts.get("is_fresh"):
            await asyncio.to_thread(target.unlink, missing_ok=True)
            return False
        return True

    # --------------------------------------------------------------- takes into the timeline

    async def _place_finished(self, seen: Seen) -> str:
        """Ask again for all takes of the open project that are not on their timeline."""
        if seen.project is None or not seen.project.id:
            raise RequestError(
                "Resolve shows no project.",
                hint="Open one; if one is open, close the window that waits for you in Resolve.",
            )
        takes = await self._desk.ask(lambda store: store.takes())
        wanted = 0
        for take in reversed(takes):
            shot = await self._desk.ask(lambda store, take=take: store.shot(take.shot_id))
            place = _place_of(shot)
            if place is None or place.project != seen.project.id or not _can_be_placed(take):
                continue
            await self._want(take)
            wanted += 1
        if not wanted:
            return "No finished take of this project waits for its place."
        return f"{_count(wanted, 'take')} on the way to the timeline."

    async def _want(self, take: Take) -> Take:
        attempt = 1 if take.placing is None else take.placing.attempt + 1
        placing = Placing(state=PlacingState.WANTED, attempt=attempt)
        self._tried.pop(take.id, None)
        return await self._desk.change(lambda store: store.set_placing(take.id, placing))

    async def _serve(self) -> None:
        """Place what is to be placed, whenever something has changed."""
        while True:
            self._changed.clear()
            seq = self._desk.seq
            try:
                for take in await self._desk.ask(Store.to_place):
                    self.is_busy = True
                    await self._try(take)
            except (FreeswimError, OSError) as error:
                log.warning("placing takes: %s", error)
            finally:
                self.is_busy = False
            if self._desk.seq == seq and not self._changed.is_set():
                await self._wait_for_change(seq)

    async def _wait_for_change(self, seq: int) -> None:
        waits = [
            asyncio.ensure_future(self._desk.wait(seq, LOOK_EVERY_S)),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _try(self, take: Take) -> None:
        """Place a take, unless nothing has changed since that could not be done."""
        shot = await self._desk.ask(lambda store: store.shot(take.shot_id))
        place, placing = _place_of(shot), take.placing
        if placing is None or not _can_be_placed(take):
            return
        if place is None:
            words = "Where it goes was said by another version of FreeSwim; export it instead."
            await self._settle(take.id, Placing(state=PlacingState.FAILED, message=words))
            return
        owner = self.links.owner
        now = None if owner is None else (owner.session, owner.now.project, owner.now.timeline)
        tried = self._tried.get(take.id)
        if (
            tried is not None
            and tried.how == (placing.attempt, now)
            and time.monotonic() - tried.at < AGAIN_S
        ):
            return
        self._tried[take.id] = _Tried((placing.attempt, now), time.monotonic())
        try:
            master = await self._master(take, shot, place)
            owner = self.links.owner
            if owner is None:
                outcome = Placing(
                    state=PlacingState.WAITING,
                    message=f"Finished. {self.links.why_nobody}",
                )
            else:
                outcome = await self._put(take, shot, place, master, owner)
        except FreeswimError as error:
            words = f"{error.message} {error.hint}".strip()
            outcome = Placing(state=PlacingState.FAILED, message=words)
        await self._settle(take.id, outcome)
        if outcome.state == PlacingState.PLACED and owner is not None:
            await self._clear(shot, place, owner)

    async def _clear(self, shot: Shot, place: Place, link: Link) -> None:
        """Let a shot's marker go, once no other take of it is on its way."""
        jobs = await self._desk.ask(lambda store: store.queued(limit=-1))
        takes = await self._desk.ask(Store.to_place)
        if any(one.shot_id == shot.id for one in (*jobs, *takes)):
            return
        await self._tell_story(clear_marker(shot.id, place), link)

    async def _settle(self, take_id: str, outcome: Placing) -> None:
        """Keep what came of it; nothing is written where it is what was said before."""

        def write(store: Store) -> None:
            before = store.take(take_id).placing or Placing(state=PlacingState.WANTED)
            kept: dict[str, Any] = {"attempt": before.attempt}
            if outcome.state == PlacingState.WAITING:
                kept["asked_in"] = before.asked_in
            after = outcome.model_copy(update=kept)
            if after != before:
                log.info("take %s: %s", take_id, after.state)
                store.set_placing(take_id, after)

        await self._desk.change(write)

    async def _put(self, take: Take, shot: Shot, place: Place, master: Path, link: Link) -> Placing:
        """The story of a take, told to the one who can do it."""
        others = await self._desk.ask(lambda store: store.takes(shot_id=shot.id))
        placed = [
            one.placing
            for one in others
            if one.id != take.id
            and one.placing is not None
            and one.placing.state == PlacingState.PLACED
        ]
        delivery = Delivery(
            take_id=take.id,
            job_id=take.job_id,
            shot_id=shot.id,
            name=shot.name,
            number=take.number,
            path=str(master),
            place=place,
            beside=placed[-1] if placed else None,
        )
        return await self._tell_story(place_take(delivery), link, take.id)

    async def _tell_story(
        self, story: Generator[Ask, Facts, Answered], link: Link, take_id: str = ""
    ) -> Answered:
        facts: Facts | None = None
        while True:
            try:
                ask = next(story) if facts is None else story.send(facts)
            except StopIteration as end:
                return end.value
            except (ValueError, LookupError, TypeError) as error:
                raise _unreadable() from error
            facts = await self._do_once(ask, take_id, link) if ask.is_once else await link.do(ask)

    async def _do_once(self, ask: Ask, take_id: str, link: Link) -> Facts:
        """An operation that Resolve would do a second time: said to be asked for, and then asked.

        Executors keep their answers, so the same session is asked for the same operation again;
        another one cannot know whether it was done.
        """
        take = await self._desk.ask(lambda store: store.take(take_id))
        placing = take.placing or Placing(state=PlacingState.WANTED)
        mark = placing.asked_in
        if mark and mark.partition("/")[0] != link.session:
            return Facts({}, Code.TWICE)
        if not mark:
            mark = f"{link.session}/{secrets.token_hex(8)}"
            await self._mark(take_id, mark)
        said = await link.do(ask, key=mark)
        if said.error and said.error != Code.LOST:  # it was not done, for certain
            await self._mark(take_id, "")
        return said

    async def _mark(self, take_id: str, asked_in: str) -> None:
        def write(store: Store) -> None:
            placing = store.take(take_id).placing or Placing(state=PlacingState.WANTED)
            store.set_placing(take_id, placing.model_copy(update={"asked_in": asked_in}))

        await self._desk.change(write)

    # ------------------------------------------------------------------------------ masters

    async def _master(self, take: Take, shot: Shot, place: Place) -> Path:
        """The take, conformed to its timeline: exact rate, exact number of frames."""
        codec = codec_for(sys.platform, take.width, take.height)
        name = f"{file_name(shot.name)}_take{take.number:02d}_{take.id[:8]}.mov"
        target = paths.resolve_media() / "Takes" / name
        if self._masters.get(take.id) == target and await asyncio.to_thread(target.is_file):
            return target
        async with self._one_master:
            await self._prepared(
                {
                    "task": "master",
                    "source": str(paths.takes() / take.file),
                    "target": str(target),
                    "codec": codec,
                    "rate": place.rate,
                    "frames": place.master_frames,
                    "comment": f"freeswim:{take.job_id}",
                }
            )
        self._masters[take.id] = target
        return target

    async def _prepared(self, task: Mapping[str, Any]) -> None:
        """Have work on media done in a process of its own.

        Raises:
            FreeswimError: it cannot be done; says why.
        """
        process = await asyncio.create_subprocess_exec(
            *self._prepare,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(PREPARE_S):
                content, _ = await process.communicate(json.dumps(task).encode())
        except TimeoutError as error:
            raise MediaError("It took too long to read the video.", hint="Try again.") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            said: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise MediaError(
                f"The process that reads video died ({process.returncode}).",
                hint="Look whether the file plays; the log says more: freeswim logs.",
            ) from error
        if not said["ok"]:
            kind = MediaError if said["code"] == MediaError.code else StudioError
            raise kind(said["message"], hint=said["hint"])

    # ------------------------------------------------------------------------------- inside

    def _ring(self) -> None:
        self.change += 1
        self._changed.set()
        self._desk.ring()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("something of Resolve's went wrong", exc_info=error)


def codec_for(platform: str, width: int, height: int) -> str:
    """Of masters for Resolve, which all editions of it read there.

    ProRes is macOS's own; DNxHR is what the free edition on Linux is sure to decode (resolve.md
    2.8), and it begins at 256 x 120. Odd sides only ProRes 4444 has.
    """
    if width % 2 or height % 2:
        return "prores-4444"
    if platform == "darwin" or width < 256 or height < 120:
        return "prores-hq"
    return "dnxhr-hqx"


def _step(steps: Any, answer: Facts | None) -> Ask | list[ShotPlan]:
    """The next operation, or the plans."""
    try:
        return next(steps) if answer is None else steps.send(answer)
    except StopIteration as end:
        return end.value
    except (ValueError, LookupError, TypeError) as error:
        raise _unreadable() from error


def _unreadable() -> StudioError:
    return StudioError(
        "What the plugin in Resolve answers cannot be read.",
        hint="Install the plugin again from FreeSwim.",
    )


def _seen(context: Mapping[str, JsonValue]) -> Seen:
    try:
        return Seen.model_validate(context)
    except ValidationError as error:
        first = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise RequestError(
            f"What the plugin saw in Resolve cannot be read: {first}.",
            hint="Install the plugin again from FreeSwim.",
        ) from error


def _place_of(shot: Shot) -> Place | None:
    """Where a shot goes in Resolve; None: nowhere, or in the words of another version."""
    try:
        return Place.model_validate(shot.placement.get("resolve"))
    except ValidationError:
        return None


def _wish(shot: Shot) -> Wish | None:
    wish = shot.placement.get("wish")
    if not isinstance(wish, dict) or _place_of(shot) is None:
        return None
    try:
        return Wish.model_validate({"shot": shot, **wish})
    except ValidationError:
        return None


def _can_be_placed(take: Take) -> bool:
    is_wanted = take.verdict in (Verdict.NEW, Verdict.APPROVED) and not take.is_draft
    is_there = take.placing is not None and take.placing.state in (
        PlacingState.PLACED,
        PlacingState.POOL,
    )
    return is_wanted and not is_there


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
