"""Any video file -> frames and exact rate; hostile files are refused by `opening`."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile, islice
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageOps, UnidentifiedImageError

from freeswim.errors import MediaError, RequestError
from freeswim.video.opening import (
    CONVERT,
    COPY_AGAIN,
    MAX_SIDE_PX,
    damaged,
    decode_frames,
    first_bytes,
    open_video,
    reason,
    too_large,
)
from freeswim.video.pixels import Converter, UnsupportedPixels

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")

# Codecs with exactly one shown picture a packet: counting packets is counting frames.
_PICTURE_PER_PACKET = frozenset(
    {
        *("h264", "hevc", "av1", "vp9", "prores", "dnxhd", "mjpeg", "mpeg2video", "ffv1"),
        *("cfhd", "v210", "rawvideo", "jpeg2000", "hap"),
    }
)
_SEEKABLE = ("mov", "matroska", "mxf")  # times of their packets are stored, not guessed
_MAX_REORDER = 64  # frames; H.264 and H.265 allow 16
_BROKEN_IMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, KeyError, IndexError),
    *(TypeError, OverflowError, NotImplementedError, MemoryError),
)


@dataclass(frozen=True)
class Clip:
    """What a video file holds."""

    path: Path
    width: int  # px, as displayed: after rotation, square pixels
    height: int  # px, as displayed
    num_frames: int  # pictures shown, >= 1
    frame_rate: Fraction  # frames per second, exact: 24000/1001, not 23.976


def probe(path: Path) -> Clip:
    """Size, length and rate of a video file.

    Raises:
        MediaError: the file is not a video that can be read whole.
    """
    path = Path(path)
    with open_video(path) as (container, stream):
        num_frames = _count_frames(path, container, stream)
    with open_video(path) as (container, stream):
        frame = next(decode_frames(path, container, stream), None)
        if frame is None or num_frames < 1:
            raise MediaError(f"{path.name} has no picture in its video track.", hint=COPY_AGAIN)
        if frame.interlaced_frame:
            raise MediaError(
                f"{path.name} is interlaced.",
                hint="Deinterlace it first, then use the progressive file.",
            )
        height, width, _ = _pixels(path, Converter(stream.sample_aspect_ratio), frame).shape
        return Clip(path, width, height, num_frames, _exact_rate(path, stream, num_frames))


def read_frames(
    path: Path, *, start: int = 0, num_frames: int | None = None
) -> Iterator[np.ndarray]:
    """Frames in presentation order, one at a time in memory.

    Args:
        path: the video file.
        start: first frame, 0 <= start < frames in the file.
        num_frames: how many; None reads to the end.

    Returns:
        (H, W, 3) uint16 RGB each, full range, 0..65535, turned as displayed.

    Raises:
        RequestError: the file has no such frames.
        MediaError: the file cannot be read, or a frame in it is damaged.
    """
    clip = probe(path)
    count = clip.num_frames - start if num_frames is None else num_frames
    if start < 0 or count < 1 or start + count > clip.num_frames:
        raise RequestError(
            f"{clip.path.name} has {clip.num_frames} frames; {count} from frame {start} are not in it.",
            hint=f"Ask for frames between 0 and {clip.num_frames - 1}.",
        )
    return _read(clip, start, count)


def read_image(path: Path) -> np.ndarray:
    """A still picture, turned as displayed, transparency over black: (H, W, 3) uint8 RGB.

    Raises:
        MediaError: not a PNG, JPEG, WEBP, TIFF or BMP, or damaged, or far too large.
    """
    path = Path(path)
    first_bytes(path)
    bomb = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                return _image_pixels(path, image)
    except bomb as error:
        raise too_large(path, str(error)) from error
    except UnidentifiedImageError as error:
        raise MediaError(
            f"{path.name} is not a PNG, JPEG, WEBP, TIFF or BMP image.", hint="Save it as PNG."
        ) from error
    except _BROKEN_IMAGE as error:
        raise MediaError(
            f"{path.name} cannot be read as an image: {reason(error)}.",
            hint="Save it again from an image viewer.",
        ) from error


def _image_pixels(path: Path, image: Image.Image) -> np.ndarray:
    if max(image.size) > MAX_SIDE_PX:
        raise too_large(path, "{} x {}".format(*image.size))
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # Pillow would clip 16 bits to 255
        grey = np.asarray(upright) >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if upright.mode in ("I", "F"):
        raise ValueError("32-bit pixels are not supported")
    if not upright.has_transparency_data:
        return np.array(upright.convert("RGB"))
    over = upright.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", over.size, "black"), over))[..., :3]


def _count_frames(path: Path, container: InputContainer, stream: VideoStream) -> int:
    """Pictures that decoding shows, counted and never taken from a header's word."""
    if stream.frames and container.format.name.startswith("mov"):
        # The sample table is exact, so a 400 GB camera file need not be read to be counted.
        entries = list(stream.index_entries)
        if max((entry.pos + entry.size for entry in entries), default=0) > path.stat().st_size:
            raise MediaError(f"{path.name} ends before its last frame.", hint=COPY_AGAIN)
        return sum(not entry.is_discard for entry in entries)
    num_packets = _count_packets(path, container, stream)
    if stream.codec_context.codec.canonical_name in _PICTURE_PER_PACKET:
        return num_packets
    with open_video(path) as (again, decoded):
        return sum(1 for _ in decode_frames(path, again, decoded))


def _count_packets(path: Path, container: InputContainer, stream: VideoStream) -> int:
    num_packets = 0
    try:
        for packet in container.demux(stream):
            if packet.size and packet.is_corrupt:
                raise MediaError(f"{path.name} is cut short or damaged.", hint=COPY_AGAIN)
            num_packets += bool(packet.size) and not packet.is_discard
    except FFmpegError as error:
        raise damaged(path, num_packets, error) from error
    if num_packets < stream.frames:
        raise MediaError(f"{path.name} ends before its announced length.", hint=COPY_AGAIN)
    return num_packets


def _exact_rate(path: Path, stream: VideoStream, num_frames: int) -> Fraction:
    average, guess = stream.average_rate, stream.guessed_rate
    if not average or average < 0:
        raise MediaError(f"{path.name} does not say its frame rate.", hint=CONVERT)
    # A last frame of odd length moves the average by up to one frame in num_frames.
    if guess and abs(guess / average - 1) < Fraction(1, num_frames):
        average = guess
    nominal = (Fraction(round(average)), Fraction(round(average) * 1000, 1001))
    # 23.976, 2997/125 and millisecond times all mean 24000/1001
    close = [rate for rate in nominal if rate and abs(average / rate - 1) < Fraction(1, 10_000)]
    return close[0] if close else average


def _read(clip: Clip, start: int, count: int) -> Iterator[np.ndarray]:
    with open_video(clip.path) as (_, stream):
        converter = Converter(stream.sample_aspect_ratio)
    sent = 0
    for frame in islice(_frames_from(clip.path, start), count):
        pixels = _pixels(clip.path, converter, frame)
        if pixels.shape != (clip.height, clip.width, 3):
            raise MediaError(
                f"{clip.path.name} changes its size at frame {start + sent}.", hint=CONVERT
            )
        yield pixels
        sent += 1
    if sent < count:  # the decoder swallowed what it could not show
        raise MediaError(
            f"{clip.path.name} gave {start + sent} of its {clip.num_frames} frames.",
            hint=COPY_AGAIN,
        )


def _frames_from(path: Path, start: int) -> Iterator[VideoFrame]:
    """Decoded frames from `start` on: by a seek where it lands exactly, else from the beginning."""
    target = _presentation_time(path, start) if start else None
    if target is not None:
        with open_video(path) as (container, stream):
            container.seek(target, stream=stream)
            decoded = decode_frames(path, container, stream, first=start)
            frames = dropwhile(lambda frame: frame.pts is None or frame.pts < target, decoded)
            try:
                landed = next(frames, None)
            except MediaError:  # pictures before the first whole one, after a seek
                landed = None
            if landed is not None and landed.pts == target:
                yield landed
                yield from frames
                return
    with open_video(path) as (container, stream):
        yield from islice(decode_frames(path, container, stream), start, None)


def _presentation_time(path: Path, index: int) -> int | None:
    """Time stamp of frame `index`; None where the container's stamps cannot be relied on."""
    with open_video(path) as (container, stream):
        if not container.format.name.startswith(_SEEKABLE):
            return None
        packets = (packet for packet in container.demux(stream) if packet.size)
        shown = (packet.pts for packet in packets if not packet.is_discard)
        times = list(islice(shown, index + _MAX_REORDER))
    if None in times or len(set(times)) <= index or len(set(times)) < len(times):
        return None
    return sorted(time for time in times if time is not None)[index]


def _pixels(path: Path, converter: Converter, frame: VideoFrame) -> np.ndarray:
    try:
        return converter.pixels(frame)
    except UnsupportedPixels as error:
        raise MediaError(
            f"{path.name} has {error}, which is not read here.", hint=CONVERT
        ) from error
