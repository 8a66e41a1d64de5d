"""What `freeswim bench quality` measures of one clip, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from freeswim.models.demo.koi import render
from freeswim.models.demo.measure import koi_mask, measure_koi
from freeswim.models.demo.pace import paced
from freeswim.models.demo.quality import (
    fine_energy,
    flicker,
    layout_db,
    luma,
    repetition,
    seam_score,
)
from freeswim.models.demo.scene import (
    COLORS,
    COUNT_WORDS,
    DIRECTIONS,
    WATERS,
    Color,
    Direction,
    Water,
    sample_scene,
)
from freeswim.request import Request

Floats: TypeAlias = NDArray[np.floating]


@dataclass(frozen=True)
class Prompt:
    """What a clip is to show; with what can be counted in it, where it is of the pond."""

    text: str
    count: int = 0
    color: Color | None = None
    direction: Direction | None = None
    water: Water | None = None

    @property
    def is_pond(self) -> bool:
        """Whether the clip can be counted."""
        return self.color is not None


@dataclass(frozen=True)
class Clip:
    """One clip, measured. What can be counted is of the first, the middle and the last frame."""

    prompt: str
    seed: int
    factor: int  # times the native size
    method: str
    strength: float | None  # None: no refine pass
    found: float | None  # koi; None: nobody can count it
    error: float | None  # koi too many or too few
    color: float | None  # share of the koi's pixels in the asked colour
    layout_db: float  # made small again, against the draft
    fine: float  # fine energy of the middle frame; the truth's is 1
    seam: float  # of the strongest line across the frame; 1 is none
    flicker: float  # in thousandths of the range
    repetition: float  # 0…1, of the koi, or where nobody can say what they are of the luma
    seconds: float  # of the refine pass


def pond_prompts(count: int) -> list[Prompt]:
    """The first `count` of a fixed round through the pond's words; none is left out."""
    prompts = []
    for index in range(count):
        number, color = index % len(COUNT_WORDS) + 1, COLORS[index % len(COLORS)]
        direction = DIRECTIONS[index // 2 % len(DIRECTIONS)]
        water = WATERS[(3 * index + index // 4) % len(WATERS)]
        text = f"{COUNT_WORDS[number - 1]} {color} koi swimming {direction} in {water} water"
        prompts.append(Prompt(text, number, color, direction, water))
    return prompts


def true_render(prompt: Prompt, request: Request) -> Floats:
    """A true pond of the prompt's words at the request's size, (T, H, W, 3), 0…1."""
    scene = sample_scene(
        np.random.default_rng(request.seed), count=prompt.count, color=prompt.color,
        direction=prompt.direction, water=prompt.water, lily_pads=False,
    )  # fmt: skip
    return render(
        paced(scene, request.frames), request.height, request.width, num_frames=request.frames
    )


def clip_figures(
    prompt: Prompt,
    seed: int,
    factor: int,
    method: str,
    strength: float | None,
    frames: Floats,
    *,
    base: Floats,
    truth: Floats,
    seconds: float,
) -> Clip:
    """All figures of one clip.

    Args:
        frames: (T, H, W, 3), 0…1.
        base: the draft, (T, h, w, 3).
        truth: what fine energy is compared with, (T, H, W, 3), of any clip of the same words.
    """
    picked = [frames[index] for index in (0, len(frames) // 2, -1)]
    found = error = color = None
    if prompt.color is not None and prompt.water is not None:
        koi = [measure_koi(frame, prompt.color, prompt.water, prompt.count) for frame in picked]
        found = float(np.mean([one.found for one in koi]))
        error = float(np.mean([one.error for one in koi]))
        color = float(np.mean([one.color_share for one in koi]))
    middle, true_middle = frames[len(frames) // 2], truth[len(truth) // 2]
    heights = koi_mask(middle).astype(float) if prompt.is_pond else luma(middle)
    return Clip(
        prompt=prompt.text,
        seed=seed,
        factor=factor,
        method=method,
        strength=strength,
        found=found,
        error=error,
        color=color,
        layout_db=layout_db(frames, base),
        fine=fine_energy(middle) / fine_energy(true_middle),
        seam=seam_score(frames),
        flicker=1000 * flicker(frames),
        repetition=repetition(heights),
        seconds=seconds,
    )
