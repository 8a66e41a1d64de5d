"""A worker that does its job in a second: a chain of checksums instead of pictures.

It speaks the real protocol, writes where the real one writes, goes on from checkpoints, and its
result depends on the request and on every step. Words in the prompt make it misbehave:

    crash          dies at its third step, every time
    crash-once     dies at its third step, the first time
    segfault       dies of a signal
    hang           does nothing at its third step, but lives
    silent         stops itself: no sign of life
    oom, device    fails with that
    full-disk      fails with a full disk as long as the folder has a file named `full`
    stubborn       does not stop when it is asked to
    lies           what it makes is not what it says of it
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from freeswim import protocol
from freeswim.protocol import Beat, Exit, Failed, Hello, Made, Run, Step, Stop, Stopped
from freeswim.request import Request

STEPS = 12
STEP_S = float(os.environ.get("FAKE_STEP_S", "0.02"))

events: list[BinaryIO] = []  # where events go; empty where this is only imported
telling = threading.Lock()
stopping: set[tuple[str, int]] = set()
runs: list[Run | Exit] = []
there_is = threading.Condition()


def tell(event: protocol.Event) -> None:
    with telling:
        events[0].write(protocol.to_line(event))
        events[0].flush()


def listen() -> None:
    for line in sys.stdin.buffer:
        match protocol.read_command(line):
            case Stop(job_id=job_id, attempt=attempt):
                stopping.add((job_id, attempt))
            case Run() | Exit() as command:
                with there_is:
                    runs.append(command)
                    there_is.notify()
            case None:
                pass
    os._exit(protocol.PARENT_GONE)


def beat() -> None:
    while True:
        time.sleep(0.1)
        tell(Beat())


def latest(folder: Path, request: str) -> tuple[int, str]:
    """The last checkpoint that is whole and of this request."""
    for path in sorted(folder.glob("chain-*.json"), reverse=True):
        try:
            said = json.loads(path.read_text())
            if said["check"] == checksum(said["step"], said["chain"], request):
                return said["step"], said["chain"]
        except (ValueError, KeyError):
            continue
    return 0, request


def checksum(step: int, chain: str, request: str) -> str:
    return hashlib.sha256(f"{step} {chain} {request}".encode()).hexdigest()


def save(folder: Path, step: int, chain: str, request: str) -> None:
    said = {"step": step, "chain": chain, "check": checksum(step, chain, request)}
    part = folder / ".part"
    part.write_text(json.dumps(said))
    part.replace(folder / f"chain-{step:05d}.json")


def chain_of(request: Request, steps: int = STEPS) -> str:
    """What a take of `request` holds."""
    chain = request.digest()
    for step in range(steps):
        chain = hashlib.sha256(f"{chain} {step}".encode()).hexdigest()
    return chain


def misbehave(run: Run, words: list[str], step: int) -> Failed | None:
    if step != 3:
        return None
    if "crash" in words or ("crash-once" in words and run.attempt == 1):
        os._exit(9)
    if "segfault" in words:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in words:
        time.sleep(3600)
    if "silent" in words:
        os.kill(os.getpid(), signal.SIGSTOP)
    if "oom" in words:
        return Failed(job_id=run.job_id, code="out_of_memory", message="Too large.", hint="Less.")
    if "device" in words:
        tell(Failed(job_id=run.job_id, code="device", message="The GPU is gone."))
        os._exit(protocol.DEVICE_FAULT)
    if "full-disk" in words and (run.checkpoints.parents[2] / "full").exists():
        return Failed(job_id=run.job_id, code="disk_full", message="The disk is full.")
    return None


def work(run: Run) -> protocol.Event:
    request = Request.parse(run.request)
    digest, words = request.digest(), request.prompt.split()
    with run.log.open("a") as log:
        log.write(f"attempt {run.attempt}\n")
    with (run.checkpoints.parent / "steps.txt").open("a") as steps:
        first, chain = latest(run.checkpoints, digest)
        for step in range(first, STEPS):
            if (run.job_id, run.attempt) in stopping and "stubborn" not in words:
                return Stopped(job_id=run.job_id)
            if (failed := misbehave(run, words, step)) is not None:
                return failed
            time.sleep(STEP_S)
            chain = hashlib.sha256(f"{chain} {step}".encode()).hexdigest()
            steps.write(f"{step}\n")
            steps.flush()
            if step % 2:
                save(run.checkpoints, step + 1, chain, digest)
            tell(
                Step(job_id=run.job_id, stage="chain", step=step + 1, num_steps=STEPS, seconds=0.0)
            )
    run.output.write_text(chain)
    media = {
        "file": run.output.name,
        "sha256": hashlib.sha256(("lie" if "lies" in words else chain).encode()).hexdigest(),
        "width": request.width,
        "height": request.height,
        "frames": request.frames,
        "frame_rate": "16",
    }
    sidecar = {
        "schema": 1,
        "media": media,
        "request": request.as_dict(),
        "request_sha256": digest,
    }
    run.output.with_suffix(".json").write_text(json.dumps(sidecar))
    return Made(job_id=run.job_id, memory_bytes=10**6)


def main() -> None:
    events.append(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=beat, daemon=True).start()
    tell(Hello(protocol=protocol.VERSION, version="fake", pid=os.getpid()))
    while True:
        with there_is:
            there_is.wait_for(lambda: runs)
            command = runs.pop(0)
        if isinstance(command, Exit):
            return
        try:
            tell(work(command))
        except OSError as error:
            tell(Failed(job_id=command.job_id, code="disk_full", message=str(error)))


if __name__ == "__main__":
    main()
