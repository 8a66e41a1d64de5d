"""What `freeswim bench quality` measures: methods, sizes, strengths, prompts, seeds.

A unit is one prompt, one seed and one size; every method and strength is measured in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from freeswim.bench.measures import Prompt, pond_prompts
from freeswim.errors import RequestError
from freeswim.method.settings import Guidance
from freeswim.models.loading import check_checkpoint, checkpoint_folder
from freeswim.presets import load_preset
from freeswim.request import Request

FACTORS = (2, 4)
STRONGER = 0.05  # above the preset's strength: the second one that is measured
SHOWN = 6  # units of each size whose pictures and clips are kept

DRAFT, ENLARGED = "draft", "bilinear"
TRUTH, CODED_TRUTH = "true render", "true render, coded"


@dataclass(frozen=True)
class Method:
    """One way of making a draft larger."""

    name: str
    guidance: Guidance
    interval: int = 1
    is_whole: bool = False  # a window as large as the frame: attention is full


FULL, WINDOW = "full attention", "window only"
EXACT = "FreeSwim, interval 2"
METHODS = (
    Method(FULL, "none", is_whole=True),
    Method(WINDOW, "none"),
    Method("FreeSwim, interval 1", "full", 1),
    Method(EXACT, "full", 2),
    Method("FreeSwim, interval 5", "full", 5),
    Method("native guidance, interval 2", "native", 2),
    Method("interpolated, interval 2", "interpolated", 2),
)
COMPARED = (EXACT, WINDOW, FULL)  # in a blind test


@dataclass(frozen=True)
class Plan:
    """All that decides the figures of a run; JSON."""

    preset: str
    prompts: tuple[str, ...]  # none: the pond's own round
    num_prompts: int
    num_seeds: int
    factors: tuple[int, ...]
    strengths: tuple[float, ...]
    frames: int
    base_steps: int
    refine_steps: int
    weights: str  # SHA-256 of the checkpoint's transformer and autoencoder

    def all_prompts(self) -> list[Prompt]:
        """The prompts, in their order."""
        if self.prompts:
            return [Prompt(text) for text in self.prompts]
        return pond_prompts(self.num_prompts)

    def units(self) -> list[Unit]:
        """Of which the run consists; the small ones first, and all seeds of one after the other."""
        return [
            Unit(index, seed, factor)
            for factor in self.factors
            for seed in range(self.num_seeds)
            for index in range(self.num_prompts)
        ]


@dataclass(frozen=True)
class Unit:
    """One prompt, one seed, one size."""

    prompt: int  # which
    seed: int  # which
    factor: int  # how many times the native size

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.factor}x-{self.prompt:02}-{self.seed}"

    @property
    def is_shown(self) -> bool:
        """Whether pictures and clips of it are kept."""
        return self.seed == 0 and self.prompt < SHOWN


def make_plan(
    preset: str = "demo",
    *,
    quick: bool = False,
    prompts: Sequence[str] = (),
    num_prompts: int = 24,
    num_seeds: int = 2,
    frames: int | None = None,
) -> Plan:
    """What a run measures.

    Args:
        preset: whose checkpoint, sizes and settings are used.
        quick: what shows that it runs, no more.
        prompts: to be shown by a checkpoint that does not know the pond.
        frames: of each clip; None: the preset's own.

    Raises:
        FreeswimError: no such preset; no prompts for another checkpoint than the demo's.
    """
    defaults = load_preset(preset).defaults
    request = Request.parse({"kind": "text", "prompt": "koi", **defaults, "draft": False})
    check_checkpoint(request.model)
    is_pond = request.model.repository is None
    if not (is_pond or prompts):
        raise RequestError(
            f"{request.model.title} does not know the pond.",
            hint="Give prompts, one a line, with --prompts FILE.",
        )
    strength = request.refine.strength
    plan = Plan(
        preset=preset,
        prompts=tuple(prompts),
        num_prompts=len(prompts) or num_prompts,
        num_seeds=num_seeds,
        factors=FACTORS,
        strengths=(strength, round(min(strength + STRONGER, 1.0), 4)),
        frames=frames or request.frames,
        base_steps=request.base.steps,
        refine_steps=request.refine.steps,
        weights=_digest(request),
    )
    if quick:
        return replace(
            plan, num_prompts=min(2, plan.num_prompts), num_seeds=1, factors=(2,), frames=5,
            strengths=(strength,), base_steps=4, refine_steps=5,
        )  # fmt: skip
    return plan


def file_stem(unit: str, method: str, strength: float | None) -> str:
    """Name of the files of one clip, without their ending."""
    words = "".join(letter if letter.isalnum() else "-" for letter in method.lower())
    return f"{unit}-{words}" + ("" if strength is None else f"-{strength}")


def _digest(request: Request) -> str:
    """SHA-256 of the weights that decide pictures."""
    found = hashlib.sha256()
    folder = checkpoint_folder(request.model)
    for part in ("transformer", "transformer_2", "vae"):
        for file in sorted((folder / part).glob("*.safetensors")):
            with file.open("rb") as content:
                found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()
