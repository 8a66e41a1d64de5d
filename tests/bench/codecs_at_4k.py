"""Every codec once at full size, looked at by another program: the table of docs/codecs.md.

    python tests/bench/codecs_at_4k.py [--size 3840x2160] [--frames 48] > docs/codecs.md

Needs ffprobe. 48 frames are more than an encoder looks ahead, so the peak of its memory is reached.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from freeswim.bench.speed import peak_memory
from freeswim.machine import cpu_model
from freeswim.video.codecs import CODECS, Codec
from freeswim.video.reader import read_frames
from freeswim.video.writer import write_video

FILM = Fraction(24000, 1001)
COMPARED = 4  # frames that are read back
HEADINGS = (
    *("codec", "profile", "pixels", "tags", "rate", "frames", "levels", "PSNR dB", "comment"),
    *("frames/s", "peak MiB", "MB"),
)


def ramp(width: int, height: int, frames: int) -> Iterator[np.ndarray]:
    """Smooth pictures that move, uint16, (height, width, 3)."""
    across = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    for frame in range(frames):
        level = ((across + down / width) * 0.9 + 0.002 * frame).clip(0, 1) * 65535
        yield np.repeat((level + 0.5).astype(np.uint16)[..., None], 3, axis=2)


def row(codec: Codec, width: int, height: int, num_frames: int) -> list[str]:
    """What another program finds in a file of this codec."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("shot" if codec.is_sequence else f"shot{codec.extension}")
        peaks: list[int] = []
        began = time.perf_counter()
        with peak_memory(peaks):
            write_video(
                path, ramp(width, height, num_frames), codec=codec.name, width=width, height=height,
                frame_rate=FILM, num_frames=num_frames, comment="a prompt",
            )  # fmt: skip
        seconds = time.perf_counter() - began
        files = sorted(path.iterdir()) if codec.is_sequence else [path]
        found = _ffprobe(path / f"shot.%06d{codec.extension}" if codec.is_sequence else path)
        picture = next(one for one in found["streams"] if one["codec_type"] == "video")
        said = {**picture.get("tags", {}), **found["format"].get("tags", {})}
        size = f"{picture['width']}x{picture['height']}"
        tags = ("color_primaries", "color_transfer", "color_space", "color_range")
        return [
            codec.name,
            picture.get("profile", ""),
            f"{size} {picture['pix_fmt']}",
            "/".join(picture.get(tag, "-") for tag in tags),
            "" if codec.is_sequence else picture["r_frame_rate"],
            picture["nb_read_frames"],
            _levels(files[0]),
            _psnr(path, codec, width, height, num_frames),
            "yes" if said.get("comment") == "a prompt" else "no",
            f"{num_frames / seconds:.2f}",
            f"{peaks[0] / 2**20:.0f}",
            f"{sum(file.stat().st_size for file in files) / 1e6:.0f}",
        ]


def _ffprobe(path: Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format"]
    done = subprocess.run([*command, "-of", "json", str(path)], capture_output=True, check=True)
    return json.loads(done.stdout)


def _levels(path: Path) -> str:
    """How many levels the first plane of the first frame has."""
    with av.open(str(path)) as container:
        plane = next(container.decode(video=0)).planes[0]
    depth = "<u2" if plane.line_size >= 2 * plane.width else "u1"
    pixels = np.frombuffer(bytes(plane), depth).reshape(plane.height, -1)[:, : plane.width]
    return str(len(np.unique(pixels)))


def _psnr(path: Path, codec: Codec, width: int, height: int, num_frames: int) -> str:
    if codec.scale > 1:
        return ""  # halved ones are not compared
    came = read_frames(path, frame_rate=FILM if codec.is_sequence else None)
    pairs = zip(ramp(width, height, num_frames), came, strict=False)
    loss = [
        np.mean((sent.astype(np.float32) - back) ** 2)
        for _, (sent, back) in zip(range(COMPARED), pairs, strict=False)
    ]
    return "exact" if not any(loss) else f"{10 * np.log10(65535**2 / np.mean(loss)):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--frames", type=int, default=48)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    lines = [
        "# The codecs at full size",
        "",
        f"{options.frames} frames of {options.size}, on {cpu_model()}; every file is verified by"
        " decoding it while the clock runs. Made by `python tests/bench/codecs_at_4k.py`.",
        "",
        " | ".join(HEADINGS),
        " | ".join("---" for _ in HEADINGS),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    for codec in CODECS.values():
        sys.stdout.write(" | ".join(row(codec, width, height, options.frames)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
