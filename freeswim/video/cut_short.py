"""Where a file ends before its pictures do: libav fills what is missing and says nothing."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_MATROSKA_SEGMENT = bytes.fromhex("18538067")
_PACKET_SIZES = ((0, 188), (4, 192))  # (first byte, bytes) of MPEG transport streams
_JPEG_END = b"\xff\xd9"
_AFTER_JPEG_BYTES = 64 * 1024  # that cameras append

_EXR_TILED, _EXR_PARTS = 0x200, 0x1000  # flags of its version
_EXR_MAX_HEADER_BYTES = 1 << 20
_EXR_MAX_CHUNKS = 1 << 20


def is_cut_short(path: Path, kind: str, head: bytes) -> bool:
    """Whether a file of a kind (libav's demuxer) that begins with `head` lacks its end.

    Only for kinds of which libav does not notice it.
    """
    size = path.stat().st_size
    if kind == "matroska":
        return size < _matroska_end(head)
    if kind == "mpegts":
        return size % packet_size(head) != 0
    if kind == "jpeg_pipe":
        with path.open("rb") as file:
            file.seek(max(0, size - _AFTER_JPEG_BYTES))
            return _JPEG_END not in file.read()
    if kind == "exr_pipe":
        with path.open("rb") as file:
            try:
                return size < _exr_end(file)
            except (ValueError, struct.error):
                return True
    return False


def packet_size(head: bytes) -> int:
    """Of an MPEG transport stream, bytes; 0 where it is none."""
    for first, size in _PACKET_SIZES:
        if head[first : first + 3 * size : size] == b"GGG":
            return size
    return 0


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


def _exr_end(file: BinaryIO) -> int:
    """Where the last chunk of an OpenEXR file ends, "OpenEXR File Layout", version 2.

    A file that is still being rendered, or whose writer died, has zeros in its table of chunks.

    Raises:
        ValueError: the file ends within its header or table, or lacks chunks.
        struct.error: the same.
    """
    (version,) = struct.unpack("<4xI", file.read(8))
    _skip_exr_header(file)
    while version & _EXR_PARTS and not _at_zero(file):
        _skip_exr_header(file)
    # The table says not how long it is; the chunks begin where it ends.
    offsets: list[int] = []
    first = 1 << 63
    while file.tell() < first:
        offsets += struct.unpack("<Q", file.read(8))
        first = min(first, offsets[-1])
        if offsets[-1] == 0 or len(offsets) > _EXR_MAX_CHUNKS:
            raise ValueError("chunks are missing")
    # part number, coordinates (x, y and level, or y), size
    num_before = 4 * bool(version & _EXR_PARTS) + (16 if version & _EXR_TILED else 4)
    file.seek(max(offsets) + num_before)
    (size,) = struct.unpack("<I", file.read(4))
    if size == 0:
        raise ValueError("the last chunk is missing")
    return file.tell() + size


def _at_zero(file: BinaryIO) -> bool:
    """Whether a zero byte comes, which is then read."""
    coming = file.read(1)
    if not coming:
        raise ValueError("no end of the header")
    if coming != b"\0":
        file.seek(-1, 1)
    return coming == b"\0"


def _skip_exr_header(file: BinaryIO) -> None:
    """Read its attributes, each (name, 0, type, 0, size, value), and the zero after them."""
    while not _at_zero(file):
        for _ in ("name", "type"):
            while not _at_zero(file):
                file.read(1)
                if file.tell() > _EXR_MAX_HEADER_BYTES:
                    raise ValueError("no end of the header")
        (size,) = struct.unpack("<I", file.read(4))
        file.seek(size, 1)
        if file.tell() > _EXR_MAX_HEADER_BYTES:
            raise ValueError("no end of the header")
