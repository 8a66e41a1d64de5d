"""What a cut made elsewhere needs of us."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from freeswim.presets import load_preset
from freeswim.request import Media, Request
from freeswim.timeline.reading import Read, Used
from freeswim.timeline.reuse import KnownTake, Step, steps_for
from freeswim.video.writer import write_video

NAME = "FS_Pond_sh010_t02_0123abcd.mov"


def used(start: int, num_frames: int, **facts: object) -> Used:
    said = {"track": 1, "start": 0, "file": NAME} | facts
    return Used(source_start=start, num_frames=num_frames, **said)


def read(*clips: Used, rate: int = 24) -> Read:
    return Read(name="cut", rate=Fraction(rate), used=clips)


def request(**fields: object) -> dict[str, object]:
    said = load_preset("demo").defaults | {"kind": "text", "prompt": "koi", "seed": 1}
    return Request.parse(said | fields).as_dict()


@pytest.fixture
def take() -> KnownTake:
    """81 frames at 16 a second: 121 of the timeline's 24."""
    return KnownTake(
        take_id="1" * 16,
        job_id="0123abcd00000000",
        shot_id="2" * 16,
        file="sh010_take02.mp4",
        num_frames=81,
        frame_rate=Fraction(16),
        is_draft=False,
        request=request(),
    )


def only(steps: list[Step]) -> Step:
    (step,) = steps
    return step


def test_a_take_with_its_handles_is_kept(take: KnownTake):
    step = only(steps_for(read(used(12, 60)), [take], handles=8))
    assert (step.what, step.first, step.end) == ("keep", 8, 48)


@pytest.mark.parametrize(
    "clip",
    [
        used(12, 60),
        used(12, 60, file="0.mov", job_id="0123abcd00000000"),
        used(12, 60, file="sh010_take02.mp4"),
        used(12, 60, file="FS_Pond_sh010_t02_0123abcd_native.mp4"),
    ],
)
def test_a_take_is_found_by_its_name_or_its_metadata(take: KnownTake, clip: Used):
    assert only(steps_for(read(clip), [take])).take == take


def test_what_is_not_ours_is_said_and_what_is_disabled_is_left(take: KnownTake):
    clips = used(0, 10, file="A001_C002.mov"), used(0, 10, is_enabled=False)
    assert only(steps_for(read(*clips), [take])).what == "foreign"


def test_a_draft_in_the_cut_is_finished(take: KnownTake):
    assert only(steps_for(read(used(0, 24)), [replace(take, is_draft=True)])).what == "finish"


def test_handles_that_a_prompt_cannot_give_are_named(take: KnownTake):
    step = only(steps_for(read(used(3, 110)), [take], handles=12))
    assert (step.what, step.missing_head, step.missing_tail) == ("lacks", 6, 3)
    assert "6 frames before and 3 after" in step.words


def test_a_remade_clip_is_made_again_with_its_handles(take: KnownTake, tmp_path: Path):
    footage = tmp_path / "footage.mp4"
    black = (np.zeros((48, 64, 3), np.uint16) for _ in range(100))
    write_video(footage, black, width=64, height=48, frame_rate=Fraction(24), num_frames=100)
    clip = {"clip": Media.of(footage).model_dump(mode="json"), "kind": "clip"}
    remade = replace(
        take,
        num_frames=40,
        frame_rate=Fraction(24),
        request=request(**clip, clip_start=20, frames=40),
    )
    step = only(steps_for(read(used(2, 36)), [remade], handles=10))
    assert (step.what, step.missing_head, step.missing_tail) == ("extend", 8, 8)
    assert step.request is not None
    assert (step.request["clip_start"], step.request["frames"]) == (12, 56)
    far = only(steps_for(read(used(2, 36)), [remade], handles=30))
    assert far.what == "lacks"
    footage.unlink()
    assert only(steps_for(read(used(2, 36)), [remade], handles=10)).what == "lacks"
