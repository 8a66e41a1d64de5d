"""A studio that stands in for the daemon, and is strict about what it is told.

Speaks the daemon's own greeting (freeswim.studio.discovery) and the words of
resolve_plugin/PROTOCOL.md. A test asks for operations through it as the daemon's brain would.
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
LONGEST_POLL_S = 1.0  # tests do not wait for 25
DEADLINE_S = 30.0


class StandIn:
    """One daemon: what it was told, and what it asks for."""

    def __init__(self, *, can_prove: bool = True, polls_for: float = LONGEST_POLL_S) -> None:
        self.token = secrets.token_urlsafe(32)
        self.can_prove = can_prove
        self.polls_for = polls_for
        self.faults: list[str] = []  # of what came in
        self.registered: queue.Queue[Json] = queue.Queue()
        self.verbs: queue.Queue[Json] = queue.Queue()
        self.answers: queue.Queue[Json] = queue.Queue()
        self.beats: queue.Queue[Json] = queue.Queue()
        self.byes: queue.Queue[Json] = queue.Queue()
        self.answers_to_drop = 0  # read, and then the connection breaks
        self.for_verb: list[tuple[str, Json]] = []  # operations that a verb is answered with
        self.say = ""  # in the reply to the next verb
        self.end = False  # in the next reply
        self.refusal: tuple[int, str] | None = None  # instead of every reply
        self.requests: list[str] = []
        self.sessions: dict[str, Json] = {}
        self._waiting: queue.Queue[Json] = queue.Queue()  # operations for who polls
        self._asked: dict[str, Json] = {}  # without an answer yet
        self._of_verb: dict[str, list[Json]] = {}
        self._lock = threading.Lock()
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
        self._waiting.put(self._operation(name, arguments))
        return self.answers.get(timeout=DEADLINE_S)

    def facts(self, name: str, /, **arguments: Any) -> Json:
        """As `ask`, of an operation that has to succeed."""
        answer = self.ask(name, **arguments)
        assert answer["ok"], answer
        return answer["facts"]

    def ask_without_waiting(self, name: str, /, **arguments: Any) -> None:
        self._waiting.put(self._operation(name, arguments))

    # -------------------------------------------------------------------------------- inside

    def _operation(self, name: str, arguments: Json) -> Json:
        return {"id": secrets.token_hex(8), "name": name, "arguments": arguments}

    def reply(self, path: str, body: Json) -> tuple[int, Json]:
        """What a request is answered with."""
        if self.refusal:
            status, code = self.refusal
            return status, {"code": code, "message": "No.", "hint": "", "details": {}}
        session = body["session"]
        if path.endswith("/register"):
            self.sessions[session] = body
            self.registered.put(body)
        elif session not in self.sessions:
            return 404, {"code": "not_found", "message": "Who?", "hint": "", "details": {}}
        return 200, self._next(path, session, body)

    def _next(self, path: str, session: str, body: Json) -> Json:
        operation: Json | None = None
        if path.endswith("/verb"):
            self.verbs.put(body)
            self._of_verb[session] = [self._operation(*one) for one in self.for_verb]
        elif path.endswith("/answer"):
            self._asked.pop(body["id"], None)
            self.answers.put(body)
        elif path.endswith("/beat"):
            self.beats.put(body)
            return {}
        elif path.endswith("/bye"):
            self.byes.put(body)
            return {}
        if self._of_verb.get(session):
            operation = self._of_verb[session].pop(0)
        elif path.endswith("/poll"):
            operation = self._from_queue(min(body["wait"], self.polls_for))
        if operation is not None:
            self._asked[operation["id"]] = operation
        say = ""
        if path.endswith("/verb"):
            say, self.say = self.say, ""
        end, self.end = self.end, False
        return {"operation": operation, "say": say, "end": end}

    def _from_queue(self, wait: float) -> Json | None:
        with self._lock:
            if self._asked:  # its answer got lost
                return next(iter(self._asked.values()))
            deadline = time.monotonic() + wait
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
            with self.studio._lock:
                self.studio._asked.setdefault(body["id"], {})
            return None
        self._send(*self.studio.reply(self.path, body))

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
