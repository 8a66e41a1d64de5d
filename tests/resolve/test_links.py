"""Who is there inside Resolve, and that an operation is done once: the daemon's side, by hand."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from freeswim.errors import Conflict, NotFound
from freeswim.studio.resolve.links import Answer, Links, Now, Problem, Registration
from freeswim.studio.resolve.planner import Ask


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


def test_who_waits_is_let_go_when_the_daemon_stops():
    """A server ends when it has answered everybody: polls last 25 s, and verbs 10."""

    async def story() -> None:
        links = Links()
        link = links.register(registration())
        link.begin_verb()
        waiting = (
            asyncio.create_task(links.poll(link.session, 25, Now())),
            asyncio.create_task(link.next_of_verb()),
        )
        await asyncio.sleep(0)
        links.stop()
        async with asyncio.timeout(5):
            for reply in await asyncio.gather(*waiting):
                assert reply.operation is None and not reply.end  # it comes back to the next one
            assert (await links.poll(link.session, 25, Now())).operation is None

    asyncio.run(story())
