"""What the studio's processes hold, open and leave behind, seen from outside."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from speaker import ROUTES, Place, Speaker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

JOBS = "/v1/jobs"
PROMPT = "a secret of the person's"


@pytest.fixture(scope="module", autouse=True)
def worked(studio: Speaker) -> Speaker:
    """It has made a take, had a worker crash and a job fail, and was asked everything once."""
    for prompt in (PROMPT, f"crash {PROMPT}", f"oom {PROMPT}"):
        body = {
            "preset": "demo",
            "request": {"prompt": prompt, "seed": 1},
            "shot": {"name": "SC 010"},
        }
        assert studio.post(JOBS, body).status == 201
    deadline = time.monotonic() + 120
    while studio.get("/v1/queue")["counts"]["failed"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    take = studio.get("/v1/takes")["takes"][0]
    some = {
        "job_id": take["job_id"],
        "take_id": take["id"],
        "shot_id": take["shot_id"],
        "name": "cpu",
    }
    for route in ROUTES:
        if route.path not in ("/v1/stop", "/v1/events"):
            target = re.sub(r"{(\w+)}", lambda match: some[match[1]], route.template)
            body = b"{}" if route.method != "GET" else b""
            studio.ask(route.method, target, body=body)
            studio.ask(route.method, f"{target}?token={studio.token}", token="x" * 43)
    # A worker that is warm, and stays.
    studio.post(JOBS, {"preset": "demo", "request": {"prompt": PROMPT}, "shot": {"name": "SC 020"}})
    while not psutil.Process(found_pid(studio)).children():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while studio.get("/v1/queue")["running"]:
        time.sleep(0.05)
    return studio


def found_pid(studio: Speaker) -> int:
    return studio.get("/v1/hello?nonce=" + "n" * 16)["pid"]


@pytest.fixture
def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    time.sleep(1.0)  # what looks at a clip for a moment is no worker
    living = [child for child in children if child.is_running()]
    assert living, "no worker lives"
    return living


def test_only_this_machine_is_listened_to_and_at_one_port(
    studio: Speaker, process: subprocess.Popen[bytes], workers: list[psutil.Process]
):
    daemon = psutil.Process(process.pid)
    listening = [one for one in daemon.net_connections("all") if one.status == psutil.CONN_LISTEN]
    assert [tuple(one.laddr) for one in listening] == [("127.0.0.1", studio.port)]
    for one in daemon.net_connections("inet"):
        assert one.laddr[0] == "127.0.0.1" and (not one.raddr or one.raddr[0] == "127.0.0.1")
    for worker in workers:
        assert worker.net_connections("inet") == []


def test_workers_hold_nothing_of_the_studio(
    process: subprocess.Popen[bytes], workers: list[psutil.Process], place: Place
):
    """Not its lock, which is to be free when it is dead, nor its port, its database, its log."""

    def held(pid: int) -> set[str]:
        return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}

    own = {str(path) for path in place.home.glob("studio.*")} | {
        str(place.home / "logs/studio.log")
    }
    assert held(process.pid) >= {str(place.home / name) for name in ("studio.lock", "studio.db")}
    sockets = {name for name in held(process.pid) if name.startswith("socket:")}
    pipes = set[str]()
    for worker in workers:
        held_by_worker = held(worker.pid)
        assert not held_by_worker & own
        assert not held_by_worker & sockets
        pipes |= held_by_worker
    assert any(name.startswith(("pipe:", "socket:")) for name in pipes)  # its words come by these


def test_the_token_is_in_one_file_and_nowhere_else(
    studio: Speaker, process: subprocess.Popen[bytes], workers: list[psutil.Process], place: Place
):
    token = studio.token.encode()
    files = [path for path in place.root.rglob("*") if path.is_file() and path.suffix != ".part"]
    assert {path.name for path in files} >= {"studio.db", "studio.log", "worker.log", "spec.json"}
    assert [path.name for path in files if token in path.read_bytes()] == ["studio.json"]
    for name in ("cmdline", "environ"):
        said = Path(f"/proc/{process.pid}/{name}").read_bytes()
        assert said and token not in said
        for worker in workers:
            with suppress(FileNotFoundError, ProcessLookupError):  # one that just ended
                assert token not in Path(f"/proc/{worker.pid}/{name}").read_bytes()


def test_nobody_else_can_read_where_the_token_is(place: Place):
    """The studio was started with umask 000."""
    folder = place.home / "run"
    assert place.home.stat().st_mode & 0o022, "the umask was not 000"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["studio.json"]
    assert stat.S_IMODE((folder / "studio.json").stat().st_mode) == 0o600


def test_the_log_holds_no_prompt(place: Place):
    """It may be shown to others. Takes are in it by their names."""
    log = (place.home / "logs" / "studio.log").read_text()
    assert "serving" in log and "worker" in log
    assert PROMPT not in log
    assert len(log.splitlines()) < 100
