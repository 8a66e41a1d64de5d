"""What this machine has done before: the speeds that forecasts are made from.

A line of JSON for every take that was made, and none of its words: no prompt, no path.
"""

from __future__ import annotations

import logging
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from freeswim import paths

log = logging.getLogger(__name__)

KEPT = 500  # runs; about 400 bytes each

Work = dict[str, float]  # per stage, in the stage's own unit (plan.work_of)


class PastRun(BaseModel):
    """One run of the past."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    machine: str  # name of the GPU, else of the CPU
    checkpoint: str
    weights: str
    shape: str  # what decides the memory of a take
    policy: str  # memory policy that it was made with; "" where every one ran out of memory
    failed: tuple[str, ...] = ()  # memory policies that ran out of memory before it
    work: Work = {}
    seconds: dict[str, float] = {}  # per stage


def past_runs() -> list[PastRun]:
    """All that are kept, the last one first; a damaged line is passed over."""
    try:
        lines = paths.history().read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("what this machine did before cannot be read: %s", error)
        return []
    runs: list[PastRun] = []
    for line in reversed(lines):
        try:
            runs.append(PastRun.model_validate_json(line))
        except ValidationError:
            log.warning("a line of %s is passed over", paths.history().name)
    return runs


def remember(run: PastRun) -> None:
    """Add a run. A disk that refuses costs the memory of it, nothing else."""
    path = paths.history()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:  # one short write at the end: whole beside other processes'
            file.write(_after_torn_line() + run.model_dump_json().encode() + b"\n")
        lines = path.read_bytes().splitlines(keepends=True)
        if len(lines) > 2 * KEPT:
            part = path.with_suffix(".part")
            part.write_bytes(b"".join(lines[-KEPT:]))
            part.replace(path)
    except OSError as error:
        log.warning("this run is not remembered: %s", error)


def _after_torn_line() -> bytes:
    """A line end where the last line was torn by a power cut."""
    last = paths.history().read_bytes()[-1:]
    return b"" if last in (b"", b"\n") else b"\n"
