"""When the pictures of a video file are shown: their number, their rate, and how evenly they come.

Phones and screen recorders store a picture whenever there is one. Their clips are shown at a
constant rate, as every timeline needs: each frame of it shows the picture whose time stamp is
nearest to it or was the last before it. Where no time stamp lies half a frame off the even grid,
this changes nothing, and the pictures are the frames.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median_low

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from freeswim.errors import MediaError
from freeswim.video.opening import CONVERT, COPY_AGAIN, damaged, decode_frames, open_video

# Codecs with exactly one shown picture a packet: counting packets is counting frames.
_PICTURE_PER_PACKET = frozenset(
    {
        *("h264", "hevc", "av1", "vp9", "prores", "dnxhd", "mjpeg", "mpeg2video", "ffv1"),
        *("cfhd", "v210", "rawvideo", "jpeg2000", "hap"),
    }
)
_TIMED = ("mov", "matroska", "mxf", "mpegts")  # times of their pictures are stored, not guessed
_MAX_FRAMES = 10_000_000  # 46 hours of 60 a second; time stamps of damaged files know no bounds


@dataclass(frozen=True)
class Timing:
    """Which picture of a file each frame shows."""

    num_frames: int  # >= 1
    frame_rate: Fraction  # frames per second, constant
    is_variable: bool  # the file's pictures come unevenly
    starts: Sequence[int]  # of each picture: the first frame that may show it; ascending

    def picture(self, frame: int) -> int:
        """Number of the picture that a frame shows."""
        return bisect_right(self.starts, frame) - 1


def constant(num_pictures: int, own: Fraction, asked: Fraction | None) -> Timing:
    """Evenly spaced pictures, shown at the rate asked for or at their own."""
    if asked is None or asked == own:
        return Timing(num_pictures, own, False, range(num_pictures))
    starts = [_frame_at(asked / own * index) for index in range(num_pictures)]
    num_frames = max(1, _frame_at(asked / own * num_pictures))
    return Timing(num_frames, asked, False, starts)


def measure(
    path: Path, container: InputContainer, stream: VideoStream, asked: Fraction | None
) -> Timing:
    """Count a file's pictures and see when they come.

    Args:
        path: the file.
        container: as `open_video` gave it; it is read.
        stream: its video track.
        asked: the constant rate to show it at; None takes its own.

    Raises:
        MediaError: it is damaged, or says no rate.
    """
    num_pictures, times = _survey(path, container, stream)
    if num_pictures < 1:
        raise MediaError(f"{path.name} has no picture in its video track.", hint=COPY_AGAIN)
    if times is None or _is_even(times):
        return constant(num_pictures, _exact_rate(path, stream, num_pictures), asked)
    tick = Fraction(stream.time_base or 1)
    rate = asked or _typical_rate(times, tick)
    starts = [_frame_at((time - times[0]) * tick * rate) for time in times]
    usual = median_low(later - time for time, later in pairwise(times))
    num_frames = max(1, _frame_at((times[-1] + usual - times[0]) * tick * rate))
    if num_frames > _MAX_FRAMES:
        raise MediaError(f"{path.name} has time stamps that lie days apart.", hint=CONVERT)
    return Timing(num_frames, rate, True, starts)


def _frame_at(place: Fraction) -> int:
    """The nearest frame, the earlier of two."""
    return -((1 - 2 * place) // 2)


def _survey(
    path: Path, container: InputContainer, stream: VideoStream
) -> tuple[int, list[int] | None]:
    """(pictures that decoding shows, their times in ascending order where they are known).

    Pictures are counted and never taken from a header's word.
    """
    if stream.frames and container.format.name.startswith("mov"):
        # The sample table is exact, so a 400 GB camera file need not be read to be counted.
        entries = [entry for entry in stream.index_entries if not entry.is_discard]
        last = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        if last > path.stat().st_size:
            raise MediaError(f"{path.name} ends before its last frame.", hint=COPY_AGAIN)
        decoding_times = [entry.timestamp for entry in entries]
        if len(entries) < 2 or (_ascend(decoding_times) and _is_even(decoding_times)):
            return len(entries), None
    found = _packet_times(path, container, stream)
    if stream.codec_context.codec.canonical_name not in _PICTURE_PER_PACKET:
        with open_video(path) as (again, decoded):
            found = [frame.pts for frame in decode_frames(path, again, decoded)]
    times = sorted(time for time in found if time is not None)
    is_known = container.format.name.startswith(_TIMED) and len(times) == len(found)
    return len(found), times if is_known and _ascend(times) else None


def _packet_times(path: Path, container: InputContainer, stream: VideoStream) -> list[int | None]:
    times: list[int | None] = []
    try:
        for packet in container.demux(stream):
            if packet.size and packet.is_corrupt:
                raise MediaError(f"{path.name} is cut short or damaged.", hint=COPY_AGAIN)
            if packet.size and not packet.is_discard:
                times.append(packet.pts)
    except FFmpegError as error:
        raise damaged(path, len(times), error) from error
    if not container.format.name.startswith("mov") and len(times) < stream.frames:
        raise MediaError(f"{path.name} ends before its announced length.", hint=COPY_AGAIN)
    return times


def _ascend(times: list[int]) -> bool:
    return all(time < later for time, later in pairwise(times))


def _is_even(times: list[int]) -> bool:
    """No time is half a step or more off the grid from the first to the last."""
    num_steps = len(times) - 1
    span = times[-1] - times[0]
    return all(
        2 * abs((time - times[0]) * num_steps - index * span) < span or num_steps < 2
        for index, time in enumerate(times)
    )


def _typical_rate(times: list[int], tick: Fraction) -> Fraction:
    """The rate at which most pictures come."""
    steps = [later - time for time, later in pairwise(times)]
    usual = median_low(steps)
    near = [step for step in steps if abs(step - usual) * 4 <= usual]
    rate = len(near) / (sum(near) * tick)
    whole = round(rate)
    if whole < 1:
        return rate.limit_denominator(1001)
    return min((Fraction(whole), Fraction(whole * 1000, 1001)), key=lambda one: abs(one - rate))


def _exact_rate(path: Path, stream: VideoStream, num_pictures: int) -> Fraction:
    guess = stream.guessed_rate
    # Of an MXF with large pictures FFmpeg looks at too few for an average; the file says its rate.
    average = stream.average_rate or guess
    if not average or average < 0:
        raise MediaError(f"{path.name} does not say its frame rate.", hint=CONVERT)
    # A last frame of odd length moves the average by up to one frame in num_pictures.
    if guess and abs(guess / average - 1) < Fraction(1, num_pictures):
        average = guess
    nominal = (Fraction(round(average)), Fraction(round(average) * 1000, 1001))
    # 23.976, 2997/125 and millisecond times all mean 24000/1001
    close = [rate for rate in nominal if rate and abs(average / rate - 1) < Fraction(1, 10_000)]
    return close[0] if close else average
