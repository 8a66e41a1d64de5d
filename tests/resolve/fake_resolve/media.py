"""Files that the fake takes for media, and the stills that it writes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import av

from fake_resolve.rates import RATES


@dataclass(frozen=True)
class Media:
    """What is in a file."""

    frames: int
    rate: str = "24"
    width: int = 3840
    height: int = 2160
    has_audio: bool = False


def look_into(path: str) -> Media | None:
    """What a video file says of itself, read apart from FreeSwim's own; None: it is no video."""
    try:
        with av.open(path) as file:
            video = file.streams.video[0]
            rate = video.average_rate
            if rate is None:
                return None
            named = [words for words, exact in RATES.items() if exact == rate]
            return Media(
                frames=video.frames,
                rate=named[0] if named else f"{float(rate):.3f}",
                width=video.width,
                height=video.height,
                has_audio=bool(file.streams.audio),
            )
    except (av.FFmpegError, OSError, IndexError):
        return None


def still(frame: int, width: int, height: int) -> bytes:
    """A PNG of one colour, another one for every frame."""
    colour = bytes(((frame >> 16) & 255, (frame >> 8) & 255, frame & 255))
    line = b"\0" + colour * width
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(line * height, 1)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, inside in chunks:
        checksum = zlib.crc32(kind + inside)
        content += struct.pack(">I", len(inside)) + kind + inside + struct.pack(">I", checksum)
    return content


def frame_of(path: Path) -> int:
    """The frame that a still shows."""
    content = path.read_bytes()
    position = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[position - 4 : position])
    first = zlib.decompress(content[position + 4 : position + 4 + length])[1:4]
    return int.from_bytes(first, "big")
