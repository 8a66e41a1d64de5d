"""A clip -> its pictures by number, exactly, and a picture -> pixels for the screen.

A picture's number comes from its time stamp, never from counting after a seek: a seek may land
where it likes, and what is shown is still what its number says. Where a file's time stamps cannot
be relied on, pictures are counted from the beginning.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QImage, QTransform

from freeswim.errors import MediaError
from freeswim.video import reader
from freeswim.video.opening import (
    CONVERT,
    COPY_AGAIN,
    damaged,
    decode_frames,
    open_picture,
    open_video,
)
from freeswim.video.pixels import Converter, UnsupportedPixels, display_matrix
from freeswim.video.sequence import Sequence, find_sequence

# Each thread of a decoder makes the first picture after a seek later by one, and holds one more.
NUM_THREADS = min(8, max(2, os.cpu_count() or 2))
SEQUENCE_RATE = Fraction(24)  # of pictures of which nobody said the rate

_STAMPED = ("mov", "matroska", "mxf")  # times of their pictures are stored, not guessed
_MAX_REORDER = 64  # frames; H.264 and H.265 allow 16
_BACK_S = (0, 2, 10)  # where a seek lands too late, the next lands this much earlier
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # ITU-T H.273 -> swscale
_UNTAGGED = (0, 2)
_YUV_NAMES = ("yuv", "yuyv", "uyvy", "nv", "p0", "p2", "p4", "y2")
_FLOAT_NAMES = ("f16le", "f16be", "f32le", "f32be")
_EXACT_CHROMA_PIXELS = 2_100_000  # 1920 x 1088: above, full chroma takes longer than decoding


@dataclass(frozen=True)
class Clip:
    """What somebody wants to see."""

    path: Path
    name: str  # for people: Source, Take 3
    start_timecode: str = ""  # of the first frame; empty: what the file says
    rate: Fraction | None = None  # of an image sequence, which has none of its own


@dataclass(frozen=True, eq=False)  # comparing QImages compares their pixels
class Picture:
    """A decoded picture, in the size in which it is painted."""

    image: QImage
    memory: object  # that `image` points into
    frames: range  # of the clip, that show it

    @property
    def num_bytes(self) -> int:
        """What it takes of the memory."""
        return self.image.sizeInBytes()


class Frames:
    """The pictures of one clip. Not for two threads at a time."""

    def __init__(self, clip: Clip) -> None:
        """Open it; reads all of a file that does not say its length.

        Raises:
            MediaError: it cannot be shown.
        """
        self.path = clip.path
        self._sequence = find_sequence(clip.path)
        rate = clip.rate or (SEQUENCE_RATE if self._sequence else None)
        self.facts = reader.probe(clip.path, frame_rate=rate)
        self.keys: list[int] = []  # frames at which decoding can begin, about; ascending
        self._is_stamped = False
        if self._sequence is not None:
            self.keys = list(range(self.facts.num_frames))
        else:
            with open_video(clip.path) as (container, stream):
                self._survey(container, stream)

    def from_frame(self, first: int) -> Iterator[tuple[range, VideoFrame]]:
        """Decoded pictures with the frames that show them, ascending.

        Begins somewhere before `first`, and shows `first`.

        Raises:
            MediaError: a picture is damaged or missing.
        """
        for back_s in (*(_BACK_S if self._is_stamped and first else ()), None):
            has_landed = False
            try:
                for frames, picture in self._run(first, back_s):
                    if not has_landed and frames.start > first:
                        break
                    has_landed = has_landed or frames.stop > first
                    yield frames, picture
            except MediaError:  # pictures before the first whole one, after a seek
                if has_landed or back_s is None:
                    raise
            if has_landed:
                return
        raise MediaError(f"{self.path.name} has no picture for frame {first + 1}.", hint=COPY_AGAIN)

    def next_key(self, frame: int) -> int:
        """The first frame after this one at which decoding can begin; else the clip's end."""
        place = bisect_right(self.keys, frame)
        return self.keys[place] if place < len(self.keys) else self.facts.num_frames

    def _survey(self, container: InputContainer, stream: VideoStream) -> None:
        kind = container.format.name
        # ffmpeg's MXF gives H.264 with B frames times in the order of decoding
        is_stamped = kind.startswith(_STAMPED) and not (
            kind.startswith("mxf") and stream.codec_context.has_b_frames
        )
        tick = stream.time_base
        first = first_time(self.path, container, stream) if is_stamped else None
        if first is None or not tick:
            return
        self._is_stamped, self._origin = True, first
        entries = [entry for entry in stream.index_entries if not entry.is_discard]
        self._step = 1 / (self.facts.frame_rate * tick)  # of time stamps, from frame to frame
        if not self.facts.is_variable and len(entries) == self.facts.num_frames > 1:
            # The rate was rounded to one that editors know; the sample table was not.
            self._step = Fraction(entries[-1].timestamp - entries[0].timestamp, len(entries) - 1)
        self.keys = sorted(
            {
                round((entry.timestamp - entries[0].timestamp) / self._step)
                for entry in entries
                if entry.is_keyframe
            }
        )

    def _run(self, first: int, back_s: int | None) -> Iterator[tuple[range, VideoFrame]]:
        """One try: from a seek, or from the beginning where `back_s` is None."""
        if self._sequence is not None:
            yield from _numbered_pictures(self._sequence, first)
            return
        with open_video(self.path) as (container, stream):
            stream.codec_context.thread_count = NUM_THREADS
            if back_s is not None:
                frame = max(0, first - round(back_s * self.facts.frame_rate))
                try:
                    container.seek(self._origin + round(frame * self._step), stream=stream)
                except FFmpegError as error:
                    raise damaged(self.path, frame, error) from error
            decoded = decode_frames(self.path, container, stream, first=first if back_s == 0 else 0)
            if self.facts.is_variable:
                yield from self._uneven(decoded)
                return
            for count, picture in enumerate(decoded):
                number = self._number(picture, count)
                yield range(number, number + 1), picture

    def _uneven(self, decoded: Iterator[VideoFrame]) -> Iterator[tuple[range, VideoFrame]]:
        """Each picture is shown until the next one comes, so it waits for that."""
        before: tuple[int, VideoFrame] | None = None
        for count, picture in enumerate(decoded):
            number = self._number(picture, count)
            if before and before[0] < number:
                yield range(before[0], number), before[1]
            before = number, picture
        if before and before[0] < self.facts.num_frames:
            yield range(before[0], self.facts.num_frames), before[1]

    def _number(self, picture: VideoFrame, count: int) -> int:
        if not self._is_stamped:
            return count
        if picture.pts is None:
            raise MediaError(f"{self.path.name} has a picture without a time.", hint=CONVERT)
        # the nearest frame, the earlier of two
        return -((1 - 2 * Fraction(picture.pts - self._origin) / self._step) // 2)


def first_time(path: Path, container: InputContainer, stream: VideoStream) -> int | None:
    """Time stamp of the first picture shown, which need not be the first one stored."""
    packets = (packet for packet in container.demux(stream) if packet.size)
    try:
        times = [packet.pts for packet in islice(packets, _MAX_REORDER) if not packet.is_discard]
    except FFmpegError as error:
        raise damaged(path, 0, error) from error
    return (
        None if None in times else min((time for time in times if time is not None), default=None)
    )


def _numbered_pictures(sequence: Sequence, first: int) -> Iterator[tuple[range, VideoFrame]]:
    for number in range(first, len(sequence.pictures)):
        path = sequence.pictures[number]
        with open_picture(path) as (container, stream):
            picture = next(decode_frames(path, container, stream), None)
        if picture is None:
            raise MediaError(f"{path.name} has no picture.", hint=COPY_AGAIN)
        yield range(number, number + 1), picture


class Renderer:
    """Decoded pictures -> pixels of the screen. Not for two threads at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scaler = VideoReformatter()
        self._turn: QTransform | None = None

    def picture(self, frame: VideoFrame, frames: range, size: QSize) -> Picture:
        """Scaled, upright, in R'G'B' of the clip's own primaries and transfer.

        Within 3 of 255 of the exact values, within 1 where `size` is at most 1920 x 1088.

        Raises:
            MediaError: its pixels cannot be shown rightly.
        """
        try:
            return self._picture(frame, frames, size)
        except UnsupportedPixels as error:
            raise MediaError(
                f"{self._path.name} has {error}, which is not read here.", hint=CONVERT
            ) from error
        except (FFmpegError, ValueError, MemoryError) as error:
            raise damaged(self._path, frames.start, error) from error

    def _picture(self, frame: VideoFrame, frames: range, size: QSize) -> Picture:
        if not _is_common(frame):
            return Picture(_uncommon(frame, size), None, frames)
        # Once: a frame whose side data was looked at is in a cycle (PyAV 18) and stays in memory.
        if self._turn is None:
            a, b, c, d = display_matrix(frame)
            self._turn = QTransform(a, b, c, d, 0, 0)
        turn = self._turn
        if turn.isIdentity():
            return Picture(*self._scaled(frame, size), frames)
        upright = size if turn.m12() == 0 else size.transposed()
        image, _ = self._scaled(frame, upright)
        return Picture(image.transformed(turn), None, frames)

    def _scaled(self, frame: VideoFrame, size: QSize) -> tuple[QImage, object]:
        width, height = size.width(), size.height()
        is_smaller = width < frame.width
        how = Interpolation.AREA if is_smaller else Interpolation.BICUBIC
        how |= Interpolation.ACCURATE_RND
        if width * height <= _EXACT_CHROMA_PIXELS:
            how |= Interpolation.FULL_CHR_H_INT
        is_full = frame.format.is_rgb or frame.format.name.startswith("yuvj")
        is_full = is_full or frame.color_range == ColorRange.JPEG
        matrix = 1 if frame.format.is_rgb else _matrix(frame)
        scaled = self._scaler.reformat(
            frame,
            width,
            height,
            "bgr0",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            interpolation=how,
            src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=1,  # two clips are decoded at a time, each by several threads
        )
        plane = scaled.planes[0]
        row = plane.line_size
        return QImage(memoryview(plane), width, height, row, QImage.Format.Format_RGB32), scaled


def _is_common(frame: VideoFrame) -> bool:
    """Whether swscale turns its pixels into R'G'B' rightly: not grey, not scene-linear."""
    name = frame.format.name
    is_rgb = frame.format.is_rgb and frame.format.components[0].bits >= 8
    return name.startswith(_YUV_NAMES) or (is_rgb and not name.endswith(_FLOAT_NAMES))


def _uncommon(frame: VideoFrame, size: QSize) -> QImage:
    """By the slow way in which takes are made."""
    rgb = (Converter(None).pixels(frame) >> 8).astype(np.uint8)
    smooth = Qt.TransformationMode.SmoothTransformation
    return image_of(rgb).scaled(size, Qt.AspectRatioMode.IgnoreAspectRatio, smooth)


def image_of(rgb: np.ndarray) -> QImage:
    """A QImage of its own of (H, W, 3) RGB, of 8 or 16 bits."""
    height, width, _ = rgb.shape
    if rgb.dtype == np.uint8:
        rows = np.ascontiguousarray(rgb)
        return QImage(rows.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
    with_alpha = np.full((height, width, 4), 65535, np.uint16)
    with_alpha[..., :3] = rgb
    kind = QImage.Format.Format_RGBX64
    return QImage(with_alpha.data, width, height, 8 * width, kind).copy()


def _matrix(frame: VideoFrame) -> int:
    """As swscale counts; of untagged video the one of its size, as takes are made."""
    if frame.colorspace in _UNTAGGED:
        return _MATRICES[1 if frame.height >= 720 else 6]
    if frame.colorspace not in _MATRICES:
        raise UnsupportedPixels(f"colour matrix {frame.colorspace} of ITU-T H.273")
    return _MATRICES[frame.colorspace]
