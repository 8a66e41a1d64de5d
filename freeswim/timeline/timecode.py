"""Frames <-> SMPTE timecode, in whole numbers.

Timecode counts the nominal rate: 24 of 24000/1001. Drop-frame, written with a semicolon, skips the
first 2 numbers (4 at 60000/1001) of every minute but each tenth, so that it stays with the clock;
no frame is lost. 24000/1001 has no drop-frame. After 24 hours it begins again.
"""

from __future__ import annotations

import re
from fractions import Fraction

from freeswim.errors import RequestError
from freeswim.timeline.cut import Media

_TIMECODE = re.compile(r"(\d\d)[:;.,](\d\d)[:;.,](\d\d)([:;.,])(\d\d)", re.ASCII)
_DROPPED = {Fraction(30000, 1001): 2, Fraction(60000, 1001): 4}  # numbers per minute


def is_drop_frame(rate: Fraction) -> bool:
    """Whether the timecode of a rate is written drop-frame here."""
    return rate in _DROPPED


def nominal_rate(rate: Fraction) -> int:
    """What timecode counts per second: 24 of 24000/1001."""
    return round(rate)


def frames_per_day(rate: Fraction) -> int:
    """Frames after which timecode begins again."""
    return 24 * 3600 * nominal_rate(rate) - _DROPPED.get(rate, 0) * 24 * (60 - 6)


def timecode_of(frame: int, rate: Fraction) -> str:
    """`01:00:00:00`, of 30000/1001 and 60000/1001 drop-frame: `01:00:00;00`.

    Args:
        frame: 0 or more.
        rate: one of cut.RATES.
    """
    frame %= frames_per_day(rate)
    nominal, dropped = nominal_rate(rate), _DROPPED.get(rate, 0)
    if dropped:
        frame += _numbers_skipped(frame, nominal, dropped)
    seconds, number = divmod(frame, nominal)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{';' if dropped else ':'}{number:02}"


def frames_of(timecode: str, rate: Fraction) -> int:
    """The frame that a timecode is of; drop-frame where its last mark is a semicolon or a comma.

    Raises:
        RequestError: no timecode, or one that the rate does not have.
    """
    parts = _TIMECODE.fullmatch(timecode.strip())
    if not parts:
        raise _wrong(timecode, rate)
    hour, minute, second, number = (int(parts[group]) for group in (1, 2, 3, 5))
    is_dropping = parts[4] in ";,"
    nominal, dropped = nominal_rate(rate), _DROPPED.get(rate, 0) if is_dropping else 0
    is_skipped = second == 0 and minute % 10 and number < dropped
    is_legal = hour < 24 and minute < 60 and second < 60 and number < nominal and not is_skipped
    if not is_legal or (is_dropping and not dropped):
        raise _wrong(timecode, rate)
    minutes = 60 * hour + minute
    return (60 * minutes + second) * nominal + number - dropped * (minutes - minutes // 10)


def source_start(media: Media) -> int:
    """Timecode of a media file's first frame, in frames; 0 for a file that carries none."""
    return media.start_frame if media.has_timecode else 0


def _numbers_skipped(frame: int, nominal: int, dropped: int) -> int:
    """Before a frame. Of ten minutes the first is whole; each of the others lacks `dropped`."""
    minute = 60 * nominal - dropped
    tens, rest = divmod(frame, 10 * minute + dropped)
    return dropped * (9 * tens + max(0, rest - dropped) // minute)


def _wrong(timecode: str, rate: Fraction) -> RequestError:
    return RequestError(
        f"{timecode!r} is no timecode at {rate} frames per second.",
        hint="Write hours:minutes:seconds:frames, as 01:00:00:00.",
    )
