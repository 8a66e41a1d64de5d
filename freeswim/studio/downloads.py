"""The daemon's checkpoints: fetched two at a time, verified, adopted; each by a thread of its own.

What is to become of a checkpoint is on the disk (models/download.py), so a studio that starts goes
on with what was under way and leaves alone what was paused. Jobs that wait for a checkpoint see
its folder and go on by themselves (runner.py).
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from freeswim import paths
from freeswim.errors import Cancelled, Conflict, FreeswimError, NotFound
from freeswim.models import adoption, download
from freeswim.models.catalog import CATALOG, Checkpoint, recommended
from freeswim.models.download import Progress, Said
from freeswim.studio.hardware import Gpu, gpus

log = logging.getLogger(__name__)

AT_A_TIME = 2  # downloads
RATE_S = 10.0  # over which the speed is taken
STOP_S = 30.0  # for a thread to see that it is to stop; a silent server holds it up

Kind = Literal["download", "verify", "adopt"]
State = Literal[
    "available", "waiting", "downloading", "paused", "verifying", "installed", "damaged"
]


class ModelNow(BaseModel):
    """A checkpoint, what a person should know of it, and how far it is."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    licence: str
    repository: str  # empty: it comes with FreeSwim
    speed: str
    fidelity: str
    least_gpu_gb: int  # 0: any machine
    is_recommended: bool
    state: State
    size_bytes: int  # of all its files
    is_exact: bool  # else the size is a forecast: the Hub has not listed the files yet
    done_bytes: int  # there by now; where it is verified, compared by now
    bytes_per_second: float | None
    seconds_left: float | None
    folder: str  # empty: it is not installed
    failure: Said | None  # why it does not go on, or what is wrong


class ModelsNow(BaseModel):
    """All of them, and the disk that they are on."""

    model_config = ConfigDict(frozen=True)

    models: list[ModelNow]
    folder: str
    used_bytes: int  # of all that is there, whole or not
    free_bytes: int
    gpu_name: str  # empty: there is none
    gpu_bytes: int


@dataclass
class _Work:
    """What is done to one checkpoint."""

    checkpoint: Checkpoint
    kind: Kind
    source: adoption.Source | None = None
    progress: Progress | None = None  # None: it waits for its turn
    stop: threading.Event = field(default_factory=threading.Event)
    is_again: bool = False  # wanted again, while it was stopping
    rates: deque[tuple[float, int]] = field(default_factory=lambda: deque[tuple[float, int]]())
    future: Future[None] | None = None


class Downloads:
    """One per daemon. Its methods block: they are called beside the event loop."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """`ring` is called, on any thread, when a checkpoint's state is another."""
        self._ring = ring
        self._lock = threading.RLock()
        self._works: dict[str, _Work] = {}  # by the checkpoint's name
        self._failures: dict[str, Said] = {}  # of what leaves no record
        self._transfers = ThreadPoolExecutor(AT_A_TIME, "download")
        self._checks = ThreadPoolExecutor(1, "verify")
        self._is_stopping = False
        self.change = 0  # counts up at every change of a state

    def start(self) -> None:
        """Go on with what was under way."""
        for checkpoint in CATALOG:
            record = download.read_record(checkpoint)
            if record is not None and record.is_wanted and checkpoint.repository:
                log.info("going on with the download of %s", checkpoint.name)
                self._begin(_Work(checkpoint, "download"))

    def stop(self) -> None:
        """Stop what is under way; the next start goes on with it."""
        with self._lock:
            self._is_stopping = True
            for work in self._works.values():
                work.stop.set()
        self._transfers.shutdown(cancel_futures=True)
        self._checks.shutdown(cancel_futures=True)

    @property
    def is_busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._works)

    def look(self) -> ModelsNow:
        """All there is to know."""
        best = self._gpu
        first = recommended(best.total_bytes) if best else None
        folder = paths.models()
        volume = next(place for place in (folder, *folder.parents) if place.is_dir())
        return ModelsNow(
            models=[self._now(checkpoint, checkpoint is first) for checkpoint in CATALOG],
            folder=str(folder),
            used_bytes=download.size_on_disk(folder) if folder.is_dir() else 0,
            free_bytes=shutil.disk_usage(volume).free,
            gpu_name=best.name if best else "",
            gpu_bytes=best.total_bytes if best else 0,
        )

    @cached_property
    def _gpu(self) -> Gpu | None:
        """The largest; asked for once, for it takes a while and stays what it is."""
        return max(gpus(), key=lambda gpu: gpu.total_bytes, default=None)

    # ----------------------------------------------------------------------------- what is asked

    def download(self, name: str) -> None:
        """Fetch a checkpoint, or go on with it, or repair it.

        Raises:
            NotFound: there is none of this name.
            Conflict: it is installed, or is being verified.
        """
        checkpoint = _known(name)
        with self._lock:
            work = self._works.get(name)
            if work is not None and work.kind == "download":
                work.is_again = work.stop.is_set()
                return
            if work is not None:
                raise Conflict(f"{checkpoint.title} is being verified.", hint="Stop that first.")
            if download.is_installed(checkpoint):
                raise Conflict(
                    f"{checkpoint.title} is installed.", hint="Verify tells if it is whole."
                )
            self._begin(_Work(checkpoint, "download"))

    def pause(self, name: str) -> None:
        """Stop what is done to a checkpoint; what came so far is kept. Nothing, where it rests."""
        checkpoint = _known(name)
        with self._lock:
            work = self._works.get(name)
            if work is None:
                return
            work.stop.set()
            work.is_again = False
            if work.kind == "download":
                download.note(checkpoint, is_wanted=False)
            if work.future is not None and work.future.cancel():
                del self._works[name]
            self._changed()

    def verify(self, name: str) -> None:
        """Compare an installed checkpoint to its checksums.

        Raises:
            NotFound: there is none of this name.
            Conflict: it is not installed, or something is done to it.
        """
        checkpoint = _known(name)
        with self._lock:
            self._check_idle(checkpoint)
            if not checkpoint.repository or not download.is_installed(checkpoint):
                raise Conflict(
                    f"{checkpoint.title} was not downloaded: there is nothing to verify."
                )
            self._begin(_Work(checkpoint, "verify"))

    def adopt(self, folder: Path) -> list[str]:
        """Take over the checkpoints that lie in a folder; their names.

        Raises:
            NotFound: it holds none.
            Conflict: all that it holds is installed, or being fetched.
        """
        sources = adoption.find_sources(folder)
        with self._lock:
            new = [
                source
                for source in sources
                if source.checkpoint.name not in self._works
                and not download.is_installed(source.checkpoint)
            ]
            if not new:
                raise Conflict("All models in the folder are installed, or on their way.")
            for source in new:
                self._begin(_Work(source.checkpoint, "adopt", source))
        return [source.checkpoint.name for source in new]

    def delete(self, name: str) -> None:
        """Remove a checkpoint, or what came of it so far.

        Raises:
            NotFound: there is none of this name.
            Conflict: it is part of FreeSwim, or what is done to it does not stop.
            OutputError: it cannot be removed.
        """
        checkpoint = _known(name)
        self.pause(name)
        deadline = time.monotonic() + STOP_S
        while name in self._works:
            if time.monotonic() > deadline:
                raise Conflict(f"{checkpoint.title} is still stopping.", hint="Try again.")
            time.sleep(0.02)
        download.delete(checkpoint)
        self._failures.pop(name, None)
        self._changed()

    # ------------------------------------------------------------------------------------ inside

    def _check_idle(self, checkpoint: Checkpoint) -> None:
        if checkpoint.name in self._works:
            raise Conflict(
                f"Something is done to {checkpoint.title} already.", hint="Stop it first."
            )

    def _begin(self, work: _Work) -> None:
        with self._lock:
            name = work.checkpoint.name
            self._works[name] = work
            self._failures.pop(name, None)
            if work.kind == "download":  # on the disk, before anybody is told
                download.note(work.checkpoint, is_wanted=True)
            pool = self._transfers if work.kind == "download" else self._checks
            work.future = pool.submit(self._run, work)
        self._changed()

    def _run(self, work: _Work) -> None:
        said: Said | None = None
        try:
            self._do(work)
        except Cancelled:
            pass
        except FreeswimError as error:
            log.warning("%s %s: %s", work.kind, work.checkpoint.name, error.message)
            said = Said(code=error.code, message=error.message, hint=error.hint)
        except Exception:
            log.exception("%s %s", work.kind, work.checkpoint.name)
            said = Said(
                code="error", message="It failed inside FreeSwim.", hint="The log says why."
            )
        try:
            self._settle(work, said)
        except (OSError, FreeswimError) as error:
            log.warning("the state of %s cannot be written: %s", work.checkpoint.name, error)

    def _do(self, work: _Work) -> None:
        def tell(progress: Progress) -> None:
            is_new = work.progress is None or work.progress.stage != progress.stage
            now = time.monotonic()
            if is_new or not work.rates or now - work.rates[-1][0] > 0.2:
                if is_new:
                    work.rates.clear()
                work.rates.append((now, progress.done_bytes))
                while work.rates[0][0] < now - RATE_S:
                    work.rates.popleft()
            work.progress = progress
            if is_new:
                self._changed()

        match work.kind:
            case "download":
                download.download(work.checkpoint, stop=work.stop, on_progress=tell)
            case "verify":
                download.verify(work.checkpoint, stop=work.stop, on_progress=tell)
            case "adopt":
                assert work.source is not None
                adoption.adopt(work.source, stop=work.stop, on_progress=tell)

    def _settle(self, work: _Work, said: Said | None) -> None:
        """A work is over: done, failed, paused, or the daemon stops."""
        with self._lock:
            name = work.checkpoint.name
            self._works.pop(name, None)
            try:
                is_unfinished = download.read_record(work.checkpoint) is not None
                if said is not None and (not is_unfinished or work.kind == "verify"):
                    self._failures[name] = said
                elif is_unfinished and not self._is_stopping and work.kind != "verify":
                    download.note(work.checkpoint, is_wanted=False, failure=said)
                if work.is_again and not self._is_stopping:
                    self._begin(_Work(work.checkpoint, "download"))
            finally:
                self._changed()

    def _changed(self) -> None:
        self.change += 1
        self._ring()

    def _now(self, checkpoint: Checkpoint, is_first: bool) -> ModelNow:
        with self._lock:
            work = self._works.get(checkpoint.name)
            disk = download.look(checkpoint)
            failure = disk.failure or self._failures.get(checkpoint.name)
        state: State = disk.state
        done, total, rate = disk.done_bytes, disk.total_bytes, None
        if work is not None and not (work.stop.is_set() and not work.is_again):
            state, failure = _state_of(work), None
            if work.progress is not None and work.progress.total_bytes:
                done, total = work.progress.done_bytes, work.progress.total_bytes
                rate = _rate(list(work.rates))
        is_installed = checkpoint.repository is None or download.is_installed(checkpoint)
        return ModelNow(
            name=checkpoint.name,
            title=checkpoint.title,
            licence=checkpoint.licence,
            repository=checkpoint.repository or "",
            speed=checkpoint.speed,
            fidelity=checkpoint.fidelity,
            least_gpu_gb=checkpoint.least_gpu_gb,
            is_recommended=is_first,
            state=state,
            size_bytes=total or checkpoint.download_bytes,
            is_exact=total > 0,
            done_bytes=done,
            bytes_per_second=rate,
            seconds_left=(total - done) / rate if rate else None,
            folder=str(download.folder_of(checkpoint)) if is_installed else "",
            failure=failure,
        )


def words_of(model: ModelNow) -> str:
    """A checkpoint's state, with how far it is; the app and the command line say the same."""
    amounts = _amounts(model.done_bytes, model.size_bytes)
    match model.state:
        case "available":
            return "Not downloaded"
        case "waiting":
            return f"Waits for its turn, {amounts}" if model.done_bytes else "Waits for its turn"
        case "downloading":
            if not model.is_exact:
                return "Asking the Hub what it consists of"
            left = model.seconds_left
            return f"Downloading {amounts}" + (f", {_left(left)}" if left is not None else "")
        case "verifying":
            return f"Verifying {amounts}"
        case "paused":
            return f"{'Stopped' if model.failure else 'Paused'} at {amounts}"
        case "installed":
            return "Installed" if model.repository else "Installed: it comes with FreeSwim"
        case "damaged":
            return "Damaged"


def _amounts(done: int, total: int) -> str:
    """As 3.1 of 8.2 GB."""
    if total < 10**8:
        return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
    return f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"


def _left(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute left"
    minutes = round(seconds / 60)
    return f"{minutes} min left" if minutes < 100 else f"{minutes / 60:.1f} h left"


def _known(name: str) -> Checkpoint:
    for checkpoint in CATALOG:
        if checkpoint.name == name:
            return checkpoint
    raise NotFound("There is no such model.", hint="See: freeswim models.")


def _state_of(work: _Work) -> State:
    if work.kind != "download":
        return "verifying"
    if work.progress is None:
        return "waiting"
    return "verifying" if work.progress.stage == "verifying" else "downloading"


def _rate(rates: list[tuple[float, int]]) -> float | None:
    """Bytes per second of late; None: not known yet."""
    if len(rates) < 2:
        return None
    (began, before), (ended, after) = rates[0], rates[-1]
    return (after - before) / (ended - began) if after > before and ended - began > 1 else None
