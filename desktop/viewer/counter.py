"""A position of the clock <-> timecode as it is shown and typed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from freeswim.errors import RequestError
from freeswim.timeline.timecode import frames_of, is_drop_frame, timecode_of

_STEP = re.compile(r"([+-])([0-9]{1,7})")
_DIGITS = re.compile(r"[0-9]{1,8}")


@dataclass(frozen=True)
class Counter:
    """Counts from a clip's first timecode; drop-frame as that is written."""

    rate: Fraction
    start: int = 0  # frames
    is_dropping: bool = False

    @classmethod
    def of(cls, rate: Fraction, start_timecode: str = "") -> Counter:
        """Of a clip; from 0 where it says nothing that its rate can have."""
        is_dropping = is_drop_frame(rate) and (not start_timecode or start_timecode[-3] in ";,.")
        counter = cls(rate, 0, is_dropping)
        try:
            return cls(rate, counter._frames(start_timecode), is_dropping)
        except RequestError:
            return counter

    def text(self, position: int) -> str:
        """Timecode of a position."""
        return timecode_of(self.start + position, self._counted)

    def position(self, text: str) -> int:
        """Where somebody wants to go: 01:00:00:00, 1000 for 00:00:10:00, +12, -12.

        Raises:
            RequestError: that is no timecode.
        """
        text = text.strip()
        if _DIGITS.fullmatch(text):
            digits = text.rjust(8, "0")
            text = ":".join(digits[place : place + 2] for place in range(0, 8, 2))
        return self._frames(text) - self.start

    @staticmethod
    def step(text: str) -> int | None:
        """Of +12 and -12: how far to go; None where it is no such thing."""
        match = _STEP.fullmatch(text.strip())
        return int(match[1] + match[2]) if match else None

    @property
    def _counted(self) -> Fraction:
        """The rate as `timecode` counts: non-drop timecode of 30000/1001 is that of 30."""
        return self.rate if self.is_dropping else Fraction(max(1, round(self.rate)))

    def _frames(self, text: str) -> int:
        """Of a timecode, whichever marks are typed."""
        mark = ";" if self.is_dropping else ":"
        return frames_of(text[:-3] + mark + text[-2:] if len(text) == 11 else text, self._counted)
