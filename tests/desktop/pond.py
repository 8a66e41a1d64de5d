"""A studio with takes of the demo checkpoint in it, and takes and jobs that were never made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from freeswim.studio import client
from freeswim.studio.client import Client
from freeswim.studio.job import Changes, Job, QueueMode, Shot, Take

if TYPE_CHECKING:  # Qt's system libraries may be missing: the tests say so, not this file
    from pytestqt.qtbot import QtBot

    from desktop.studio import Studio

KOI = {"kind": "text", "frames": 5, "width": 128, "height": 128}


@dataclass(frozen=True)
class Pond:
    """A studio with takes of the demo checkpoint in it; its queue is paused."""

    client: Client
    pond: str  # id of a shot: a draft of 256 x 144, then a take
    bin: str  # id of a shot with one take, to be thrown away


@contextmanager
def stocked(home: Path) -> Iterator[Pond]:
    """For a whole module: its takes cost seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREESWIM_HOME", str(home / "home"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))  # where Linux has its trash
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in ("FREESWIM_TAKES", "FREESWIM_MODELS"):
            patch.delenv(name, raising=False)
        asked = client.connect_or_start()
        try:
            yield _stock(asked)
        finally:
            asked.stop()


def _stock(asked: Client) -> Pond:
    shots: dict[str, str] = {}
    for shot, seed, prompt, fields in (
        ("POND_010", 11, "two orange koi", {"draft": True, "width": 256, "height": 144}),
        ("POND_010", 12, "two orange koi <b>swimming</b>", {}),
        ("BIN", 13, "one white koi", {}),
    ):
        known = {"shot_id": shots[shot]} if shot in shots else {"shot": {"name": shot}}
        request = KOI | fields | {"prompt": prompt, "seed": seed}
        (job,) = asked.submit({"preset": "demo", "request": request} | known)
        shots[shot] = job["shot_id"]
    for _ in asked.events(0):
        if len(asked.get("/takes")["takes"]) == 3:
            break
    asked.patch("/queue", {"mode": "pause"})
    return Pond(asked, shots["POND_010"], shots["BIN"])


@contextmanager
def beside(qtbot: QtBot, pond: Pond) -> Iterator[Studio]:
    """The app's side of it, with nothing approved and nothing in the queue."""
    from desktop.studio import Studio

    for take in pond.client.get("/takes")["takes"]:
        pond.client.patch(f"/takes/{take['id']}", {"verdict": "new"})
    pond.client.post("/jobs/cancel")
    studio = Studio()
    with qtbot.waitSignal(studio.connected, timeout=120_000):
        studio.start()
    yield studio
    studio.close()


def a_take(number: int, **fields: Any) -> Take:
    said = {
        "id": f"{number:016x}",
        "shot_id": "a" * 16,
        "shot_name": "SHOT_020",
        "job_id": f"{number + 1000:016x}",
        "number": number,
        "file": f"SHOT_020_take{number:02}.mp4",
        "sha256": f"{number:064x}",
        "width": 1920,
        "height": 1088,
        "frames": 81,
        "frame_rate": "16",
        "seed": 700000 + number,
        "prompt": "an elderly man at a window",
        "is_draft": False,
        "created_at": 1e9 + number,
        "seq": number,
    }
    return Take.model_validate(said | fields)


def a_job(**fields: Any) -> Job:
    said = {
        "id": "b" * 16,
        "number": 7,
        "shot_id": "a" * 16,
        "shot_name": "SHOT_020",
        "request": {"seed": 700009},
        "request_sha256": "0" * 64,
        "prompt": "an elderly man",
        "state": "running",
        "rank": 1.0,
        "created_at": 1e9,
        "seq": 9,
    }
    return Job.model_validate(said | fields)


def tell(studio: Studio, *things: Take | Job | Shot) -> None:
    studio._take_in(
        Changes(
            seq=1,
            is_whole=True,
            mode=QueueMode.RUN,
            shots=[one for one in things if isinstance(one, Shot)],
            jobs=[one for one in things if isinstance(one, Job)],
            takes=[one for one in things if isinstance(one, Take)],
        )
    )
