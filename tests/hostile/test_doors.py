"""Who gets in: every route, every method and what there is no route for, over bare sockets."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from pathlib import Path

import pytest
from speaker import BODIES, MARK, METHODS, PATHS, ROUTES, Headers, Route, Speaker, refused

from freeswim.studio.discovery import proof
from freeswim.studio.guard import MOST_BYTES


def state_of(home: Path) -> str:
    """Of all that the studio remembers."""
    return hashlib.sha256((home / "studio.db").read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _nothing_changes(studio: Speaker):
    """Nobody who is refused changes anything."""
    before = state_of(studio.home)
    yield
    assert state_of(studio.home) == before
    assert studio.get("/v1/queue")["mode"] == "run"


def by_route(route: Route) -> str:
    return f"{route.method} {route.template}"


def test_the_routes_are_those_of_the_app():
    assert len(ROUTES) >= 32 and {route.method for route in ROUTES} >= {"GET", "POST", "PATCH"}
    assert all("{" not in route.path for route in ROUTES)


# ---------------------------------------------------------------------------------------- hosts


def foreign_hosts(port: int) -> list[str]:
    other = port - 1 if port == 65535 else port + 1
    return [
        f"{MARK}.example",
        f"{MARK}.example:{port}",
        "127.0.0.1",
        "localhost",
        f"127.0.0.1:{other}",
        "127.0.0.1:80",
        f"127.0.0.1.{MARK}.example:{port}",
        f"127-0-0-1.{MARK}.example:{port}",
        f"localhost.:{port}",
        f"127.0.0.1.:{port}",
        f"LOCALHOST:{port}",
        f"localhost:{port}.{MARK}.example",
        f"a@127.0.0.1:{port}",
        f"127.0.0.1:{port}@{MARK}.example",
        f"127.0.0.1:{port}/v1/hello",
        f"127.0.0.1:{port}/openapi.json?",
        f"127.0.0.1:{port} {MARK}.example",
        f"127.0.0.1:{port},{MARK}.example",
        f"127.0.0.1:0{port}",
        f"0.0.0.0:{port}",
        f"127.0.0.2:{port}",
        f"127.1:{port}",
        f"2130706433:{port}",
        f"0x7f000001:{port}",
        f"[::]:{port}",
        "[::1]",
        f"[::ffff:127.0.0.1]:{port}",
        f"[0:0:0:0:0:0:0:1]:{port}",
        f"::1:{port}",
        f"{MARK}.local:{port}",
        f"{MARK}.internal:{port}",
        f"10.0.0.1:{port}",
        "null",
        "*",
    ]


@pytest.mark.parametrize("route", ROUTES, ids=by_route)
def test_no_other_host_is_answered_for(studio: Speaker, route: Route):
    """A name that somebody lets point here (DNS rebinding) included; with the right token, too."""
    hosts = foreign_hosts(studio.port)
    refused((studio.ask(route.method, route.path, host=host) for host in hosts), 421)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_there_is_one_host_exactly(studio: Speaker, method: str):
    right, wrong = f"127.0.0.1:{studio.port}", f"{MARK}.example"
    for pair in ((right, wrong), (wrong, right), (right, right)):
        raw = f"{method} /v1/queue HTTP/1.1\r\nHost: {pair[0]}\r\nHost: {pair[1]}\r\n"
        raw += f"Authorization: Bearer {studio.token}\r\n\r\n"
        refused([studio.exchange(raw.encode())], 400, 421)
    raw = f"{method} /v1/queue HTTP/1.1\r\nHost:\r\nAuthorization: Bearer {studio.token}\r\n\r\n"
    refused([studio.exchange(raw.encode())], 400, 421)
    refused([studio.ask(method, "/v1/queue", host=None)], 400, 421)
    raw = f"{method} /v1/queue HTTP/1.0\r\nAuthorization: Bearer {studio.token}\r\n\r\n"
    refused([studio.exchange(raw.encode())], 421)


def test_its_own_names_are_answered_for(studio: Speaker):
    for host in ("127.0.0.1", "localhost", "[::1]"):
        answer = studio.ask("GET", "/v1/queue", host=f"{host}:{studio.port}")
        assert answer.status == 200


# -------------------------------------------------------------------------------------- origins

PAGES: list[Headers] = [
    *([("Origin", origin)] for origin in ("null", "", f"https://{MARK}.example", "file://")),
    [("Origin", "http://127.0.0.1")],
    [("origin", "http://localhost")],
    [("Origin", f"chrome-extension://{MARK}")],
    *(
        [("Sec-Fetch-Site", site)]
        for site in ("cross-site", "same-site", "same-origin", "", "NONE", f"none,{MARK}")
    ),
    [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "none")],
    [("Sec-Fetch-Site", "none"), ("Origin", "null")],
    [("Origin", "null"), ("Access-Control-Request-Method", "POST")],
]


@pytest.mark.parametrize("route", ROUTES, ids=by_route)
def test_no_page_is_answered(studio: Speaker, route: Route):
    """Of no site, our own address included, whatever it knows."""
    own: Headers = [("Origin", f"http://127.0.0.1:{studio.port}")]
    for page in [*PAGES, own]:
        refused([studio.ask(route.method, route.path, page)], 403)
        refused([studio.ask("OPTIONS", route.path, page)], 403)


# --------------------------------------------------------------------------------------- tokens


def wrong_tokens(token: str) -> list[Headers]:
    flipped = ("A" if token[0] != "A" else "B") + token[1:]
    near = [flipped, token[:-1], token + "A", token.swapcase(), token[::-1], f'"{token}"', ""]
    return [
        [],
        *([("Authorization", f"Bearer {one}")] for one in near),
        [("Authorization", token)],
        [("Authorization", f"Basic {token}")],
        [("Authorization", f"bearer {token}")],
        [("Authorization", f"Bearer  {token}")],
        [("Authorization", f"Bearer {token},")],
        [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")],
        [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")],
        [("Authorization", "Bearer " + "A" * 5000)],
        [("Authorization", "Bearer \xe9\xff")],
        [("Proxy-Authorization", f"Bearer {token}")],
        [("Cookie", f"token={token}; authorization={token}")],
        [("X-Api-Key", token), ("X-Token", token), ("X-FreeSwim-Token", token)],
        [("X-FreeSwim-Proof", token)],
        [("X-FreeSwim-Proof", "0" * 64)],
    ]


def test_without_the_token_nothing_is_said_but_that(studio: Speaker):
    """Not even whether there is such a route: every refusal is the same, byte for byte."""
    said: set[bytes] = set()
    for path in PATHS:
        for method in METHODS:
            answer = studio.ask(method, path, token=None)
            refused([answer], 401)
            assert set(answer.headers) == {
                *("content-type", "content-length", "connection"),
                *("x-content-type-options", "cache-control"),
            }
            said.add(answer.body)
    assert len(said - {b""}) == 1  # HEAD has no body


@pytest.mark.parametrize("route", ROUTES, ids=by_route)
def test_what_is_nearly_the_token_is_not_it(studio: Speaker, route: Route):
    said: set[bytes] = set()
    for headers in wrong_tokens(studio.token):
        answer = studio.ask(route.method, route.path, headers, token=None)
        refused([answer], 401)
        said.add(answer.body)
    for name in ("token", "access_token", "authorization"):
        answer = studio.ask(route.method, f"{route.path}?{name}={studio.token}", token=None)
        refused([answer], 401)
        said.add(answer.body)
    assert len(said) == 1


def test_a_proof_opens_the_greeting_and_nothing_else(studio: Speaker):
    nonce = "n" * 20
    right = proof(studio.token, "client", nonce, studio.port)

    def shown(target: str, *proofs: str, method: str = "GET") -> int:
        headers = [("X-FreeSwim-Proof", one) for one in proofs]
        return studio.ask(method, target, headers, token=None).status

    greeting = f"/v1/hello?nonce={nonce}"
    assert shown(greeting, right) == 200
    assert shown(greeting, right, right) == 401
    assert shown(greeting.replace("n" * 20, "m" * 20), right) == 401
    assert shown("/v1/hello", right) == 401
    assert shown(f"{greeting}&nonce={'m' * 20}", right) in (200, 401)
    for who, port in (("studio", studio.port), ("client", studio.port - 1)):
        assert shown(greeting, proof(studio.token, who, nonce, port)) == 401  # type: ignore
    for method in set(METHODS) - {"GET"}:
        assert shown(greeting, right, method=method) == 401
    for path in PATHS:
        if path != "/v1/hello":
            assert shown(f"{path}?nonce={nonce}", right) == 401
    for path in ("/v1/hello/", "/v1//hello", "/v1/./hello", "/v1/hello/../jobs", "//v1/hello"):
        assert shown(f"{path}?nonce={nonce}", right) == 401


# -------------------------------------------------------------------------------------- methods


def test_a_method_that_a_route_does_not_have_is_none(studio: Speaker):
    allowed: dict[str, set[str]] = {}
    for route in ROUTES:
        allowed.setdefault(route.path, set()).add(route.method)
    for path, methods in allowed.items():
        for method in set(METHODS) - methods:
            answer = studio.ask(method, path)
            if answer.status == 422:  # `/v1/jobs/cancel` as a job's id, which it is not
                assert re.fullmatch("/v1/jobs/[a-z]+", path) and method in ("GET", "PATCH")
                continue
            refused([answer], 405)
            assert set(answer.headers["allow"].split(", ")) <= methods | {"GET", "PATCH"}


# --------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("route", BODIES, ids=by_route)
def test_a_body_is_json_or_refused(studio: Speaker, route: Route):
    """What a form of a page can send without being asked first is none of it."""
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        f"multipart/form-data; boundary={MARK}",
        "text/json",
        "application/jsonp",
        f"application/{MARK}",
        "application/x-ndjson, application/json",
        "",
    ):
        answer = studio.ask(route.method, route.path, [("Content-Type", kind)], b"{}")
        refused([answer], 415)
    raw = f"{route.method} {route.path} HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\n"
    raw += f"Authorization: Bearer {studio.token}\r\n\r\n"
    refused([studio.exchange(raw.encode())], 415)
    two = [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    refused([studio.ask(route.method, route.path, two, b"{}")], 415)


@pytest.mark.parametrize("route", ROUTES, ids=by_route)
def test_a_body_of_more_than_a_megabyte_is_refused_however_it_comes(studio: Speaker, route: Route):
    body = b'"' + b"a" * MOST_BYTES + b'"'
    json = ("Content-Type", "application/json")
    refused([studio.ask(route.method, route.path, [json], body)], 413)
    chunk = b"%x\r\n%s\r\n" % (len(body) // 4, body[: len(body) // 4])
    chunked: Headers = [json, ("Transfer-Encoding", "chunked")]
    refused([studio.ask(route.method, route.path, chunked, chunk * 5 + b"0\r\n\r\n")], 413)
    for length in (MOST_BYTES + 1, 2**31, 2**63, 2**64 + 1, 10**19):
        # Only said, not sent: refused before anything of it is read.
        answer = studio.ask(route.method, route.path, [json, ("Content-Length", str(length))])
        refused([answer], 413)


@pytest.mark.parametrize(
    "length", ["-1", "+2", "2, 2", "2,3", "0x2", "two", " ", "1e3", "2 2", "٢"]
)
def test_a_length_that_is_none_is_refused(studio: Speaker, length: str):
    raw = f"POST /v1/jobs/clear HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\n"
    raw += f"Authorization: Bearer {studio.token}\r\nContent-Type: application/json\r\n"
    raw += f"Content-Length: {length}\r\n\r\n"
    answer = studio.exchange(raw.encode() + b"{}")
    refused([answer], *((200,) if length == "2, 2" else (400, 413)))  # the same one twice is one


def test_a_length_of_a_thousand_digits_is_refused(studio: Speaker):
    for digits in ("9" * 20, "9" * 1000, "9" * 5000):
        headers = [("Content-Length", digits), ("Content-Type", "application/json")]
        refused([studio.ask("POST", "/v1/jobs/clear", headers)], 400, 413)


@pytest.mark.parametrize("route", BODIES, ids=by_route)
def test_half_a_body_is_no_request(studio: Speaker, route: Route):
    """Who goes away in the middle has asked for nothing: an empty body is a whole one to some."""
    for part in (b"", b"{", b"{}"):
        raw = f"{route.method} {route.path} HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\n"
        raw += f"Authorization: Bearer {studio.token}\r\nContent-Type: application/json\r\n"
        raw += "Content-Length: 20\r\n\r\n"
        answer = studio.exchange(raw.encode() + part, finish=True)
        assert answer.status in (0, 400), answer
    raw = raw.replace("Content-Length: 20", "Transfer-Encoding: chunked")
    answer = studio.exchange(raw.encode() + b"14\r\n{}", finish=True)
    assert answer.status in (0, 400), answer


def test_what_comes_after_a_refusal_is_not_heard(studio: Speaker):
    """The rest of a body that nobody read is no second request."""
    smuggled = f"POST /v1/stop HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\n"
    smuggled += f"Authorization: Bearer {studio.token}\r\nContent-Type: application/json\r\n"
    smuggled += "Content-Length: 2\r\n\r\n{}"
    for head in (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {MARK}\r\n",
        f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\n",
    ):
        length = f"Content-Length: {len(smuggled)}\r\n\r\n"
        first = f"{head}Content-Type: text/plain\r\n{length}{smuggled}"
        with socket.create_connection(("127.0.0.1", studio.port), timeout=120) as connection:
            connection.sendall((first + smuggled).encode())
            said = b""
            while piece := connection.recv(1 << 16):
                said += piece
        assert said.count(b"HTTP/1.1 ") == 1


# -------------------------------------------------------------------------------------- targets

NOT_PATHS = (
    f"http://{MARK}.example/v1/queue",
    "http://127.0.0.1/v1/queue",
    "https://127.0.0.1/v1/queue",
    "file:///v1/queue",
    "*",
    f"{MARK}.example:443",
    "v1/queue",
    "?/v1/queue",
    "%2Fv1%2Fqueue/..",
    "\\v1\\queue",
)
NO_ROUTES = (
    "//v1/queue",
    "/v1//queue",
    "/v1/../v1/queue",
    "/v1/%2e%2e/v1/queue",
    "/v1/%2e%2e%2fv1/queue",
    "/v1/./queue",
    "/v1/queue/",
    "/V1/QUEUE",
    "/v1/queue%00",
    "/v1/queue%0d%0aX:1",
    "/v1%5cqueue",
    "/v1\\queue",
    "/v1/queue;x=1",
    "/v1/queue%3f",
    "/v1/queue%20",
    "/v1/%71ueue%ff",
    "/../../../../etc/passwd",
    "/v1/takes/../../../../etc/passwd",
    "/v1/takes/..%2f..%2f..%2f..%2fetc%2fpasswd/media",
    "/static/..%5c..%5cwindows",
    "/%c0%ae%c0%ae/etc/passwd",
    "/" + "a" * 5000,
    "/" + "../" * 1000,
    "/openapi.json",
    "/docs",
    "/redoc",
)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_target_that_is_no_path_is_refused(studio: Speaker, method: str):
    for target in NOT_PATHS:
        refused([studio.ask(method, target, token=None)], 400, 401)
        answer = studio.ask(method, target)
        assert answer.status in ((400, 404) if target.startswith("%2F") else (400,)), answer


def test_a_path_is_a_routes_own_or_nothing(studio: Speaker):
    for target in NO_ROUTES:
        refused([studio.ask("GET", target, token=None)], 401)
        answer = studio.ask("GET", target)
        refused([answer], 404)
        assert b"etc" not in answer.body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/queue\r\n\r\n",
        b"GET /v1/queue HTTP/9.9\r\n\r\n",
        b"GET  /v1/queue HTTP/1.1\r\n\r\n",
        b"GET /v1/\x00queue HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/queue HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /v1/queue HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET /v1/queue HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET /v1/queue HTTP/1.1\r\nA: \x00\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b'{"func": "Exit"}',
    ],
)
def test_what_is_not_http_is_no_request(studio: Speaker, raw: bytes):
    answer = studio.exchange(raw, finish=True)
    assert answer.status in (0, 400, 401, 421, 501), answer


def test_an_upgrade_is_no_way_in(studio: Speaker):
    upgrade: Headers = [
        *(("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    for path in ("/", "/v1/events", "/v1/queue"):
        refused([studio.ask("GET", path, upgrade, token=None)], 401)
        refused([studio.ask("GET", path, [*upgrade, ("Origin", f"http://{MARK}")])], 403)
    h2c: Headers = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c")]
    refused([studio.ask("GET", "/v1/queue", h2c)], 200)


def test_many_who_say_nothing_keep_nobody_out(studio: Speaker):
    """Connections that begin a request and stay silent."""
    silent = [socket.create_connection(("127.0.0.1", studio.port)) for _ in range(100)]
    try:
        for connection in silent:
            connection.sendall(b"GET /v1/queue HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        assert studio.ask("GET", "/v1/queue").status == 200
        assert time.monotonic() - began < 30
    finally:
        for connection in silent:
            connection.close()
