"""Attempts run in a process of this machine: one worker for each GPU, warm from job to job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from freeswim import paths, protocol
from freeswim.errors import FreeswimError
from freeswim.protocol import Beat, Event, EventReader, Exit, Failed, Hello, Made, Run, Step, Stop

log = logging.getLogger(__name__)

# The worker of this machine; -I: nothing of the current folder or the person's Python settings.
WORKER = (sys.executable, "-I", "-X", "utf8", "-m", "freeswim.worker")

# When a warm worker is replaced by a new one.
MOST_JOBS = 20
MOST_GROWTH_BYTES = 2 * 10**9  # of its memory since its first job
IDLE_S = 600.0

LONGEST_LOG = 2**20  # bytes
PATIENCE_S = 10.0  # for a step to end, before the process is killed


@dataclass(frozen=True)
class Patience:
    """How long a worker may be silent before it counts as hung, in seconds that it was awake."""

    beat_s: float = 30.0  # without any sign of life
    step_s: float = 120.0  # without a step, and ten times the usual step
    first_step_s: float = 3600.0  # of a stage of which no step is known yet


@dataclass(frozen=True)
class Crashed:
    """The worker died, or was killed because it hung."""

    exit_code: int
    stage: str  # that it was in
    is_hung: bool = False
    was_to_stop: bool = False  # it did not, so it was killed


class Watch:
    """Whether a worker is hung. Time in which this process slept does not count.

    A laptop that sleeps stops the daemon and the worker; the clock goes on. So the time between two
    looks counts as two ticks at most.
    """

    TICK_S = 1.0

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience = patience
        self._looked = now
        self._silent = 0.0  # since the last event
        self._stuck = 0.0  # since the last step
        self._step_s = deque[float](maxlen=20)  # of the stage
        self.stage = ""

    def look(self, now: float) -> bool:
        """Count the time since the last look; whether the worker is hung."""
        passed = min(max(now - self._looked, 0.0), 2 * self.TICK_S)
        self._looked = now
        self._silent += passed
        self._stuck += passed
        limit = self._patience.first_step_s
        if self._step_s:
            limit = max(self._patience.step_s, 10 * statistics.median(self._step_s))
        return self._silent > self._patience.beat_s or self._stuck > limit

    def hear(self, event: Event) -> None:
        """The worker said something."""
        self._silent = 0.0
        if not isinstance(event, Step):
            return
        if event.stage != self.stage:
            self.stage = event.stage
            self._step_s.clear()
        elif event.step > 0:
            self._step_s.append(self._stuck)
        self._stuck = 0.0


@dataclass
class LocalSlot:
    """A place where one attempt at a time can run: a GPU, or the processor."""

    name: str
    gpu: str = ""  # UUID; empty: the processor, or whatever torch finds
    command: Sequence[str] = WORKER
    patience: Patience = field(default_factory=Patience)
    _process: asyncio.subprocess.Process | None = None
    _reader: EventReader = field(default_factory=EventReader)
    _jobs: int = 0
    _first_bytes: int = 0
    _is_worn: bool = False
    _idle_since: float = 0.0
    _killer: asyncio.Task[None] | None = None
    _running: Run | None = None
    _is_to_stop: bool = False

    @property
    def pid(self) -> int | None:
        """Of the worker, where one lives."""
        return None if self._process is None else self._process.pid

    async def run(self, run: Run) -> AsyncIterator[Event | Crashed]:
        """The events of one attempt; the last one is Made, Stopped, Failed or Crashed."""
        if self._is_worn or (self._process and self._process.returncode is not None):
            await self.close()
        try:
            process = self._process or await self._start()
        except OSError as error:
            # The machine's fault, not the job's: as if the device had failed.
            words = f"no worker can be started: {error.strerror or error}"
            log.error("%s: %s", self.name, words)
            yield Failed(job_id=run.job_id, code=protocol.DEVICE, message=words)
            return
        self._jobs += 1
        watch = Watch(self.patience, time.monotonic())
        try:
            await self._send(run)
            self._running = run
            if self._is_to_stop:
                await self.stop()
            async for event in self._events(process, watch):
                if isinstance(event, Crashed):
                    await self.close()
                elif isinstance(event, Made):
                    self._first_bytes = self._first_bytes or event.memory_bytes
                    grown = event.memory_bytes - self._first_bytes
                    self._is_worn = self._jobs >= MOST_JOBS or grown > MOST_GROWTH_BYTES
                elif isinstance(event, Failed):
                    self._is_worn = event.code in (protocol.DEVICE, FreeswimError.code)
                yield event
        finally:
            self._idle_since = time.monotonic()
            self._running, self._is_to_stop = None, False
            if self._killer is not None:
                self._killer.cancel()
                self._killer = None

    async def stop(self) -> None:
        """Ask for the attempt to be stopped at its next step; after a while it is killed."""
        self._is_to_stop = True
        if self._running is None:
            return  # `run` says it as soon as there is a worker to hear it
        await self._send(Stop(job_id=self._running.job_id, attempt=self._running.attempt))
        if self._killer is None and self._process is not None:
            self._killer = asyncio.create_task(self._kill_later(self._process))

    async def recycle(self) -> None:
        """Close a worker that has had nothing to do for long: its memory is somebody's."""
        if self._process is not None and time.monotonic() - self._idle_since > IDLE_S:
            await self.close()

    async def close(self) -> None:
        """The worker is gone when this returns."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()
        # Else its pipes are closed whenever it is collected, maybe after the loop.
        process._transport.close()  # pyright: ignore

    async def _start(self) -> asyncio.subprocess.Process:
        log_path = paths.logs() / "worker.log"  # of what belongs to no job
        log_path.parent.mkdir(parents=True, exist_ok=True)
        is_long = log_path.is_file() and log_path.stat().st_size > LONGEST_LOG
        with log_path.open("wb" if is_long else "ab") as log_file:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=_environment(self.gpu),
                creationflags=_hidden_window(),
            )
        self._reader = EventReader()
        self._jobs, self._first_bytes, self._is_worn = 0, 0, False
        self._process = process
        log.info("worker %d started on %s", process.pid, self.name)
        return process

    async def _send(self, command: protocol.Command) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(protocol.to_line(command))
            await self._process.stdin.drain()

    async def _events(
        self, process: asyncio.subprocess.Process, watch: Watch
    ) -> AsyncIterator[Event | Crashed]:
        assert process.stdout is not None
        is_hung = False
        reading: asyncio.Future[bytes] | None = None
        while True:
            reading = reading or asyncio.ensure_future(process.stdout.read(1 << 16))
            await asyncio.wait([reading], timeout=Watch.TICK_S)
            if watch.look(time.monotonic()) and not is_hung:
                is_hung = True
                log.warning("worker %d on %s is hung in %s", process.pid, self.name, watch.stage)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            if not reading.done():
                continue
            piece, reading = reading.result(), None
            for event in self._reader.feed(piece):
                watch.hear(event)
                match event:
                    case Hello(protocol=version) if version != protocol.VERSION:
                        log.error("worker speaks protocol %d, not %d", version, protocol.VERSION)
                        process.kill()
                    case Hello() | Beat():
                        pass
                    case _:
                        yield event
                        if isinstance(event, Made | protocol.Stopped | Failed):
                            return
            if not piece:
                yield Crashed(await process.wait(), watch.stage, is_hung, self._is_to_stop)
                return

    async def _kill_later(self, process: asyncio.subprocess.Process) -> None:
        await asyncio.sleep(PATIENCE_S)
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    async def exit(self) -> None:
        """Ask an idle worker to exit; it is killed if it does not."""
        await self._send(Exit())
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 1.0)
        await self.close()


def _environment(gpu: str) -> dict[str, str]:
    """What a worker sees of this process's environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("PYTHON") and not name.lower().endswith("_proxy")
    }
    kept |= {
        "HF_HUB_OFFLINE": "1",
        "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    }
    if gpu:
        kept["CUDA_VISIBLE_DEVICES"] = gpu
    return kept


def _hidden_window() -> int:
    """Windows opens a console for every program, unless told otherwise."""
    return getattr(subprocess, "CREATE_NO_WINDOW", 0)
