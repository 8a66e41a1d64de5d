"""What is said of a job: its title, its facts, its state and the time it takes, in words."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from PySide6.QtCore import QObject, Signal

from desktop.studio import Studio
from freeswim.errors import FreeswimError
from freeswim.request import Request
from freeswim.studio.job import Failure, Job, JobState, QueueMode, Reason, Take, Wish
from freeswim.studio.runner import JobProgress

MOST_KINDS = 1000  # of requests that are remembered

_STAGES = {
    "encode prompt": "reading the prompt",
    "load": "loading the model",
    "base": "base pass",
    "upsample": "upscaling",
    "refine": "refining",
    "write": "writing",
}


class Tone(StrEnum):
    """What kind of state it is; each has its colour."""

    QUIET = "quiet"
    RUNNING = "running"
    DONE = "done"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """A job in words."""

    title: str  # of the shot
    subtitle: str  # how it is made
    facts: str
    state: str  # one word or two
    detail: str  # what follows it
    tone: Tone
    glyph: str  # name of an icon
    spoken: str  # all that matters, for who hears it
    share: float | None = None  # of the work that is done; None: nothing is shown of it

    @property
    def status(self) -> str:
        """State and detail in one line."""
        return f"{self.state} · {self.detail}" if self.detail else self.state


@dataclass(frozen=True)
class Sight:
    """What is known of a job beside its row of the database."""

    subtitle: str = ""
    progress: JobProgress | None = None
    share: float | None = None
    seconds_left: float | None = None  # of one that runs, or that it will take
    is_slower: bool = False  # than was said before
    is_again: bool = False  # queued again by the person, not interrupted
    asked: str = ""  # of the studio a moment ago: "Cancelling"
    mode: QueueMode = QueueMode.RUN
    take: Take | None = None


def describe(job: Job, sight: Sight) -> Row:
    """The job in words."""
    say = {
        JobState.RUNNING: _running,
        JobState.PUBLISHING: _publishing,
        JobState.QUEUED: _queued,
        JobState.PAUSED: lambda *_: ("Paused", "", Tone.WARNING, "pause"),
        JobState.WAITING: lambda job, _: (*_waits_for(job), Tone.WARNING, "clock"),
        JobState.DONE: lambda *_: ("Done", "", Tone.DONE, "done"),
        JobState.CANCELLED: lambda *_: ("Cancelled", "", Tone.QUIET, "reject"),
        JobState.FAILED: _failed,
    }
    state, detail, tone, glyph = say[job.state](job, sight)
    if sight.asked:
        state, detail = sight.asked, ""
    heard = [job.shot_name, state.lower(), _spoken_detail(job, sight, detail)]
    return Row(
        title=job.shot_name,
        subtitle=sight.subtitle,
        facts=facts(job, sight.take),
        state=state,
        detail=detail,
        tone=tone,
        glyph=glyph,
        spoken=", ".join(part for part in heard if part),
        share=sight.share,
    )


def facts(job: Job, take: Take | None = None) -> str:
    """Frames, size and seed; of one that is done its take and how long that took."""
    if take is not None and job.started_at and job.ended_at:
        return f"Take {take.number} · {duration(job.ended_at - job.started_at)}"
    kind = kind_of(job)
    frames = "1 frame" if kind.frames == 1 else f"{kind.frames} frames"
    width, height = kind.size
    return f"{frames} · {width} × {height} · seed {job.request.get('seed', 0)}"


def stage_words(progress: JobProgress) -> str:
    """Where it is: "refining 6/50"."""
    stage = _STAGES.get(progress.stage, progress.stage)
    return f"{stage} {progress.step}/{progress.num_steps}" if progress.num_steps > 1 else stage


def stage_title(stage: str) -> str:
    """A stage as a heading."""
    return _STAGES.get(stage, stage).capitalize()


# ------------------------------------------------------------------------------------------ time


def time_left(seconds: float) -> str:
    """As near as anybody knows: "less than a minute", "6 min", "1 h 20 min", "3 days"."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{hours} h"
    return f"{round(hours / 24)} days"


def duration(seconds: float) -> str:
    """As it was: "48 s", "5 min 48 s", "1 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def spoken_time(seconds: float) -> str:
    """As it is said: "5 minutes", "1 hour 20 minutes"."""
    parts = time_left(seconds).split()
    if parts[0] == "less":
        return " ".join(parts)
    names = {"min": "minute", "h": "hour", "days": "day"}
    return " ".join(
        f"{count} {names[unit]}{'' if count == '1' else 's'}"
        for count, unit in zip(parts[::2], parts[1::2], strict=True)
    )


def clock(seconds: float, now: float | None = None) -> str:
    """The time of day in so many seconds; with the day where it is another one."""
    now = time.time() if now is None else now
    then, today = time.localtime(now + seconds), time.localtime(now)
    is_today = then[:3] == today[:3]
    return time.strftime("%H:%M" if is_today else "%a %H:%M", then)


def size_words(number: int) -> str:
    """An amount of memory: "3.2 GB"."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{math.ceil(number / 1e6)} MB"


# ------------------------------------------------------------------------------------ the states

Said = tuple[str, str, Tone, str]  # state, detail, tone, glyph


def _running(job: Job, sight: Sight) -> Said:
    if job.wish == Wish.CANCEL:
        return "Cancelling", "ends with this step", Tone.RUNNING, "play"
    if job.wish == Wish.PAUSE or sight.mode == QueueMode.PAUSE:
        return "Pausing", "stops with this step", Tone.RUNNING, "play"
    if sight.progress is None or not sight.progress.stage:
        begun = sight.share is not None  # and the studio does not say how far it is
        return "Running", "" if begun else "starting", Tone.RUNNING, "play"
    left = "first time, measuring"
    if sight.seconds_left is not None:
        left = f"{time_left(sight.seconds_left)} left"
        left += ", slower than expected" if sight.is_slower else ""
    return "Running", f"{stage_words(sight.progress)} · {left}", Tone.RUNNING, "play"


def _publishing(job: Job, _: Sight) -> Said:
    if job.reason == Reason.DISK:
        return "Waiting for disk", "the take is made", Tone.WARNING, "clock"
    return "Running", "putting the take in its place", Tone.RUNNING, "play"


def _queued(job: Job, sight: Sight) -> Said:
    about = "" if sight.seconds_left is None else f"about {time_left(sight.seconds_left)}"
    if sight.is_again:
        return "Queued again", about, Tone.QUIET, "clock"
    if job.crashes:
        return "Interrupted", "the generator stopped; it is tried again", Tone.WARNING, "redo"
    if job.attempt:
        return "Interrupted", "goes on by itself", Tone.WARNING, "redo"
    return "Queued", about, Tone.QUIET, "clock"


def _waits_for(job: Job) -> tuple[str, str]:
    if job.reason == Reason.MODEL:
        return "Waiting for model", "not installed yet"
    needed = f"needs {size_words(job.needed_bytes)} free" if job.needed_bytes else ""
    return "Waiting for disk", needed


def _failed(job: Job, _: Sight) -> Said:
    return "Failed", job.failure.message if job.failure else "", Tone.FAILED, "error"


def _spoken_detail(job: Job, sight: Sight, detail: str) -> str:
    if job.state == JobState.RUNNING and sight.seconds_left is not None:
        return f"{spoken_time(sight.seconds_left)} left"
    if job.state == JobState.QUEUED and sight.seconds_left is not None:
        return f"about {spoken_time(sight.seconds_left)}"
    return detail.replace(" · ", ", ")


def failure_text(failure: Failure) -> str:
    """What happened, why with numbers, and what to do about it."""
    numbers: list[str] = []
    for name, value in failure.details.items():
        if name.endswith("_bytes") and isinstance(value, int):
            name, value = name.removesuffix("_bytes"), size_words(value)
        numbers.append(f"{name.replace('_', ' ').capitalize()}: {value}")
    return "\n".join(part for part in (failure.message, failure.hint, *numbers) if part)


# ------------------------------------------------------------------------------- kinds of requests


@dataclass(frozen=True)
class Kind:
    """What jobs have in common that differ by prompt and seed alone."""

    key: str
    model: str  # title of its checkpoint
    frames: int
    size: tuple[int, int]  # of the take, pixels
    is_draft: bool
    stages: tuple[str, ...]  # that it goes through


def kind_of(job: Job) -> Kind:
    """The kind of a job."""
    fields = {name: value for name, value in job.request.items() if name not in ("seed", "prompt")}
    return _kind(json.dumps(fields, sort_keys=True), bool(job.draft_take))


@lru_cache(MOST_KINDS)
def _kind(text: str, has_draft: bool) -> Kind:
    fields = json.loads(text)
    try:
        request = Request.parse(fields | {"prompt": "-", "seed": 0})
    except FreeswimError:  # of another version, or of a file that is there no more
        size = (int(fields.get("width", 0)), int(fields.get("height", 0)))
        model = str(fields.get("checkpoint", ""))
        return Kind(text, model, int(fields.get("frames", 0)), size, False, tuple(_STAGES))
    left_out = set[str]()
    if request.kind == "clip" or has_draft:
        left_out.add("base")
    if not request.needs_refine:
        left_out |= {"upsample", "refine"}
    return Kind(
        key=text,
        model=request.model.title,
        frames=request.frames,
        size=request.take_size,
        is_draft=request.draft,
        stages=tuple(stage for stage in _STAGES if stage not in left_out),
    )


class Titles(QObject):
    """What ways of making are called: the preset where a request is one, else its checkpoint."""

    known = Signal()  # titles are others than before

    def __init__(self, studio: Studio, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self._presets: list[tuple[str, Mapping[str, Any]]] = []
        self._titles: dict[str, str] = {}  # by kind
        studio.connected.connect(self._ask)
        if studio.is_connected:
            self._ask()

    def of(self, job: Job) -> str:
        """What the job's row says beside the shot's name."""
        kind = kind_of(job)
        if kind.key not in self._titles:
            self._titles[kind.key] = self._find(job.request, kind)
        return self._titles[kind.key]

    def _find(self, request: Mapping[str, Any], kind: Kind) -> str:
        for title, defaults in self._presets:
            if _holds(request, defaults):
                return title
        return f"{kind.model}, draft" if kind.is_draft else kind.model

    def _ask(self) -> None:
        self._studio.ask(lambda client: client.get("/presets"), self._learn, lambda _: None)

    def _learn(self, said: dict[str, Any]) -> None:
        presets = [(preset["title"], preset["defaults"]) for preset in said["presets"]]
        # Of two that a request agrees with, the one that says more of it.
        self._presets = sorted(presets, key=lambda preset: -_count(preset[1]))
        self._titles.clear()
        self.known.emit()


def _holds(fields: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether all that is wanted is so."""
    for name, value in wanted.items():
        found = fields.get(name)
        if isinstance(value, Mapping):
            if not isinstance(found, Mapping) or not _holds(found, value):
                return False
        elif found != value:
            return False
    return True


def _count(fields: Mapping[str, Any]) -> int:
    return sum(_count(value) if isinstance(value, Mapping) else 1 for value in fields.values())
