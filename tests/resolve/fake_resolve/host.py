"""Resolve's process and its remote objects: scripts of any Python reach the test's world through it."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from fake_resolve import objects
from fake_resolve.world import World

INSIDE = Path(__file__).with_name("inside")


class Host:
    """A Resolve that scripts can be run in, until it is closed or killed."""

    def __init__(self, world: World, folder: Path) -> None:
        """`folder`: for what scripts print."""
        self.world = world
        self._folder = folder
        self._things: list[objects.Thing] = []
        self._numbers: dict[int, int] = {}
        self._lock = threading.Lock()
        self._server = socketserver.ThreadingTCPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"host": self})
        )
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._resolve = subprocess.Popen(
            [sys.executable, str(INSIDE / "resolve_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._scripts: list[Script] = []

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        """Of a process that asks for Resolve from outside."""
        path = str(INSIDE)
        return {
            **os.environ,
            "FAKE_RESOLVE_PORT": str(self.port),
            "PYTHONPATH": path,
            **(extra or {}),
        }

    def run(self, script: Path, python: str, extra: dict[str, str] | None = None) -> Script:
        """Choose a menu entry.

        Raises:
            LookupError: this edition does not list it (0.1).
        """
        if script.suffix == ".py" and not self.world.lists_python:
            raise LookupError(f"{script.name} is not listed")
        output = self._folder / f"script-{len(self._scripts)}.txt"
        output.touch()
        surroundings = self.environment({"FAKE_INSIDE": "1", **(extra or {})})
        command = [python, str(INSIDE / "fuscript.py"), str(script)]
        asked = {"command": command, "environment": surroundings, "output": str(output)}
        assert self._resolve.stdin and self._resolve.stdout
        self._resolve.stdin.write(json.dumps(asked) + "\n")
        self._resolve.stdin.flush()
        self._scripts.append(Script(int(self._resolve.stdout.readline()), output))
        return self._scripts[-1]

    def crash(self) -> None:
        """Its process is gone; a call that a script sits in does not come back."""
        self._resolve.kill()
        self._resolve.wait()

    def close(self) -> None:
        """It is over: nothing is answered any more, and no script goes on."""
        self.world.quit()
        self.crash()
        for script in self._scripts:
            script.wait()
        for stream in (self._resolve.stdin, self._resolve.stdout):
            assert stream is not None
            stream.close()
        self._server.shutdown()
        self._server.server_close()

    # -------------------------------------------------------------------------------- inside

    def answer(self, asked: dict[str, Any]) -> Any:
        """What a script's question is answered with."""
        world, what = self.world, asked["do"]
        if what == "scriptapp":
            if not world.is_running or not (asked["inside"] or world.answers_from_outside):
                return None  # 1.1: None on any failure
            return self._packed(
                {"Resolve": world.resolve, "Fusion": world.fusion}.get(asked["name"])
            )
        if what == "global":
            return self._packed(getattr(world, asked["name"]))
        thing = self._things[asked["handle"]]
        if what == "dir":
            return world.listed(thing)
        if what == "attribute":
            shown = world.attribute(thing, asked["name"])
            return "method" if shown == world.call else self._packed(shown)
        if not asked["is_main"]:
            world.misuse(f"{asked['name']} is called from another thread")  # 2.6
            return None
        arguments = tuple(self._unpacked(one) for one in asked["arguments"])
        return self._packed(world.call(thing, asked["name"], arguments))

    def _packed(self, value: Any) -> Any:
        if isinstance(value, objects.Thing):
            with self._lock:
                if id(value) not in self._numbers:
                    self._numbers[id(value)] = len(self._things)
                    self._things.append(value)  # kept, so that its id() is not used again
                return {"handle": self._numbers[id(value)], "kind": type(value).__name__}
        if isinstance(value, dict):
            return {"pairs": [[key, self._packed(inner)] for key, inner in value.items()]}
        if isinstance(value, (list, tuple)):
            return [self._packed(inner) for inner in value]
        return value

    def _unpacked(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._unpacked(inner) for inner in value]
        if isinstance(value, dict):
            if "handle" in value:
                return self._things[value["handle"]]
            return {key: self._unpacked(inner) for key, inner in value["pairs"]}
        return value


class Script:
    """A menu script that was started."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid = pid
        self._output = output

    @property
    def said(self) -> str:
        """What it printed."""
        return self._output.read_text("utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether its process is there; one that nobody has waited for is not."""
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def wait(self, timeout: float = 30) -> str:
        """Until it has ended; what it printed."""
        deadline = time.monotonic() + timeout
        while self.is_running:
            assert time.monotonic() < deadline, f"it goes on: {self.said}"
            time.sleep(0.02)
        return self.said


class _Handler(socketserver.StreamRequestHandler):
    """One script's connection."""

    host: Host

    def handle(self) -> None:
        for line in self.rfile:
            answer = self.host.answer(json.loads(line))
            try:
                self.wfile.write(json.dumps(answer).encode() + b"\n")
            except OSError:
                return
