"""Both branches' self-attention: one function each, and the backends behind them.

All backends of the window attention are exact: they compute the same attention over the keys of
`InwardWindow` and differ in speed and in what they need:

* `natten`: NATTEN's fused kernels; an inward window is neighbourhood attention.
* `flex`: FlexAttention, compiled (flex.py); a GPU, or a CPU with a C++ compiler if asked for.
* `tiled`: torch's own attention, tile by tile (tiled.py); runs anywhere.

Full attention is torch's own, or SageAttention's where a person asks for it: that multiplies
queries and keys in 8 bits, so it is approximate.

What others have written is compared with plain arithmetic once, on this machine, before it is used.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from freeswim.errors import RequestError
from freeswim.method.flex import flex_window_attention, layout
from freeswim.method.settings import FullAttention, RefineSettings
from freeswim.method.tiled import tiled_attention
from freeswim.method.window import InwardWindow

log = logging.getLogger(__name__)

ExactBackend = Literal["natten", "flex", "tiled"]

# Relative L2 distance from plain float32 arithmetic up to which a backend computes the same; a
# window that is off by one row is off by a third.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 2e-2}
SAGE_TOLERANCE = 1e-1
SAGE_DTYPES = (torch.float16, torch.bfloat16)
CHECKED_WINDOW = InwardWindow(2, 22, 27, native_rows=6, native_columns=9)


@dataclass(frozen=True)
class Backends:
    """What computes the self-attention of a refine pass."""

    window: ExactBackend = "tiled"
    full: FullAttention = "exact"


def window_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: InwardWindow,
    *,
    scale: float,
    backend: ExactBackend,
    places: Tensor | None = None,
) -> Tensor:
    """Attention of every query over the keys of its inward window.

    Args:
        query: (B, L, heads, head dim), L = window.num_tokens in raster order (frame, row, column).
        key: the same shape.
        value: the same shape.
        scale: what the scores are multiplied with.
        backend: as chosen by `choose_backends`.
        places: of `token_places`, where all three are in that order instead.

    Returns:
        (B, L, heads, head dim), in raster order.
    """
    if window.is_full:
        return full_attention(query, key, value, scale=scale)
    if backend == "flex":
        return flex_window_attention(
            query, key, value, window, scale, is_in_tiles=places is not None
        )
    compute = {"natten": _natten, "tiled": tiled_attention}[backend]
    return compute(query, key, value, window, scale)


def token_places(
    window: InwardWindow, backend: ExactBackend, device: torch.device
) -> Tensor | None:
    """Where a backend wants each token of raster order, (L,); None: there.

    Who makes the tokens can put them there at once, without a second copy of all of them.
    """
    return layout(window, device)[1] if backend == "flex" and not window.is_full else None


def full_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, backend: FullAttention = "exact"
) -> Tensor:
    """Attention of every query over every key; shapes as in `window_attention`."""
    if backend == "sage":
        return _sage(query, key, value, scale)
    query, key, value = (tokens.transpose(1, 2) for tokens in (query, key, value))
    if query.device.type == "cpu":
        # Every block of queries reads all of them: the copy pays back (measured, 5 %).
        key, value = key.contiguous(), value.contiguous()
    return scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)


# --------------------------------------------------------------------------------------- choosing


def choose_backends(
    settings: RefineSettings,
    window: InwardWindow,
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
) -> Backends:
    """What computes a refine pass: the first candidate that is right on this machine.

    A candidate that fails is left out with a warning. What was found holds for the process.

    Args:
        settings: of the pass.
        window: of its latents.
        device: of its latents.
        dtype: of queries, keys and values.
        head_dim: of them.

    Raises:
        RequestError: what is asked for cannot run here.
    """
    candidates = window_candidates(settings, window, device)
    # One name for one device: latents on "cuda" say they are on "cuda:0".
    case = torch.device(device.type, device.index or 0), dtype, head_dim
    best: ExactBackend = next(
        one for one in candidates if one == "tiled" or window.is_full or _is_right(one, *case)
    )
    uses_sage = settings.full_attention == "sage" and settings.guidance != "none"
    if uses_sage and dtype not in SAGE_DTYPES:
        raise RequestError(
            f"SageAttention cannot run in {str(dtype).removeprefix('torch.')}.",
            hint="Leave full_attention exact, or load the checkpoint in bfloat16.",
        )
    return Backends(best, "sage" if uses_sage and _is_right("sage", *case) else "exact")


def window_candidates(
    settings: RefineSettings, window: InwardWindow, device: torch.device
) -> list[ExactBackend]:
    """Backends that may compute `window` on `device`, in the order they are tried.

    It takes no time, so a request that cannot be met ends before anything is loaded.

    Raises:
        RequestError: what is asked for cannot run here.
    """
    if settings.full_attention == "sage" and not (
        device.type == "cuda" and importlib.util.find_spec("sageattention") is not None
    ):
        raise RequestError(
            f"SageAttention cannot run on {device.type} here.",
            hint="Leave full_attention exact, or install sageattention on a machine with CUDA.",
        )
    asked, usable = settings.attention, available_backends(window, device)
    if asked == "auto":
        return usable
    # FlexAttention compiles for a CPU too, but only if asked.
    if asked == "flex" or asked in usable:
        return [asked, *(one for one in usable if one != asked)]
    raise RequestError(
        f"Attention backend {asked} cannot run on {device.type} here.",
        hint=f"Use auto, which takes {usable[0]}.",
    )


def available_backends(window: InwardWindow, device: torch.device) -> list[ExactBackend]:
    """Backends that `auto` may take for `window` on `device`, the fastest first."""
    usable: list[ExactBackend] = []
    # NATTEN has no kernel of length 1.
    if _has_natten(device) and min(window.frames, window.num_rows, window.num_columns) > 1:
        usable.append("natten")
    if device.type == "cuda":
        usable.append("flex")
    return [*usable, "tiled"]


def _has_natten(device: torch.device) -> bool:
    if device.type != "cuda" or importlib.util.find_spec("natten") is None:
        return False
    import natten  # pyright: ignore[reportMissingImports] (optional, CUDA only)

    return bool(natten.HAS_LIBNATTEN)


@cache
def _is_right(
    backend: Literal["natten", "flex", "sage"],
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
) -> bool:
    """Whether a backend computes, on one small random case, what plain arithmetic does."""
    try:
        error = _error_of(backend, device, dtype, head_dim)
    except Exception as failure:  # of code that is not ours; whatever it is, another one is taken
        log.warning("Attention backend %s fails here and is left out: %s", backend, failure)
        return False
    tolerance = SAGE_TOLERANCE if backend == "sage" else TOLERANCE[dtype]
    if not error < tolerance:  # no number is wrong too
        log.warning(
            "Attention backend %s is wrong here by %.1e of its output and is left out.",
            backend, error,
        )  # fmt: skip
        return False
    return True


def _error_of(
    backend: Literal["natten", "flex", "sage"],
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
) -> float:
    """Relative L2 distance of the backend's output from that of plain float32 arithmetic."""
    generator = torch.Generator().manual_seed(0)
    window, scale = CHECKED_WINDOW, 1.5 * head_dim**-0.5  # not the scale that a backend would take
    shape = (1, window.num_tokens, 2, head_dim)
    tokens = torch.randn((3, *shape), generator=generator).to(dtype)
    query, key, value = tokens.to(device)
    if backend == "sage":
        got, sees = full_attention(query, key, value, scale=scale, backend="sage"), None
    else:
        got = window_attention(query, key, value, window, scale=scale, backend=backend)
        sees = _sees(window)
    query, key, value = tokens.float().transpose(2, 3)
    scores = query @ key.mT * scale
    if sees is not None:
        scores = scores.masked_fill(~sees, float("-inf"))
    want = (scores.softmax(-1) @ value).transpose(1, 2)
    if got.shape != want.shape or got.dtype != dtype:
        raise ValueError(f"it gave {tuple(got.shape)} in {got.dtype}")
    return float((got.cpu().float() - want).norm() / want.norm())


def _sees(window: InwardWindow) -> Tensor:
    """Whether a query sees a key, (L, L), by the rule of `InwardWindow` itself."""
    rows = _axis_sees(window.rows, window.row_start, window.num_rows)
    columns = _axis_sees(window.columns, window.column_start, window.num_columns)
    frame = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2).flatten(0, 1)
    return frame.repeat(window.frames, window.frames)


def _axis_sees(num_tokens: int, start_of: Callable[[int], int], length: int) -> Tensor:
    """The same along one axis, (queries, keys)."""
    starts = torch.tensor([start_of(query) for query in range(num_tokens)])[:, None]
    keys = torch.arange(num_tokens)
    return (keys >= starts) & (keys < starts + length)


# --------------------------------------------------------------------------------- of other people


def _natten(
    query: Tensor, key: Tensor, value: Tensor, window: InwardWindow, scale: float
) -> Tensor:
    import natten  # pyright: ignore[reportMissingImports] (optional, CUDA only)

    grid = (window.frames, window.rows, window.columns)
    query, key, value = (tokens.unflatten(1, grid) for tokens in (query, key, value))
    kernel_size = (window.frames, window.num_rows, window.num_columns)
    out = natten.na3d(query, key, value, kernel_size=kernel_size, scale=scale)
    return out.flatten(1, 3)


def _sage(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    import sageattention  # pyright: ignore[reportMissingImports] (optional, CUDA only)

    return sageattention.sageattn(
        query, key, value, tensor_layout="NHD", is_causal=False, sm_scale=scale
    )
