"""Any video file or image sequence -> frames and exact rate; `opening` refuses hostile files."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import dropwhile, islice
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from PIL import Image, ImageOps, UnidentifiedImageError

from freeswim.errors import MediaError, RequestError
from freeswim.video.opening import (
    CONVERT,
    COPY_AGAIN,
    MAX_SIDE_PX,
    decode_frames,
    first_bytes,
    open_picture,
    open_video,
    reason,
    too_large,
)
from freeswim.video.pixels import Converter, UnsupportedPixels
from freeswim.video.sequence import Sequence, find_sequence
from freeswim.video.timing import Timing, constant, measure

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")

_SEEKABLE = ("mov", "matroska", "mxf")  # times of their packets are stored, not guessed
_MAX_REORDER = 64  # frames; H.264 and H.265 allow 16
_TIMECODE = re.compile(r"[0-9]{2}(:[0-9]{2}){2}[:;.][0-9]{2,3}")
_REEL = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_BROKEN_IMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, KeyError, IndexError),
    *(TypeError, OverflowError, NotImplementedError, MemoryError),
)


@dataclass(frozen=True)
class Clip:
    """What a video file or an image sequence holds."""

    path: Path
    width: int  # px, as displayed: after rotation, square pixels
    height: int  # px, as displayed
    num_frames: int  # shown at frame_rate, >= 1
    frame_rate: Fraction  # frames per second, exact: 24000/1001, not 23.976
    is_variable: bool = False  # its pictures come unevenly: some are left out or repeated
    start_timecode: str = ""  # of the first frame, 01:00:00:00, drop-frame 01:00:00;02; "": none
    reel: str = ""  # name of the tape or card; "": none
    has_audio: bool = False
    bit_depth: int = 8  # of a channel, as stored
    codec: str = ""  # as libav calls it: h264, prores, png
    color_tags: tuple[int, int, int] = (2, 2, 2)  # H.273 primaries, transfer, matrix; 2: none
    is_full_range: bool = False


def probe(path: Path, *, frame_rate: Fraction | None = None) -> Clip:
    """Size, length, rate and origin of a video file or an image sequence.

    Args:
        path: a video file, a folder of numbered pictures, or their pattern such as shot.####.png.
        frame_rate: the constant rate at which its frames are shown; pictures have none of their
            own, of a video None takes its own.

    Raises:
        RequestError: an image sequence without a rate, or an impossible one.
        MediaError: it cannot be read whole.
    """
    return _survey(Path(path), frame_rate)[0]


def read_frames(
    path: Path,
    *,
    start: int = 0,
    num_frames: int | None = None,
    frame_rate: Fraction | None = None,
) -> Iterator[np.ndarray]:
    """Frames in presentation order, one at a time in memory.

    Args:
        path: as of `probe`.
        start: first frame, 0 <= start < frames of the clip.
        num_frames: how many; None reads to the end.
        frame_rate: as of `probe`; frames are counted at this rate.

    Returns:
        (H, W, 3) uint16 RGB each, full range, 0..65535, turned as displayed; two may be the same
        array. Pictures in floating point, which are scene-linear, are encoded as sRGB.

    Raises:
        RequestError: the clip has no such frames, or as of `probe`.
        MediaError: the clip cannot be read, or a frame in it is damaged.
    """
    clip, timing, sequence = _survey(Path(path), frame_rate)
    count = clip.num_frames - start if num_frames is None else num_frames
    if start < 0 or count < 1 or start + count > clip.num_frames:
        raise RequestError(
            f"{clip.path.name} has {clip.num_frames} frames; {count} from frame {start} are not in it.",
            hint=f"Ask for frames between 0 and {clip.num_frames - 1}.",
        )
    first, last = timing.picture(start), timing.picture(start + count - 1)
    if sequence is not None:
        pictures = _sequence_pictures(clip, sequence.pictures[first : last + 1])
    else:
        pictures = _video_pictures(clip, first, last - first + 1)
    return _shown(pictures, timing, range(start, start + count))


def _survey(path: Path, asked: Fraction | None) -> tuple[Clip, Timing, Sequence | None]:
    if asked is not None and asked <= 0:
        raise RequestError(f"frame_rate {asked} is not above 0.", hint="Use 24.")
    sequence = find_sequence(path)
    if sequence is None:
        with open_video(path) as (container, stream):
            timing = measure(path, container, stream, asked)
        with open_video(path) as (container, stream):
            return _describe(path, container, stream, timing), timing, None
    if asked is None:
        raise RequestError(
            f"{sequence.name} is an image sequence and has no frame rate of its own.",
            hint="Say its frame rate, such as 24.",
        )
    timing = constant(len(sequence.pictures), asked, None)
    with open_picture(sequence.pictures[0]) as (container, stream):
        clip = _describe(sequence.pictures[0], container, stream, timing)
    return replace(clip, path=path), timing, sequence


def _describe(path: Path, container: InputContainer, stream: VideoStream, timing: Timing) -> Clip:
    frame = next(decode_frames(path, container, stream), None)
    if frame is None:
        raise MediaError(f"{path.name} has no picture in its video track.", hint=COPY_AGAIN)
    # a PNG that loads in passes is called interlaced too
    if frame.interlaced_frame and not container.format.name.endswith("_pipe"):
        raise MediaError(
            f"{path.name} is interlaced.",
            hint="Deinterlace it first, then use the progressive file.",
        )
    height, width, _ = _pixels(path, Converter(stream.sample_aspect_ratio), frame).shape
    tagged = (stream.color_primaries, stream.color_trc, stream.colorspace)
    primaries, transfer, matrix = (int(tag or 0) for tag in tagged)
    return Clip(
        path,
        width,
        height,
        timing.num_frames,
        timing.frame_rate,
        is_variable=timing.is_variable,
        start_timecode=_tag(container, stream, "timecode", _TIMECODE),
        reel=_tag(container, stream, "reel_name", _REEL),
        has_audio=bool(container.streams.audio),
        bit_depth=frame.format.components[0].bits,
        codec=stream.codec_context.codec.canonical_name,
        color_tags=(primaries, transfer, matrix),
        is_full_range=frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG,
    )


def _tag(container: InputContainer, stream: VideoStream, name: str, form: re.Pattern[str]) -> str:
    """The video track's word first, then the whole file's, then that of its other tracks."""
    others = [other.metadata for other in container.streams]
    for metadata in (stream.metadata, container.metadata, *others):
        for key, value in metadata.items():
            if key.lower() == name and form.fullmatch(value.strip()):
                return value.strip()
    return ""


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
            warnings.simplefilter("ignore")  # words on damaged tags, to nobody
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


def _shown(pictures: Iterator[np.ndarray], timing: Timing, frames: range) -> Iterator[np.ndarray]:
    """What each frame shows, of pictures that begin with that of the first."""
    number = timing.picture(frames[0])
    picture = next(pictures)
    for frame in frames:
        while number < timing.picture(frame):
            picture = next(pictures)
            number += 1
        yield picture


def _sequence_pictures(clip: Clip, paths: tuple[Path, ...]) -> Iterator[np.ndarray]:
    for path in paths:
        with open_picture(path) as (container, stream):
            frame = next(decode_frames(path, container, stream), None)
            if frame is None:
                raise MediaError(f"{path.name} has no picture.", hint=COPY_AGAIN)
            pixels = _pixels(path, Converter(stream.sample_aspect_ratio), frame)
        if pixels.shape != (clip.height, clip.width, 3):
            raise MediaError(
                f"{path.name} has another size than the first picture, {clip.width} x {clip.height}.",
                hint="Render it again in the size of the others.",
            )
        yield pixels


def _video_pictures(clip: Clip, start: int, count: int) -> Iterator[np.ndarray]:
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
            f"{clip.path.name} gave {sent} of {count} frames from frame {start} on.",
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
        shown = (packet for packet in packets if not packet.is_discard)
        stamps = [(packet.pts, packet.dts) for packet in islice(shown, index + _MAX_REORDER)]
        reorders = stream.codec_context.has_b_frames
    times = [time for time, _ in stamps if time is not None]
    # ffmpeg's MXF gives H.264 with B frames times in the order of decoding
    if reorders and all(time == decoding_time for time, decoding_time in stamps):
        return None
    if len(times) <= index or len(times) < len(stamps) or len(set(times)) < len(times):
        return None
    return sorted(times)[index]


def _pixels(path: Path, converter: Converter, frame: VideoFrame) -> np.ndarray:
    if max(frame.width, frame.height) > MAX_SIDE_PX:
        raise too_large(path, f"{frame.width} x {frame.height}")
    try:
        return converter.pixels(frame)
    except UnsupportedPixels as error:
        raise MediaError(
            f"{path.name} has {error}, which is not read here.", hint=CONVERT
        ) from error
