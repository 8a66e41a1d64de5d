"""The sound of a clip, sample by sample, decoded on a thread of its own.

Sample 0 is heard when the clip's first picture is shown. What lies before its sound, behind it, and
where it is damaged is silence: whatever place is asked for, there is something to be played.

As with `reel`, nobody is called: who wants samples asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard

from desktop.viewer.frames import first_time
from freeswim.errors import MediaError
from freeswim.video.opening import CONVERT, COPY_AGAIN, open_video, reason

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # by their number of channels
BLOCK = 4096  # samples of each channel that are decoded at a time
AHEAD_S = 2.0  # of what is to be heard, that is decoded before

_PREROLL_S = Fraction(1, 5)  # codecs need what was before: AAC 21 ms of it, Opus 80, MP3 100
_BACK_S = (0, 2, 10)  # where a seek lands too late, the next lands this much earlier
_WORTH_A_SEEK_S = 5  # between here and what is wanted, above which decoding goes on from there
_GAP_S = Fraction(1, 100)  # between two time stamps, below which they are only rounded

_MIXED = {"rematrix_maxval": "1"}  # of fewer channels: quieter, where it could be cut off

Run = tuple[int, np.ndarray]  # first sample, then (samples, channels) float32


class Track:
    """The first sound track of one clip, in bounded memory."""

    def __init__(self, path: Path, rate: int, channels: int) -> None:
        """Begin to read it.

        Args:
            path: a video file with sound.
            rate: of the samples, in a second.
            channels: a key of `LAYOUTS`; others than the file's are mixed from them.
        """
        self.path = path
        self.error: MediaError | None = None  # the first one; the rest is heard all the same
        self._reading = _Reading(path, rate, channels)
        self._blocks: dict[int, np.ndarray] = {}  # by number; (BLOCK, channels) float32
        self._wanted: list[int] = []
        self._is_closed = False
        self._lock = threading.Condition()
        threading.Thread(target=self._work, name="track", daemon=True).start()

    def close(self) -> None:
        """Decode nothing more."""
        with self._lock:
            self._is_closed = True
            self._blocks.clear()
            self._lock.notify_all()

    def want(self, stretches: Sequence[range]) -> None:
        """What is to be heard next, in order; nothing else is kept."""
        blocks = (
            block
            for stretch in stretches
            for block in range(stretch.start // BLOCK, -(-stretch.stop // BLOCK))
        )
        wanted = list(dict.fromkeys(blocks))
        with self._lock:
            if wanted != self._wanted:
                self._wanted = wanted
                self._blocks = {n: self._blocks[n] for n in wanted if n in self._blocks}
                self._lock.notify_all()

    def samples(self, stretch: range) -> np.ndarray | None:
        """(samples, channels) float32 within -1 to 1; None: not all of it is here yet."""
        numbers = range(stretch.start // BLOCK, -(-stretch.stop // BLOCK))
        with self._lock:
            blocks = [self._blocks.get(number) for number in numbers]
        found = [block for block in blocks if block is not None]
        if not found or len(found) < len(blocks):
            return None
        first = stretch.start - numbers.start * BLOCK
        return np.concatenate(found)[first : first + len(stretch)]

    @property
    def num_bytes(self) -> int:
        """Of the samples that are kept."""
        with self._lock:
            return sum(block.nbytes for block in self._blocks.values())

    def _work(self) -> None:
        while (number := self._next_missing()) is not None:
            block = self._reading.read(number * BLOCK, BLOCK)
            with self._lock:
                self.error = self._reading.error
                if number in self._wanted and not self._is_closed:
                    self._blocks[number] = block

    def _next_missing(self) -> int | None:
        """The block to be decoded next; waits for one. None: it is over."""
        with self._lock:
            while not self._is_closed:
                for number in self._wanted:
                    if number not in self._blocks:
                        return number
                self._lock.wait()
        return None


class _Reading:
    """Any samples of a file, best in ascending order. Not for two threads at a time."""

    def __init__(self, path: Path, rate: int, channels: int) -> None:
        self.error: MediaError | None = None
        self._path, self._rate, self._channels = path, rate, channels
        self._runs: Iterator[Run] = iter(())
        self._run: Run = (0, self._silence(0))  # that was decoded last
        self._place: int | None = None  # of the next sample; None: nothing was read yet

    def read(self, first: int, count: int) -> np.ndarray:
        """(count, channels) float32 from sample `first` on, silence where there is none."""
        place = self._place
        if place is None or not place <= first <= place + _WORTH_A_SEEK_S * self._rate:
            self._runs, self._run = self._from_sample(first), (first, self._silence(0))
        self._place = first + count
        found = self._silence(count)
        while True:
            start, samples = self._run
            stop = start + len(samples)
            here = range(max(start, first), min(stop, first + count))
            if here:
                part = samples[here.start - start : here.stop - start]
                found[here.start - first : here.stop - first] = part
            if stop >= first + count:
                return found
            following = next(self._runs, None)
            if following is None:
                return found
            self._run = following

    def _silence(self, count: int) -> np.ndarray:
        return np.zeros((count, self._channels), np.float32)

    def _from_sample(self, first: int) -> Iterator[Run]:
        """What is decoded from somewhere before `first` on; ends where nothing more can be."""
        try:
            for back_s in (*(_BACK_S if first > _PREROLL_S * self._rate else ()), None):
                has_landed = False
                for start, samples in self._decoded(first, back_s):
                    if not has_landed and start > first and back_s is not None:
                        break  # too late, or the sound itself begins later
                    has_landed = True
                    yield start, samples
                if has_landed:
                    return
        except (MediaError, FFmpegError, ValueError, MemoryError) as error:
            self._fail(first, error)

    def _decoded(self, first: int, back_s: int | None) -> Iterator[Run]:
        """One try: from a seek, or from the beginning where `back_s` is None."""
        with open_video(self._path) as (container, pictures):
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise MediaError(
                    f"The sound of {self._path.name} has a codec that is not known here.",
                    hint=CONVERT,
                )
            origin = (first_time(self._path, container, pictures) or 0) * Fraction(
                pictures.time_base or 1
            )
            for other in container.streams:
                other.discard = Discard.default if other is stream else Discard.all
            wanted_s = Fraction(first, self._rate) + origin
            goal_s = wanted_s - _PREROLL_S - (back_s or 0)
            container.seek(
                0 if back_s is None else max(0, int(goal_s / (stream.time_base or 1))),
                stream=stream,
            )
            yield from self._resampled(self._frames(container, stream, wanted_s), origin)

    def _frames(
        self, container: InputContainer, stream: AudioStream, wanted_s: Fraction
    ) -> Iterator[AudioFrame]:
        """What can be decoded; of the rest, what lies behind `wanted_s` is an error."""
        for packet in container.demux(stream):
            try:
                yield from (f for f in packet.decode() if isinstance(f, AudioFrame))
            except (FFmpegError, ValueError) as error:
                time_s = _time_s(packet)
                if time_s is None or time_s >= wanted_s:
                    self._fail(int((time_s or wanted_s) * self._rate), error)

    def _resampled(self, frames: Iterator[AudioFrame], origin: Fraction) -> Iterator[Run]:
        resampler: AudioResampler | None = None
        kind: tuple[str, str, int] | None = None
        place, due_s = 0, None  # of the next sample, and of the next frame
        for frame in frames:
            time_s = _time_s(frame)
            time_s = due_s if time_s is None else time_s
            this = (frame.format.name, frame.layout.name, frame.sample_rate)
            is_gap = due_s is None or (time_s is not None and abs(time_s - due_s) > _GAP_S)
            if resampler is None or kind != this or is_gap:
                if resampler is not None:
                    yield place, self._samples(resampler.resample(None))
                resampler = AudioResampler(
                    "flt", LAYOUTS[self._channels], self._rate, options=_MIXED
                )
                kind, time_s = this, time_s or origin
                place = round((time_s - origin) * self._rate)
            due_s = (time_s or origin) + Fraction(frame.samples, frame.sample_rate)
            samples = self._samples(resampler.resample(frame))
            yield place, samples
            place += len(samples)
        if resampler is not None:
            yield place, self._samples(resampler.resample(None))

    def _samples(self, frames: list[AudioFrame]) -> np.ndarray:
        parts = [frame.to_ndarray().reshape(-1, self._channels) for frame in frames]
        return np.concatenate(parts) if parts else self._silence(0)

    def _fail(self, sample: int, error: Exception) -> None:
        if self.error is not None:
            return
        if not isinstance(error, MediaError):
            second = sample / self._rate
            error = MediaError(
                f"The sound of {self._path.name} is damaged near second {second:.0f}"
                f" ({reason(error)}).",
                hint=COPY_AGAIN,
            )
        self.error = error


def _time_s(timed: AudioFrame | Packet) -> Fraction | None:
    if timed.pts is None or not timed.time_base:
        return None
    return timed.pts * Fraction(timed.time_base)
