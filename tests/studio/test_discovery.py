"""How the studio is found: by one file, which may be old, torn, or point at somebody else."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import serving

from freeswim import paths
from freeswim.errors import StudioError
from freeswim.studio import client, discovery

TOKEN = "t" * 43


def announced() -> Path:
    return paths.studio() / "studio.json"


def test_what_is_announced_is_found_until_it_is_withdrawn(home: Path):
    assert discovery.find() is None
    discovery.announce(4711, TOKEN)
    assert discovery.find() == discovery.Found(4711, TOKEN, os.getpid())
    discovery.announce(4712, TOKEN)
    found = discovery.find()
    assert found is not None and found.port == 4712
    assert [path.name for path in paths.studio().iterdir()] == ["studio.json"]
    discovery.withdraw()
    discovery.withdraw()
    assert discovery.find() is None


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_the_file_is_its_users_alone_whatever_the_umask_and_the_folder_before(home: Path):
    paths.studio().mkdir(mode=0o777, parents=True)
    paths.studio().chmod(0o777)
    before = os.umask(0)
    try:
        discovery.announce(4711, TOKEN)
    finally:
        os.umask(before)
    assert stat.S_IMODE(paths.studio().stat().st_mode) == 0o700
    assert stat.S_IMODE(announced().stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602, 0o666])
def test_a_file_that_others_can_read_or_write_is_not_trusted(home: Path, mode: int):
    discovery.announce(4711, TOKEN)
    announced().chmod(mode)
    assert discovery.find() is None


def test_half_a_file_is_no_studio(home: Path):
    discovery.announce(4711, TOKEN)
    whole = announced().read_bytes()
    for end in range(len(whole)):
        announced().write_bytes(whole[:end])
        assert discovery.find() is None, whole[:end]
    announced().write_bytes(whole)
    assert discovery.find() is not None


GOOD: dict[str, Any] = {"pid": 1, "started": 0.0, "port": 4711, "token": TOKEN, "api": 1}


@pytest.mark.parametrize(
    "change",
    [
        *({"port": port} for port in (0, -1, 65536, 10**30, "4711", 1.5, None, [4711])),
        *(
            {"token": token}
            for token in ("", "short", None, 1, "é" * 43, f"{TOKEN}\r\nX: y", [TOKEN])
        ),
        *({"pid": pid} for pid in ("1", None, 1.5)),
    ],
    ids=str,
)
def test_a_file_that_says_something_odd_is_no_studio(home: Path, change: dict[str, Any]):
    discovery.announce(4711, TOKEN)
    announced().write_text(json.dumps(GOOD))
    assert discovery.find() is not None
    announced().write_text(json.dumps(GOOD | change))
    assert discovery.find() is None


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 300,
        b"[" * 4096,
        b"null",
        b"4711",
        b"[1]",
        b'{"port": 1}',
        b"\xff" * 50,
        b"{}" * 9000,
    ],
)
def test_a_file_of_garbage_is_no_studio(home: Path, content: bytes):
    discovery.announce(4711, TOKEN)
    announced().write_bytes(content)
    assert discovery.find() is None


def test_a_proof_is_for_one_asker_one_question_and_one_port():
    proofs = {
        discovery.proof(token, who, nonce, port)
        for token in (TOKEN, TOKEN[:-1] + "x")
        for who in ("client", "studio")
        for nonce in ("n" * 16, "n" * 17)
        for port in (4711, 4712)
    }
    assert len(proofs) == 16
    assert all(len(proof) == 64 and TOKEN not in proof for proof in proofs)


# ------------------------------------------------------------------------------ one for a folder


def test_a_folder_is_held_once_and_free_again(home: Path):
    with discovery.lock(), pytest.raises(StudioError, match="already serves"), discovery.lock():
        pass
    with discovery.lock():
        pass


def test_a_second_studio_of_a_folder_leaves_in_a_sentence_and_the_first_stays(tmp_path: Path):
    with serving(tmp_path) as first:
        before = announced().read_bytes()
        second = subprocess.run(
            [sys.executable, "-m", "freeswim.cli", "serve"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert second.returncode == StudioError.exit_status
        assert "already serves" in second.stderr and "Traceback" not in second.stderr
        assert announced().read_bytes() == before
        studio = client.connect()
        assert studio is not None and studio.pid == first.pid


def test_a_studio_that_was_killed_is_gone_and_the_next_takes_its_place(home: Path):
    program = [sys.executable, str(Path(__file__).with_name("serve_fake.py"))]
    with subprocess.Popen(program) as process:
        try:
            while (found := client.connect()) is None:
                assert process.poll() is None
        finally:
            process.kill()
    assert announced().is_file()  # it could not withdraw it
    old = discovery.find()
    assert found is not None and old is not None and client.connect() is None
    with serving(home) as process:
        new = discovery.find()
        assert new is not None and new.pid == process.pid
        assert new.token != old.token
    assert not announced().exists()


# ------------------------------------------------------------------------- somebody else's port


class Squatter:
    """Whoever got the port of a studio that is gone: keeps all that it hears."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        self.pass_on_to = 0  # port of a studio that is asked instead
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    self._answer(connection)
                except OSError:
                    continue

    def _answer(self, connection: socket.socket) -> None:
        while piece := connection.recv(1 << 16):
            self.heard += piece
            if self.pass_on_to:
                connection.sendall(self._passed_on(piece))
            else:
                said = b'{"api": 1, "version": "1", "pid": 1, "proof": "' + b"0" * 64 + b'"}'
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n"
                connection.sendall(head.encode() + said)

    def _passed_on(self, request: bytes) -> bytes:
        own, real = f"127.0.0.1:{self.port}".encode(), f"127.0.0.1:{self.pass_on_to}".encode()
        with socket.create_connection(("127.0.0.1", self.pass_on_to), timeout=120) as studio:
            studio.sendall(request.replace(own, real))
            return studio.recv(1 << 16)


@pytest.fixture
def squatter() -> Iterator[Squatter]:
    squatter = Squatter()
    yield squatter
    squatter.close()


def test_whoever_took_the_port_of_a_dead_studio_learns_nothing(home: Path, squatter: Squatter):
    discovery.announce(squatter.port, TOKEN)
    stale = discovery.find()
    assert stale is not None and client.connect() is None
    for call in (
        lambda one: one.post("/stop"),
        lambda one: one.submit({"request": {"prompt": "secret"}}),
    ):
        with pytest.raises(StudioError):
            call(client.Client(stale))
    assert squatter.heard.startswith(b"GET /v1/hello?nonce=")
    for secret in (TOKEN.encode(), b"Bearer", b"secret", b"/v1/stop", b"/v1/jobs"):
        assert secret not in squatter.heard


def test_whoever_asks_the_real_studio_for_the_proof_gets_none(tmp_path: Path, squatter: Squatter):
    """The question is for one port, and so is the answer."""
    with serving(tmp_path):
        real = discovery.find()
        assert real is not None and client.connect() is not None
        squatter.pass_on_to = real.port
        discovery.announce(squatter.port, real.token)
        assert client.connect() is None
        assert b"/v1/hello" in squatter.heard and real.token.encode() not in squatter.heard


def test_a_proof_that_was_heard_opens_nothing(tmp_path: Path, squatter: Squatter):
    with serving(tmp_path):
        real = discovery.find()
        assert real is not None
        discovery.announce(squatter.port, real.token)
        assert client.connect() is None
        head = squatter.heard.decode()
        nonce = head.partition("nonce=")[2].partition(" ")[0]
        proof = head.partition("X-FreeSwim-Proof: ")[2].partition("\r\n")[0]
        assert len(nonce) == 32 and len(proof) == 64
        connection = http.client.HTTPConnection("127.0.0.1", real.port, timeout=120)
        for path in (f"/v1/hello?nonce={nonce}", f"/v1/queue?nonce={nonce}"):
            connection.request("GET", path, headers={"X-FreeSwim-Proof": proof})
            response = connection.getresponse()
            assert response.status == 401
            response.read()
        connection.close()
