"""A studio that does what the daemon never does: drops answers, proves nothing, asks for nonsense.

And is stricter than that one: a plugin may say more in time to come, this one says to the letter
what resolve_plugin/PROTOCOL.md says.
"""

from __future__ import annotations

import hmac
import json
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from freeswim.studio import discovery
from freeswim.studio.guard import check_json

Json = dict[str, Any]

# What each body holds, exactly; in PROTOCOL.md's words.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/resolve/register": {
        "session": str,
        "protocol": int,
        "plugin": str,
        "pid": int,
        "python": str,
        "platform": str,
        "stays": bool,
        "resolve": dict,
        "now": dict,
    },
    "/v1/resolve/poll": {"session": str, "wait": float, "now": dict},
    "/v1/resolve/answer": {
        "session": str,
        "id": str,
        "ok": bool,
        "facts": dict,
        "error": (dict, type(None)),
    },
    "/v1/resolve/verb": {"session": str, "verb": str, "key": str, "context": dict},
    "/v1/resolve/beat": {"session": str, "operation": str, "busy_s": float},
    "/v1/resolve/bye": {"session": str, "why": str},
}
POLL_S = 1.0  # tests do not wait for 25
DEADLINE_S = 120.0


class StandIn:
    """One daemon: what it was told, and what it asks for."""

    def __init__(self, *, can_prove: bool = True) -> None:
        self.token = secrets.token_urlsafe(32)
        self.can_prove = can_prove
        self.faults: list[str] = []  # of what came in
        self.requests: list[str] = []
        self.registered: queue.Queue[Json] = queue.Queue()
        self.answers: queue.Queue[Json] = queue.Queue()
        self.answers_to_drop = 0  # read, and then the connection breaks
        self.end = False  # in the next reply
        self._waiting: queue.Queue[Json] = queue.Queue()  # operations for who polls
        self._asked: Json | None = None  # without an answer yet
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"studio": self})
        )
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    @contextmanager
    def open(self) -> Iterator[StandIn]:
        """Answer for as long as the block runs, and say where."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        discovery.announce(self.port, self.token)
        try:
            yield self
        finally:
            discovery.withdraw()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def ask(self, name: str, /, **arguments: Any) -> Json:
        """Have an operation done by the one who polls; its answer."""
        operation = {"id": secrets.token_hex(8), "name": name, "arguments": arguments}
        self._waiting.put(operation)
        return self.answers.get(timeout=DEADLINE_S)

    def facts(self, name: str, /, **arguments: Any) -> Json:
        """As `ask`, of an operation that has to succeed."""
        answer = self.ask(name, **arguments)
        assert answer["ok"], answer
        return answer["facts"]

    # -------------------------------------------------------------------------------- inside

    def reply(self, path: str, body: Json) -> Json:
        """What a request is answered with."""
        if path.endswith(("/beat", "/bye")):
            return {}
        if path.endswith("/register"):
            self.registered.put(body)
        elif path.endswith("/answer"):
            self._asked = None
            self.answers.put(body)
        elif path.endswith("/poll"):
            self._asked = self._asked or self._next()  # again, where its answer got lost
        end, self.end = self.end, False
        return {"operation": self._asked, "say": "", "end": end}

    def _next(self) -> Json | None:
        deadline = time.monotonic() + POLL_S
        while time.monotonic() < deadline and not self.end:
            try:
                return self._waiting.get(timeout=0.02)
            except queue.Empty:
                continue
        return None


class _Handler(BaseHTTPRequestHandler):
    studio: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Only the greeting."""
        self.studio.requests.append(self.path)
        asked = urlsplit(self.path)
        nonce = parse_qs(asked.query).get("nonce", [""])[0]
        shown = self.headers.get_all("X-FreeSwim-Proof") or []
        expected = discovery.proof(self.studio.token, "client", nonce, self.studio.port)
        if asked.path != "/v1/hello" or len(nonce) < 16 or shown != [expected]:
            self.studio.faults.append(f"no greeting: {self.path} {shown}")
            return self._send(401, {"code": "bad_token", "message": "No."})
        if self.headers.get("Authorization"):
            self.studio.faults.append("shows the token before anything is proved")
        proof = discovery.proof(self.studio.token, "studio", nonce, self.studio.port)
        self.greeted = True
        said = {"api": 1, "version": "0", "pid": 1}
        self._send(200, {**said, "proof": proof if self.studio.can_prove else "0" * 64})

    def do_POST(self) -> None:
        self.studio.requests.append(self.path)
        content = self.rfile.read(int(self.headers["Content-Length"]))
        body = self._checked(content)
        if body is None:
            return self._send(422, {"code": "bad_request", "message": "No."})
        if self.path.endswith("/answer") and self.studio.answers_to_drop:
            self.studio.answers_to_drop -= 1
            self.close_connection = True
            return None
        self._send(200, self.studio.reply(self.path, body))

    def _checked(self, content: bytes) -> Json | None:
        faults: list[str] = []
        given = (self.headers.get("Authorization") or "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.studio.token}".encode()):
            faults.append("has not the token")
        if not getattr(self, "greeted", False):
            faults.append("asks before it has greeted on this connection")
        if self.headers.get("Content-Type") != "application/json":
            faults.append("is no JSON")
        if self.headers.get("Host") != f"127.0.0.1:{self.studio.port}":
            faults.append("names another host")
        if not content.isascii() or len(content) > 1 << 20:
            faults.append("is too large, or not ASCII")
        check_json(content)
        body = json.loads(content)
        expected = BODIES.get(self.path)
        if expected is None or set(body) != set(expected):
            faults.append(f"is not as the protocol says: {sorted(body)}")
        else:
            faults += [
                f"{name} is {body[name]!r}"
                for name, kind in expected.items()
                if not isinstance(body[name], kind)
            ]
        if not faults:
            return body
        self.studio.faults += [f"{self.path} {fault}" for fault in faults]
        return None

    def _send(self, status: int, said: Json) -> None:
        content = json.dumps(said).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests look at what was asked."""
