"""The studio on the other end: found by its file, made to prove itself, then asked.

The same greeting as `freeswim.studio.client`: on every connection the studio proves first that it
knows the token, for this nonce and port, so that whoever took the port of a dead one learns nothing.
"""

import hashlib
import hmac
import http.client
import json
import os
import secrets
import stat
from typing import Any, Dict, Optional

from . import places

HELLO_S = 5.0  # for the studio to prove itself
ANSWER_S = 15.0  # for a reply that nobody waits for on purpose
MOST_BYTES = 1 << 20  # of a reply
LARGEST = 4096  # bytes of the studio's file


class Lost(Exception):
    """Nobody is there who knows the token, or the connection broke."""


class Refused(Exception):
    """The studio has understood, and will not."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.words = " ".join(part for part in (message, hint) if part) or "The studio refuses."


class Studio:
    """Where a studio says it can be reached."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token

    def post(self, path: str, body: Dict[str, Any], timeout_s: float = ANSWER_S) -> Dict[str, Any]:
        """Ask for something, on a connection of its own.

        Raises:
            Lost: it may or may not have been heard.
            Refused: it was heard and refused.
        """
        content = json.dumps(body).encode("ascii")
        headers = {"Authorization": "Bearer " + self._token, "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=HELLO_S)
        try:
            self._greet(connection)
            connection.sock.settimeout(timeout_s)
            connection.request("POST", "/v1/resolve" + path, body=content, headers=headers)
            return _read(connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # AttributeError: the other side closed after its greeting, and there is no socket.
            raise Lost(type(error).__name__) from error
        finally:
            connection.close()

    def is_there(self) -> bool:
        """Whether it answers, and is the one."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=HELLO_S)
        try:
            self._greet(connection)
            return True
        except (OSError, http.client.HTTPException, ValueError, Lost):
            return False
        finally:
            connection.close()

    def _greet(self, connection: http.client.HTTPConnection) -> None:
        nonce = secrets.token_hex(16)
        headers = {"X-FreeSwim-Proof": self._proof("client", nonce)}
        connection.request("GET", "/v1/hello?nonce=" + nonce, headers=headers)
        connection.auto_open = 0  # who answers on another connection has proved nothing
        try:
            shown = str(_read(connection.getresponse()).get("proof"))
        except Refused:
            shown = ""
        expected = self._proof("studio", nonce)
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), expected.encode("ascii")):
            raise Lost("another program has the studio's port")

    def _proof(self, who: str, nonce: str) -> str:
        words = f"{who}:{nonce}:{self._port}".encode("ascii")
        return hmac.new(self._token.encode("ascii"), words, hashlib.sha256).hexdigest()


def find() -> Optional[Studio]:
    """Where a studio says it can be reached; None: nowhere, or not in words to be trusted."""
    try:
        with (places.run() / "studio.json").open("rb") as file:
            if os.name == "posix" and not _is_ours(os.fstat(file.fileno())):
                return None
            said = json.loads(file.read(LARGEST).decode("utf-8"))
        port, token = said["port"], said["token"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_sound = (
        isinstance(port, int)
        and 0 < port < 1 << 16
        and isinstance(token, str)
        and len(token) >= 32
        and all("!" <= letter <= "~" for letter in token)
    )
    return Studio(port, token) if is_sound else None


def connect() -> Optional[Studio]:
    """A studio that answers and is the one; None: none runs."""
    found = find()
    return found if found is not None and found.is_there() else None


def _is_ours(status: os.stat_result) -> bool:
    """Whether nobody else can have written or read it."""
    return status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077 == 0


def _read(response: http.client.HTTPResponse) -> Dict[str, Any]:
    content = response.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES or response.length:
        raise http.client.HTTPException("a reply too large, or cut off")
    try:
        said = json.loads(content.decode("utf-8")) if content else {}
    except (ValueError, RecursionError):
        said = None
    if response.status >= 400:
        words = said if isinstance(said, dict) else {}
        code, message, hint = (str(words.get(name) or "") for name in ("code", "message", "hint"))
        raise Refused(response.status, code, message, hint)
    if not isinstance(said, dict):
        raise http.client.HTTPException("a reply that is no JSON object")
    return said
