"""The guard by itself: what it refuses of a request that its server lets through, or will one day."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from freeswim.studio.guard import MOST_BYTES, Guard, Message, Receive, Scope, Send

TOKEN, PORT = "t" * 43, 4711
HOST = (b"host", b"127.0.0.1:4711")
AUTHORIZATION = (b"authorization", b"Bearer " + TOKEN.encode())
JSON = (b"content-type", b"application/json")


def status_of(
    *headers: tuple[bytes, bytes],
    path: str = "/v1/queue",
    method: str = "GET",
    pieces: tuple[bytes, ...] = (b"",),
    is_cut: bool = False,
) -> int | str:
    """What is answered; "inside": it got through; "": nothing."""
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": is_cut or index + 1 < len(pieces)}
        for index, piece in enumerate(pieces)
    ]
    said: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        said.append(message)

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        whole = await receive()
        assert whole == {"type": "http.request", "body": b"".join(pieces), "more_body": False}
        assert (await receive())["type"] == "http.disconnect"
        said.append({"status": "inside"})

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": list(headers),
    }
    asyncio.run(Guard(inside, token=TOKEN, port=PORT)(scope, receive, send))
    if said and said[0]["status"] != "inside":
        assert set(json.loads(said[1]["body"])) == {"code", "message", "hint", "details"}
    return said[0]["status"] if said else ""


def test_a_client_gets_through():
    assert status_of(HOST, AUTHORIZATION) == "inside"
    assert (
        status_of(HOST, AUTHORIZATION, JSON, method="POST", pieces=(b'{"a"', b": 1}")) == "inside"
    )
    assert status_of((b"Host", HOST[1]), (b"AUTHORIZATION", AUTHORIZATION[1])) == "inside"


@pytest.mark.parametrize(
    "hosts",
    [[], [HOST, HOST], [HOST, (b"host", b"evil")], [(b"host", b"evil"), HOST], [(b"host", b"")]],
)
def test_there_is_one_host_and_it_is_ours(hosts: list[tuple[bytes, bytes]]):
    assert status_of(*hosts, AUTHORIZATION) == 421


@pytest.mark.parametrize("path", ["", "v1/queue", "http://127.0.0.1:4711/v1/queue", "*"])
def test_a_path_begins_at_the_root(path: str):
    assert status_of(HOST, AUTHORIZATION, path=path) == 400


def test_there_is_one_token():
    assert status_of(HOST) == 401
    assert status_of(HOST, AUTHORIZATION, AUTHORIZATION) == 401
    assert status_of(HOST, (b"authorization", b"Bearer "), AUTHORIZATION) == 401


@pytest.mark.parametrize(
    "length", [b"", b"-1", b"+1", b"1e3", b"0x1", b" 1", "٣".encode(), b"9" * 5000]
)
def test_a_length_is_a_number_of_bytes(length: bytes):
    assert status_of(HOST, AUTHORIZATION, JSON, (b"content-length", length), method="POST") == 413


def test_no_more_is_read_than_is_allowed():
    half = b"[" + b" " * (MOST_BYTES // 2)
    assert status_of(HOST, AUTHORIZATION, JSON, method="POST", pieces=(half, half, b"]")) == 413


def test_a_body_that_is_cut_is_none():
    for pieces in ((b"",), (b"{}",), (b"{", b"}")):
        got = status_of(HOST, AUTHORIZATION, JSON, method="POST", pieces=pieces, is_cut=True)
        assert got == ""


def test_what_is_no_request_is_not_answered():
    async def never(*_: Any) -> Any:
        raise AssertionError("nobody is to be asked or told")

    guard = Guard(never, token=TOKEN, port=PORT)
    asyncio.run(guard({"type": "websocket", "path": "/", "headers": []}, never, never))
