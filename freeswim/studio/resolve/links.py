"""Who is there inside Resolve, and the operations that they are asked to do: one at a time, by ids.

An executor always speaks first: it registers, polls and answers, over HTTP or through the mailbox,
and every reply may carry its next operation. An operation is handed out again until its answer is
here; executors keep their answers by its id, so it is done once. All of this is in memory only: a
daemon that starts anew knows nobody, its executors register again, and what was to be done is
derived from the takes (placer.py).

One executor at a time is the owner: it stays, and does what comes up later. The one that came last
is it; the one before is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from freeswim.errors import Conflict, NotFound, RequestError
from freeswim.studio.resolve.planner import Ask, Facts, Seen, rate_of

log = logging.getLogger(__name__)

PROTOCOL = 1
MOST_LINKS = 32  # menu entries end at once; more of them are a mistake
GONE_S = 60.0  # without a word
BUSY_S = 5.0  # of one operation, after which Resolve most likely waits for a click
ANSWER_S = 10.0  # that a reply is held for the next operation; executors wait 15
PATIENCE_S = 120.0  # for the answer to an operation, while signs of life come
LONGEST_WAIT_S = 25.0

SessionId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Words = Annotated[str, Field(max_length=1000)]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True)  # a newer executor may say more


class Now(_Said):
    """Where the editor is."""

    page: Words | None = None
    project: Words = ""  # unique ids; empty: none is open
    timeline: Words = ""


class Product(_Said):
    """Which Resolve."""

    product: Words = ""
    version: list[int] = Field(default=[], max_length=10)
    version_words: Words = ""
    edition: Literal["free", "studio"] = "free"


class Registration(_Said):
    """Who an executor is."""

    session: SessionId
    protocol: int
    plugin: Words = ""
    pid: int = 0
    python: Words = ""
    platform: Words = ""
    stays: bool = False
    transport: Literal["http", "mailbox"] = "http"
    resolve: Product = Product()
    now: Now = Now()


class Problem(_Said):
    code: Words
    message: Words = ""


class Answer(_Said):
    """What came of an operation."""

    session: SessionId
    id: Words
    ok: bool
    facts: dict[str, JsonValue] = {}
    error: Problem | None = None


class Operation(BaseModel):
    """What an executor is to do."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    arguments: dict[str, Any] = {}


class Next(BaseModel):
    """The one form of reply to an executor."""

    model_config = ConfigDict(frozen=True)

    operation: Operation | None = None
    say: str = ""  # a sentence for Resolve's console
    end: bool = False


class WhereNow(BaseModel):
    """What the editor has open, as an executor last told of it."""

    model_config = ConfigDict(frozen=True)

    page: str
    project: str  # unique ids; empty: none is open
    project_name: str
    timeline: str
    timeline_name: str
    rate: str  # a fraction, frames per second; empty: none that timecode knows
    is_drop_frame: bool
    start_timecode: str


class LinkNow(BaseModel):
    """An executor, as clients see it."""

    model_config = ConfigDict(frozen=True)

    product: str
    version: str
    edition: Literal["free", "studio"]
    transport: Literal["http", "mailbox"]
    is_owner: bool
    page: str
    project: str
    timeline: str
    where: WhereNow | None  # None: nobody has asked it yet
    seconds_silent: float
    busy_seconds: float  # with one operation: Resolve most likely shows a window


@dataclass
class _Asked:
    operation: Operation
    answer: asyncio.Future[Facts]


@dataclass(eq=False)
class Link:
    """One executor."""

    said: Registration
    clock: Callable[[], float]
    now: Now
    heard: float  # on the clock
    answered: float  # on the clock
    where: WhereNow | None = None
    is_over: bool = False
    is_let_go: bool = False
    is_working: int = 0  # verbs that still may ask it something
    busy_s: float = 0.0
    _asked: list[_Asked] = field(default_factory=list[_Asked])  # the first one is handed out
    _says: list[str] = field(default_factory=list[str])
    _bell: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def session(self) -> str:
        return self.said.session

    @property
    def is_busy(self) -> bool:
        """Whether Resolve takes longer over an operation than one can: it most likely waits."""
        return self.busy_s > BUSY_S

    @property
    def silent_s(self) -> float:
        """Seconds since it was last heard of."""
        return max(0.0, self.clock() - self.heard)

    @property
    def contact_s(self) -> float:
        """Seconds since Resolve's side last said something itself.

        In front of the mailbox it is the daemon that polls: there only answers count.
        """
        if self.said.transport == "mailbox":
            return max(0.0, self.clock() - self.answered)
        return self.silent_s

    async def do(self, ask: Ask, *, key: str = "") -> Facts:
        """What came of an operation; `lost` where nobody answers any more.

        Args:
            key: the same operation with the same key has the same id, so that a new daemon gets
                the answer that the one before it lost; without one it is done anew.
        """
        if self.is_over:
            return Facts({}, "lost")
        operation = Operation(
            id=_id_of(ask, key) if key else secrets.token_hex(16),
            name=ask.name,
            arguments=dict(ask.arguments),
        )
        asked = _Asked(operation, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._ring()
        since = self.clock()
        try:
            while True:
                try:
                    async with asyncio.timeout(1.0):
                        return await asyncio.shield(asked.answer)
                except TimeoutError:
                    if self.silent_s > GONE_S or self.clock() - since > PATIENCE_S:
                        return Facts({}, "lost")
        finally:
            if asked in self._asked:
                self._asked.remove(asked)
            self.busy_s = 0.0

    def say(self, words: str) -> None:
        """A sentence for Resolve's console, with the next reply."""
        self._says.append(words)

    def hear(self, now: Now | None = None) -> None:
        """It is alive."""
        self.heard = self.clock()
        if now is not None:
            self.now = now

    def take(self, answer: Answer) -> None:
        """An answer came; one to an operation that nobody waits for any more is passed over."""
        for asked in self._asked:
            if asked.operation.id == answer.id and not asked.answer.done():
                code = "" if answer.ok else (answer.error.code if answer.error else "error")
                asked.answer.set_result(Facts(answer.facts, code))
                self._asked.remove(asked)
                self.answered = self.clock()
                if answer.ok and asked.operation.name == "context":
                    self.see(answer.facts)
                return

    def see(self, context: Mapping[str, JsonValue]) -> None:
        """What the editor has open, of a whole context; one that cannot be read says nothing."""
        with contextlib.suppress(ValidationError):
            self.where = _where(Seen.model_validate(context))

    async def next(self, wait_s: float) -> Next:
        """The next operation, or none after a while."""
        deadline = self.clock() + wait_s
        while not (self._asked or self._says or self.is_over or self.is_let_go):
            if not await self._rings(deadline - self.clock()):
                break
        says, self._says = " ".join(self._says), []
        operation = self._asked[0].operation if self._asked and not self.is_over else None
        return Next(operation=operation, say=says, end=self.is_over)

    async def next_of_verb(self) -> Next:
        """As `next`, held back while a verb may still ask something."""
        deadline = self.clock() + ANSWER_S
        while self.is_working and not self._asked:
            if not await self._rings(deadline - self.clock()):
                break
        return await self.next(0)

    def begin_verb(self) -> None:
        """A verb may ask it something from now on."""
        self.is_working += 1

    def end_verb(self) -> None:
        """The verb has asked all that it will."""
        self.is_working -= 1
        self._ring()

    def let_go(self) -> None:
        """Answer at once whoever polls; the daemon stops."""
        self.is_working = 0
        self.is_let_go = True
        self._ring()

    def end(self) -> None:
        """Nothing more is asked of it; what it was asked is lost."""
        self.is_over = True
        for asked in self._asked:
            if not asked.answer.done():
                asked.answer.set_result(Facts({}, "lost"))
        self._asked.clear()
        self._ring()

    async def _rings(self, timeout_s: float) -> bool:
        """Wait for something to happen; whether it did."""
        if timeout_s <= 0:
            return False
        self._bell.clear()
        try:
            # Not wait_for: up to Python 3.11 that can swallow a cancellation.
            async with asyncio.timeout(timeout_s):
                await self._bell.wait()
        except TimeoutError:
            return False
        return True

    def _ring(self) -> None:
        self._bell.set()


class Links:
    """All executors."""

    def __init__(
        self,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called when somebody comes or goes, or the editor is elsewhere."""
        self._links: dict[str, Link] = {}
        self._on_change = on_change
        self._clock = clock
        self._was_lost = False  # the one before went without a word
        self.is_stopping = False

    @property
    def owner(self) -> Link | None:
        """Who does what comes up; None: nobody is there."""
        for link in reversed(self._links.values()):
            if link.said.stays and not link.is_over and link.silent_s <= GONE_S:
                return link
        return None

    def look(self) -> list[LinkNow]:
        """Who is there, the owner first."""
        self._forget()
        owner = self.owner
        found = [
            LinkNow(
                product=link.said.resolve.product,
                version=link.said.resolve.version_words,
                edition=link.said.resolve.edition,
                transport=link.said.transport,
                is_owner=link is owner,
                page=link.now.page or "",
                project=link.now.project,
                timeline=link.now.timeline,
                where=link.where,
                seconds_silent=round(link.contact_s, 1),
                busy_seconds=round(link.busy_s, 1),
            )
            for link in self._links.values()
            if not link.is_over
        ]
        return sorted(found, key=lambda one: not one.is_owner)

    def find(self, session: str) -> Link:
        """Raises NotFound: it never registered, or with a daemon before this one."""
        link = self._links.get(session)
        if link is None:
            raise NotFound("This executor is not registered.", hint="Register it again.")
        link.hear()
        return link

    def register(self, said: Registration) -> Link:
        """Somebody is there. One that stays is the owner from now on.

        Raises:
            Conflict: it speaks another protocol.
        """
        if said.protocol != PROTOCOL:
            raise Conflict(
                f"The plugin speaks version {said.protocol} of the protocol, FreeSwim {PROTOCOL}.",
                hint="Install the plugin again from FreeSwim, then choose this again.",
            )
        self._forget()
        before = self._links.get(said.session)
        if before is not None and not before.is_over:
            before.hear(said.now)
            return before
        if len(self._links) >= MOST_LINKS:
            raise Conflict("Too many scripts are connected.", hint="Start Resolve again.")
        link = Link(said, self._clock, said.now, heard=self._clock(), answered=self._clock())
        if said.stays:
            for other in self._links.values():
                if other.said.stays and not other.is_over:
                    other.say("another script of FreeSwim has taken over.")
                    other.end()
        self._links[said.session] = link
        self._was_lost = self._was_lost and not said.stays
        log.info(
            "%s %s is there through %s%s",
            said.resolve.product[:60],
            said.resolve.version_words[:20],
            said.transport,
            ", to stay" if said.stays else "",
        )
        self._on_change()
        return link

    async def poll(self, session: str, wait_s: float, now: Now) -> Next:
        """The next operation of an executor. Raises NotFound."""
        link = self.find(session)
        was = link.now
        link.hear(now)
        if (was.project, was.timeline) != (now.project, now.timeline):
            self._on_change()
        if self.is_stopping:
            return Next()
        reply = await link.next(min(wait_s, LONGEST_WAIT_S))
        link.hear()
        if reply.end:
            self._links.pop(session, None)
        return reply

    async def answer(self, answer: Answer) -> Next:
        """Take an answer, and say what is next. Raises NotFound."""
        link = self.find(answer.session)
        link.take(answer)
        return await link.next_of_verb()

    def beat(self, session: str, busy_s: float) -> None:
        """An executor lives, and waits for Resolve. Raises NotFound."""
        link = self.find(session)
        was_busy, link.busy_s = link.busy_s > BUSY_S, busy_s
        if not was_busy and busy_s > BUSY_S:
            self._on_change()

    @property
    def why_nobody(self) -> str:
        """Why there is no owner, and what to do in Resolve."""
        connect = "choose Workspace > Scripts > FreeSwim > FreeSwim Connect"
        if self._was_lost:
            return (
                f"Resolve does not answer. Close the window that waits for you in it, or {connect}."
            )
        return f"Resolve is not connected. In it, {connect}."

    def lose(self, session: str) -> None:
        """An executor does not answer any more."""
        self._was_lost = True
        self.bye(session)

    def bye(self, session: str) -> None:
        """An executor ends."""
        link = self._links.pop(session, None)
        if link is not None:
            link.end()
            self._on_change()

    def stop(self) -> None:
        """Let everybody go; they come back to the next daemon."""
        self.is_stopping = True
        for link in list(self._links.values()):
            link.let_go()

    def _forget(self) -> None:
        for session, link in list(self._links.items()):
            if link.silent_s > GONE_S:
                self._was_lost = self._was_lost or link.said.stays
                link.end()
                del self._links[session]


def _id_of(ask: Ask, key: str) -> str:
    said = json.dumps([key, ask.name, dict(ask.arguments)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _where(seen: Seen) -> WhereNow:
    timeline = seen.timeline
    rate, is_drop_frame = "", False
    if timeline is not None:
        with contextlib.suppress(RequestError):
            exact, says_drop = rate_of(timeline.rate)
            rate, is_drop_frame = str(exact), says_drop or timeline.drop_frame == "1"
    return WhereNow(
        page=seen.page or "",
        project=seen.project.id if seen.project else "",
        project_name=seen.project.name if seen.project else "",
        timeline=timeline.id if timeline else "",
        timeline_name=timeline.name if timeline else "",
        rate=rate,
        is_drop_frame=is_drop_frame,
        start_timecode=(timeline.start_timecode or "") if timeline else "",
    )
