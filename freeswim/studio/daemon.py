"""`freeswim serve`: the daemon's process, from its lock to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import platform
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence

import uvicorn

from freeswim import __version__, paths
from freeswim.errors import StudioError
from freeswim.studio import database, discovery, hardware
from freeswim.studio.api import create_app
from freeswim.studio.executors.local import WORKER, LocalSlot, Patience
from freeswim.studio.job import IN_QUEUE, JobState, QueueMode
from freeswim.studio.studio import Studio

log = logging.getLogger(__name__)

LOG_BYTES, LOGS_KEPT = 10 * 2**20, 4
HOUSEKEEPING_S = 60.0


def serve(
    *,
    exit_when_idle: float | None = None,
    worker: Sequence[str] = WORKER,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
) -> None:
    """Serve the queue of this data folder until the process is told to stop.

    Args:
        exit_when_idle: minutes without a job to run and without a client, after which it stops.
        worker: command that starts a worker.
        patience: how long a worker may be silent.

    Raises:
        StudioError: another daemon serves the folder, or the folder cannot be used.
    """
    _open_log()
    with discovery.lock():
        opened = database.open_database()
        if opened.quarantined is not None:
            source = opened.restored_from.name if opened.restored_from else "nothing"
            log.error("%s is put aside, restored from %s", opened.quarantined.name, source)
        slots = [LocalSlot(name, gpu, worker, patience) for name, gpu in _places()]
        try:
            asyncio.run(_serve(opened, slots, exit_when_idle))
        finally:
            discovery.withdraw()


async def _serve(
    opened: database.Opened, slots: Sequence[LocalSlot], exit_when_idle: float | None
) -> None:
    studio = Studio(opened.store, slots)
    listener = _listen()
    port = listener.getsockname()[1]
    token = secrets.token_urlsafe(32)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(studio, token=token, port=port, on_stop=lambda: _stop(server, studio)),
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=2,
        )
    )
    # Its own handlers would end the process by the signal again after an orderly end.
    server.capture_signals = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]
    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        with contextlib.suppress(NotImplementedError, AttributeError):
            loop.add_signal_handler(getattr(signal, name), _stop, server, studio)
    await studio.start()
    discovery.announce(port, token)
    log.info("serving %s on port %d", paths.home(), port)
    keeping = asyncio.create_task(_keep_house(studio, server, exit_when_idle))
    try:
        await server.serve(sockets=[listener])
    finally:
        discovery.withdraw()
        keeping.cancel()
        await studio.stop()
        log.info("stopped")


def _places() -> list[tuple[str, str]]:
    """Where workers run: (name, GPU's UUID); the processor, without one, where there is no GPU."""
    gpus = hardware.gpus()
    names = [gpu.name for gpu in gpus]
    numbered = [
        name if names.count(name) == 1 else f"{name} {names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]
    return [(name, gpu.uuid) for name, gpu in zip(numbered, gpus, strict=True)] or [("cpu", "")]


def _stop(server: uvicorn.Server, studio: Studio) -> None:
    studio.let_go()
    server.should_exit = True


def _listen() -> socket.socket:
    """A socket that only this machine reaches, at a port that the system chooses."""
    # With the protocol named, asyncio turns Nagle's algorithm off: else each request takes 44 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener


async def _keep_house(studio: Studio, server: uvicorn.Server, exit_when_idle: float | None) -> None:
    """Backups, and the end of a daemon that nobody needs."""
    idle_since = time.monotonic()
    next_backup = 0.0
    while True:
        if time.monotonic() >= next_backup:
            next_backup = time.monotonic() + database.BACKUP_EVERY_S
            await studio.ask(database.back_up)
        if exit_when_idle is not None:
            if await _is_needed(studio) or server.server_state.connections:
                idle_since = time.monotonic()
            if time.monotonic() - idle_since > 60 * exit_when_idle:
                log.info("nobody needs the studio")
                _stop(server, studio)
                return
        await asyncio.sleep(HOUSEKEEPING_S if exit_when_idle is None else 1.0)


async def _is_needed(studio: Studio) -> bool:
    """Whether a job runs, or will by itself, or a checkpoint or a take is on its way."""
    if studio.downloads.is_busy or studio.resolve.is_busy:
        return True
    queue = await studio.ask(lambda store: store.queue())
    will_run = IN_QUEUE - {JobState.PAUSED}
    if queue.mode != QueueMode.RUN:
        will_run = frozenset({JobState.RUNNING, JobState.PUBLISHING})
    return any(queue.counts[state] for state in will_run)


def _open_log() -> None:
    try:
        paths.logs().mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            paths.logs() / "studio.log", maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8"
        )
    except OSError as error:
        raise StudioError(
            f"{paths.logs()} cannot be written: {error.strerror}.",
            hint="Make the folder writable, or name another with FREESWIM_HOME.",
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    log.info(
        "freeswim %s, python %s, %s, pid %d",
        __version__,
        platform.python_version(),
        sys.platform,
        os.getpid(),
    )
