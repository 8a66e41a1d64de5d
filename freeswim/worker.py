"""A worker: makes the takes it is told to, one after the other, and says how far it is.

Run by the daemon as `python -I -m freeswim.worker`. It keeps the last checkpoint loaded, writes
nothing outside the folders it is given, and is gone when its daemon is. It can be killed at any
time: whatever it had finished is found by the next attempt.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import psutil

from freeswim import __version__, protocol
from freeswim.errors import Cancelled, FreeswimError
from freeswim.protocol import Beat, Exit, Failed, Hello, Made, Preview, Run, Step, Stop, Stopped
from freeswim.quiet import quiet_libraries

if TYPE_CHECKING:
    from freeswim.generate import OnProgress, Progress
    from freeswim.models.warm import Warm

log = logging.getLogger(__name__)

STEPS_A_SECOND = 20  # at most so many are told of
LONGEST_LOG = 2**20  # bytes of a job's log, before its next attempt begins it anew
NICENESS = 5  # beside what the person is working with

_DEVICE_FAULT = re.compile(
    r"illegal memory access|device-side assert|unspecified launch failure|launch timed out|"
    r"no longer on the bus|cuda error: unknown error|uncorrectable ecc",
    re.IGNORECASE,
)


class Worker:
    """The process: reads commands in one thread, lives in another, works in the main one."""

    def __init__(self, commands: BinaryIO, events: BinaryIO) -> None:
        self._commands = commands
        self._events = events
        self._telling = threading.Lock()
        self._runs: queue.SimpleQueue[Run | Exit] = queue.SimpleQueue()
        self._stopping: set[tuple[str, int]] = set()  # jobs and attempts that are to be stopped

    def work(self) -> None:
        """Do what is commanded until it is to exit."""
        threading.Thread(target=self._listen, daemon=True).start()
        self.tell(Hello(protocol=protocol.VERSION, version=__version__, pid=os.getpid()))
        threading.Thread(target=self._beat, daemon=True).start()
        from freeswim.models.warm import Warm  # torch: seconds, while the daemon already hears us

        warm = Warm()
        while isinstance(command := self._runs.get(), Run):
            self._run(command, warm)

    def tell(self, event: protocol.Event) -> None:
        """Say something to the daemon; whole lines, whoever says them."""
        with self._telling:
            self._events.write(protocol.to_line(event))
            self._events.flush()

    def _listen(self) -> None:
        for line in self._commands:
            match protocol.read_command(line):
                case Stop(job_id=job_id, attempt=attempt):
                    self._stopping.add((job_id, attempt))
                case Run() | Exit() as command:
                    self._runs.put(command)
                case None:
                    pass
        # The daemon is gone, and nobody is there to take what is made.
        os._exit(protocol.PARENT_GONE)

    def _beat(self) -> None:
        while True:
            time.sleep(protocol.BEAT_S)
            self.tell(Beat())

    def _run(self, run: Run, warm: Warm) -> None:
        """One attempt; says what came of it at its end, once."""
        with _logged_to(run.log):
            outcome = self._make(run, warm)
        self.tell(outcome)
        if isinstance(outcome, Failed) and outcome.code == protocol.DEVICE:
            os._exit(protocol.DEVICE_FAULT)

    def _make(self, run: Run, warm: Warm) -> Made | Stopped | Failed:
        from freeswim.generate import generate
        from freeswim.preview import Previews
        from freeswim.request import Request

        log.info("job %s, attempt %d", run.job_id, run.attempt)
        previews = Previews(
            run.preview, lambda number: self.tell(Preview(job_id=run.job_id, number=number))
        )
        try:
            generate(
                Request.parse(run.request),
                run.output,
                overwrite=True,  # the folder is the attempt's own
                draft_latents=run.draft_latents,
                job_dir=run.checkpoints,
                warm=warm,
                previews=previews,
                on_progress=self._progress(run),
            )
        except Cancelled:
            return Stopped(job_id=run.job_id)
        except FreeswimError as error:
            log.exception("job %s", run.job_id)
            return Failed(job_id=run.job_id, **error.as_dict())
        except Exception as error:
            log.exception("job %s", run.job_id)
            return _fault(run.job_id, error)
        log.info("made")
        return Made(job_id=run.job_id, memory_bytes=psutil.Process().memory_info().rss)

    def _progress(self, run: Run) -> OnProgress:
        told_at, told_stage = 0.0, ""

        def report(progress: Progress) -> None:
            nonlocal told_at, told_stage
            if (run.job_id, run.attempt) in self._stopping:
                raise Cancelled
            now = time.monotonic()
            is_edge = progress.stage != told_stage or progress.step == progress.num_steps
            if is_edge or now - told_at >= 1 / STEPS_A_SECOND:
                told_at, told_stage = now, progress.stage
                self.tell(
                    Step(
                        job_id=run.job_id,
                        stage=progress.stage,
                        step=progress.step,
                        num_steps=progress.num_steps,
                        seconds=progress.seconds,
                    )
                )

        return report


def _fault(job_id: str, error: Exception) -> Failed:
    """A fault of the program, or of the device."""
    words = (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
    return Failed(
        job_id=job_id,
        code=protocol.DEVICE if _DEVICE_FAULT.search(str(error)) else FreeswimError.code,
        message=f"Something went wrong inside FreeSwim: {words}",
        hint="The job's log says more: freeswim logs JOB.",
    )


@contextmanager
def _logged_to(path: Path) -> Generator[None]:
    """Add all that is printed meanwhile, by C libraries as well, to a job's log."""
    kept = os.dup(2)
    try:
        try:
            is_long = path.is_file() and path.stat().st_size > LONGEST_LOG
            with path.open("wb" if is_long else "ab") as file:
                os.dup2(file.fileno(), 2)
                os.dup2(file.fileno(), 1)
        except OSError as error:
            log.warning("%s cannot be written: %s", path.name, error)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.dup2(kept, 1)
        os.close(kept)


def _step_back() -> None:
    """The person's other programs come first."""
    with suppress(psutil.Error, OSError):
        background = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", NICENESS)
        psutil.Process().nice(background)


def main() -> None:
    """Take the pipes over before any library can write into them, and work."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed goes to the log
    faulthandler.enable()
    quiet_libraries()
    _step_back()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    status = 1
    try:
        Worker(sys.stdin.buffer, events).work()
        status = 0
    except Exception:
        log.exception("the worker ends")
    finally:
        logging.shutdown()
        # An orderly end would abort: the thread that reads commands holds their lock.
        os._exit(status)


if __name__ == "__main__":
    main()
