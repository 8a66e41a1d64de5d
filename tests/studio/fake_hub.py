"""A Hub on this machine, as strict as the real one, that can also misbehave; and a small checkpoint."""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from freeswim.models.catalog import Checkpoint, find_checkpoint

COMMIT = "1234567890abcdef1234567890abcdef12345678"
SMALL = find_checkpoint("wan2.1-t2v-1.3b")
WEIGHTS = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors"
MORE_WEIGHTS = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"
NOT_NEEDED = {"README.md": b"# Wan", "transformer/old.bin": b"a pickle", "assets/koi.png": b"png"}


def small_checkpoint(checkpoint: Checkpoint = SMALL, size: int = 300_000) -> dict[str, bytes]:
    """Files of a repository, with bytes that are no weights."""
    chance = random.Random(checkpoint.name)
    shards = {"weight_map": {"a": Path(WEIGHTS).name, "b": Path(MORE_WEIGHTS).name}}
    files = {
        "model_index.json": b'{"_class_name": "WanPipeline"}',
        "scheduler/scheduler_config.json": b"{}",
        "tokenizer/tokenizer.json": b'{"version": "1.0"}',
        "tokenizer/tokenizer_config.json": b"{}",
        "text_encoder/config.json": b"{}",
        "text_encoder/model.safetensors": chance.randbytes(size // 2),
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.safetensors": chance.randbytes(size // 3),
        "transformer/config.json": b"{}",
        "transformer/diffusion_pytorch_model.safetensors.index.json": json.dumps(shards).encode(),
        WEIGHTS: chance.randbytes(size),
        MORE_WEIGHTS: chance.randbytes(size // 2),
    }
    return files


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


@dataclass
class FakeHub:
    """What it has, and how it behaves. Everything can be changed while it serves."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    has_ranges: bool = True
    statuses: dict[str, int] = field(default_factory=dict)  # of a file's name; "list" of the lists
    places: dict[str, str] = field(default_factory=dict)  # addresses it sends to, by file name
    damaged: set[str] = field(default_factory=set)  # files whose last byte is another
    longer: set[str] = field(default_factory=set)  # files that do not end, nor say their length
    shifted: set[str] = field(default_factory=set)  # files that go on elsewhere than asked
    drop_after: int = 0  # bytes of each answer, then the connection breaks; 0: it does not
    hold_at: dict[str, int] = field(default_factory=dict)  # bytes of files, then it is silent
    released: threading.Event = field(default_factory=threading.Event)
    extra_names: list[Any] = field(default_factory=list)  # in every list

    def add(self, checkpoint: Checkpoint = SMALL, size: int = 300_000) -> dict[str, bytes]:
        """Publish a small checkpoint under a row's repository."""
        files = small_checkpoint(checkpoint, size)
        self.repositories[str(checkpoint.repository)] = files | NOT_NEEDED
        return files

    def asked_for(self, name: str) -> list[Asked]:
        """Requests for a file."""
        return [one for one in self.asked if one.path.endswith(f"/{name}")]

    def list(self, repository: str) -> bytes:
        siblings: list[dict[str, Any]] = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
                **({"lfs": _lfs(content)} if name.endswith((".safetensors", ".bin")) else {}),
            }
            for name, content in self.repositories[repository].items()
        ]
        siblings += [
            {"rfilename": name, "size": 1, "blobId": "0" * 40} for name in self.extra_names
        ]
        return json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()


def _lfs(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """One that serves for as long as the block runs."""
    hub = FakeHub()

    class Handler(_Handler):
        its_hub = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    its_hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        hub = self.its_hub
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        hub.asked.append(Asked(path, {name.lower(): value for name, value in self.headers.items()}))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self._answer_list(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path):
            self._answer_file(match[1], match[2], match[3])
        else:
            self._say(404)

    def _answer_list(self, repository: str) -> None:
        hub = self.its_hub
        status = hub.statuses.get("list", 200 if repository in hub.repositories else 404)
        self._say(status, hub.list(repository) if status == 200 else b"")

    def _answer_file(self, repository: str, commit: str, name: str) -> None:
        hub = self.its_hub
        content = hub.repositories.get(repository, {}).get(name)
        if place := hub.places.get(name):
            self._say(302, headers={"Location": place})
        elif name in hub.statuses:
            self._say(hub.statuses[name])
        elif content is None or commit != COMMIT:
            self._say(404)
        else:
            self._send(name, content)

    def _send(self, name: str, content: bytes) -> None:
        hub = self.its_hub
        if name in hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start, status = 0, 200
        if match and hub.has_ranges:
            start, status = int(match[1]) + (7 if name in hub.shifted else 0), 206
            if start >= len(content):
                self._say(416, headers={"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if name in hub.longer:
            body += bytes(1000)
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._pour(name, start, body)

    def _pour(self, name: str, start: int, body: bytes) -> None:
        hub = self.its_hub
        try:
            if hub.drop_after and len(body) > hub.drop_after:
                self.wfile.write(body[: hub.drop_after])
                self.close_connection = True
                return
            hold = hub.hold_at.get(name, -1)
            if start <= hold < start + len(body):
                self.wfile.write(body[: hold - start])
                self.wfile.flush()
                hub.released.wait(60)
                body = body[hold - start :]
            self.wfile.write(body)
        except OSError:  # the one who asked is gone
            self.close_connection = True

    def _say(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
