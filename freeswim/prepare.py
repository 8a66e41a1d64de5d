"""Work on media for the daemon, in a process of its own: it decodes what people give it.

One JSON object comes through standard input and one goes out; the daemon itself never loads what
decodes, so a file that brings a decoder down costs one process, and the daemon kills one that takes
too long.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from freeswim.errors import FreeswimError, OutputExists


class _Task(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MasterTask(_Task):
    """An edit master of a take: exactly so many frames of a timeline's rate, timecode from zero."""

    task: Literal["master"] = "master"
    source: Path
    target: Path  # what is there already is this master
    codec: str
    rate: str  # a fraction, frames per second
    frames: int = Field(ge=1)
    comment: str = ""


class FrameTask(_Task):
    """One frame of a video as a PNG."""

    task: Literal["frame"] = "frame"
    source: Path
    target: Path
    frame: int = Field(ge=0)  # the last one where the file has not so many


AnyTask = Annotated[MasterTask | FrameTask, Field(discriminator="task")]


def main() -> None:
    """Do what standard input says; errors go out as JSON too."""
    task = TypeAdapter[MasterTask | FrameTask](AnyTask).validate_json(sys.stdin.buffer.read())
    said: dict[str, Any] = {"ok": True}
    try:
        if isinstance(task, MasterTask):
            _make_master(task)
        else:
            _take_frame(task)
    except FreeswimError as error:
        said = {"ok": False, **error.as_dict()}
    json.dump(said, sys.stdout)


def _make_master(task: MasterTask) -> None:
    from freeswim.timeline.master import make_master

    task.target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Without the clip it was made of: sound and timecode of that would come along, and a source
        # timecode other than zero offsets clips in Resolve (resolve.md 2.8).
        make_master(
            task.source,
            task.target,
            codec=task.codec,
            rate=Fraction(task.rate),
            num_frames=task.frames,
            comment=task.comment,
        )
    except OutputExists:  # made whole before, by a daemon that died afterwards
        return


def _take_frame(task: FrameTask) -> None:
    from PIL import Image

    from freeswim.output import as_output_error, publish, workspace
    from freeswim.video.reader import probe, read_frames

    clip = probe(task.source)
    frame = min(task.frame, clip.num_frames - 1)
    (pixels,) = read_frames(task.source, start=frame, num_frames=1)
    with as_output_error(task.target):
        task.target.parent.mkdir(parents=True, exist_ok=True)
        with workspace(task.target) as folder:
            part = folder / task.target.name
            Image.fromarray((pixels >> 8).astype("uint8")).save(part)
            publish(part, task.target, overwrite=True)


if __name__ == "__main__":
    main()
