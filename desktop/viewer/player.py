"""One clock for one or two clips.

The clip on the right, B, is what is judged: its rate is the clock's and its size the frame's. A is
shown at the same moment: in the same frame where both have one rate, else in the one whose time it
is. What is shown is a pair, always whole: nothing of one moment stands beside something of another.

The clock waits for pictures that are late, rather than showing others; what it shows late, it drops
where the next one is already there. Sound has a clock of its own, the device's: `sound` moves this
one by it, a little at a time.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

from PySide6.QtCore import QCoreApplication, QObject, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QImage

from desktop.viewer.frames import Clip, Picture
from desktop.viewer.reel import Reel, Want
from freeswim.errors import FreeswimError
from freeswim.video import reader

BUDGET_BYTES = 1_500_000_000  # of pictures, both sides together
FASTEST = 32  # times the clip's speed

_TICK_MS = 4
_PATIENCE_S = 0.25  # by which the clock runs ahead of the pictures, at most
_SILENCE_S = 0.3  # after which waiting is said


@dataclass(frozen=True)
class Side:
    """What one side shows at a moment."""

    name: str
    size: QSize  # of the clip; empty where it cannot be read
    frame: int = 0
    num_frames: int = 1
    facts: reader.Clip | None = None  # None: a preview, or it cannot be read
    picture: Picture | None = None  # None: there is an error
    error: FreeswimError | None = None
    has_ended: bool = False  # it is shorter than the other; this is its last frame


@dataclass(frozen=True)
class Pair:
    """What is shown at a moment."""

    position: int  # frame of the clock
    a: Side | None
    b: Side | None

    @property
    def sides(self) -> list[Side]:
        """Those that there are."""
        return [side for side in (self.a, self.b) if side is not None]


@dataclass(frozen=True, eq=False)  # every run is another, whatever it is like
class Run:
    """The way of the clock from when it begins to play: step by step, from frame to frame."""

    begun_at: int  # frame
    speed: int  # times the clip's speed; negative: backwards
    course: range  # frames in which it stays
    is_looping: bool
    frame_rate: Fraction

    def place(self, step: int) -> int:
        """The frame after so many steps."""
        place = self.begun_at + step * self.speed
        if self.is_looping:
            return self.course.start + (place - self.course.start) % len(self.course)
        return min(max(place, self.course[0]), self.course[-1])


class Player(QObject):
    """Plays, stops and seeks. Positions are frames of its own clock, from 0."""

    shown = Signal(object)  # Pair
    changed = Signal()  # how long it is, where it begins and ends, whether it plays
    waiting = Signal(bool)  # for a picture, for so long that somebody wonders

    def __init__(self, parent: QObject | None = None, budget_bytes: int = BUDGET_BYTES) -> None:
        super().__init__(parent)
        self.num_frames = 0  # 0: nothing is loaded
        self.frame_rate = Fraction(24)
        self.position = 0  # where it is to be; what is shown may still be on its way there
        self.run: Run | None = None  # None: it stands
        self.num_slips = (
            0  # how often it waited for pictures, so that what plays beside it is ahead
        )
        self.marks: tuple[int | None, int | None] = (None, None)  # in and out, both shown
        self.is_looping = True
        self.is_loading = False  # clips of which nothing is known yet; others are still shown
        self._budget_bytes = budget_bytes
        self._reels: list[Reel | None] = [None, None]
        self._sizes = [QSize(), QSize()]
        self._preview: Side | None = None
        self._pair: Pair | None = None  # that was shown last
        self._is_shown = True  # what is at `position`
        self._is_in_marks = False  # whether it plays only what lies between them
        self._since = 0.0  # when it began to wait, or to play
        self._step = 0  # of the run, that is shown
        self._times: deque[float] = deque(maxlen=60)  # of the last pictures
        self._timer = QTimer(self, interval=_TICK_MS, timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        reels = self._reels  # the object is gone when it says that it is
        self.destroyed.connect(lambda: _close(reels))
        if (app := QCoreApplication.instance()) is not None:
            app.aboutToQuit.connect(lambda: _close(reels))

    # ------------------------------------------------------------------------------- what is shown

    def load(self, a: Clip | None, b: Clip | None) -> None:
        """Show these; where one is shown already, its pictures are kept."""
        before = [reel for reel in self._reels if reel is not None]
        for index, clip in enumerate((a, b)):
            kept = next((r for r in before if clip is not None and r.clip.path == clip.path), None)
            if kept is not None and not kept.error:
                before.remove(kept)
                kept.clip = clip or kept.clip
                self._reels[index] = kept
            else:
                self._reels[index] = Reel(clip, self._budget_bytes // 2) if clip else None
        _close(before)
        self.is_loading = True
        self._await()

    def preview(self, image: QImage | None, label: str = "") -> None:
        """A still in the place of A, until None comes."""
        if image is None and self._preview is None:
            return
        self._preview = None
        if image is not None:
            picture = Picture(image, None, range(1))
            self._preview = Side(label, image.size(), picture=picture)
        if not self.is_loading:
            self._lay_out()

    def clip(self, index: int) -> Clip | None:
        """What was loaded as A, 0, or as B, 1."""
        reel = self._reels[index]
        return reel.clip if reel else None

    @property
    def clip_sizes(self) -> tuple[QSize, QSize]:
        """Of A and B, in pixels of their own; empty: there is none."""
        a, b = (
            QSize(reel.facts.width, reel.facts.height) if reel and reel.facts else QSize()
            for reel in self._reels
        )
        return (self._preview.size if self._preview else a), b

    @property
    def start_timecode(self) -> str:
        """Of the first frame: what was said of B, or stands in its file; else of A."""
        for reel in reversed(self._reels):
            found = reel and (
                reel.clip.start_timecode or (reel.facts and reel.facts.start_timecode)
            )
            if found:
                return found
        return ""

    def set_sizes(self, a: QSize, b: QSize) -> None:
        """In which the sides are painted, in pixels of the screen."""
        if [a, b] != self._sizes:
            self._sizes = [a, b]
            self._await()

    @property
    def is_playing(self) -> bool:
        """Whether the clock runs."""
        return self.run is not None

    @property
    def speed(self) -> int:
        """Times the clip's speed; negative: backwards; 0: it stands."""
        return self.run.speed if self.run else 0

    @property
    def elapsed_s(self) -> float:
        """Of the run, by the clock."""
        return time.perf_counter() - self._since

    def turn_back(self, by_s: float) -> None:
        """Move the clock of the run, on where `by_s` is negative; the pictures follow."""
        self._since += by_s

    def sounding(self, index: int) -> Clip | None:
        """The clip with sound that is shown as A, 0, or as B, 1."""
        reel = self._reels[index]
        is_hidden = index == 0 and self._preview is not None
        has_sound = reel is not None and reel.facts is not None and reel.facts.has_audio
        return reel.clip if reel is not None and has_sound and not is_hidden else None

    @property
    def shown_per_s(self) -> float:
        """Pictures in the last second of play."""
        if len(self._times) < 2 or self._times[-1] == self._times[0]:
            return 0.0
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    @property
    def num_bytes(self) -> int:
        """Of the pictures that are kept."""
        return sum(reel.num_bytes for reel in self._reels if reel)

    # ----------------------------------------------------------------------------------- transport

    def play(self, speed: int = 1, *, in_marks: bool = False) -> None:
        """Run the clock from here; from the other end where it is at its end."""
        if self.num_frames < 2 or speed == 0:
            return
        self._is_in_marks = in_marks
        course = self._course()
        first, last = (course[0], course[-1]) if speed > 0 else (course[-1], course[0])
        if self.position == last or self.position not in course:
            self.position = first
        self.run = Run(self.position, speed, course, self.is_looping, self.frame_rate)
        self._step = -1
        self._times.clear()
        self._since = time.perf_counter()
        self._await()
        self.changed.emit()

    def stop(self) -> None:
        """Stop the clock at what is shown."""
        if self.run is not None:
            self.position = self.run.place(max(0, self._step))
            self.run = None
            self._await()
            self.changed.emit()

    def shuttle(self, direction: int) -> None:
        """Play in a direction; again: twice as fast."""
        if self.speed * direction > 0:
            self.play(direction * min(FASTEST, 2 * abs(self.speed)))
        else:
            self.play(direction)

    def seek(self, position: int) -> None:
        """Stop at a frame, the nearest that there is."""
        if not self.num_frames:
            return
        was_playing, self.run = self.is_playing, None
        self.position = min(max(position, 0), self.num_frames - 1)
        self._await()
        if was_playing:
            self.changed.emit()

    def step(self, num_frames: int) -> None:
        """Stop, so many frames on."""
        self.stop()
        self.seek(self.position + num_frames)

    def mark(self, start: int | None, end: int | None) -> None:
        """Set in and out; one that the other lies behind is taken away."""
        if start is not None and end is not None and start > end:
            start, end = (start, None) if start != self.marks[0] else (None, end)
        self.marks = start, end
        if self.is_playing:
            self.play(self.speed, in_marks=self._is_in_marks)
        self.changed.emit()

    def set_looping(self, is_looping: bool) -> None:
        """Whether playing goes round."""
        self.is_looping = is_looping
        if self.is_playing:
            self.play(self.speed, in_marks=self._is_in_marks)
        self.changed.emit()

    @property
    def marked(self) -> range:
        """From in to out; all of it where neither is set."""
        start, end = self.marks
        return range(start or 0, self.num_frames if end is None else end + 1)

    # -------------------------------------------------------------------------------------- inside

    def _course(self) -> range:
        """The frames in which playing stays."""
        is_bound = self._is_in_marks or (self.is_looping and self.position in self.marked)
        return self.marked if is_bound and self.marked else range(self.num_frames)

    def _await(self) -> None:
        """What is shown is not what is to be shown."""
        if not self.is_playing:
            self._since = time.perf_counter()
        self._is_shown = False
        self._timer.start()
        self._tick()

    def _tick(self) -> None:
        if self.is_loading:
            reels = [reel for reel in self._reels if reel]
            if not all(reel.facts or reel.error for reel in reels):
                self._say_waiting()
                return
            self.is_loading = False
            self._lay_out()
        elif self.run is not None:
            self._play_on(self.run)
        elif not self._is_shown:
            self._want(self.position, 1)
            self._show(self.position)
        if self._is_shown and not self.is_playing:
            self._timer.stop()

    def _lay_out(self) -> None:
        """Find out how long it is, now that every clip has said what it is."""
        facts = [reel.facts if reel else None for reel in reversed(self._reels)]
        known = [one for one in facts if one is not None]
        rate = known[0].frame_rate if known else Fraction(24)
        longest = max((one.num_frames / one.frame_rate for one in known), default=Fraction(0))
        has_any = any(self._reels) or self._preview is not None
        num_frames = max(-int(-longest * rate // 1), int(has_any))
        if (num_frames, rate) != (self.num_frames, self.frame_rate):
            self.num_frames, self.frame_rate = num_frames, rate
            self.position, self.run, self.marks = 0, None, (None, None)
        self.changed.emit()
        self._await()

    def _play_on(self, run: Run) -> None:
        now, rate = time.perf_counter(), float(self.frame_rate)
        due = max(0, int((now - self._since) * rate))
        self._want(run.place(self._step + 1), run.speed)
        for step in range(due, self._step, -1):
            if self._show(run.place(step)):
                self._step = step
                self._times.append(now)
                break
        most = max(1, int(_PATIENCE_S * rate))
        if due - self._step > most:
            self._since = now - (self._step + most) / rate
            self.num_slips += 1
        self.position = run.place(max(0, self._step))
        if not run.is_looping and self.position == run.course[-1 if run.speed > 0 else 0]:
            self.stop()

    def _want(self, position: int, speed: int) -> None:
        loop = self._course() if self.is_looping else None
        for index, (reel, size) in enumerate(zip(self._reels, self._sizes, strict=True)):
            is_hidden = index == 0 and self._preview is not None
            if reel is None or reel.facts is None or size.isEmpty() or is_hidden:
                continue
            one_rate = reel.facts.frame_rate == self.frame_rate
            frame, _ = self._frame(reel.facts, position)
            step = speed if one_rate else (1 if speed > 0 else -1)
            frames = None
            if loop:
                frames = range(
                    self._frame(reel.facts, loop[0])[0], self._frame(reel.facts, loop[-1])[0] + 1
                )
            reel.want(Want(frame, size, step, frames))

    def _frame(self, facts: reader.Clip, position: int) -> tuple[int, bool]:
        """(a clip's frame at the middle of a frame of the clock, whether the clip has ended)."""
        frame = position
        if facts.frame_rate != self.frame_rate:
            frame = int((2 * position + 1) * facts.frame_rate / (2 * self.frame_rate))
        return min(frame, facts.num_frames - 1), frame >= facts.num_frames

    def _side(self, index: int, position: int) -> Side | None:
        """What a side shows at a position; an empty one where that is not known yet."""
        reel = self._reels[index]
        if reel is None:
            return None
        facts = reel.facts
        if facts is None:
            return Side(reel.clip.name, QSize(), error=reel.error)
        frame, has_ended = self._frame(facts, position)
        picture = reel.picture(frame)
        return Side(
            reel.clip.name,
            QSize(facts.width, facts.height),
            frame,
            facts.num_frames,
            facts,
            picture,
            None if picture else reel.failure(frame),
            has_ended,
        )

    def _show(self, position: int) -> bool:
        """Show a moment, if all of it is here."""
        pair = Pair(position, self._preview or self._side(0, position), self._side(1, position))
        are_here = all(side.picture or side.error for side in pair.sides)
        made = [
            _made_for(side) or size
            for side, size in zip((pair.a, pair.b), self._sizes, strict=True)
        ]
        # those made before a zoom do where it stands, until there are others
        is_coarse = any(
            one.width() < size.width() for one, size in zip(made, self._sizes, strict=True)
        )
        if not are_here or (self.is_playing and is_coarse):
            if not self.is_playing:
                self._say_waiting()
            return False
        self._is_shown = made == self._sizes
        if self._is_shown or pair != self._pair:
            self.waiting.emit(False)
        else:
            self._say_waiting()
        if pair != self._pair:
            self._pair = pair
            self.shown.emit(pair)
        return True

    def _say_waiting(self) -> None:
        if time.perf_counter() - self._since > _SILENCE_S:
            self.waiting.emit(True)


def _made_for(side: Side | None) -> QSize | None:
    """The size in which its picture was made; None: there is none, or it has no other."""
    return side.picture.image.size() if side and side.facts and side.picture else None


def _close(reels: list[Reel | None] | list[Reel]) -> None:
    for reel in reels:
        if reel is not None:
            reel.close()
