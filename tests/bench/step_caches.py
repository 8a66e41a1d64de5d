"""What diffusers' step caches do to the demo's koi at interval 5: the last table of the docs page.

    python tests/bench/step_caches.py --threads 1 --out build/step-caches

MagCache's ratios are calibrated first, on clips that are not measured. `calibrated_ratios` does it
for any checkpoint and schedule.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from cheaper_guidance import EXACT, arguments, measure, prompts, refined, start_of, write
from diffusers import WanTransformer3DModel
from torch import Tensor

from freeswim.method.settings import RefineSettings
from freeswim.presets import load_preset

SIZE = 256
STEPS = 50  # of which 0.4 run: 20, four whole periods of the interval
INTERVAL = 5
NUM_CALIBRATED = 3  # clips


def main() -> None:
    """Calibrate, measure, print and write."""
    given = arguments(__doc__, ("prompts", 16))
    demo = load_preset("demo").defaults["refine"]
    exact = RefineSettings(**demo | {"steps": STEPS, "refresh_interval": INTERVAL})
    shown = prompts(given.prompts + NUM_CALIBRATED)
    starts = [start_of(prompt, SIZE) for prompt in shown[:NUM_CALIBRATED]]
    ratios = torch.tensor(
        [
            calibrated_ratios(
                start.components.transformer, lambda start=start: refined(start, exact)
            )
            for start in starts
        ]
    )
    mean = tuple(round(ratio, 4) for ratio in ratios.mean(0).tolist())
    sys.stderr.write(f"ratios {mean}, between clips ± {ratios.std(0).max():.4f}\n")
    first_block = replace(exact, step_cache="first-block")
    magcache = replace(exact, step_cache="magcache", magcache_ratios=mean)
    ways = {
        EXACT: exact,
        "first-block 0.06": first_block,
        "first-block 0.15": replace(first_block, step_cache_threshold=0.15),
        "magcache 0.06": magcache,
        "magcache 0.15": replace(magcache, step_cache_threshold=0.15),
        "taylorseer": replace(exact, step_cache="taylorseer"),
    }
    write(given.out, measure(SIZE, shown[NUM_CALIBRATED:], ways), list(ways))


@torch.no_grad()
def calibrated_ratios(
    transformer: WanTransformer3DModel, refine_exactly: Callable[[], object]
) -> list[float]:
    """Ratios for `magcache_ratios`, one for each refine step of an exact pass with guidance.

    MagCache, arXiv 2506.09045, equation 4: the mean over tokens of the norm of what all blocks add
    at a step, over that of the step before; 1 for the first. Of the window branch's conditional
    row, the last but one of every step, in whatever batches the rows go.
    """
    entering: list[Tensor] = []
    rows_of_step: dict[float, list[Tensor]] = {}  # by timestep, norms of what the blocks add

    def note_step(module: object, arguments: object, keywords: dict[str, Tensor]) -> None:
        rows_of_step.setdefault(float(keywords["timestep"].max()), [])

    def note_input(module: object, arguments: tuple[Tensor, ...]) -> None:
        entering[:] = [arguments[0]]

    def note_output(module: object, arguments: object, output: Tensor) -> None:
        last_step = next(reversed(rows_of_step.values()))
        last_step.extend((output - entering[0]).float().norm(dim=-1))

    blocks: Any = transformer.blocks
    handles = [
        transformer.register_forward_pre_hook(note_step, with_kwargs=True),
        blocks[0].register_forward_pre_hook(note_input),
        blocks[-1].register_forward_hook(note_output),
    ]
    refine_exactly()
    for handle in handles:
        handle.remove()
    norms = [rows[-2] for rows in rows_of_step.values()]
    pairs = zip(norms[1:], norms[:-1], strict=True)
    return [1.0, *(float((after / before).mean()) for after, before in pairs)]


if __name__ == "__main__":
    main()
