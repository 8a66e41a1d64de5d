"""One clip on a thread of its own: its pictures are decoded in the order in which they are wanted.

Nothing here is a Qt object and nobody is called: who wants a picture asks again. So a reel can end
at any moment, whatever its thread does just then.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from av.video.frame import VideoFrame
from PySide6.QtCore import QSize

from desktop.viewer.frames import Clip, Frames, Picture, Renderer
from freeswim.errors import FreeswimError, MediaError
from freeswim.video import reader

AHEAD = 0.75  # of the memory, for what comes; the rest for what was
FEWEST = 3  # pictures that are kept, whatever the budget
FARTHEST = 600  # frames ahead that are decoded
WORTH_A_SEEK = 16  # frames between here and a key frame, above which decoding goes on from there


@dataclass(frozen=True)
class Want:
    """Where the playhead is, and where it goes."""

    frame: int
    size: QSize  # in which pictures are painted, pixels of the screen
    step: int = 1  # frames from one picture to the next; negative: backwards
    loop: range | None = None  # it goes round in these; None: it stops at the clip's ends

    def order(self, num_frames: int, capacity: int) -> list[int]:
        """Frames in the order in which they are wanted, at most `capacity`."""
        num_ahead = min(FARTHEST, max(2, int(capacity * AHEAD)))
        ahead = self._walk(num_frames, self.step, num_ahead)
        behind = self._walk(num_frames, -1 if self.step > 0 else 1, capacity - num_ahead + 1)
        return list(dict.fromkeys(chain(ahead, behind)))

    def _walk(self, num_frames: int, step: int, count: int) -> Iterator[int]:
        is_round = self.loop is not None and self.frame in self.loop
        ends = self.loop if self.loop is not None and is_round else range(num_frames)
        frame = self.frame
        for _ in range(min(count, FARTHEST, len(ends))):
            yield frame
            frame += step
            if frame not in ends and not is_round:
                return
            frame = ends.start + (frame - ends.start) % len(ends)


class Reel:
    """Pictures of one clip, in bounded memory; `facts` or `error` come a moment after it begins."""

    def __init__(self, clip: Clip, budget_bytes: int) -> None:
        self.clip = clip
        self.facts: reader.Clip | None = None
        self.error: FreeswimError | None = None  # that keeps all of it from being seen
        self.num_decoded = 0  # pictures
        self._budget_bytes = budget_bytes
        self._want: Want | None = None
        self._pictures: dict[int, Picture] = {}  # by every frame that shows them
        self._source: tuple[range, VideoFrame] | None = None  # of what is painted while it stands
        self._failures: dict[int, FreeswimError] = {}  # by frame
        self._is_closed = False
        self._lock = threading.Condition()
        threading.Thread(target=self._work, name="reel", daemon=True).start()

    def close(self) -> None:
        """Decode nothing more; its memory is free a moment later."""
        with self._lock:
            self._is_closed = True
            self._pictures.clear()
            self._lock.notify_all()

    def want(self, want: Want) -> None:
        """Where the playhead is now; what lies there comes first, then what is next."""
        with self._lock:
            if want == self._want:
                return
            self._want = want
            self._lock.notify_all()

    def picture(self, frame: int) -> Picture | None:
        """What a frame shows, if it is here; after another size was wanted, in the old one."""
        with self._lock:
            return self._pictures.get(frame)

    def failure(self, frame: int) -> FreeswimError | None:
        """Why a frame cannot be shown."""
        return self.error or self._failures.get(frame)

    @property
    def num_bytes(self) -> int:
        """Of the pictures that are kept."""
        with self._lock:
            return sum(
                one.num_bytes for one in {id(p): p for p in self._pictures.values()}.values()
            )

    # -------------------------------------------------------------------------------- its thread

    def _work(self) -> None:
        try:
            frames = Frames(self.clip)
        except FreeswimError as error:
            self.error = error
            return
        self.facts = frames.facts
        renderer = Renderer(self.clip.path)
        run: Iterator[tuple[range, VideoFrame]] | None = None
        position = goal = 0  # the frame that `run` gives next; that it was begun for
        while (missing := self._next_missing()) is not None:
            if self._source is not None and missing in self._source[0]:
                self._keep(renderer, *self._source)
                continue
            # a run may begin far before its goal, where there is no other way to it
            is_near = missing == goal or missing < frames.next_key(position + WORTH_A_SEEK)
            if run is None or missing < position or not is_near:
                run, position, goal = frames.from_frame(missing), 0, missing
            try:
                shown, frame = next(run)
                position = shown.stop
                self._keep(renderer, shown, frame)
                if shown.start > missing:
                    raise MediaError(f"{self.clip.path.name} has no picture {missing + 1}.")
            except (MediaError, StopIteration) as error:
                run = None
                self._fail(range(missing, frames.next_key(missing)), error)

    def _next_missing(self) -> int | None:
        """The frame to be decoded next; waits for one. None: it is over."""
        with self._lock:
            while not self._is_closed:
                for frame in self._order():
                    if not self._has(frame) and frame not in self._failures:
                        return frame
                self._lock.wait()
        return None

    def _order(self) -> list[int]:
        if self._want is None or self.facts is None:
            return []
        size = self._want.size
        capacity = self._budget_bytes // max(1, 4 * size.width() * size.height())
        return self._want.order(self.facts.num_frames, max(FEWEST, capacity))

    def _has(self, frame: int) -> bool:
        """Whether a frame is here in the size that is wanted."""
        picture = self._pictures.get(frame)
        return (
            picture is not None
            and self._want is not None
            and picture.image.size() == self._want.size
        )

    def _keep(self, renderer: Renderer, shown: range, frame: VideoFrame) -> None:
        with self._lock:
            order, want = set(self._order()), self._want
            wanted = [n for n in shown if n in order and not self._has(n)]
        if not wanted or want is None:
            return
        picture = renderer.picture(frame, shown, want.size)
        if want.frame in shown:
            self._source = shown, frame
        self.num_decoded += 1
        with self._lock:
            if self._is_closed:
                return
            order = self._order()
            self._pictures |= {n: picture for n in wanted}
            kept = {n: self._pictures[n] for n in order if n in self._pictures}
            self._pictures = self._within_budget(kept)

    def _within_budget(self, pictures: dict[int, Picture]) -> dict[int, Picture]:
        """Without those of an old size for which there is no room any more; first things first."""
        room, kept = self._budget_bytes, {}
        for number, picture in pictures.items():
            room -= picture.num_bytes
            if room > 0 or self._has(number):
                kept[number] = picture
        return kept

    def _fail(self, frames: range, error: Exception) -> None:
        if not isinstance(error, FreeswimError):
            error = MediaError(f"{self.clip.path.name} ends before frame {frames.start + 1}.")
        with self._lock:
            self._failures |= {n: error for n in frames if n not in self._pictures}
