"""Frames -> a video file of the codec table, through the ffmpeg that imageio-ffmpeg ships.

The file is made in a hidden folder beside its final name, verified by decoding, and only then put
in place: the final name holds a whole video or nothing new.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from freeswim.errors import MediaError, OutputError, OutputExists, RequestError
from freeswim.output import as_output_error, check_place, publish, workspace
from freeswim.video.codecs import Codec, find_codec
from freeswim.video.encoder import ffmpeg, running_encoder, usable_codec
from freeswim.video.opening import MAX_SIDE_PX, decode_frames, open_video


@dataclass(frozen=True)
class Audio:
    """Sound that goes along: the first track of a media file."""

    path: Path
    offset_s: Fraction = Fraction(0)  # of it, at the video's first frame


_TIMECODE = re.compile(r"\d\d:[0-5]\d:[0-5]\d[:;]\d\d", re.ASCII)
_REEL = re.compile(r"[A-Za-z0-9_-]{1,32}")

# Raw frames carry no tags and their "unspecified" wins over tags given after -i: no colr atom, and
# a hue shift in every editing program. Given before -i they arrive.
_INPUT_TAGS = ("-color_primaries", "bt709", "-color_trc", "bt709")
_OUTPUT_TAGS = (*_INPUT_TAGS, "-colorspace", "bt709", "-color_range", "tv")
_SCALE = (
    "scale=out_color_matrix=bt709:out_range=tv:flags=lanczos+accurate_rnd+full_chroma_int+bitexact"
)
_BITEXACT = ("-fflags", "+bitexact", "-flags:v", "+bitexact")  # no dates, no versions


def check_output(path: Path, overwrite: bool, codec: str = "h264") -> None:
    """Refuse a place where no video can be put, before any work is done for it.

    Raises:
        OutputExists: the file is there and overwrite is not set.
        OutputError: wrong extension, or no folder that can be written.
    """
    row = find_codec(codec)
    if row.is_sequence:
        if os.path.lexists(path):
            raise OutputExists(f"{path} is already there.", hint="Name another folder.")
    elif path.suffix.lower() != row.extension:
        raise OutputError(
            f"{path.name} does not end in {row.extension}.",
            hint=f"Name it {path.stem}{row.extension}.",
        )
    check_place(path, overwrite)


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "h264",
    width: int,
    height: int,
    frame_rate: Fraction,
    num_frames: int,
    comment: str = "",
    start_timecode: str | None = None,
    reel: str = "",
    audio: Audio | None = None,
    overwrite: bool = False,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Write a video of the codec table, BT.709 tagged; the same frames give the same bytes.

    A sequence is a folder with pictures NAME.000001.png, of the folder's name; those of `exr` hold
    linear light, by sRGB's transfer function, as compositors take them.

    Args:
        path: where; ends in the codec's extension, or names a new folder.
        frames: (height, width, 3) uint16 RGB each, full range, 0..65535.
        codec: a name of the codec table.
        width: px, 2 to 16384; where a side is odd, chroma is not halved (4:4:4).
        height: px, the same.
        frame_rate: frames per second, exact.
        num_frames: how many frames come, >= 1.
        comment: travels in the file, byte for byte, where the container holds one; any length, no
            NUL.
        start_timecode: of the first frame, HH:MM:SS:FF, with a semicolon for drop-frame.
        reel: name of the tape, in QuickTime files.
        audio: goes along, cut or filled with silence to the video's length.
        overwrite: replace a file that is there; never a folder.
        on_frame: called with the number of frames sent so far, after each.

    Raises:
        RequestError: such a video cannot be made.
        OutputExists: the file is there and overwrite is not set.
        OutputError: the disk is full or the folder cannot be written.
        MediaError: the encoder failed, or the frames are not as announced.
    """
    check_output(path, overwrite, codec)
    row = find_codec(codec)
    with workspace(path) as folder:
        part = folder / path.name
        if row.is_sequence:
            part.mkdir()
        encode_video(
            part,
            frames,
            codec=codec,
            width=width,
            height=height,
            frame_rate=frame_rate,
            num_frames=num_frames,
            comment=comment,
            start_timecode=start_timecode,
            reel=reel,
            audio=audio,
            final_name=path,
            on_frame=on_frame,
        )
        with as_output_error(path):
            if row.is_sequence:
                part.rename(path)
            else:
                publish(part, path, overwrite)


def encode_video(
    part: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "h264",
    width: int,
    height: int,
    frame_rate: Fraction,
    num_frames: int,
    comment: str,
    start_timecode: str | None = None,
    reel: str = "",
    audio: Audio | None = None,
    final_name: Path,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Encode and verify a video in a workspace; arguments and errors as of `write_video`.

    Args:
        part: the file that is made, alone in its folder but for what it needs; of a sequence, an
            empty folder.
        final_name: what messages call it.
    """
    row = usable_codec(codec, width, height)
    _check_video(row, width, height, frame_rate, num_frames, comment)
    _check_labels(row, start_timecode, reel)
    job = _Job(row, part, (width, height), frame_rate, num_frames, start_timecode, reel, audio)
    metadata = _metadata_file(part.parent, final_name, comment if row.carries_comment else "")
    with running_encoder(job.command(metadata), part, final_name) as encoder:
        sent = 0
        for frame in frames:
            _check_frame(frame, sent, num_frames, (height, width, 3))
            encoder.send(_LINEAR.of(frame) if row.pipe_format == "gbrpf32le" else frame)
            sent += 1
            if on_frame is not None:
                on_frame(sent)
        if sent != num_frames:
            raise MediaError(f"{sent} frames came for a video of {num_frames}.")
        encoder.finish()
    verify_video(part, row, width, height, frame_rate, num_frames)


def verify_video(
    path: Path, codec: Codec, width: int, height: int, frame_rate: Fraction, num_frames: int
) -> None:
    """Decode a finished file: what the disk holds is what was sent, and says so.

    Args:
        width: of the frames that were sent; a proxy's own size follows from it.

    Raises:
        MediaError: says what is otherwise.
    """
    pixels = codec.pixels(width, height)
    size = codec.size(width, height)
    if codec.is_sequence:
        _verify_sequence(path, codec, size, num_frames)
        return
    with open_video(path) as (container, stream):
        formats: set[str] = set()
        decoded = 0
        for frame in decode_frames(path, container, stream):
            formats.add(frame.format.name)
            decoded += 1
        rate = stream.average_rate or stream.guessed_rate  # MXF of one frame has no average
        found = (stream.width, stream.height, rate, decoded)
        tags = (stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range)
        profile = stream.codec_context.profile or ""
    asked = (*size, frame_rate, num_frames)
    if found != asked:
        raise MediaError(
            f"The finished video has (width, height, rate, frames) {found}, not {asked}."
        )
    if tags != (ColorPrimaries.BT709, ColorTrc.BT709, Colorspace.ITU709, ColorRange.MPEG):
        raise MediaError(f"The finished video is tagged {tags}, not BT.709.")
    if formats != {pixels.format} or (pixels.profile and profile != pixels.profile):
        raise MediaError(
            f"The finished video is {profile} {', '.join(formats)}, not {pixels.profile} "
            f"{pixels.format}."
        )


def _verify_sequence(folder: Path, codec: Codec, size: tuple[int, int], num_frames: int) -> None:
    names = {path.name for path in folder.iterdir()}
    if names != {_picture_name(folder, number, codec) for number in range(1, num_frames + 1)}:
        raise MediaError(f"The finished sequence has {len(names)} pictures, not {num_frames}.")
    for name in sorted(names):
        with av.open(f"file:{folder / name}", format=f"{codec.extension[1:]}_pipe") as container:
            frame = next(container.decode(video=0))
            found = (frame.width, frame.height, frame.format.name)
        if found != (*size, codec.even.format):
            raise MediaError(f"{name} is {found}, not {(*size, codec.even.format)}.")


def _picture_name(folder: Path, number: int, codec: Codec) -> str:
    return f"{folder.name}.{number:06d}{codec.extension}"


class _LinearLight:
    """Code values -> linear light, by a table: sRGB's transfer function, as the reader has it."""

    def __init__(self) -> None:
        self._table: np.ndarray | None = None

    def of(self, frame: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint16 -> (3, H, W) float32 in the order G, B, R, 0 to 1."""
        if self._table is None:
            value = np.arange(65536) / 65535
            curved = ((value + 0.055) / 1.055) ** 2.4
            self._table = np.where(value <= 0.04045, value / 12.92, curved).astype("<f4")
        return np.ascontiguousarray(self._table[frame[..., (1, 2, 0)]].transpose(2, 0, 1))


_LINEAR = _LinearLight()


def _check_video(
    codec: Codec,
    width: int,
    height: int,
    frame_rate: Fraction,
    num_frames: int,
    comment: str,
) -> None:
    for name, side in (("width", width), ("height", height)):
        if not 2 <= side <= MAX_SIDE_PX:
            raise RequestError(
                f"{name} {side} cannot be {codec.title}.", hint=f"Use 2 to {MAX_SIDE_PX}."
            )
    codec.pixels(width, height)
    if frame_rate <= 0:
        raise RequestError(f"frame_rate {frame_rate} is not above 0.", hint="Use 24.")
    if num_frames < 1:
        raise RequestError(f"num_frames {num_frames} is not above 0.", hint="Use at least 1.")
    if "\0" in comment:
        raise RequestError("comment holds a NUL character.", hint="Remove it.")


def _check_labels(codec: Codec, timecode: str | None, reel: str) -> None:
    if timecode is not None and not _TIMECODE.fullmatch(timecode):
        raise RequestError(f"{timecode!r} is no timecode.", hint="Write it as 01:00:00:00.")
    if reel and not _REEL.fullmatch(reel):
        raise RequestError(f"{reel!r} is no name of a reel.", hint="Use A-Z, a-z, 0-9, _ and -.")


def _check_frame(
    frame: np.ndarray, index: int, num_frames: int, shape: tuple[int, int, int]
) -> None:
    if index == num_frames:
        raise MediaError(f"More frames came than the {num_frames} of the video.")
    if frame.shape != shape or frame.dtype != np.uint16:
        raise MediaError(f"Frame {index} is {frame.shape} {frame.dtype}, the video {shape} uint16.")


def _metadata_file(folder: Path, path: Path, comment: str) -> Path | None:
    """The comment as FFMETADATA; on the command line a long one fails with E2BIG."""
    if not comment:
        return None
    escaped = "".join(f"\\{char}" if char in "=;#\\\n\r" else char for char in comment)
    metadata = folder / "comment.txt"
    with as_output_error(path):
        # No newline at the end: after a last backslash ffmpeg would take it into the comment.
        metadata.write_bytes(f";FFMETADATA1\ncomment={escaped}".encode())
    return metadata


@dataclass(frozen=True)
class _Job:
    """One run of ffmpeg."""

    codec: Codec
    part: Path
    size: tuple[int, int]  # of the frames that are sent
    frame_rate: Fraction
    num_frames: int
    timecode: str | None
    reel: str
    audio: Audio | None

    def command(self, metadata: Path | None) -> list[str]:
        """Its arguments; nothing a person wrote begins one."""
        codec = self.codec
        comment = ("-f", "ffmetadata", "-i", f"file:{metadata}") if metadata else ()
        sound = self._sound() if self.audio is not None and codec.sound else ()
        after = 1 + bool(comment)  # number of the sound's input
        return [
            *(ffmpeg(), "-hide_banner", "-nostdin", "-n", "-v", "error"),
            *("-protocol_whitelist", "pipe", *self._raw(), *_INPUT_TAGS, "-i", "pipe:0"),
            *(("-protocol_whitelist", "file") if comment else ()),
            *comment,
            *sound,
            *("-map", "0:v:0", "-map_metadata", "1" if comment else "-1", "-map_chapters", "-1"),
            *(self._sound_out(after) if sound else ()),
            *("-vf", self._scale(), "-fps_mode", "passthrough"),
            *codec.pixels(*self.size).arguments,
            *codec.arguments,
            *(() if codec.is_sequence else _OUTPUT_TAGS),
            *self._labels(),
            *_BITEXACT,
            f"file:{self._target()}",
        ]

    def _raw(self) -> tuple[str, ...]:
        rate = f"{self.frame_rate.numerator}/{self.frame_rate.denominator}"
        size = "x".join(str(side) for side in self.size)
        pixels = self.codec.pipe_format
        return ("-f", "rawvideo", "-pix_fmt", pixels, "-s", size, "-framerate", rate)

    def _scale(self) -> str:
        if self.codec.is_sequence:
            return "null"
        if self.codec.scale == 1:
            return _SCALE
        width, height = self.codec.size(*self.size)
        return _SCALE.replace("scale=", f"scale=w={width}:h={height}:").replace("lanczos", "area")

    def _sound(self) -> tuple[str, ...]:
        assert self.audio is not None
        with open_video(self.audio.path) as (container, _):  # or it is no media file of ours
            container_name = container.format.name.split(",")[0]
        return (
            *("-protocol_whitelist", "file", "-f", container_name),
            *("-ss", f"{float(self.audio.offset_s):.6f}"),
            *("-i", f"file:{self.audio.path.absolute()}"),
        )

    def _sound_out(self, number: int) -> tuple[str, ...]:
        length = f"{float(self.num_frames / self.frame_rate):.6f}"
        quality = ("-b:a", "320k") if self.codec.sound == "aac" else ()
        return (
            *("-map", f"{number}:a:0", "-c:a", self.codec.sound, *quality, "-flags:a", "+bitexact"),
            *("-af", f"apad=whole_dur={length},atrim=end={length}"),
        )

    def _labels(self) -> tuple[str, ...]:
        timecode = self.timecode if self.codec.carries_timecode else None
        reel = self.reel if self.codec.carries_reel else ""
        return (
            *(("-timecode", timecode) if timecode else ()),
            *(("-metadata:s:v:0", f"reel_name={reel}") if reel else ()),
        )

    def _target(self) -> Path:
        if not self.codec.is_sequence:
            return self.part
        escaped = self.part.name.replace("%", "%%")
        return self.part / f"{escaped}.%06d{self.codec.extension}"
