"""A file of unknown origin -> a libav container that opens nothing else.

libav picks a demuxer by content: a text that calls itself clip.mp4 can be a playlist that opens
other files and the network. So the first bytes decide here, the demuxer is named to libav, and only
containers that hold their own pictures are named.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from freeswim.errors import MediaError
from freeswim.video.cut_short import is_cut_short, packet_size

MAX_SIDE_PX = 16384
CONVERT = "Export the shot again as ProRes or H.264 in .mov or .mp4."
COPY_AGAIN = "Copy or export the file again; it is damaged or was cut short."

_VIDEOS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mxf,mpegts"
_PICTURES = (  # how the files of a sequence begin -> libav's name of the demuxer
    (b"\x89PNG\r\n\x1a\n", "png_pipe"),
    (b"\xff\xd8\xff", "jpeg_pipe"),
    (b"II*\0", "tiff_pipe"),
    (b"MM\0*", "tiff_pipe"),
    (b"\x76\x2f\x31\x01", "exr_pipe"),
    (b"SDPX", "dpx_pipe"),
    (b"XPDS", "dpx_pipe"),
)
_MAX_PICTURE_BYTES = 1 << 30  # one picture is read whole
_MOV_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_MXF_HEADER = bytes.fromhex("060e2b34020501010d010201")
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]")


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file's container and its video track, for as long as the block runs.

    Raises:
        MediaError: not a whole video file of a kind that we read.
    """
    head = first_bytes(path)
    name = _container_of(path, head)
    _refuse_cut(path, name, head)
    options = {"enable_drefs": "0"} if name == "mov" else {}  # tracks that live in other files
    with _opened(path, name, _VIDEOS, options) as container:
        yield container, _video_stream(path, container)


@contextmanager
def open_picture(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """One picture of a sequence as a video of one frame, for as long as the block runs.

    Raises:
        MediaError: not a PNG, JPEG, TIFF, OpenEXR or DPX file.
    """
    head = first_bytes(path)
    name = next((name for start, name in _PICTURES if head.startswith(start)), None)
    if name is None:
        raise MediaError(
            f"{path.name} is not a PNG, JPEG, TIFF, OpenEXR or DPX picture.",
            hint="Export the sequence again in one of these.",
        )
    if path.stat().st_size > _MAX_PICTURE_BYTES:
        raise too_large(path, f"{path.stat().st_size} bytes")
    _refuse_cut(path, name, head)
    with _opened(path, name, name, {}) as container:
        yield container, _video_stream(path, container)


@contextmanager
def _opened(
    path: Path, name: str, whitelist: str, options: dict[str, str]
) -> Iterator[InputContainer]:
    try:
        # "file:" keeps a name such as "http:x.mp4" a name
        container = av.open(
            f"file:{path.absolute()}",
            format=name,
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": whitelist,
                **options,
            },
            metadata_errors="replace",
        )
    except (FFmpegError, ValueError) as error:
        raise MediaError(
            f"{path.name} cannot be read: {reason(error)}.", hint=COPY_AGAIN
        ) from error
    with container:
        yield container


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic  # cover art of music
    ]
    if not streams:
        raise MediaError(f"{path.name} has no video track.", hint="Name a file with a picture.")
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaError(f"{path.name} has a codec that is not known here.", hint=CONVERT)
    if max(stream.width, stream.height) > MAX_SIDE_PX:
        raise too_large(path, f"{stream.width} x {stream.height}")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = 8  # each thread holds a frame
    # libav's TIFF decoder also explodes at tags that it only does not know
    if container.format.name != "tiff_pipe":
        stream.codec_context.options = {"err_detect": "explode"}  # a guessed picture is an error
    return stream


def decode_frames(
    path: Path, container: InputContainer, stream: VideoStream, first: int = 0
) -> Iterator[VideoFrame]:
    """Whole frames in presentation order; a damaged one is an error, never left out.

    Args:
        path: the file, for messages.
        container: as open_video gave it, perhaps after a seek.
        stream: its video track.
        first: number of the first frame that comes, for messages.

    Raises:
        MediaError: a frame is damaged.
    """
    frames = container.decode(stream)
    index = first
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except (FFmpegError, ValueError) as error:
            raise damaged(path, index, error) from error
        if frame.is_corrupt:
            raise damaged(path, index, None)
        yield frame
        index += 1


def first_bytes(path: Path) -> bytes:
    """The start of a regular file, at most 1024 bytes and at least one.

    Raises:
        MediaError: no regular file with something in it.
    """
    try:
        mode = path.stat().st_mode
        if not S_ISREG(mode):  # before open: opening a FIFO waits for ever
            kind = "a folder" if S_ISDIR(mode) else "not a regular file"
            raise MediaError(f"{path.name} is {kind}.", hint="Name one media file.")
        with path.open("rb") as file:
            head = file.read(1024)
    except (OSError, ValueError) as error:
        raise MediaError(
            f"{path.name} cannot be opened: {reason(error)}.",
            hint="Check the path and its rights.",
        ) from error
    if not head:
        raise MediaError(f"{path.name} is empty.", hint=COPY_AGAIN)
    return head


def _container_of(path: Path, head: bytes) -> str:
    """libav's name of the demuxer, from the first bytes alone."""
    if head[4:8] in _MOV_ATOMS:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(_MXF_HEADER):
        return "mxf"
    if packet_size(head):
        return "mpegts"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLISTS):
        raise MediaError(
            f"{path.name} is a playlist, not a video.", hint="Name the video file itself."
        )
    raise MediaError(
        f"{path.name} is not a MOV, MP4, MKV, WebM, AVI, MXF or MPEG-TS video.", hint=CONVERT
    )


def _refuse_cut(path: Path, kind: str, head: bytes) -> None:
    try:
        is_cut = is_cut_short(path, kind, head)
    except OSError as error:
        raise MediaError(
            f"{path.name} cannot be read: {reason(error)}.", hint=COPY_AGAIN
        ) from error
    if is_cut:
        raise MediaError(f"{path.name} is cut short.", hint=COPY_AGAIN)


def damaged(path: Path, index: int, error: Exception | None) -> MediaError:
    """A frame in the middle of the file cannot be shown."""
    # Threads decode ahead, so the place is known to a few frames only.
    why = f" ({reason(error)})" if error else ""
    return MediaError(f"{path.name} is damaged near frame {index}{why}.", hint=COPY_AGAIN)


def too_large(path: Path, size: str) -> MediaError:
    """The file declares more pixels than anybody edits."""
    return MediaError(
        f"{path.name} is too large: {size}.",
        hint=f"Scale it to at most {MAX_SIDE_PX} pixels a side.",
    )


def reason(error: Exception) -> str:
    """Why, in words without the path: libav and the system repeat it whole."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")
