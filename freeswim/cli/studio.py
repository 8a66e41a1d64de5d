"""Takes that the studio makes: asked for, waited for, and put where a command wants them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from freeswim.cli import terminal
from freeswim.cli.options import MOST_LISTED, Asked
from freeswim.cli.watch import ENDED, REST_S, Listener, disabled_slots, state_words
from freeswim.errors import Cancelled, FreeswimError
from freeswim.output import as_output_error, check_place, publish, workspace
from freeswim.request import Request
from freeswim.sidecar import Take, latents_path, sidecar_path
from freeswim.studio.client import Client, Json, error_of

LOOK_S = 5.0  # without a step, before it is asked why nothing happens
CANCEL_S = 15.0  # for a job to stop at its next step


def submit(
    client: Client, asked: Asked, *, shot: str = "", seeds: Sequence[int] = (), front: bool = False
) -> list[Json]:
    """Add the jobs that were asked for."""
    if asked.draft is not None and (take_id := _take_at(client, asked.draft)):
        job = client.post(f"/takes/{take_id}/finish", {"request": {}})
        if front:
            client.post("/jobs/move", {"ids": [job["id"]], "to": "front"})
        return [job]
    submission: Json = {"request": asked.request.as_dict(), "seeds": list(seeds), "front": front}
    if shot and (known := find_shots(client, shot)):
        submission["shot_id"] = known[-1]["id"]
    elif shot:
        submission["shot"] = {"name": shot}
    return client.submit(submission)


def _take_at(client: Client, media: Path) -> str:
    """Id of the studio's draft whose file this is; empty: it is none of the studio's."""
    for take in client.get("/takes", limit=MOST_LISTED)["takes"]:
        if take["is_draft"] and take["file"] == media.name:
            found = Path(client.get(f"/takes/{take['id']}")["path"])
            return str(take["id"]) if found.resolve() == media.expanduser().resolve() else ""
    return ""


def find_shots(client: Client, name: str) -> list[Json]:
    """The shots of this name, the first one first."""
    return [shot for shot in client.get("/shots")["shots"] if shot["name"] == name]


def make_in_studio(client: Client, asked: Asked, *, as_json: bool) -> None:
    """Have the studio make the take that a command asks for, and say what became of it."""
    out = None if asked.out is None else asked.out.expanduser().absolute()
    if out is not None:
        for path in (sidecar_path(out), latents_path(out)):
            check_place(path, overwrite=False)
    (job,) = submit(client, asked)
    take = _wait_for_take(client, job, as_json=as_json)
    said = client.get(f"/takes/{take['id']}")
    media = Path(said["path"])
    if out is not None:
        _copy_take(media, said["sidecar"], out)
    terminal.finished(_as_take(out or media, said["sidecar"]), as_json=as_json)


def _copy_take(media: Path, sidecar: Json, out: Path) -> None:
    """A take's files under another name, in one step each; nothing is overwritten."""
    with as_output_error(out), workspace(out) as folder:
        said = sidecar | {"media": sidecar["media"] | {"file": out.name}}
        copies = [(Path(shutil.copyfile(media, folder / out.name)), out)]
        if "latents" in sidecar:
            place = latents_path(out)
            said["latents"] = sidecar["latents"] | {"file": place.name}
            copies.append((Path(shutil.copyfile(latents_path(media), folder / place.name)), place))
        part = folder / "take.json"
        part.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")
        copies.append((part, sidecar_path(out)))
        for copy, place in copies:
            publish(copy, place, overwrite=False)


def _as_take(media: Path, sidecar: Json) -> Take:
    """A take as its sidecar tells of it."""
    computed = sidecar["computed"]
    return Take(
        media=media,
        request=Request.parse(sidecar["request"]),
        frame_rate=Fraction(sidecar["media"]["frame_rate"]),
        attention_backend=computed["attention_backend"],
        device=computed["device"],
        dtype=computed["dtype"],
        memory_policy=computed["memory_policy"],
        out_of_memory=tuple(computed["out_of_memory"]),
        seconds=sidecar["seconds"],
        versions=sidecar["versions"],
        latents=latents_path(media) if "latents" in sidecar else None,
    )


# ------------------------------------------------------------------------------ a job waited for


def _wait_for_take(client: Client, job: Mapping[str, Any], *, as_json: bool) -> Json:
    """Show how a job comes along until its take is made, and give that; Ctrl-C cancels the job.

    Raises:
        FreeswimError: as the job failed; Cancelled, where somebody cancelled it.
    """
    if not as_json:
        _say_place(client, job)
    try:
        with terminal.shown_progress(as_json=as_json) as on_progress:
            _follow(client, job, _Stages(on_progress), is_quiet=as_json)
    except KeyboardInterrupt:
        _cancel(client, job)
        raise
    takes: list[Json] = client.get(f"/shots/{job['shot_id']}")["takes"]
    return next(take for take in takes if take["job_id"] == job["id"])


def _say_place(client: Client, job: Mapping[str, Any]) -> None:
    """What comes before a job, if anything does."""
    number = job["number"]
    ids = [one["id"] for one in client.get("/jobs", view="queue", limit=MOST_LISTED)["jobs"]]
    before = ids.index(job["id"]) if job["id"] in ids else 0
    if client.get("/queue")["mode"] != "run":
        terminal.note(f"Job {number} waits: the queue is paused. Go on: freeswim queue resume.")
    elif before:
        terminal.note(f"Job {number} of the studio's queue, {before} before it.")
    else:
        terminal.note(f"Job {number} of the studio's queue.")


def _follow(client: Client, job: Mapping[str, Any], stages: _Stages, *, is_quiet: bool) -> None:
    listener, stalled = Listener(client, job["seq"]), _Stalled(client)
    while True:
        heard = listener.hear()
        if not is_quiet:
            stalled.look(heard)
        for progress in heard["progress"]:
            if progress["job_id"] == job["id"]:
                stages.follow(progress)
        before, job = job, next((one for one in heard["jobs"] if one["id"] == job["id"]), job)
        _raise_if_ended(job)
        if job["state"] == "done":
            stages.end()
            return
        if job["state"] in ("paused", "waiting") and before["state"] != job["state"]:
            stages.end()
            if not is_quiet:
                terminal.note(f"Job {job['number']} is {state_words(job)}.")


def _raise_if_ended(job: Mapping[str, Any]) -> None:
    """Where no take will come of the job, raise why."""
    if job["state"] == "failed":
        raise error_of(job["failure"] or {})
    if job["state"] == "cancelled":
        raise Cancelled(f"Job {job['number']} was cancelled.")


class _Stalled:
    """Says why, where no job gets on."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._said: list[str] = []
        self._since = time.monotonic()

    def look(self, heard: Mapping[str, Any]) -> None:
        """At what happened last."""
        now = time.monotonic()
        if heard["progress"] or now - self._since < LOOK_S:
            return
        before, self._said, self._since = self._said, disabled_slots(self._client), now
        for words in self._said if self._said != before else []:
            terminal.note(words)


def _cancel(client: Client, job: Mapping[str, Any]) -> None:
    """Cancel a job and wait until it has stopped; a second Ctrl-C waits no longer."""
    with suppress(FreeswimError, KeyboardInterrupt):
        job = client.post(f"/jobs/{job['id']}/cancel")
        deadline = time.monotonic() + CANCEL_S
        while job["state"] not in ENDED and time.monotonic() < deadline:
            time.sleep(REST_S)
            job = client.get(f"/jobs/{job['id']}")["job"]


@dataclass(frozen=True)
class _Step:
    """How far a job is, as progress is shown."""

    stage: str
    step: int
    num_steps: int
    seconds: float


class _Stages:
    """Makes steps that are complete of looks that may miss some: each stage begins and ends."""

    def __init__(self, on_progress: terminal.OnProgress) -> None:
        self._report = on_progress
        self._last: _Step | None = None

    def follow(self, progress: Mapping[str, Any]) -> None:
        """A look at how far the job is."""
        now = _Step(**{name: progress[name] for name in _Step.__dataclass_fields__})
        if not now.stage or now == self._last:
            return
        if self._last is None or now.stage != self._last.stage:
            self.end(now.seconds)
            self._report(_Step(now.stage, 0, now.num_steps, now.seconds))
        if now.step:
            self._report(now)
        self._last = now

    def end(self, seconds: float | None = None) -> None:
        """The stage under way is over."""
        if (last := self._last) is not None and last.step < last.num_steps:
            over = last.seconds if seconds is None else seconds
            self._report(_Step(last.stage, last.num_steps, last.num_steps, over))
        self._last = None
