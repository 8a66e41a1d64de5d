"""What cheaper guidance and fp8 keeping do to the demo's koi: the first tables of the docs page.

    python tests/bench/cheaper_guidance.py --threads 1 --out build/guidance

Every way starts from the same draft and the same noise. Writes tables.md and clips.json, a line of
figures for each clip and way; docs/cheaper-guidance.md holds what was measured last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor
from torch.nn import functional

from freeswim.generate import Story, base_pass, draft_frames, load_checkpoint, read_prompt
from freeswim.method.denoise import refine
from freeswim.method.schedule import add_noise
from freeswim.method.settings import RefineSettings
from freeswim.models.conditioning import Text
from freeswim.models.demo.measure import measure_koi
from freeswim.models.demo.scene import COLORS, COUNT_WORDS, DIRECTIONS, WATERS, Color, Water
from freeswim.models.loading import Components
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.video import autoencoder

CPU = torch.device("cpu")
EXACT = "exact"
FIRST_SEED = 100
SHARP_CYCLES = 0.125  # per pixel, a quarter of what pixels can show


@dataclass(frozen=True)
class Prompt:
    """What a clip shows, and its seed."""

    count: int
    color: Color
    direction: str
    water: Water
    seed: int

    @property
    def text(self) -> str:
        school = f"{COUNT_WORDS[self.count - 1]} {self.color} koi swimming {self.direction}"
        return f"{school} in {self.water} water"


@dataclass(frozen=True)
class Measured:
    """One clip made one way; its middle frame but where it says otherwise."""

    size: int  # pixels along an edge
    prompt: str
    seed: int
    way: str
    found: int  # koi
    error: int  # koi too many or too few
    color: float  # share of the koi's pixels in the asked colour
    sharp: float  # power of the luma above SHARP_CYCLES
    layout_db: float  # all frames, made small again, against the draft
    exact_db: float  # all frames against the exact result; 0 for itself
    work: float  # tokens through feed-forwards in the refine pass; the exact one is 1
    seconds: float  # of the refine pass


def main() -> None:
    """Measure, print and write."""
    demo = load_preset("demo").defaults["refine"]
    given = arguments(
        __doc__,
        ("prompts_2x", 30),
        ("prompts_3x", 20),
        ("prompts_4x", 20),
        ("strength", demo["strength"]),
        ("interval", demo["refresh_interval"]),
    )
    changes = {"strength": given.strength, "refresh_interval": given.interval}
    exact = RefineSettings(**demo | changes)
    ways = {
        EXACT: exact,
        "exact, kept in fp8": replace(exact, kept_precision="fp8"),
        "interpolated": replace(exact, guidance="interpolated"),
        "native": replace(exact, guidance="native"),
        "none": replace(exact, guidance="none"),
    }
    clips: list[Measured] = []
    numbers = {256: given.prompts_2x, 384: given.prompts_3x, 512: given.prompts_4x}
    for size, num_prompts in numbers.items():
        clips += measure(size, prompts(num_prompts), ways)
    write(given.out, clips, list(ways))


def arguments(description: str | None, *numbers: tuple[str, float]) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name, default in numbers:
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def prompts(count: int) -> list[Prompt]:
    """The first `count` of a fixed round through the model's words; none is left out."""
    return [
        Prompt(
            count=index % len(COUNT_WORDS) + 1,
            color=COLORS[index % len(COLORS)],
            direction=DIRECTIONS[index // 2 % len(DIRECTIONS)],
            water=WATERS[(3 * index + index // 4) % len(WATERS)],
            seed=FIRST_SEED + index,
        )
        for index in range(count)
    ]


@dataclass(frozen=True)
class Start:
    """What every way starts from."""

    components: Components
    request: Request
    text: Text
    draft: Tensor  # video, (1, 3, frames, height, width) in [-1, 1]
    clean: Tensor  # latents of the draft at the request's size


def start_of(prompt: Prompt, size: int) -> Start:
    """The demo checkpoint and its draft of `prompt`, to be refined at `size`."""
    fields = load_preset("demo").defaults | {"width": size, "height": size}
    request = Request.parse({"kind": "text", "prompt": prompt.text, "seed": prompt.seed, **fields})
    story = Story()
    text = read_prompt(request, CPU, story)
    components = load_checkpoint(request, CPU, story)
    base = base_pass(components, request, text, [], None, story)
    draft = autoencoder.decode(components.vae, base)
    upsampled = torch.stack(list(draft_frames(components, base, request, story)), dim=1)[None]
    clean = autoencoder.encode(components.vae, upsampled)
    return Start(components, request, text, draft, clean)


@torch.no_grad()
def measure(
    size: int, shown: Sequence[Prompt], ways: Mapping[str, RefineSettings]
) -> list[Measured]:
    """Every prompt at `size`, made every way; the first way is the exact one."""
    measured: list[Measured] = []
    for prompt in shown:
        start = start_of(prompt, size)
        exact: tuple[Tensor, int] | None = None
        for way, settings in ways.items():
            began = time.monotonic()
            with counted_tokens(start.components.transformer) as tokens:
                latents = refined(start, settings)
            seconds = time.monotonic() - began
            video = (autoencoder.decode(start.components.vae, latents) + 1) / 2
            exact = exact or (video, sum(tokens))
            work = sum(tokens) / exact[1]
            made = judged(prompt, way, video, exact[0], (start.draft + 1) / 2, work, seconds)
            sys.stderr.write(f"{made}\n")
            measured.append(made)
    return measured


@contextmanager
def counted_tokens(transformer: WanTransformer3DModel) -> Iterator[list[int]]:
    """Tokens that go through each feed-forward, of all rows."""
    tokens: list[int] = []

    def count(module: object, arguments: tuple[Tensor, ...]) -> None:
        tokens.append(arguments[0].shape[0] * arguments[0].shape[1])

    blocks: Any = transformer.blocks
    handles = [block.ffn.net[0].register_forward_pre_hook(count) for block in blocks]
    yield tokens
    for handle in handles:
        handle.remove()


def refined(start: Start, settings: RefineSettings) -> Tensor:
    """The refine pass of `generate`."""
    window = start.request.window
    generator = torch.Generator().manual_seed(start.request.seed + 2**32)
    noise = torch.randn(start.clean.shape, generator=generator)
    return refine(
        start.components.transformer,
        add_noise(start.clean, noise, settings),
        start.text.prompt,
        start.text.negative,
        native_grid=(window.native_rows, window.native_columns),
        settings=settings,
    )


def judged(
    prompt: Prompt,
    way: str,
    video: Tensor,
    exact: Tensor,
    draft: Tensor,
    work: float,
    seconds: float,
) -> Measured:
    """The figures of one clip; videos are (1, 3, frames, height, width), 0 to 1."""
    middle = video[0, :, video.shape[2] // 2].clamp(0, 1).permute(1, 2, 0).double().numpy()
    koi = measure_koi(middle, prompt.color, prompt.water, prompt.count)
    small = functional.interpolate(
        video[0].transpose(0, 1), size=draft.shape[-2:], mode="area"
    ).transpose(0, 1)[None]
    return Measured(
        size=video.shape[-1],
        prompt=prompt.text,
        seed=prompt.seed,
        way=way,
        found=koi.found,
        error=koi.error,
        color=round(koi.color_share, 4),
        sharp=sharpness(middle),
        layout_db=decibels(small, draft),
        exact_db=0.0 if way == EXACT else decibels(video, exact),
        work=round(work, 4),
        seconds=round(seconds, 2),
    )


def sharpness(frame: np.ndarray) -> float:
    """Power of the luma of a frame, (H, W, 3), above SHARP_CYCLES."""
    luma = frame @ np.array([0.299, 0.587, 0.114])
    power = np.abs(np.fft.fft2(luma - luma.mean())) ** 2 / luma.size**2
    rows, columns = (np.fft.fftfreq(length) for length in luma.shape)
    return float(power[np.hypot(rows[:, None], columns[None]) > SHARP_CYCLES].sum())


def decibels(video: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio of two videos, 0 to 1."""
    error = float(((video - other).double() ** 2).mean())
    return round(-10 * float(np.log10(max(error, 1e-12))), 2)


# -------------------------------------------------------------------------------------- tables


def write(folder: Path, clips: Sequence[Measured], ways: Sequence[str]) -> None:
    """Put the tables and the clips' figures into `folder`, and print the tables."""
    text = "\n".join(table(clips, size, ways) for size in sorted({c.size for c in clips}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.md").write_text(text, "utf-8")
    lines = ",\n".join(json.dumps(asdict(clip)) for clip in clips)
    (folder / "clips.json").write_text(f"[\n{lines}\n]\n", "utf-8")
    sys.stdout.write(text)


def table(clips: Sequence[Measured], size: int, ways: Sequence[str]) -> str:
    """The ways at one size, in Markdown; ± is one standard error of the difference to exact."""
    of_way = {way: [c for c in clips if (c.size, c.way) == (size, way)] for way in ways}
    exact = of_way[EXACT]
    lines = [
        f"{size} x {size}, {len(exact)} clips, {statistics.mean(asked(c) for c in exact):.2f} koi asked",
        "",
        "| way | work | found | error | to exact | exact count | colour | to exact | sharpness |"
        " layout dB | to exact | PSNR to exact |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for way, made in of_way.items():
        pairs = list(zip(made, exact, strict=True))
        sharp = [float(np.log(clip.sharp / best.sharp)) for clip, best in pairs]
        cells = [
            way,
            f"{statistics.mean(clip.work for clip in made):.2f}",
            f"{statistics.mean(clip.found for clip in made):.2f}",
            f"{statistics.mean(clip.error for clip in made):.2f}",
            difference([clip.error - best.error for clip, best in pairs], 2),
            f"{statistics.mean(clip.error == 0 for clip in made):.2f}",
            f"{statistics.mean(clip.color for clip in made):.3f}",
            difference([clip.color - best.color for clip, best in pairs], 3),
            ratio(sharp),
            f"{statistics.mean(clip.layout_db for clip in made):.1f}",
            difference([clip.layout_db - best.layout_db for clip, best in pairs], 1),
            "" if way == EXACT else f"{statistics.mean(clip.exact_db for clip in made):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def asked(clip: Measured) -> int:
    """Koi that the prompt asks for."""
    return COUNT_WORDS.index(clip.prompt.split()[0]) + 1


def difference(values: Sequence[float], digits: int) -> str:
    """Mean and its standard error, of clip-by-clip differences."""
    if len(values) < 2 or not any(values):
        return ""
    spread = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):+.{digits}f} ± {spread:.{digits}f}"


def ratio(logarithms: Sequence[float]) -> str:
    """Geometric mean of ratios and its standard error."""
    mean = float(np.exp(statistics.mean(logarithms)))
    if len(logarithms) < 2 or not any(logarithms):
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {mean * statistics.stdev(logarithms) / len(logarithms) ** 0.5:.2f}"


if __name__ == "__main__":
    main()
