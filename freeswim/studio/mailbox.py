"""The way into a Resolve whose scripts have no sockets: free from 21.1 on (resolve.md 3.3).

There a Lua script can read a file of ours, and write Fusion's preferences; nothing else. So each
operation goes out as `request.lua`, put in place in one step, and its answer is looked for in
`Fusion.prefs`:

    return {id="…", to=owner, body=[==[{"operation": …, "pad": …}]==]}
    Global = { FreeSwim = { Owner, Ack = id, Response = id:base64 } }

Others on the machine may read preferences. So each request brings random bytes that seal its answer
and are used for nothing else: what lies in the preferences says nothing to who has not the request,
whose folder is this user's alone.

To the daemon it is an executor like any other: it registers, polls and answers, so that all rules
of links.py hold for it. Its script ends without a word; that shows when a request is not
acknowledged. A menu entry starts the script anew, which takes the place of the one before.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from freeswim import paths
from freeswim.errors import FreeswimError
from freeswim.studio.resolve.links import (
    PROTOCOL,
    Answer,
    Next,
    Now,
    Operation,
    Problem,
    Product,
    Registration,
)
from freeswim.studio.resolve.placer import ResolveDesk, VerbSaid

log = logging.getLogger(__name__)

PAD_BYTES = 48 * 1024  # the longest answer; a preference holds little more
MOST_PREFS_BYTES = 8 << 20
PNG = b"\x89PNG\r\n\x1a\n"

_TOKEN = re.compile(r"[0-9a-f]{32}")
_VALUE = re.compile(rb'(\w+)\s*=\s*"([0-9A-Za-z+/=:_]*)"')


@dataclass(frozen=True)
class Patience:
    """How long is waited for what, seconds."""

    look_s: float = 0.25  # between two looks at the preferences, while nothing goes on
    poll_s: float = 0.05  # while an answer is waited for
    ack_s: float = 10.0  # until a request is begun
    answer_s: float = 120.0  # until it is answered; Resolve may show a window


class _Reply(BaseModel):
    """An answer, unsealed."""

    model_config = ConfigDict(frozen=True)

    id: str
    ok: bool
    facts: dict[str, JsonValue] = {}
    error: Problem | None = None
    owner: str


class _SilentScript(Exception):
    """The script does not answer any more."""


class Mailbox:
    """Serves the script that last left its mark in the preferences."""

    def __init__(self, desk: ResolveDesk, patience: Patience = Patience()) -> None:
        self._desk = desk
        self._patience = patience
        self._task: asyncio.Task[None] | None = None
        self._last_id = 0
        self._known: set[str] = set()  # scripts that were greeted
        self._hello: _Sent | None = None  # that stands, for a script that was busy

    async def start(self) -> None:
        """Look for a script, from now on."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Leave nothing behind that a script might do later."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(_withdraw)

    async def _serve(self) -> None:
        await asyncio.to_thread(_withdraw)  # of a daemon that died
        self._known = set((await self._owners())[1:])  # of other times; the newest may live
        while True:
            try:
                if owners := await self._new_owners():
                    await self._meet(owners[0])
                elif self._hello is not None and (reply := await self._look_for(self._hello)):
                    self._hello = None
                    await self._welcome(reply)
            except (FreeswimError, OSError) as error:
                log.warning("the mailbox: %s", error)
            await asyncio.sleep(self._patience.look_s)

    async def _owners(self) -> list[str]:
        """Tokens of the last script of each profile, the newest first."""
        return _owners(await asyncio.to_thread(read_prefs))

    async def _new_owners(self) -> list[str]:
        return [owner for owner in await self._owners() if owner not in self._known]

    def _is_somebody_new(self, said: Sequence[Mapping[str, str]]) -> bool:
        return any(owner not in self._known for owner in _owners(said))

    async def _meet(self, owner: str) -> None:
        """Greet a script that is new, or was there before this daemon."""
        self._known.add(owner)
        self._hello = None
        sent = await self._send(_hello(), owner)
        reply = await self._answer_to(sent)
        if reply is None:
            self._hello = sent  # it may be behind a window of Resolve's
            return
        await self._welcome(reply)

    async def _welcome(self, hello: _Reply) -> None:
        """Serve a script until it is silent, or another one comes."""
        session = hello.owner
        if not hello.ok or not _TOKEN.fullmatch(session):
            return
        facts = {name: hello.facts.get(name) for name in Product.model_fields}
        try:
            said = Registration(
                session=session,
                protocol=int(str(hello.facts.get("protocol", PROTOCOL))),
                stays=True,
                transport="mailbox",
                resolve=Product.model_validate(facts),
            )
        except ValueError:
            log.warning("who answers from the mailbox cannot be read")
            return
        reply = await self._desk.register(said)
        try:
            await self._converse(session, reply)
        except _SilentScript:
            log.info("the script of the mailbox is silent")
            self._desk.links.lose(session)
            self._hello = await self._send(_hello(), session)  # it may come back

    async def _converse(self, session: str, reply: Next) -> None:
        now = Now()
        verb = await self._verb_of(session)
        while True:
            if reply.operation is not None:
                answer = await self._do(reply.operation, session)
                now = _now(answer) if reply.operation.name == "context" else now
                reply = await self._desk.answer(
                    Answer(
                        session=session,
                        id=answer.id,
                        ok=answer.ok,
                        facts=answer.facts,
                        error=answer.error,
                    )
                )
            elif reply.end:
                await self._do(Operation(id=secrets.token_hex(16), name="bye"), session)
                return
            elif verb is not None:
                reply, verb = await self._desk.verb(verb), None
            else:
                if await self._new_owners():
                    self._desk.links.bye(session)
                    return
                reply = await self._desk.poll(session, 2 * self._patience.look_s, now)

    async def _verb_of(self, session: str) -> VerbSaid | None:
        """What the editor chose to start the script; None: nothing, or it was done before."""
        if await asyncio.to_thread(_was_heard, session):
            return None
        operation = Operation(id=secrets.token_hex(16), name="verb", arguments={"key": session})
        answer = await self._do(operation, session)
        await asyncio.to_thread(_hear, session)
        try:
            said = VerbSaid.model_validate({"session": session, **answer.facts})
        except ValidationError:
            log.warning("what was chosen in Resolve cannot be read")
            return None
        return said

    async def _do(self, operation: Operation, owner: str) -> _Reply:
        """What came of an operation. Raises _SilentScript: nobody began it, or it has no end."""
        answer = await self._answer_to(await self._send(operation, owner))
        if answer is None:
            raise _SilentScript
        if operation.name == "still":
            path = str(operation.arguments["path"])
            return await asyncio.to_thread(_with_still, answer, Path(path))
        return answer

    # ------------------------------------------------------------------------------ the wire

    async def _send(self, operation: Operation, owner: str) -> _Sent:
        self._last_id = max(self._last_id + 1, int(time.time() * 1000) * 1000)
        sent = _Sent(str(self._last_id), owner, operation, secrets.token_bytes(PAD_BYTES))
        await asyncio.to_thread(_write_request, sent)
        return sent

    async def _answer_to(self, sent: _Sent) -> _Reply | None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        is_begun, beat = False, began
        while True:
            said = await asyncio.to_thread(read_prefs)
            if (reply := _reply_to(sent, said)) is not None:
                return reply
            is_begun = is_begun or any(one.get("Ack") == sent.id for one in said)
            passed = loop.time() - began
            if not is_begun and self._is_somebody_new(said):  # who has taken its place
                return None
            if passed > (self._patience.answer_s if is_begun else self._patience.ack_s):
                if sent.operation.name != "hello":
                    await asyncio.to_thread(_withdraw)
                return None
            if is_begun and loop.time() - beat > 5:
                beat = loop.time()
                self._beat(sent.owner, passed)
            await asyncio.sleep(self._patience.poll_s)

    async def _look_for(self, sent: _Sent) -> _Reply | None:
        """The answer to a request that stands, if it has come."""
        return _reply_to(sent, await asyncio.to_thread(read_prefs))

    def _beat(self, session: str, busy_s: float) -> None:
        with suppress(FreeswimError):
            self._desk.links.beat(session, busy_s)


@dataclass(frozen=True)
class _Sent:
    """A request that lies in the mailbox."""

    id: str
    owner: str  # whose script is meant: two Resolves may look
    operation: Operation
    pad: bytes

    def lua(self) -> bytes:
        """The file: ASCII, so that no code page matters."""
        body = json.dumps(
            {
                "operation": self.operation.model_dump(),
                "pad": base64.b64encode(self.pad).decode("ascii"),
            }
        )
        level = next(n for n in range(2, 100) if f"]{'=' * n}]" not in body)
        bar = "=" * level
        return f'return {{id="{self.id}", to="{self.owner}", body=[{bar}[{body}]{bar}]}}\n'.encode(
            "ascii"
        )


def _hello() -> Operation:
    return Operation(id=secrets.token_hex(16), name="hello")


def read_prefs() -> list[dict[str, str]]:
    """What scripts of ours have written into each profile's preferences, the newest first.

    Nothing of one that is half-written.
    """
    found: list[tuple[float, dict[str, str]]] = []
    for path in paths.fusion_profiles().glob("*/Fusion.prefs"):
        with suppress(OSError):
            written = path.stat().st_mtime
            with path.open("rb") as file:
                said = parse_prefs(file.read(MOST_PREFS_BYTES))
            if said:
                found.append((written, said))
    return [said for _, said in sorted(found, key=lambda one: one[0], reverse=True)]


def parse_prefs(content: bytes) -> dict[str, str]:
    """Values of our table, which are plain ASCII whatever code page the rest is in."""
    start = re.search(rb"\bFreeSwim\s*=\s*(?:\w+\(\)\s*)?\{", content)
    end = content.find(b"}", start.end()) if start else -1
    if start is None or end < 0:  # it is being written, or nothing of ours is there
        return {}
    values = _VALUE.findall(content[start.end() : end])
    return {name.decode("ascii"): value.decode("ascii") for name, value in values}


def unseal(sealed: str, pad: bytes) -> bytes:
    """What was sealed with a request's pad. Raises ValueError: it is cut off, or too long."""
    content = base64.b64decode(sealed, validate=True)
    if len(content) > len(pad):
        raise ValueError("longer than its pad")
    return bytes(one ^ other for one, other in zip(content, pad, strict=False))


def _owners(said: Sequence[Mapping[str, str]]) -> list[str]:
    owners = [one.get("Owner", "") for one in said]
    return [owner for owner in owners if _TOKEN.fullmatch(owner)]


def _reply_to(sent: _Sent, said: Sequence[Mapping[str, str]]) -> _Reply | None:
    """The answer to a request; None: it is not there, or not whole yet."""
    for one in said:
        number, _, sealed = one.get("Response", "").partition(":")
        if number != sent.id:
            continue
        try:
            reply = _Reply.model_validate_json(unseal(sealed, sent.pad))
        except ValueError:
            continue
        if reply.id == sent.operation.id:
            return reply
    return None


def _write_request(sent: _Sent) -> None:
    folder = paths.mailbox()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    part = folder / "request.part"
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(sent.lua())
    for tries in range(20):
        try:
            part.replace(folder / "request.lua")
            return
        except PermissionError:  # Windows, while a script reads it
            if tries == 19:
                raise
            time.sleep(0.01)


def _withdraw() -> None:
    for name in ("request.lua", "request.part"):
        with suppress(OSError):
            (paths.mailbox() / name).unlink(missing_ok=True)


def _was_heard(session: str) -> bool:
    """Whether what was chosen to start this script was done, perhaps by a daemon before."""
    with suppress(OSError):
        return (paths.mailbox() / "heard").read_text("ascii") == session
    return False


def _hear(session: str) -> None:
    paths.mailbox().mkdir(mode=0o700, parents=True, exist_ok=True)
    (paths.mailbox() / "heard").write_text(session, "ascii")


def _now(answer: _Reply) -> Now:
    """Where the editor is, of what a script saw."""
    ids: dict[Literal["project", "timeline"], str] = {"project": "", "timeline": ""}
    for name in ids:
        seen: Any = answer.facts.get(name)
        if isinstance(seen, dict):
            ids[name] = str(seen.get("id", ""))[:200]  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return Now(page=str(answer.facts.get("page") or "")[:50], **ids)


def _with_still(answer: _Reply, path: Path) -> _Reply:
    """Look at a still in place of the script, which can read no file.

    Where it had to move the playhead, it wrote the frame before beside it, to compare.
    """
    before = path.with_name(f"{path.name}.before.png")
    old = _content(before)
    with suppress(OSError):
        before.unlink(missing_ok=True)
    if not answer.ok:
        return answer
    content = _content(path)
    if not content.startswith(PNG) or len(content) < 33:
        problem = Problem(code="no_still", message="Resolve wrote no whole PNG.")
        return answer.model_copy(update={"ok": False, "facts": {}, "error": problem})
    facts = {
        **answer.facts,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": int.from_bytes(content[16:20], "big"),
        "height": int.from_bytes(content[20:24], "big"),
        "is_fresh": content != old,
    }
    return answer.model_copy(update={"facts": facts})


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
