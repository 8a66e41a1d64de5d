"""What asks the studio: the command line and the desktop app, through the API alone.

Each call has a connection of its own, to this machine and past every proxy. On it the studio
proves first that it knows the token, so that whoever took the port of a dead one learns nothing.
"""

from __future__ import annotations

import hmac
import http.client
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from freeswim import paths
from freeswim.errors import FreeswimError, StudioError
from freeswim.studio import discovery

MOST_BYTES = 64 * 2**20  # of a reply
HELLO_S = 10.0  # for the studio to prove itself
TIMEOUT_S = 60.0  # for a reply
SILENCE_S = 45.0  # of a stream of events; the studio gives a sign of life every 15 s
START_S = 15.0  # for a studio to start
ENDED_EARLY_S = 3.0  # for another one to answer, where the one that was started ended
STOP_S = 60.0  # for a studio to stop; a worker stops at its next step
PATIENCE_S = 15.0  # for a studio that was lost to come back
TRIES = 3  # of a call that may be repeated
REST_S = 0.2  # between two tries

_GONE = "Start it again: freeswim serve. Nothing in the queue is lost."
if sys.platform == "win32":
    _DETACHED = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
else:
    _DETACHED = 0

Json = dict[str, Any]


class Event(NamedTuple):
    """Something that happened in the studio."""

    kind: str  # changes, progress
    content: Json


class Lost(StudioError):
    """The connection broke, or nobody was there who knows the token."""


def connect() -> Client | None:
    """A client of the studio that serves this data folder; None: none runs."""
    found = discovery.find()
    if found is None:
        return None
    client = Client(found)
    return client if client.is_there() else None


def connect_or_start() -> Client:
    """A client of the studio that serves this data folder, started where none runs.

    Raises:
        StudioError: it does not start; says where its log is.
    """
    if (client := connect()) is not None:
        return client
    process = _start()
    deadline = time.monotonic() + START_S
    has_ended = False
    while time.monotonic() < deadline:
        if (client := connect()) is not None:
            return client
        if not has_ended and process.poll() is not None:
            # Another one may have been first; of that one it says nothing.
            has_ended = True
            deadline = min(deadline, time.monotonic() + ENDED_EARLY_S)
        time.sleep(0.05)
    raise StudioError(
        "The studio does not start.", hint=f"Its log says why: {paths.logs() / 'studio.log'}."
    )


def _start() -> subprocess.Popen[bytes]:
    """`freeswim serve`, which goes on when this process and its terminal are gone."""
    home = paths.home()
    places = (
        ("FREESWIM_HOME", home),
        ("FREESWIM_MODELS", paths.models()),
        ("FREESWIM_TAKES", paths.takes()),
    )
    moved = {name: str(path) for name, path in places if name in os.environ}
    try:
        home.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "freeswim.cli", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # It must not hold the folder, or the drive, in which the person happens to be.
            cwd=home,
            env={**os.environ, **moved},
            start_new_session=sys.platform != "win32",
            creationflags=_DETACHED,
        )
    except OSError as error:
        raise StudioError(
            f"The studio cannot be started: {error.strerror}.",
            hint=f"Check that {home} can be written, or name another with FREESWIM_HOME.",
        ) from error
    # Waited for, so that one that ends while this process lives leaves no zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return process


class Client:
    """Asks one studio, and the one that takes its place where it is started anew.

    Paths are those of the API without `/v1`. Failures come as the studio raised them.
    """

    def __init__(self, found: discovery.Found) -> None:
        self._found = found

    @property
    def pid(self) -> int:
        """The studio's process."""
        return self._found.pid

    def is_there(self) -> bool:
        """Whether the studio answers and proves that it is the one."""
        try:
            with self._connection(HELLO_S):
                return True
        except Lost:
            return False

    def get(self, path: str, **query: str | int) -> Json:
        """What the studio says of something. A broken connection is tried again."""
        return _object(self._call("GET", _with(path, query)))

    def get_bytes(self, path: str) -> bytes:
        """A file of the studio's: a preview, a take's video."""
        return self._call("GET", path)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """Have something done. Once: whether it was is not known where the connection breaks."""
        return _object(self._call("POST", path, body or {}))

    def patch(self, path: str, body: Mapping[str, Any]) -> Json:
        """Have something changed. Once, as with `post`."""
        return _object(self._call("PATCH", path, body))

    def submit(self, submission: Mapping[str, Any]) -> list[Json]:
        """Add the jobs of a submission; with its key, so that trying again adds none twice."""
        keyed = {"key": str(uuid.uuid4()), **submission}
        return _object(self._call("POST", "/jobs", keyed, can_repeat=True))["jobs"]

    def stop(self) -> None:
        """Stop the studio, and wait until it has: its jobs go on when it is started again.

        Raises:
            StudioError: it takes longer than STOP_S.
        """
        self.post("/stop")
        deadline = time.monotonic() + STOP_S
        while _is_served():
            if time.monotonic() > deadline:
                raise StudioError(
                    "The studio is still stopping: a job's step takes long.",
                    hint="Wait for it; nothing is lost.",
                )
            time.sleep(0.05)

    def events(self, after: int) -> Iterator[Event]:
        """What happens after change `after`, for ever; a broken connection is made again.

        Raises:
            StudioError: the studio is gone and does not come back.
        """
        lost_at: float | None = None
        while True:
            try:
                for event in self._stream(_with("/events", {"after": after})):
                    lost_at = None
                    if event is None:
                        continue
                    if event.kind == "changes":
                        after = int(event.content["seq"])
                    yield event
            except StudioError:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > PATIENCE_S:
                    raise
            time.sleep(REST_S)
            self._find_again()

    # -------------------------------------------------------------------------------- inside

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        can_repeat: bool = False,
    ) -> bytes:
        can_repeat = can_repeat or method == "GET"
        for tries_left in reversed(range(TRIES)):
            is_asked = False
            try:
                with self._connection(TIMEOUT_S) as connection:
                    is_asked = True
                    return _read(self._ask(connection, method, path, body))
            except Lost:
                # What was never asked can be asked again.
                if tries_left == 0 or (is_asked and not can_repeat):
                    raise
            time.sleep(REST_S)
            self._find_again()
        raise AssertionError("the last try returns or raises")

    def _stream(self, path: str) -> Generator[Event | None]:
        """Events, and None for a sign of life, until the studio ends the stream."""
        with self._connection(SILENCE_S) as connection:
            response = self._ask(connection, "GET", path)
            if response.status != 200:
                _read(response)
            yield None
            yield from _events(response)

    @contextmanager
    def _connection(self, timeout: float) -> Generator[http.client.HTTPConnection]:
        """A connection on which the studio has proved that it is the one."""
        connection = http.client.HTTPConnection("127.0.0.1", self._found.port, timeout=HELLO_S)
        try:
            self._greet(connection)
            connection.sock.settimeout(timeout)
            yield connection
        except (OSError, http.client.HTTPException) as error:
            raise Lost(f"The studio does not answer: {_words(error)}.", hint=_GONE) from error
        finally:
            connection.close()

    def _greet(self, connection: http.client.HTTPConnection) -> None:
        token, port = self._found.token, self._found.port
        nonce = secrets.token_hex(16)
        headers = {"X-FreeSwim-Proof": discovery.proof(token, "client", nonce, port)}
        connection.request("GET", f"/v1/hello?nonce={nonce}", headers=headers)
        connection.auto_open = 0  # who answers on another connection has proved nothing
        try:
            proof = str(_object(_read(connection.getresponse())).get("proof"))
        except FreeswimError:
            proof = ""
        expected = discovery.proof(token, "studio", nonce, port)
        if not hmac.compare_digest(proof.encode(), expected.encode()):
            raise Lost("Another program has the studio's port.", hint=_GONE)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._found.token}"}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection.request(method, f"/v1{path}", body=content, headers=headers)
        return connection.getresponse()

    def _find_again(self) -> None:
        self._found = discovery.find() or self._found


def error_of(said: Mapping[str, Any]) -> FreeswimError:
    """A failure as it travels in JSON, as it was raised."""
    code, message, hint = (str(said.get(name) or "") for name in ("code", "message", "hint"))
    kind = _kinds(FreeswimError).get(code, StudioError)
    error = kind(message or "The studio does not say what went wrong.", hint=hint)
    details = said.get("details")
    if isinstance(details, dict):
        error.details = cast("dict[str, int | str]", details)
    return error


def _kinds(base: type[FreeswimError]) -> dict[str, type[FreeswimError]]:
    kinds = {base.code: base}
    for kind in base.__subclasses__():
        if kind.__module__ == base.__module__:
            kinds |= _kinds(kind)
    return kinds


def _is_served() -> bool:
    """Whether a studio holds the data folder."""
    try:
        with discovery.lock():
            return False
    except StudioError:
        return True


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole reply.

    Raises:
        FreeswimError: the studio says that something went wrong, and what.
        StudioError: it is too large.
    """
    content = response.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise StudioError(f"A reply of the studio is larger than {MOST_BYTES >> 20} MB.")
    if response.length:  # read() with an amount says nothing of it
        raise http.client.IncompleteRead(content, response.length)
    if response.status >= 400:
        try:
            said = _object(content)
        except StudioError:
            said = Json(message=f"The studio answers {response.status}.", code=StudioError.code)
        raise error_of(said)
    return content


def _object(content: bytes) -> Json:
    try:
        said: object = json.loads(content) if content else {}
    except ValueError as error:
        raise StudioError("The studio's reply is not JSON.") from error
    if not isinstance(said, dict):
        raise StudioError("The studio's reply is not what was asked for.")
    return cast(Json, said)


def _events(response: http.client.HTTPResponse) -> Generator[Event | None]:
    """Server-sent events; None for a comment."""
    kind, content = "", ""
    while line := response.readline(MOST_BYTES):
        name, _, value = line.decode("utf-8", errors="replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if len(content) + len(line) >= MOST_BYTES:
            raise StudioError(f"A message of the studio is larger than {MOST_BYTES >> 20} MB.")
        if name == "event":
            kind = value
        elif name == "data":
            content += value + "\n"
        elif line.startswith(b":"):
            yield None
        elif not name and content:
            yield Event(kind, _object(content.encode()))
            kind, content = "", ""


def _with(path: str, query: Mapping[str, str | int]) -> str:
    asked = {name: value for name, value in query.items() if value != ""}
    return f"{path}?{urllib.parse.urlencode(asked)}" if asked else path


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
