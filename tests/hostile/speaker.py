"""Who speaks to a studio over a bare socket, byte by byte, and what every answer must be like."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute

from freeswim.studio.api import create_routes
from freeswim.studio.studio import Studio

MARK = "zq7mark"  # in what is sent, so that an answer which repeats it is seen
SOME_ID = "0123456789abcdef"
# What an error may never hold: where our code is, and how it failed.
_TELLTALE = (b"Traceback", b'File "', b"/freeswim/", b".py", b"Error(", b"Exception")

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Route:
    """One route of the API, with ids filled in."""

    method: str
    path: str
    template: str


def _routes() -> list[Route]:
    studio: Any = Studio  # only what its methods are is looked at
    app = create_routes(studio, token="", port=0, on_stop=lambda: None)
    return [
        Route(method, re.sub(r"{\w+}", SOME_ID, route.path), route.path)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods)
    ]


ROUTES = _routes()  # of the app itself: a new route is attacked like the others
BODIES = [route for route in ROUTES if route.method in ("POST", "PATCH", "PUT")]
PATHS = [*sorted({route.path for route in ROUTES}), "/", f"/{MARK}", "/openapi.json", "/docs"]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")


@dataclass(frozen=True)
class Answer:
    """What came back; status 0: the connection was closed without a word."""

    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Place:
    """Folders of a studio: its data and takes, and what is not its own."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "data"

    @property
    def takes(self) -> Path:
        return self.root / "takes"

    @property
    def cwd(self) -> Path:
        """Where the process was started; nothing is to be there."""
        return self.root / "cwd"

    @property
    def output(self) -> Path:
        """What the process said."""
        return self.root / "output.txt"


class Speaker:
    """Sends bytes to one studio and checks what no answer may break. Counts what it sends."""

    sent = 0

    def __init__(self, port: int, token: str, home: Path) -> None:
        self.port, self.token, self.home = port, token, home

    def exchange(self, raw: bytes, *, method: str = "GET", finish: bool = False) -> Answer:
        """The first answer to bytes as they are.

        Args:
            method: that the answer is to.
            finish: say that nothing more comes, as a client does that goes away.
        """
        Speaker.sent += 1
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            try:
                connection.sendall(raw)
                if finish:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it answered before it had heard all
            response = http.client.HTTPResponse(connection, method=method)
            try:
                response.begin()
                headers = {name.lower(): value for name, value in response.getheaders()}
                answer = Answer(response.status, headers, response.read())
            except (http.client.BadStatusLine, ConnectionResetError):
                return Answer(0)
            finally:
                response.close()
        check(answer, self.token)
        return answer

    def ask(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        host: str | None = "",
        token: str | None = "",
    ) -> Answer:
        """The answer to a request that is right but for what is given."""
        lines = [f"{method} {target} HTTP/1.1"]
        if host is not None:
            lines.append(f"Host: {host or f'127.0.0.1:{self.port}'}")
        if token is not None:
            lines.append(f"Authorization: Bearer {token or self.token}")
        names = {name.lower() for name, _ in headers}
        if body and not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(body)}")
        if (body or method in ("POST", "PATCH", "PUT")) and "content-type" not in names:
            lines.append("Content-Type: application/json")
        lines += [f"{name}: {value}" for name, value in headers]
        raw = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        return self.exchange(raw, method=method)

    def get(self, path: str) -> Any:
        """What the studio says to one of its own clients."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def post(self, path: str, body: Any = None, *, method: str = "POST") -> Answer:
        """The answer to a JSON body."""
        return self.ask(method, path, body=json.dumps({} if body is None else body).encode())


def check(answer: Answer, token: str) -> None:
    """What holds of every answer there is."""
    assert 200 <= answer.status < 500, answer
    said = answer.body + repr(answer.headers).encode()
    assert token.encode() not in said, "the token is in an answer"
    names = set(answer.headers)
    assert not {name for name in names if name.startswith(("access-control-", "set-cookie"))}
    assert "server" not in names
    if answer.headers.get("content-type", "").startswith("text/plain"):
        # Not HTTP at all: the server's own words, before there is a request to be guarded.
        assert (answer.status, answer.body) == (400, b"Invalid HTTP request received.")
        return
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    if answer.status >= 400:
        assert not [word for word in _TELLTALE if word in answer.body], answer.body
        assert MARK.encode() not in said, "an error repeats what was sent"
        if answer.body:
            assert set(answer.json) == {"code", "message", "hint", "details"}


def refused(answers: Iterable[Answer], *statuses: int) -> None:
    """Check that each of these was refused in one of these ways."""
    for answer in answers:
        assert answer.status in statuses, answer
