"""Timecode is exact for every rate that a timeline may have."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentimelineio.opentime import RationalTime, from_timecode

from freeswim.errors import RequestError
from freeswim.timeline.cut import RATES, Media
from freeswim.timeline.timecode import (
    frames_of,
    frames_per_day,
    is_drop_frame,
    source_start,
    timecode_of,
)

FILM, NTSC, NTSC_60 = Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)
rates = st.sampled_from(RATES)


@st.composite
def frames(draw: st.DrawFn) -> tuple[Fraction, int]:
    """A rate and a frame of its day; often one near the start of a minute."""
    rate = draw(rates)
    minute = draw(st.integers(0, 24 * 60 - 1)) * 60 * rate
    near = st.integers(-8, 8).map(lambda shift: max(0, round(minute) + shift))
    whole_day = st.integers(0, frames_per_day(rate) - 1)
    return rate, min(draw(near | whole_day), frames_per_day(rate) - 1)


@given(frames())
def test_a_frame_survives_its_timecode(given_frame: tuple[Fraction, int]) -> None:
    rate, frame = given_frame

    assert frames_of(timecode_of(frame, rate), rate) == frame


@given(frames())
def test_timecode_is_that_of_opentimelineio(given_frame: tuple[Fraction, int]) -> None:
    rate, frame = given_frame
    theirs = RationalTime(frame, float(rate)).to_timecode(
        float(rate), drop_frame=is_drop_frame(rate)
    )

    assert timecode_of(frame, rate) == theirs
    assert from_timecode(theirs, float(rate)).to_frames() == frame


@pytest.mark.parametrize("rate", [NTSC, NTSC_60])
def test_drop_frame_counts_every_number_but_the_first_of_most_minutes(rate: Fraction) -> None:
    nominal = round(rate)
    numbers = [
        f"00:{minute:02}:{second:02};{number:02}"
        for minute in range(21)
        for second in range(60)
        for number in range(nominal)
        if not (second == 0 and minute % 10 and number < nominal // 15)
    ]

    assert [timecode_of(frame, rate) for frame in range(len(numbers))] == numbers


@pytest.mark.parametrize(
    ("frame", "rate", "timecode"),
    [
        (86400, FILM, "01:00:00:00"),
        (86400, Fraction(24), "01:00:00:00"),
        (107892, NTSC, "01:00:00;00"),
        (1799, NTSC, "00:00:59;29"),
        (1800, NTSC, "00:01:00;02"),
        (17982, NTSC, "00:10:00;00"),
        (3600, NTSC_60, "00:01:00;04"),
        (90000, Fraction(25), "01:00:00:00"),
    ],
)
def test_timecodes_that_editors_know(frame: int, rate: Fraction, timecode: str) -> None:
    assert timecode_of(frame, rate) == timecode
    assert frames_of(timecode, rate) == frame


@given(frames())
def test_timecode_begins_again_after_a_day(given_frame: tuple[Fraction, int]) -> None:
    rate, frame = given_frame

    assert timecode_of(frame + frames_per_day(rate), rate) == timecode_of(frame, rate)


def test_a_drop_frame_day_is_a_day_of_the_clock() -> None:
    assert abs(frames_per_day(NTSC) / NTSC - 24 * 3600) < Fraction(1, 10)


def test_non_drop_timecode_of_a_drop_frame_rate_is_read_as_what_it_is() -> None:
    assert frames_of("01:00:00:00", NTSC) == 108000
    assert frames_of("01:00:00,00", NTSC) == 107892


@pytest.mark.parametrize(
    ("timecode", "rate"),
    [
        ("24:00:00:00", Fraction(24)),
        ("00:60:00:00", Fraction(24)),
        ("00:00:60:00", Fraction(24)),
        ("00:00:00:24", FILM),
        ("00:01:00;01", NTSC),  # skipped
        ("00:01:00;03", NTSC_60),  # skipped
        ("00:00:00;00", FILM),  # has no drop-frame
        ("00:00:00", Fraction(24)),
        ("-1:00:00:00", Fraction(24)),
        ("٠٠:٠٠:٠٠:٠٠", Fraction(24)),
    ],
)
def test_what_the_rate_has_not_is_refused(timecode: str, rate: Fraction) -> None:
    with pytest.raises(RequestError, match="no timecode"):
        frames_of(timecode, rate)


def test_only_a_timecode_that_the_file_carries_counts() -> None:
    media = Media(Path("a.mov"), 10, FILM, 64, 64, start_frame=86400)
    carried = Media(Path("a.mov"), 10, FILM, 64, 64, start_frame=86400, has_timecode=True)

    assert (source_start(media), source_start(carried)) == (0, 86400)
