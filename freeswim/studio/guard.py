"""What stands in front of the API: everything is refused that is not plainly one of our clients.

Every web page that the person opens can send requests to this machine's ports, and with a name
that it lets point here it can read the answers. So each request must name this host and port, come
from no page, carry the token and, where it has a body, be JSON. All of it is decided before
routing, for every method and path there is or will be; nothing is decided by what a page can
choose (reliability.md 1.2). No browser is a client, so nothing is allowed across origins, ever.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NoReturn

from freeswim.studio.discovery import proof

MOST_BYTES = 1 << 20  # of a body
MOST_DEPTH = 32
LARGEST_INTEGER = 2**53
HELLO = "/v1/hello"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_NONCE = re.compile(rb"(?:^|&)nonce=([0-9A-Za-z_-]{16,128})(?:&|$)")
# A string, or what begins like one and has no end: it takes no second look at any byte.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # in JSON text; no backslash before it is its own


class Refused(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Gone(Exception):
    """The client went away in the middle of its request: it has asked for nothing."""


class Guard:
    """An ASGI application that lets through to another what may pass."""

    def __init__(self, app: App, *, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._port = port
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no websockets
            return
        try:
            self._check_source(scope)
            body: bytes | None = await _read_body(scope, receive)
        except Refused as refused:
            await _answer(send, refused)
            return
        except _Gone:
            return

        async def receive_checked() -> Message:
            nonlocal body
            if body is None:
                return await receive()  # the client's going away
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        async def send_plain(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_headers(message)]
            await send(message)

        await self._app(scope, receive_checked, send_plain)

    def _check_source(self, scope: Scope) -> None:
        headers = _Headers(scope)
        if not scope["path"].startswith("/"):
            raise Refused(400, "bad_target", "The request's target is not a path.")
        if headers.all(b"host") not in [[host] for host in self._hosts]:
            raise Refused(421, "bad_host", "This is not the host that was asked for.")
        if headers.all(b"origin") or headers.all(b"sec-fetch-site") not in ([], [b"none"]):
            raise Refused(403, "foreign_origin", "Requests of web pages are not answered.")
        if not self._is_known(scope, headers):
            raise Refused(401, "bad_token", "The token is missing or wrong.")

    def _is_known(self, scope: Scope, headers: _Headers) -> bool:
        """Whether the client has the token; to say hello it proves that without showing it."""
        shown = headers.all(b"x-freeswim-proof")
        if scope["path"] == HELLO and scope["method"] == "GET" and shown:
            nonce = _NONCE.search(scope["query_string"])
            expected = proof(self._token, "client", nonce[1].decode(), self._port) if nonce else ""
            return len(shown) == 1 and hmac.compare_digest(shown[0], expected.encode())
        given = headers.all(b"authorization")
        expected_header = f"Bearer {self._token}".encode()
        return len(given) == 1 and hmac.compare_digest(given[0], expected_header)


class _Headers:
    """Of a request, every one as it was sent; names in lower case."""

    def __init__(self, scope: Scope) -> None:
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self._headers if key.lower() == name]


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, if it is JSON of a sensible size.

    Raises:
        Refused: it is not.
        _Gone: there is no whole body; what came of it may look like one.
    """
    headers = _Headers(scope)
    lengths = headers.all(b"content-length")
    has_body = lengths not in ([], [b"0"]) or bool(headers.all(b"transfer-encoding"))
    if has_body or scope["method"] in ("POST", "PUT", "PATCH"):
        media_type = b"".join(headers.all(b"content-type")).partition(b";")[0].strip().lower()
        if media_type != b"application/json":
            raise Refused(415, "not_json", "Bodies are application/json.")
    if has_body and lengths and (not lengths[0].isdigit() or int(lengths[0][:20]) > MOST_BYTES):
        raise Refused(413, "too_large", "The body is larger than 1 MB.")
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            raise Refused(413, "too_large", "The body is larger than 1 MB.")
        if not message.get("more_body", False):
            break
    if body:
        check_json(body)
    return body


def check_json(body: bytes) -> None:
    """Refuse what is no JSON, and JSON that readers understand differently.

    Raises:
        Refused: it is too deep, repeats a name, or holds a number or a character that is none.
    """
    depth = 0
    for bracket in re.findall(rb"[\[{\]}]", _STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MOST_DEPTH:
            raise Refused(400, "bad_json", f"The body is nested deeper than {MOST_DEPTH}.")
    try:
        read = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_number,
            parse_int=_small_integer,
            parse_float=_finite,
            object_pairs_hook=_without_repetition,
        )
        text = json.dumps(read, ensure_ascii=False)
        text.encode("utf-8")  # no lone surrogates
    except ValueError as error:
        raise Refused(400, "bad_json", "The body is not well-formed JSON.") from error
    if _NUL.search(text):  # where a path or a word ends for some
        raise Refused(400, "bad_json", "The body holds a NUL character.")


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _small_integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > LARGEST_INTEGER:
        raise ValueError("an integer that not every reader can hold")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number too large")
    return number


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a name twice")
    return read


def _headers(message: Message) -> list[tuple[bytes, bytes]]:
    """What every answer says besides."""
    present = {name.lower() for name, _ in message.get("headers", ())}
    always = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
    return [header for header in always if header[0] not in present]


async def _answer(send: Send, refused: Refused) -> None:
    said: dict[str, Any] = {
        "code": refused.code,
        "message": refused.message,
        "hint": "",
        "details": {},
    }
    body = json.dumps(said).encode()
    start: Message = {
        "type": "http.response.start",
        "status": refused.status,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),  # the rest of a body that was not read is no request
        ],
    }
    start["headers"] += _headers(start)
    await send(start)
    await send({"type": "http.response.body", "body": body})
