"""Frames -> a video file, through the ffmpeg that imageio-ffmpeg ships; the codec table.

The file is made in a hidden folder beside its final name, verified by decoding, and only then put
in place: the final name holds a whole video or nothing new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from freeswim.errors import MediaError, OutputError, RequestError
from freeswim.output import as_output_error, check_place, publish, workspace
from freeswim.video.encoder import running_encoder
from freeswim.video.opening import MAX_SIDE_PX, decode_frames, open_video


@dataclass(frozen=True)
class Codec:
    """One row of the codec table."""

    name: str  # what a request calls it
    extension: str  # of the file, with its dot
    arguments: tuple[str, ...]  # of ffmpeg: encoder and container
    even: tuple[str, ...]  # of ffmpeg, where both sides are even: profile and pixels
    odd: tuple[str, ...]  # where a side is odd: halved chroma cannot hold it, whole chroma can
    pipe_format: str  # ffmpeg's name of the raw frames that we send


CODECS = {
    "h264": Codec(
        name="h264",
        extension=".mp4",
        # x264's bytes depend on its number of threads: 8 everywhere, not "as many as there are".
        # Its macroblock tree gives other bytes now and then where the processor has AVX-512: 2 %
        # of 1,900 runs beside other work differed, without the tree 0 of 800.
        arguments=(
            *("-c:v", "libx264", "-preset", "medium", "-crf", "14", "-threads", "8"),
            *("-x264-params", "no-mbtree=1"),
            *("-movflags", "+faststart", "-f", "mp4"),
        ),
        even=("-profile:v", "high", "-pix_fmt", "yuv420p"),
        odd=("-profile:v", "high444", "-pix_fmt", "yuv444p"),
        pipe_format="rgb48le",
    )
}

# Raw frames carry no tags and their "unspecified" wins over tags given after -i: no colr atom, and
# a hue shift in every editing program. Given before -i they arrive.
_INPUT_TAGS = ("-color_primaries", "bt709", "-color_trc", "bt709")
_OUTPUT_TAGS = (*_INPUT_TAGS, "-colorspace", "bt709", "-color_range", "tv")
_SCALE = (
    "scale=out_color_matrix=bt709:out_range=tv:flags=lanczos+accurate_rnd+full_chroma_int+bitexact"
)
_BITEXACT = ("-fflags", "+bitexact", "-flags:v", "+bitexact")  # no dates, no versions


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse a place where no video can be put, before any work is done for it.

    Raises:
        OutputExists: the file is there and overwrite is not set.
        OutputError: wrong extension, or no folder that can be written.
    """
    extensions = sorted({codec.extension for codec in CODECS.values()})
    if path.suffix.lower() not in extensions:
        raise OutputError(
            f"{path.name} does not end in {' or '.join(extensions)}.",
            hint=f"Name it {path.stem}{extensions[0]}.",
        )
    check_place(path, overwrite)


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    width: int,
    height: int,
    frame_rate: Fraction,
    num_frames: int,
    comment: str = "",
    overwrite: bool = False,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Write a H.264 .mp4, BT.709 tagged; the same frames give the same bytes.

    Args:
        path: where; ends in .mp4.
        frames: (height, width, 3) uint16 RGB each, full range, 0..65535.
        width: px, 2 to 16384; where a side is odd, chroma is not halved (4:4:4).
        height: px, the same.
        frame_rate: frames per second, exact.
        num_frames: how many frames come, >= 1.
        comment: travels in the file, byte for byte; any length, no NUL.
        overwrite: replace a file that is there.
        on_frame: called with the number of frames sent so far, after each.

    Raises:
        RequestError: such a video cannot be made.
        OutputExists: the file is there and overwrite is not set.
        OutputError: the disk is full or the folder cannot be written.
        MediaError: the encoder failed, or the frames are not as announced.
    """
    check_output(path, overwrite)
    with workspace(path) as folder:
        part = folder / path.name
        encode_video(
            part,
            frames,
            width=width,
            height=height,
            frame_rate=frame_rate,
            num_frames=num_frames,
            comment=comment,
            final_name=path,
            on_frame=on_frame,
        )
        with as_output_error(path):
            publish(part, path, overwrite)


def encode_video(
    part: Path,
    frames: Iterable[np.ndarray],
    *,
    width: int,
    height: int,
    frame_rate: Fraction,
    num_frames: int,
    comment: str,
    final_name: Path,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Encode and verify a video in a workspace; arguments and errors as of `write_video`.

    Args:
        part: the file that is made, alone in its folder but for what it needs.
        final_name: what messages call it.
    """
    codec = CODECS["h264"]
    _check_video(width, height, frame_rate, num_frames, comment)
    metadata = _metadata_file(part.parent, final_name, comment)
    command = _command(codec, part, width, height, frame_rate, metadata)
    with running_encoder(command, part, final_name) as encoder:
        sent = 0
        for frame in frames:
            _check_frame(frame, sent, num_frames, (height, width, 3))
            encoder.send(frame)
            sent += 1
            if on_frame is not None:
                on_frame(sent)
        if sent != num_frames:
            raise MediaError(f"{sent} frames came for a video of {num_frames}.")
        encoder.finish()
    _verify(part, width, height, frame_rate, num_frames)


def _check_video(
    width: int, height: int, frame_rate: Fraction, num_frames: int, comment: str
) -> None:
    for name, side in (("width", width), ("height", height)):
        if not 2 <= side <= MAX_SIDE_PX:
            raise RequestError(f"{name} {side} cannot be H.264.", hint=f"Use 2 to {MAX_SIDE_PX}.")
    if frame_rate <= 0:
        raise RequestError(f"frame_rate {frame_rate} is not above 0.", hint="Use 24.")
    if num_frames < 1:
        raise RequestError(f"num_frames {num_frames} is not above 0.", hint="Use at least 1.")
    if "\0" in comment:
        raise RequestError("comment holds a NUL character.", hint="Remove it.")


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


def _command(
    codec: Codec,
    part: Path,
    width: int,
    height: int,
    frame_rate: Fraction,
    metadata: Path | None,
) -> list[str]:
    try:
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MediaError(
            "There is no ffmpeg on this machine.",
            hint="Install imageio-ffmpeg again, or set IMAGEIO_FFMPEG_EXE.",
        ) from error
    rate = f"{frame_rate.numerator}/{frame_rate.denominator}"
    size = f"{width}x{height}"
    frames = ("-f", "rawvideo", "-pix_fmt", codec.pipe_format, "-s", size, "-framerate", rate)
    pixels = codec.odd if width % 2 or height % 2 else codec.even
    comment = ("-f", "ffmetadata", "-i", f"file:{metadata}") if metadata else ()
    return [
        *(ffmpeg, "-hide_banner", "-nostdin", "-n", "-v", "error", "-protocol_whitelist", "pipe"),
        *(*frames, *_INPUT_TAGS, "-i", "pipe:0"),
        *(*(("-protocol_whitelist", "file") if comment else ()), *comment),
        *("-map", "0:v:0", "-map_metadata", "1" if comment else "-1", "-map_chapters", "-1"),
        *(
            "-vf",
            _SCALE,
            "-fps_mode",
            "passthrough",
            *pixels,
            *codec.arguments,
            *_OUTPUT_TAGS,
            *_BITEXACT,
        ),
        f"file:{part}",
    ]


def _verify(part: Path, width: int, height: int, frame_rate: Fraction, num_frames: int) -> None:
    """Decode the finished file: what the disk holds is what was sent, and says so."""
    with open_video(part) as (container, stream):
        decoded = sum(1 for _ in decode_frames(part, container, stream))
        found = (stream.width, stream.height, stream.average_rate, decoded)
        tags = (stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range)
    asked = (width, height, frame_rate, num_frames)
    if found != asked:
        raise MediaError(
            f"The finished video has (width, height, rate, frames) {found}, not {asked}."
        )
    if tags != (ColorPrimaries.BT709, ColorTrc.BT709, Colorspace.ITU709, ColorRange.MPEG):
        raise MediaError(f"The finished video is tagged {tags}, not BT.709.")
