"""What the two passes can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from freeswim.errors import RequestError
from freeswim.method.window import InwardWindow

Temperature = Literal["official", "entropy", "none"]
Guidance = Literal["full", "interpolated", "native", "none"]
AttentionBackend = Literal["auto", "natten", "flex", "tiled"]
FullAttention = Literal["exact", "sage"]
KeptPrecision = Literal["plain", "fp8"]
StepCacheName = Literal["none", "first-block", "magcache", "taylorseer"]

FP8_SCALE_BYTES = 4  # of each token whose values are kept in fp8


@dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """Settings of one base pass; the defaults are Wan 2.1's.

    Raises:
        RequestError: a value is out of its range; names the setting.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (read by the request; not a field)

    steps: int = 50  # denoising steps, 1 to 1000
    guidance_scale: float = 5.0  # classifier-free guidance, 1 to 30; 1 is off
    low_noise_guidance_scale: float | None = None  # of a second expert; None: the same

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check_guidance(self.guidance_scale, self.low_noise_guidance_scale)


@dataclass(frozen=True, kw_only=True)
class RefineSettings:
    """Settings of one refine pass; the defaults are the official program's for Wan 2.1.

    Raises:
        RequestError: a value is out of its range; names the setting.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (read by the request; not a field)

    steps: int = 50  # steps of the whole schedule, 1 to 1000
    strength: float = 0.7  # share of these steps that run, above 0, up to 1
    flow_shift: float = 9.0  # timestep shift of the flow schedule, above 0, up to 100
    guidance_scale: float = 5.0  # classifier-free guidance, 1 to 30; 1 is off
    low_noise_guidance_scale: float | None = None  # of a second expert; None: the same
    refresh_interval: int = 5  # the full branch runs on every n-th refine step, 1 or more
    guidance: Guidance = "full"  # what the full branch sees (guidance.py); none: it never runs
    override_unconditional: bool = False  # the official `nocache` mode overrides here too
    kept_precision: KeptPrecision = "plain"  # of the kept outputs; fp8 halves them
    step_cache: StepCacheName = "none"  # of the window branch between refreshes (step_cache.py)
    step_cache_threshold: float = 0.06  # change that first-block and magcache let pass, up to 1
    magcache_ratios: tuple[float, ...] = ()  # calibrated; one for each refine step
    temperature: Temperature = "official"  # of both branches' self-attention
    attention: AttentionBackend = "auto"  # how window attention is computed; never what
    full_attention: FullAttention = "exact"  # of the full branch; sage: approximate, CUDA only

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check("strength", self.strength, 0 < self.strength <= 1, "above 0, up to 1")
        _check("flow_shift", self.flow_shift, 0 < self.flow_shift <= 100, "above 0, up to 100")
        _check_guidance(self.guidance_scale, self.low_noise_guidance_scale)
        _check("refresh_interval", self.refresh_interval, self.refresh_interval >= 1, "1 or more")
        if self.num_refine_steps == 0:
            raise RequestError(
                f"Strength {self.strength} of {self.steps} steps leaves no step to run.",
                hint=f"Use a strength of at least {1 / self.steps:.3g}, or more steps.",
            )

        self._check_step_cache()
        _check_choice("guidance", self.guidance, get_args(Guidance))
        _check_choice("kept_precision", self.kept_precision, get_args(KeptPrecision))
        _check_choice("step_cache", self.step_cache, get_args(StepCacheName))
        _check_choice("temperature", self.temperature, get_args(Temperature))
        _check_choice("attention", self.attention, get_args(AttentionBackend))
        _check_choice("full_attention", self.full_attention, get_args(FullAttention))

    @property
    def num_refine_steps(self) -> int:
        """Steps that really run."""
        return min(int(self.steps * self.strength), self.steps)

    @property
    def guides(self) -> bool:
        """Whether any step has an unconditional forward."""
        return max(self.guidance_scale, self.low_noise_guidance_scale or 1) > 1

    def _check_step_cache(self) -> None:
        threshold = self.step_cache_threshold
        _check("step_cache_threshold", threshold, 0 < threshold <= 1, "above 0, up to 1")
        for ratio in self.magcache_ratios:
            _check("magcache_ratios", ratio, 0 < ratio < math.inf, "above 0")
        num_ratios = len(self.magcache_ratios)
        if self.step_cache == "magcache" and num_ratios != self.num_refine_steps:
            raise RequestError(
                f"magcache needs a ratio for each of {self.num_refine_steps} refine steps, "
                f"not {num_ratios}.",
                hint="Give magcache_ratios calibrated for this checkpoint and schedule "
                "(tests/bench/step_caches.py shows how), or use first-block or taylorseer.",
            )


def full_branch_window(guidance: Guidance, window: InwardWindow) -> InwardWindow:
    """The token grid that the full branch sees; along no axis a larger one than `window`'s."""
    if guidance != "native":
        return window
    return replace(
        window,
        rows=min(window.rows, window.native_rows),
        columns=min(window.columns, window.native_columns),
    )


def kept_bytes(
    settings: RefineSettings,
    window: InwardWindow,
    *,
    num_blocks: int,
    width: int,
    bytes_per_value: int = 2,
) -> int:
    """Size of the cross-attention outputs that a refine pass keeps between two refreshes.

    Args:
        settings: of the pass.
        window: of its token grid.
        num_blocks: of the transformer.
        width: of a token, D.
        bytes_per_value: of the transformer's dtype.
    """
    if settings.guidance == "none":
        return 0
    rows = 2 if settings.override_unconditional and settings.guides else 1
    of_token = width * bytes_per_value
    if settings.kept_precision == "fp8":
        of_token = width + FP8_SCALE_BYTES
    num_tokens = full_branch_window(settings.guidance, window).num_tokens
    return num_blocks * rows * num_tokens * of_token


def step_cache_bytes(
    settings: RefineSettings, window: InwardWindow, *, width: int, bytes_per_value: int = 2
) -> int:
    """Size of what a step cache holds on the device; arguments as of `kept_bytes`.

    `first-block` holds what the first block gives, and the changes by it and by the others;
    `magcache` what the blocks are given and their change. What `taylorseer` holds is of the
    latents' size, and not counted.
    """
    tensors = {"none": 0, "first-block": 3, "magcache": 2, "taylorseer": 0}[settings.step_cache]
    rows = 2 if settings.guides else 1
    return tensors * rows * window.num_tokens * width * bytes_per_value


def _check_steps(steps: int) -> None:
    _check("steps", steps, 1 <= steps <= 1000, "from 1 to 1000")


def _check_guidance(guidance_scale: float, low_noise: float | None) -> None:
    _check("guidance_scale", guidance_scale, 1 <= guidance_scale <= 30, "from 1 to 30")
    if low_noise is not None:
        _check("low_noise_guidance_scale", low_noise, 1 <= low_noise <= 30, "from 1 to 30")


def _check(name: str, value: float, is_valid: bool, allowed: str) -> None:
    if not is_valid:
        raise RequestError(f"{name} cannot be {value}.", hint=f"{name} is a number {allowed}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RequestError(f"{name} cannot be {value!r}.", hint=f"Use {', '.join(choices)}.")
