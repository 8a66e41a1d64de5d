"""Frame rates and timecode as Resolve has them: strings, of which some drop frame numbers.

Written apart from FreeSwim's own, so that one checks the other.
"""

from __future__ import annotations

from fractions import Fraction

# 2.3: rates are strings; 23.976 is 24000/1001 and counts 24 frames a second.
RATES = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "29.97 DF": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
    "59.94": Fraction(60000, 1001),
    "59.94 DF": Fraction(60000, 1001),
    "60": Fraction(60),
}


class Rate:
    """A timeline's rate."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.exact = RATES[words]
        self.nominal = round(self.exact)
        # 2.3: only the rates that are no whole number drop (AS timecode.lua)
        self.drops = words.endswith(" DF")

    @property
    def number(self) -> float:
        """As 21.1 gives it in GetSettings: numeric (BMD-CL, W09)."""
        return float(self.words.removesuffix(" DF"))

    def frames(self, timecode: str) -> int | None:
        """Frames from 00:00:00:00; None: it is no timecode of this rate."""
        parts = timecode.replace(";", ":").split(":")
        if len(parts) != 4 or not all(len(part) == 2 and part.isdigit() for part in parts):
            return None
        hours, minutes, seconds, frames = map(int, parts)
        if minutes > 59 or seconds > 59 or frames >= self.nominal:
            return None
        if (";" in timecode) != self.drops:  # 2.3: `;` marks drop frame
            return None
        total = ((hours * 60 + minutes) * 60 + seconds) * self.nominal + frames
        if not self.drops:
            return total
        dropped = self.nominal // 15  # 2 at 30, 4 at 60
        if minutes % 10 and seconds == 0 and frames < dropped:
            return None  # a number that is not used
        all_minutes = hours * 60 + minutes
        return total - dropped * (all_minutes - all_minutes // 10)

    def timecode(self, frames: int) -> str:
        """What the playhead says at a frame."""
        separator = ":"
        if self.drops:
            separator = ";"
            dropped = self.nominal // 15
            per_minute = self.nominal * 60 - dropped
            per_ten = per_minute * 10 + dropped
            tens, rest = divmod(frames, per_ten)
            frames += dropped * 9 * tens
            if rest >= self.nominal * 60:
                frames += dropped * ((rest - self.nominal * 60) // per_minute + 1)
        seconds, frame = divmod(frames, self.nominal)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        return f"{hour:02d}:{minute:02d}:{second:02d}{separator}{frame:02d}"
