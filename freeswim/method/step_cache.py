"""Step caches of diffusers on the window branch: steps that are not computed in full.

Off unless asked for: the result differs. A cache lives from one refresh to the next and no longer.
It is made anew after the full branch has run, so that the full branch never sees it; the window
branch of that step finds it empty, is computed in full, and fills it for the steps that follow.
That makes a refresh step a place to resume from with a cache as without one.

* `first-block`: the other blocks are skipped while the first one changes little (FirstBlockCache).
* `magcache`: all blocks are skipped while the calibrated magnitudes of what they add say that
  little is lost (MagCache, arXiv 2506.09045). The magnitudes are the checkpoint's and the
  schedule's: without them it cannot run.
* `taylorseer`: of three steps one is computed and two are extrapolated (TaylorSeer, arXiv
  2503.06923), here from the last projection alone, which takes the least memory.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig

from freeswim.method.settings import RefineSettings

MAGCACHE_MOST_SKIPPED = 3  # steps in a row, of MagCache's authors
TAYLORSEER_INTERVAL = 3  # steps from one that is computed to the next


class StepCache:
    """The step cache of one pass; no hook of it is left when the `with` block ends.

    Args:
        settings: of the pass; where they name no cache, nothing is ever hooked.
    """

    def __init__(self, settings: RefineSettings) -> None:
        self._settings = settings
        self._transformer: WanTransformer3DModel | None = None  # the one that is hooked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, transformer: WanTransformer3DModel, step: int) -> None:
        """Cache from refine step `step` on, which is computed in full, until `stop`."""
        config = _config(self._settings, step)
        if config is not None:
            transformer.enable_cache(config)
            self._transformer = transformer

    def stop(self) -> None:
        """Forget everything and unhook the transformer."""
        if self._transformer is not None:
            self._transformer.disable_cache()
            self._transformer = None

    def forward(self, index: int) -> AbstractContextManager[None]:
        """Around the forward of a step's `index`-th batch of rows: each has its own memory."""
        if self._transformer is None:
            return nullcontext()
        return self._transformer.cache_context(f"rows {index}")


def _config(
    settings: RefineSettings, step: int
) -> FirstBlockCacheConfig | MagCacheConfig | TaylorSeerCacheConfig | None:
    """What diffusers is told at a refresh on `step`; its caches count steps from there."""
    match settings.step_cache:
        case "none":
            return None
        case "first-block":
            return FirstBlockCacheConfig(threshold=settings.step_cache_threshold)
        case "magcache":
            ratios = list(settings.magcache_ratios[step : step + settings.refresh_interval])
            return MagCacheConfig(
                threshold=settings.step_cache_threshold,
                max_skip_steps=MAGCACHE_MOST_SKIPPED,
                retention_ratio=0.0,  # the first step of all is a refresh anyway
                num_inference_steps=len(ratios),
                mag_ratios=ratios,
            )
        case "taylorseer":
            return TaylorSeerCacheConfig(
                cache_interval=TAYLORSEER_INTERVAL,
                disable_cache_before_step=1,
                max_order=1,
                taylor_factors_dtype=torch.float32,
                use_lite_mode=True,
            )
