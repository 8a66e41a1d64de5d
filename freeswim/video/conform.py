"""Frames of any rate and number -> frames of the rate and number asked for, one by one.

Time runs as on a timeline: frame i of the source stands at i / frame_rate seconds, frame k of the
result at k / to_rate, and shows the source at k / to_rate * speed. All of it in fractions: no
rounding adds up. Beyond its last frame the source holds that frame. By itself the result is as long
as the source lasts, to the nearest frame; another number of frames is cut or held, and retimed only
where `speed` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from typing import Literal, TypeAlias, get_args

import av.filter
import numpy as np
from av.error import BlockingIOError as NotYet
from av.error import EOFError as NoMore
from av.error import FFmpegError
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from freeswim.errors import MediaError, RequestError

Way: TypeAlias = Literal["nearest", "blend", "interpolate"]

NORMAL_SPEED = Fraction(1)

_BAND_ROWS = 32  # of a frame that are computed at once: wide integers of 4K fill 200 MB otherwise
_MIN_SIDE_PX = 32  # minterpolate: two of its blocks
_FOLLOWING = 8  # frames after a pair until its interpolation must be there; minterpolate takes 2
_MOTION = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=fdiff"
_LARGEST = 2**31  # libav counts in 32 bits
_STEP_8_BIT = 257  # 65535 / 255


def num_conformed(
    num_frames: int, frame_rate: Fraction, to_rate: Fraction, speed: Fraction = NORMAL_SPEED
) -> int:
    """How many frames of `to_rate` last as long as the source, to the nearest; at least 1."""
    return max(1, _nearest(num_frames * to_rate / (frame_rate * speed)))


def speed_to_fill(
    num_frames: int, frame_rate: Fraction, to_frames: int, to_rate: Fraction
) -> Fraction:
    """At which the whole source lasts as long as `to_frames` of `to_rate`: above 1 is faster."""
    return num_frames * to_rate / (frame_rate * to_frames)


def conform(
    frames: Iterable[np.ndarray],
    *,
    num_frames: int,
    frame_rate: Fraction,
    to_rate: Fraction,
    to_frames: int | None = None,
    way: Way = "nearest",
    speed: Fraction = NORMAL_SPEED,
) -> Iterator[np.ndarray]:
    """The source at another rate; where both steps are the same, its own frames untouched.

    nearest shows the source frame that is nearest in time, the earlier of two. blend mixes both
    neighbours by their nearness, in display light (the code values, as editing programs mix), to
    the nearest of 65536 values. interpolate moves what moves between them; across a hard cut it
    repeats a neighbour. A frame that falls on a source frame is that frame, all 16 bits of it; of
    interpolated ones, only what stands still has 16 bits, what moves has 8.

    Args:
        frames: (H, W, 3) uint16 RGB each, 0..65535; as many are taken as are needed.
        num_frames: how many the source has, >= 1.
        frame_rate: of the source, frames per second.
        to_rate: of the result, frames per second.
        to_frames: how many to give: the source is cut or its last frame held; None gives as many
            as it lasts.
        way: how frames between two frames of the source are made.
        speed: 2 plays twice as fast; `speed_to_fill` retimes to a number of frames.

    Returns:
        (H, W, 3) uint16 RGB each; two may be the same array.

    Raises:
        RequestError: there is no such conversion.
        MediaError: the source has not as many frames as announced, or they differ in size.
    """
    _check(num_frames, frame_rate, to_rate, to_frames, way, speed)
    count = to_frames or num_conformed(num_frames, frame_rate, to_rate, speed)
    step = frame_rate * speed / to_rate
    source = _Source(frames, num_frames)
    spots = ((min(step * index, Fraction(num_frames - 1))) for index in range(count))
    if way == "nearest":
        return (source.frame(_nearest(spot)) for spot in spots)
    if way == "blend":
        return (_blended(source, spot) for spot in spots)
    return _interpolated(source, spots, step)


def _check(
    num_frames: int,
    frame_rate: Fraction,
    to_rate: Fraction,
    to_frames: int | None,
    way: Way,
    speed: Fraction,
) -> None:
    for name, value in (
        ("num_frames", num_frames),
        ("frame_rate", frame_rate),
        ("to_rate", to_rate),
        ("to_frames", 1 if to_frames is None else to_frames),
        ("speed", speed),
    ):
        if value <= 0:
            raise RequestError(f"{name} {value} is not above 0.", hint="Use 24 frames a second.")
    if way not in get_args(Way):
        raise RequestError(f"way {way} is unknown.", hint=f"Use one of {', '.join(get_args(Way))}.")
    if way != "interpolate":
        return
    if "minterpolate" not in av.filter.filters_available:
        raise RequestError("This libav cannot interpolate motion.", hint="Use the way blend.")
    step = frame_rate * speed / to_rate
    if max(step.numerator, step.denominator) >= _LARGEST:
        raise RequestError(f"speed {speed} is too finely graded.", hint="Use the way blend.")


def _nearest(value: Fraction) -> int:
    """Of two that are as near, the lower."""
    return -((1 - 2 * value) // 2)


class _Source:
    """The frames that come, by their numbers, as far as they are still needed."""

    def __init__(self, frames: Iterable[np.ndarray], num_frames: int) -> None:
        self.num_frames = num_frames
        self._coming = iter(frames)
        self._kept: dict[int, np.ndarray] = {}
        self._num_come = 0
        self._shape = (0, 0, 3)

    def frame(self, index: int, *, keep: int | None = None) -> np.ndarray:
        """Frame `index`; those before `keep`, by default before itself, are let go."""
        while self._num_come <= index:
            self._forget(index if keep is None else keep)
            self._kept[self._num_come] = self._next()
            self._num_come += 1
        return self._kept[index]

    def _forget(self, end: int) -> None:
        for old in [old for old in self._kept if old < end]:
            del self._kept[old]

    def _next(self) -> np.ndarray:
        for frame in islice(self._coming, 1):
            if self._num_come == 0:
                self._shape = (*frame.shape[:2], 3)
            if frame.shape != self._shape or frame.dtype != np.uint16:
                raise MediaError(
                    f"Frame {self._num_come} is {frame.shape} {frame.dtype}, not {self._shape} uint16."
                )
            return frame
        raise MediaError(f"{self._num_come} frames came of the {self.num_frames} announced.")


def _pair(source: _Source, spot: Fraction) -> tuple[np.ndarray, np.ndarray, Fraction]:
    """(frame before, frame after, share of the one after) at a place between frames."""
    index = int(spot)
    first = source.frame(index)
    second = source.frame(index + 1, keep=index) if spot > index else first
    return first, second, spot - index


def _blended(source: _Source, spot: Fraction) -> np.ndarray:
    first, second, share = _pair(source, spot)
    return _mix(first, second, share) if share else first


def _mix(first: np.ndarray, second: np.ndarray, share: Fraction) -> np.ndarray:
    """first * (1 - share) + second * share, (H, W, 3) uint16, halves rounded up."""
    after, whole = share.limit_denominator(1 << 40).as_integer_ratio()  # 16 + 40 bits fit in 64
    mixed = np.empty_like(first)
    for row in range(0, len(first), _BAND_ROWS):
        band = slice(row, row + _BAND_ROWS)
        total = first[band] * np.uint64(whole - after) + second[band] * np.uint64(after)
        mixed[band] = (total + np.uint64(whole // 2)) // np.uint64(whole)
    return mixed


def _interpolated(
    source: _Source, spots: Iterable[Fraction], step: Fraction
) -> Iterator[np.ndarray]:
    motion = _Motion(source, step) if step.denominator > 1 else None
    for index, spot in enumerate(spots):
        if motion is None or spot.denominator == 1:
            if motion is not None:
                motion.follow(int(spot))
            yield source.frame(int(spot))
        else:
            moved = motion.frame(index, int(spot))
            yield _refined(moved, *_pair(source, spot))


class _Motion:
    """libav's minterpolate over the whole source.

    It knows 8-bit Y'CbCr only, finds motion in the first plane and moves all three by it. So green
    comes as the first, and blue and red as they are: no matrix, no loss but the depth.
    """

    def __init__(self, source: _Source, step: Fraction) -> None:
        height, width, _ = source.frame(0).shape
        if min(height, width) < _MIN_SIDE_PX:
            raise RequestError(
                f"Motion in {width} x {height} pixels cannot be interpolated.",
                hint="Use the way blend.",
            )
        self._source = source
        self._num_sent = 0
        self._graph = Graph()
        entry = self._graph.add_buffer(
            width=width, height=height, format=VideoFormat("yuv444p"), time_base=Fraction(1)
        )
        rate = f"{step.denominator}/{step.numerator}"
        motion = self._graph.add("minterpolate", f"fps={rate}:{_MOTION}")
        entry.link_to(motion)
        motion.link_to(self._graph.add("buffersink"))
        self._graph.configure()

    def follow(self, end: int) -> None:
        """See every frame up to frame `end` of the source; no result before it is wanted."""
        while self._num_sent <= end:
            self._push(self._source.frame(self._num_sent))
            self._pull(-1)

    def frame(self, index: int, before: int) -> np.ndarray:
        """Frame `index` of the result, which lies after frame `before` of the source; uint8 GBR."""
        # At its end minterpolate keeps back two frames: the last one of the source is repeated.
        while self._num_sent <= before + _FOLLOWING:
            if (found := self._pull(index)) is not None:
                return found
            number = min(self._num_sent, self._source.num_frames - 1)
            self._push(self._source.frame(number, keep=before))
        raise MediaError(
            f"Motion was not interpolated at frame {index}.", hint="Use the way blend."
        )

    def _push(self, frame: np.ndarray) -> None:
        planes = np.ascontiguousarray(_eight_bit(frame)[..., [1, 2, 0]].transpose(2, 0, 1))
        sent = VideoFrame.from_ndarray(planes, format="yuv444p")
        sent.pts, sent.time_base = self._num_sent, Fraction(1)
        self._graph.push(sent)
        self._num_sent += 1

    def _pull(self, index: int) -> np.ndarray | None:
        try:
            while True:
                frame = self._graph.pull()
                if isinstance(frame, VideoFrame) and frame.pts == index:
                    return frame.to_ndarray()
        except (NotYet, NoMore):
            return None
        except FFmpegError as error:
            raise MediaError(
                f"Motion cannot be interpolated: {error}.", hint="Use the way blend."
            ) from error


def _eight_bit(frame: np.ndarray) -> np.ndarray:
    half = np.uint16(_STEP_8_BIT // 2)
    return ((np.minimum(frame, 65535 - half) + half) // np.uint16(_STEP_8_BIT)).astype(np.uint8)


def _refined(
    planes: np.ndarray, first: np.ndarray, second: np.ndarray, share: Fraction
) -> np.ndarray:
    """The interpolated frame with what 8 bits lost of its neighbours: exact where nothing moves."""
    refined = np.empty_like(first)
    weight = np.float32(share)
    for row in range(0, len(first), _BAND_ROWS):
        band = slice(row, row + _BAND_ROWS)
        lost, lost_after = (
            frame[band].astype(np.float32) - np.float32(_STEP_8_BIT) * _eight_bit(frame[band])
            for frame in (first, second)
        )
        moved = planes[[2, 0, 1], band].transpose(1, 2, 0).astype(np.float32)
        value = moved * np.float32(_STEP_8_BIT) + (lost + (lost_after - lost) * weight)
        refined[band] = np.clip(np.rint(value), 0, 65535)
    return refined
