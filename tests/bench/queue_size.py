"""How the queue does with thousands of jobs, and what its daemon costs: the table of docs/queue.md.

    python tests/bench/queue_size.py [--jobs 10000] [--folder FOLDER]

Every change is on the disk before its call returns, so the disk of FOLDER decides most of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.studio.client import connect
from freeswim.studio.database import open_database
from freeswim.studio.job import JobState
from freeswim.studio.store import NewJob, NewShot, Store

ROUNDS = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, ignore_cleanup_errors=True) as folder:
        os.environ["FREESWIM_HOME"] = folder
        rows = [*_queue(given.jobs), *_daemon()]
    table = Table("", "measured", "goal")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _queue(count: int) -> list[tuple[str, str, str]]:
    store = open_database().store
    fields = {"kind": "text", "prompt": "two orange koi swimming left", "seed": 1}
    request = Request.parse(fields | load_preset("demo").defaults).as_json()
    jobs = [NewJob(f"{number:016x}", request) for number in range(count)]
    added = _seconds(lambda: store.add(jobs, shot=NewShot("f" * 16, "koi")))
    ids = [job.id for job in jobs]
    page = _many(lambda: store.queued(after=ids[count // 2], limit=200))
    history = _many(lambda: store.history(search="orange koi", limit=200))
    move = _many(lambda: store.move([ids[count // 3]], to="front"))
    claim = _many(lambda: _claim_and_return(store))
    every = _seconds(lambda: store.move(list(reversed(ids[:500])), to="end"))
    cancel = _seconds(store.cancel_waiting)
    store.close()
    opened = _seconds(lambda: open_database().store.close())
    return [
        (f"add {count} jobs", f"{added:.2f} s", "1 s"),
        ("claim, p99", f"{_p99(claim):.1f} ms", "50 ms"),
        ("page of 200, p99", f"{_p99(page):.1f} ms", "20 ms"),
        ("page of 200 of the history, searched, p99", f"{_p99(history):.1f} ms", ""),
        ("move one to the front, p99", f"{_p99(move):.1f} ms", "1 s"),
        ("move 500 to the end", f"{1000 * every:.0f} ms", "1 s"),
        ("cancel all", f"{1000 * cancel:.0f} ms", "1 s"),
        ("open and check", f"{1000 * opened:.0f} ms", ""),
    ]


def _claim_and_return(store: Store) -> None:
    """One claim; what is measured with it, giving the job back, is a change as well."""
    job = store.claim()
    assert job is not None
    store.change(job.id, JobState.QUEUED, only_from=JobState.RUNNING)


def _daemon() -> list[tuple[str, str, str]]:
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-I", "-m", "freeswim.cli", "serve", "--json"])
    try:
        while (client := connect()) is None:
            time.sleep(0.005)
        started = time.perf_counter() - began
        asked = _many(lambda: client.get("/queue"))
        memory = psutil.Process(process.pid).memory_info().rss
    finally:
        process.terminate()
        process.wait()
    return [
        ("start of the daemon on that folder, to its first answer", f"{started:.2f} s", "1 s"),
        ("its memory", f"{memory / 1e6:.0f} MB", "120 MB"),
        ("a request with its greeting, median", f"{statistics.median(asked):.1f} ms", ""),
    ]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _many(work: Callable[[], object]) -> list[float]:
    """Milliseconds of ROUNDS calls."""
    return [1000 * _seconds(work) for _ in range(ROUNDS)]


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[-1]


if __name__ == "__main__":
    main()
