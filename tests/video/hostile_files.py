"""Files that harm who trusts them, made anew for each run; and a process that reads them.

As a program: reads every file of a folder under limits of memory and time and prints what came of
each, as JSON.
"""

import json
import pickle
import re
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from freeswim.errors import MediaError
from freeswim.video.reader import probe, read_frames

# {url} is a server that counts its visitors, {canary} a whole video; neither may be opened.
TEXTS = {
    "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
    "playlist.m3u8": b"\n #EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{canary}\n#EXT-X-ENDLIST\n",
    "playlist.mkv": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{canary}\n#EXT-X-ENDLIST\n",
    "playlist.ts": b'\xef\xbb\xbf#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="{url}/init"\n#EXTINF:1,\n{url}/a.ts\n#EXT-X-ENDLIST\n',
    "concat.mp4": b"ffconcat version 1.0\nfile canary.mp4\n",
    "concat_absolute.mov": b"ffconcat version 1.0\nfile 'file:{canary}'\nfile '{url}/a.mp4'\n",
    "dash.mp4": b"<?xml version='1.0'?><MPD><BaseURL>{url}/a</BaseURL></MPD>",
    "dash_local.mp4": b"<MPD type='static'><Period><BaseURL>{canary}</BaseURL></Period></MPD>",
    "session.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "asx.mp4": b"<asx version='3.0'><entry><ref href='{url}/a'/></entry></asx>",
    "reference.mov": b"\0\0\0\x08wideRTSPtext\n{url}/a.mov\n",
    "disguised.mp4": b"\0\0\0\x18ftypisom\0\0\0\0isom#EXTM3U\n{url}/a.ts\n",
    "timeline.mp4": b'{"OTIO_SCHEMA": "Timeline.1", "tracks": {"target_url": "{url}/a"}}',
    "script.avs": b'AviSource("{canary}")\n',
    "vapour.mp4": b"import vapoursynth\n",
    "text.mov": b"This is only text.\n" * 50,
    "empty.mp4": b"",
    "short.mp4": b"\0\0",
    "weights.mp4": pickle.dumps({"weights": [1.0, 2.0]}),
    "archive.mp4": b"PK\x03\x04" + bytes(100),
    "header.mkv": b"\x1a\x45\xdf\xa3" + bytes(200),
    "header.avi": b"RIFF\xff\xff\xff\x7fAVI " + bytes(200),
    "header.mxf": bytes.fromhex("060e2b34020501010d0102010102040083000078") + bytes(200),
    "header.ts": (b"G" + bytes(187)) * 10,
    "header.mov": b"\0\0\0\x08moov",
    "atoms.mov": b"\0\0\0\x08free" * 100_000,
    "nested.mov": b"".join(
        struct.pack(">I4s", 8 * (5000 - depth), b"moov" if depth % 2 else b"trak")
        for depth in range(5000)
    ).replace(b"trak", b"moov", 1),
    "shot.0001.png": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}/a.png\n",
    "picture.0001.png": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0dIHDR" + bytes(50),
    "picture.0002.exr": b"\x76\x2f\x31\x01\x02\0\0\0" + b"a" * 5000,
    "endless.0003.exr": b"\x76\x2f\x31\x01\x02\0\0\0name\0type\0\xff\xff\xff\xff",
    "picture.0004.dpx": b"SDPX" + b"\xff" * 3000,
    "picture.0005.tif": b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 3000,
    "picture.0006.jpg": b"\xff\xd8\xff\xe0\xff\xff" + b"\xff\xd9" * 9,
}


def write_texts(folder: Path, url: str, canary: Path) -> None:
    """All of TEXTS, with their addresses."""
    for name, content in TEXTS.items():
        text = content.replace(b"{url}", url.encode()).replace(b"{canary}", bytes(canary))
        (folder / name).write_bytes(text)


# QuickTime


def replaced(movie: bytes, path: str, change: Callable[[bytes], bytes]) -> bytes:
    """A movie with the body of the first atom at a path such as moov/trak changed."""
    name, _, rest = path.partition("/")
    at = 0
    while at + 8 <= len(movie):
        size, kind = struct.unpack_from(">I4s", movie, at)
        if kind == name.encode():
            body = movie[at + 8 : at + size]
            new = replaced(body, rest, change) if rest else change(body)
            atom = struct.pack(">I4s", len(new) + 8, kind) + new
            return movie[:at] + atom + movie[at + size :]
        at += size
    raise KeyError(path)


TRACK = "moov/trak/"
TABLES = TRACK + "mdia/minf/stbl/"


def with_elsewhere(movie: bytes, other: Path) -> bytes:
    """A movie whose samples lie in another file, named in an alias as old Macs did."""
    name = bytes(other)
    alias = bytes(10) + b"\4disk" + bytes(23) + bytes(12) + b"\4file" + bytes(59) + bytes(16)
    alias += struct.pack(">HH", 0, 0) + bytes(16)
    alias += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2)
    alias += struct.pack(">HH", 0xFFFF, 0)
    alias = alias.ljust(200, b"\0")
    entry = struct.pack(">I4sI", len(alias) + 12, b"alis", 0) + alias
    dref = struct.pack(">II", 0, 1) + entry
    return replaced(movie, TRACK + "mdia/minf/dinf/dref", lambda _: dref)


def with_edits(movie: bytes, num_edits: int, announced: int) -> bytes:
    """A movie with many edits, each of the whole clip."""
    edit = struct.pack(">IIHH", 1000, 0, 1, 0)
    edits = struct.pack(">II", 0, announced) + edit * num_edits
    return replaced(movie, TRACK + "edts/elst", lambda _: edits)


def with_count(movie: bytes, table: str, at: int, count: int) -> bytes:
    """A movie that announces more rows of a table than it has."""
    new = struct.pack(">I", count)
    return replaced(movie, TABLES + table, lambda body: body[:at] + new + body[at + 4 :])


def with_side(movie: bytes, width: int, height: int) -> bytes:
    """A movie that announces another size."""
    size = struct.pack(">HH", width, height)
    return replaced(movie, TABLES + "stsd", lambda body: body[:40] + size + body[44:])


def write_movies(folder: Path, movie: bytes, canary: Path) -> None:
    """Movies that lie in their tables; `movie` is sound, its tables behind its samples."""
    (folder / "elsewhere.mov").write_bytes(with_elsewhere(movie, canary))
    for name, num_edits, announced in (
        ("edits.mov", 100_000, 100_000),
        ("edits_announced.mov", 1, 0xFFFFFFFF),
    ):
        (folder / name).write_bytes(with_edits(movie, num_edits, announced))
    for table, at in (("stsz", 8), ("stts", 4), ("stts", 8), ("stsc", 4), ("stco", 4), ("ctts", 8)):
        for count in (0x7FFFFFFF, 0xFFFFFFFF, 50_000_000):
            lying = with_count(movie, table, at, count)
            (folder / f"{table}{at}_{count}.mov").write_bytes(lying)
    (folder / "one_size.mov").write_bytes(  # a table of one line for two thousand million samples
        replaced(movie, TABLES + "stsz", lambda _: struct.pack(">III", 0, 1, 0x7FFFFFFF))
    )
    (folder / "sides.mov").write_bytes(with_side(movie, 65535, 65535))
    (folder / "sides_zero.mov").write_bytes(with_side(movie, 0, 0))


# Pictures


def png(width: int, height: int) -> bytes:
    """A black one of eight bits a pixel, whole: small however large it is."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    packer = zlib.compressobj(1)
    row = bytes(1 + width)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def write_pictures(folder: Path) -> None:
    """Pictures of more pixels than libav decodes: 2^28."""
    (folder / "bomb.0001.png").write_bytes(png(16_400, 16_400))
    header = png(1, 1)
    huge = struct.pack(">II", 100_000, 100_000)
    changed = header[12:16] + huge + header[24:29]
    whole = header[:12] + changed + struct.pack(">I", zlib.crc32(changed)) + header[33:]
    (folder / "huge.0001.png").write_bytes(whole)


# Damage


def write_damaged(folder: Path, whole: Path, num_files: int) -> None:
    """Copies with some bits turned, half of them near an end, where the tables are."""
    content = np.frombuffer(whole.read_bytes(), np.uint8)
    for seed in range(num_files):
        random = np.random.default_rng(seed)
        damaged = content.copy()
        end = len(content) if seed % 2 else min(len(content), 2000)
        places = random.integers(0, end, 1 + seed % 20)
        if seed % 4 == 2:
            places = len(content) - 1 - places
        damaged[places] ^= (1 << random.integers(0, 8, len(places))).astype(np.uint8)
        name = f"bits{seed}_{whole.name}"
        (folder / name).write_bytes(damaged[: len(content) - (seed % 3 == 2) * seed * 7].tobytes())


# The process


def outcome(path: Path) -> dict[str, str | float | bool]:
    """What comes of reading a clip."""
    began = time.monotonic()
    rate = Fraction(24) if "#" in path.name else None
    found: dict[str, str | float | bool] = {"error": "", "hint": "", "message": ""}
    try:
        probe(path, frame_rate=rate)
        for index, _ in enumerate(read_frames(path, frame_rate=rate)):
            if index == 100:
                break
    except MediaError as error:
        found = {"error": error.code, "hint": error.hint, "message": error.message}
    except BaseException as error:
        found["error"] = repr(error)
    return {**found, "seconds": time.monotonic() - began}


def main(folder: Path, memory_bytes: int) -> None:
    """Read all of a folder; pictures by their patterns."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
    found = {}
    for path in sorted(folder.iterdir()):
        pattern = re.sub(r"\.0\d{3}\.", ".####.", path.name)  # a picture is a sequence of one
        found[path.name] = outcome(path.with_name(pattern))
    # Not getrusage: its peak is inherited from pytest.
    peak = int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    sys.stdout.write(json.dumps({"files": found, "peak": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
