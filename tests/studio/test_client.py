"""What speaks to the studio, over a real socket."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from freeswim import paths
from freeswim.errors import Conflict, NotFound, RequestError, StudioError
from freeswim.studio import client, discovery
from freeswim.studio.client import Client

KOI = {"preset": "demo", "request": {"prompt": "koi", "seed": 1}}


@pytest.fixture
def studio(served: Path) -> Client:
    found = client.connect()
    assert found is not None
    return found


def end_of(studio: Client, job: dict) -> dict:
    """The job when it has ended, from events alone."""
    for event in studio.events(after=job["seq"] - 1):
        for changed in event.content["jobs"] if event.kind == "changes" else ():
            if changed["id"] == job["id"] and changed["ended_at"]:
                return changed
    raise AssertionError("events have no end")


def test_a_job_is_followed_to_its_take(studio: Client, served: Path):
    (job,) = studio.submit(KOI)
    assert end_of(studio, job)["state"] == "done"
    take_id = studio.get(f"/jobs/{job['id']}")["job"]["take_id"]
    said = studio.get(f"/takes/{take_id}")
    media = Path(said["path"])
    assert media.is_relative_to(served)
    assert studio.get_bytes(f"/takes/{take_id}/media") == media.read_bytes()


def test_the_same_key_adds_nothing_twice(studio: Client):
    body = {**KOI, "key": "00000000-aaaa"}
    (first,), (second,) = studio.submit(body), studio.submit(body)
    assert first["id"] == second["id"]
    with pytest.raises(Conflict):
        studio.submit({**body, "seeds": [2, 3]})


def test_failures_come_as_they_were_raised(studio: Client):
    with pytest.raises(NotFound):
        studio.get("/jobs/0123456789abcdef")
    with pytest.raises(RequestError) as failed:
        studio.submit({"request": {"prompt": "koi", "frames": 10**9}})
    assert failed.value.hint


def test_nobody_answers_where_no_studio_runs(home: Path):
    assert client.connect() is None
    discovery.announce(1, "token" * 8)  # of a studio that was killed
    assert client.connect() is None


class Squatter(http.server.BaseHTTPRequestHandler):
    """Another program at the port of a studio that is gone."""

    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heard.append(self.requestline + str(self.headers))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"api": 1, "version": "1", "pid": 1, "proof": "guessed"}')

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def squatter() -> Iterator[int]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Squatter)
    Squatter.heard.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_a_program_that_took_the_port_learns_nothing(home: Path, squatter: int):
    token = "the-secret-token" * 3
    discovery.announce(squatter, token)
    assert client.connect() is None
    (heard,) = Squatter.heard
    assert heard.startswith("GET /v1/hello?nonce=")
    assert token not in heard and "Bearer" not in heard


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"port": "x"}', b"\xff\xfe"])
def test_a_damaged_discovery_file_is_no_studio(home: Path, content: bytes):
    discovery.announce(1, "token" * 8)
    (paths.studio() / "studio.json").write_bytes(content)
    assert client.connect() is None


def test_a_studio_is_started_where_none_runs_and_stopped(home: Path):
    started = client.connect_or_start()
    try:
        assert started.get("/queue")["mode"] == "run"
        again = client.connect_or_start()
        assert again.pid == started.pid
    finally:
        started.stop()
    assert client.connect() is None


def test_a_folder_that_cannot_be_one_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StudioError) as failed:
        client.connect_or_start()
    assert "FREESWIM_HOME" in failed.value.hint
