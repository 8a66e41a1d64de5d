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

MAX_SIDE_PX = 16384
CONVERT = "Export the shot again as ProRes or H.264 in .mov or .mp4."
COPY_AGAIN = "Copy or export the file again; it is damaged or was cut short."

_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mxf,mpegts",
    "enable_drefs": "0",  # mov: tracks that live in other files
}
_MOV_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_MXF_HEADER = bytes.fromhex("060e2b34020501010d010201")
_MATROSKA_SEGMENT = bytes.fromhex("18538067")
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
    try:
        # "file:" keeps a name such as "http:x.mp4" a name
        container = av.open(
            f"file:{path.absolute()}",
            format=name,
            container_options=_OPTIONS,
            metadata_errors="replace",
        )
    except (FFmpegError, ValueError) as error:
        raise MediaError(
            f"{path.name} cannot be read: {reason(error)}.", hint=COPY_AGAIN
        ) from error
    with container:
        yield container, _video_stream(path, container)


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic  # cover art of music
    ]
    if not streams:
        raise MediaError(f"{path.name} has no video track.", hint="Name a file with a picture.")
    stream = streams[0]
    if max(stream.width, stream.height) > MAX_SIDE_PX:
        raise too_large(path, f"{stream.width} x {stream.height}")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = 8  # each thread holds a frame
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
    if _packet_size(head):
        return "mpegts"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLISTS):
        raise MediaError(
            f"{path.name} is a playlist, not a video.", hint="Name the video file itself."
        )
    raise MediaError(
        f"{path.name} is not a MOV, MP4, MKV, WebM, AVI, MXF or MPEG-TS video.", hint=CONVERT
    )


def _packet_size(head: bytes) -> int:
    """Of an MPEG transport stream, bytes; 0 where it is none."""
    for first, size in ((0, 188), (4, 192)):
        if head[first : first + 3 * size : size] == b"GGG":
            return size
    return 0


def _refuse_cut(path: Path, container: str, head: bytes) -> None:
    """Where only the length tells: a cut Matroska file or transport stream looks whole to libav."""
    size = path.stat().st_size
    if (container == "matroska" and size < _matroska_end(head)) or (
        container == "mpegts" and size % _packet_size(head)
    ):
        raise MediaError(f"{path.name} is cut short.", hint=COPY_AGAIN)


def _matroska_end(head: bytes) -> int:
    """Where the segment says that it ends; 0 where it does not say, as in a live recording."""
    length, start = _matroska_size(head, 4)
    if head[start + length : start + length + 4] != _MATROSKA_SEGMENT:
        return 0
    length, start = _matroska_size(head, start + length + 4)
    return start + length


def _matroska_size(head: bytes, start: int) -> tuple[int, int]:
    """(size, first byte after it) of an element, RFC 8794 section 4; unknown sizes are 0."""
    first = head[start] if start < len(head) else 0
    num_bytes = 9 - first.bit_length()  # leading zeros of the first byte say how many follow
    end = start + num_bytes
    unknown = (1 << 7 * num_bytes) - 1
    size = int.from_bytes(head[start:end]) & unknown
    return (0 if size == unknown else size), end


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
