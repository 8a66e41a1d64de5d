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
from typing import TYPE_CHECKING, BinaryIO

from freeswim import __version__, protocol
from freeswim.errors import Cancelled, FreeswimError
from freeswim.protocol import Beat, Exit, Failed, Hello, Made, Preview, Run, Step, Stop, Stopped

if TYPE_CHECKING:
    from freeswim.generate import OnProgress, Progress
    from freeswim.models.warm import Warm

log = logging.getLogger(__name__)

STEPS_A_SECOND = 20  # at most so many are told of

# After these nothing more can be computed in the process (reliability: sticky CUDA errors).
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
        """One attempt; ends with exactly one of Made, Stopped, Failed."""
        from freeswim.generate import generate
        from freeswim.preview import Previews
        from freeswim.request import Request

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
            self.tell(Stopped(job_id=run.job_id))
        except FreeswimError as error:
            log.exception("job %s", run.job_id)
            self.tell(Failed(job_id=run.job_id, **error.as_dict()))
        except Exception as error:
            log.exception("job %s", run.job_id)
            self._fail(run.job_id, error)
        else:
            self.tell(Made(job_id=run.job_id, memory_bytes=_memory_bytes()))

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

    def _fail(self, job_id: str, error: Exception) -> None:
        """Say that a fault of the program or the device ended the attempt."""
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
        is_device = _DEVICE_FAULT.search(str(error)) is not None
        self.tell(
            Failed(
                job_id=job_id,
                code="device" if is_device else FreeswimError.code,
                message=f"Something went wrong inside FreeSwim: {words}",
                hint="The job's log says more: freeswim logs JOB.",
            )
        )
        if is_device:
            os._exit(protocol.DEVICE_FAULT)


def _memory_bytes() -> int:
    import psutil

    return psutil.Process().memory_info().rss


def main() -> None:
    """Take the pipes over before any library can write into them, and work."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed goes to the log
    faulthandler.enable()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    Worker(sys.stdin.buffer, events).work()


if __name__ == "__main__":
    main()
