"""What coding video costs: one way of it, in a process of its own, so that its memory is its own.

`freeswim bench autoencoder` runs this once for every way in every round. The demo checkpoint's
autoencoder codes a koi pond, rendered small and enlarged.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.nn import functional

from freeswim import paths
from freeswim.errors import FreeswimError
from freeswim.limits import STRIDE, TILE, WHOLE_FRAME
from freeswim.models.demo.koi import render, sample_scene
from freeswim.video import autoencoder
from freeswim.video.writer import write_video

RENDERED = (256, 144)  # width and height of the pond that is enlarged, px


@dataclass(frozen=True)
class Coding:
    """One way to code one clip."""

    way: str  # a name of WAYS
    width: int
    height: int
    num_frames: int  # 4n + 1
    device: str
    threads: int  # of torch on a CPU


@dataclass(frozen=True)
class Cost:
    """What it cost."""

    seconds: float  # by the clock
    peak_bytes: int | None  # memory of the process above the loaded model; None: not measured


def measure(coding: Coding) -> Cost:
    """What `coding` costs, measured in a process of its own.

    Raises:
        FreeswimError: the process failed; with the last line it said.
    """
    command = [sys.executable, "-m", "freeswim.bench.coding", json.dumps(asdict(coding))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise FreeswimError(f"{coding.way} of {coding.width}x{coding.height} failed: {last}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def main(argument: str) -> None:
    """Measure here, and print the cost as one line of JSON."""
    coding = Coding(**json.loads(argument))
    torch.set_num_threads(coding.threads)
    vae = AutoencoderKLWan.from_pretrained(paths.demo_weights() / "vae")
    vae.eval().to(coding.device)  # pyright: ignore[reportArgumentType] (diffusers decorates it)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        work = WAYS[coding.way](vae, coding, Path(folder))
        loaded = _start_peak()
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
    peak = None if loaded is None else max(_memory("VmHWM") - loaded, 0)
    sys.stdout.write(json.dumps(asdict(Cost(seconds, peak))) + "\n")


# ------------------------------------------------------------------------------------------- ways


def _decode_and_write(vae: AutoencoderKLWan, coding: Coding, folder: Path) -> Callable[[], None]:
    """As a take is written: frames go to the file as they are finished."""
    latents = _latents(vae, coding)
    return lambda: _write(autoencoder.decode_frames(vae, latents, folder=folder), coding, folder)


def _decode_by_diffusers(vae: AutoencoderKLWan, coding: Coding, folder: Path) -> Callable[[], None]:
    """By `vae.decode` in tiles of the same size, all of the clip in memory; then written."""
    latents = _latents(vae, coding)
    mean, std = _statistics(vae)
    _set_tiling(vae, coding.width * coding.height)

    def work() -> None:
        video = vae.decode(latents * std + mean, return_dict=False)[0]
        _write(iter(cast(Tensor, video)[0].cpu().unbind(1)), coding, folder)

    return work


def _encode(vae: AutoencoderKLWan, coding: Coding, folder: Path) -> Callable[[], None]:
    """As a person's clip is encoded: frames come one after the other."""
    pond, size, num_frames = _pond(coding), (coding.width, coding.height), coding.num_frames

    def work() -> None:
        frames = (_enlarged(frame, size) for frame in pond)
        autoencoder.encode_frames(vae, frames, num_frames=num_frames, size=size, folder=folder)

    return work


def _encode_by_diffusers(vae: AutoencoderKLWan, coding: Coding, folder: Path) -> Callable[[], None]:
    """By `vae.encode` in tiles of the same size, all of the clip in memory."""
    pond, size = _pond(coding), (coding.width, coding.height)
    _set_tiling(vae, coding.width * coding.height)

    def work() -> None:
        video = torch.stack([_enlarged(frame, size) for frame in pond], dim=1)[None]
        vae.encode(video.to(vae.device))

    return work


BASELINE = "diffusers"
# What is done, and how -> what prepares it. Of each two the first is ours, the second the baseline.
WAYS: dict[str, Callable[[AutoencoderKLWan, Coding, Path], Callable[[], None]]] = {
    "decode and write, freeswim": _decode_and_write,
    f"decode and write, {BASELINE}": _decode_by_diffusers,
    "encode, freeswim": _encode,
    f"encode, {BASELINE}": _encode_by_diffusers,
}


# ------------------------------------------------------------------------------------------ clips


def _pond(coding: Coding) -> Tensor:
    """(frames, 3, height, width) in [-1, 1], small."""
    width, height = RENDERED
    scene = sample_scene(np.random.default_rng(5))
    frames = torch.from_numpy(render(scene, height, width, num_frames=coding.num_frames))
    return frames.permute(0, 3, 1, 2) * 2 - 1


def _enlarged(frame: Tensor, size: tuple[int, int]) -> Tensor:
    width, height = size
    return functional.interpolate(frame[None], (height, width), mode="bilinear")[0]


def _latents(vae: AutoencoderKLWan, coding: Coding) -> Tensor:
    """Normalised latents of the pond at the size of the clip, (1, C, T, h, w)."""
    latents = autoencoder.encode(vae, _pond(coding).transpose(0, 1)[None])
    factor = vae.config["scale_factor_spatial"]
    shape = (latents.shape[2], coding.height // factor, coding.width // factor)
    return functional.interpolate(latents, shape, mode="trilinear")


def _statistics(vae: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, (1, C, 1, 1, 1)."""
    mean, std = (
        torch.tensor(vae.config[name], device=vae.device).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    return mean, std


def _write(frames: Iterator[Tensor], coding: Coding, folder: Path) -> None:
    write_video(
        folder / "bench.mp4",
        (_as_written(frame) for frame in frames),
        width=coding.width, height=coding.height,
        frame_rate=Fraction(24), num_frames=coding.num_frames,
    )  # fmt: skip


def _as_written(frame: Tensor) -> np.ndarray:
    """(height, width, 3) uint16."""
    pixels = frame.clamp(-1, 1).permute(1, 2, 0).numpy() * 32767.5 + 32768
    return pixels.clip(0, 65535).astype(np.uint16)


# ----------------------------------------------------------------------------------------- memory


def _set_tiling(vae: AutoencoderKLWan, pixels: int) -> None:
    """Have diffusers' own coding of frames of so many pixels use tiles as large as ours.

    It measures tiles after patches have become channels.
    """
    if pixels > WHOLE_FRAME:
        patch = vae.config["patch_size"] or 1
        side, stride = TILE // patch, STRIDE // patch
        vae.enable_tiling(side, side, stride, stride)


def _start_peak() -> int | None:
    """Bytes of this process now, from which on its peak counts; None where that is not told.

    Not getrusage: its peak begins with that of the process which started this one.
    """
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        return None
    forget.write_text("5")  # proc(5): the peak is what there is now
    return _memory("VmRSS")


def _memory(name: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its peak; Linux."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


if __name__ == "__main__":
    main(sys.argv[1])
