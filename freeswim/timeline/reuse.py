"""A cut that was made elsewhere with our clips in it -> what is to be made for it.

Drafts that are in the cut are finished; takes of a person's clip that lack handles are made again
with them. A take from a prompt cannot grow: longer, the model would make another shot.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from freeswim.errors import MediaError
from freeswim.request import Request
from freeswim.timeline.reading import Read, Used
from freeswim.video.reader import probe

_JOB_IN_NAME = re.compile(r"_([0-9a-f]{8})(?:_native)?\.[A-Za-z0-9]+$")

What = Literal["keep", "finish", "extend", "lacks", "foreign"]


@dataclass(frozen=True)
class KnownTake:
    """A take of the studio's that a cut may use."""

    take_id: str
    job_id: str
    shot_id: str
    file: str
    num_frames: int
    frame_rate: Fraction
    is_draft: bool
    request: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """What is to be done about one clip of the cut."""

    what: What
    used: Used
    take: KnownTake | None = None
    first: int = 0  # frames of the take that the cut uses, half-open, at the take's rate
    end: int = 0
    missing_head: int = 0  # frames of the take's rate that its handles lack
    missing_tail: int = 0
    request: Mapping[str, Any] | None = None  # of the new job, where there is one

    @property
    def words(self) -> str:
        """The step in a sentence."""
        missing = f"{self.missing_head} frames before and {self.missing_tail} after it are missing"
        return {
            "keep": f"frames {self.first} to {self.end - 1} are used, with their handles",
            "finish": "a draft, to be finished at full size",
            "extend": f"{missing}: to be made again with them",
            "lacks": f"{missing}, and cannot be made: use less of it, or make a longer shot",
            "foreign": "not made by this studio",
        }[self.what]


def steps_for(read: Read, takes: Iterable[KnownTake], *, handles: int = 0) -> list[Step]:
    """What each enabled clip of a cut needs, in the cut's order.

    Args:
        takes: all that the studio knows.
        handles: frames of the timeline that are wanted before and after each clip.
    """
    by_job = {take.job_id[:8]: take for take in takes}
    by_file = {take.file: take for take in by_job.values()}
    return [
        _step(used, _found(used, by_job, by_file), read.rate, handles)
        for used in read.used
        if used.is_enabled
    ]


def _found(
    used: Used, by_job: Mapping[str, KnownTake], by_file: Mapping[str, KnownTake]
) -> KnownTake | None:
    named = _JOB_IN_NAME.search(used.file)
    for key in (used.job_id[:8], named[1] if named else ""):
        if key in by_job:
            return by_job[key]
    return by_file.get(used.file)


def _step(used: Used, take: KnownTake | None, rate: Fraction, handles: int) -> Step:
    if take is None:
        return Step("foreign", used)
    scale = take.frame_rate / rate
    first = math.floor(used.source_start * scale)
    end = math.ceil((used.source_start + used.num_frames) * scale)
    wanted = math.ceil(handles * scale)
    head, tail = max(0, wanted - first), max(0, end + wanted - take.num_frames)
    facts = {"used": used, "take": take, "first": first, "end": end}
    facts |= {"missing_head": head, "missing_tail": tail}
    if head or tail:
        longer = _longer(take, head, tail)
        return Step("lacks" if longer is None else "extend", **facts, request=longer)
    return Step("finish" if take.is_draft else "keep", **facts)


def _longer(take: KnownTake, head: int, tail: int) -> Mapping[str, Any] | None:
    """The request with more of the person's clip; None: there is no clip, or no more of it."""
    request = Request.parse(dict(take.request))
    if request.clip is None:
        return None
    try:
        of_clip = probe(request.clip.path).num_frames
    except MediaError:
        return None
    start, end = request.clip_start - head, request.clip_start + request.frames + tail
    if start < 0 or end > of_clip:
        return None
    return request.changed(clip_start=start, frames=end - start, draft=False).as_dict()
