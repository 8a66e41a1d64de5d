"""Memory and time of a 3840x2160 decode-and-write with the demo autoencoder; Linux.

    python tests/bench/autoencoder_4k.py --frames 81

Prints one JSON line. The frames are a koi pond's: encoded small, its latents enlarged.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch.nn import functional

from freeswim import paths
from freeswim.models.demo.koi import render, sample_scene
from freeswim.video import autoencoder
from freeswim.video.writer import write_video


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=81, help="4n + 1")
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--height", type=int, default=2160)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    vae = AutoencoderKLWan.from_pretrained(paths.demo_weights() / "vae")
    loaded = memory_bytes("VmRSS")
    latents = koi_latents(vae, (given.width, given.height), given.frames)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        write_video(
            Path(folder) / "take.mp4",
            written_frames(vae, latents, Path(folder)),
            width=given.width,
            height=given.height,
            frame_rate=Fraction(24),
            num_frames=given.frames,
        )
        size = (Path(folder) / "take.mp4").stat().st_size
    peak = memory_bytes("VmHWM")
    measured = {
        **vars(given),
        "seconds": round(time.monotonic() - began, 1),
        "loaded_mib": loaded >> 20,
        "peak_above_loaded_mib": (peak - loaded) >> 20,
        "file_mib": size >> 20,
    }
    sys.stdout.write(json.dumps(measured) + "\n")


def memory_bytes(name: str) -> int:
    """Memory of this process: VmRSS now, VmHWM at its peak.

    Not getrusage: its peak begins with that of the process which started this one.
    """
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def koi_latents(vae: AutoencoderKLWan, size: tuple[int, int], num_frames: int) -> torch.Tensor:
    """Latents of a koi pond at `size`, (1, C, T, h, w)."""
    scene = sample_scene(np.random.default_rng(5))
    frames = torch.from_numpy(render(scene, 144, 256, num_frames=num_frames))
    latents = autoencoder.encode(vae, frames.permute(3, 0, 1, 2)[None] * 2 - 1)
    factor = vae.config["scale_factor_spatial"]
    shape = (latents.shape[2], size[1] // factor, size[0] // factor)
    return functional.interpolate(latents, shape, mode="trilinear")


def written_frames(
    vae: AutoencoderKLWan, latents: torch.Tensor, folder: Path
) -> Iterator[np.ndarray]:
    """Frames as the writer wants them, (height, width, 3) uint16."""

    def tell(done: int) -> None:
        sys.stderr.write(f"\r{done} frames")

    for frame in autoencoder.decode_frames(vae, latents, on_frame=tell, folder=folder):
        pixels = frame.permute(1, 2, 0).numpy() * 32767.5 + 32768
        yield pixels.clip(0, 65535).astype(np.uint16)


if __name__ == "__main__":
    main()
