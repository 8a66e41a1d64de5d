"""The out-of-memory ladder: the same take, with less memory on every rung.

No rung changes a pixel: what would is in the request, and the person's to change. The first is the
policy that fits by the forecast; the second the same again, on memory that was swept up; the rest
are the leaner policies. A rung goes on from the last resume point.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from freeswim.models.memory import MemoryPolicy

log = logging.getLogger(__name__)

Made = TypeVar("Made")

# How libraries say it that have no class for it (diffusers, cuDNN, cuBLAS, drivers, torch on a CPU).
_WORDS = (
    "out of memory",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
    "out_of_device_memory",
    "defaultcpuallocator",
)


class AllRungsFailed(Exception):
    """Every policy ran out of memory."""


def climb(
    policies: Sequence[MemoryPolicy],
    make: Callable[[MemoryPolicy], Made],
    on_fall: Callable[[MemoryPolicy], None],
) -> Made:
    """What `make` gives with the first policy that has enough memory.

    Args:
        policies: the fastest first, one at least.
        make: makes the take; is called anew on every rung.
        on_fall: called with every policy that ran out of memory for good.

    Raises:
        AllRungsFailed: none had; its cause is the last error.
    """
    first, *leaner = policies
    rungs = [first, first, *leaner]
    for number, policy in enumerate(rungs):
        try:
            return make(policy)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # Its frames hold the tensors that filled the memory.
            words = str(error).splitlines()[:1]
            if number == len(rungs) - 1:
                on_fall(policy)
                raise AllRungsFailed(*words) from error
        log.warning("out of memory with %s: %s", policy, words)
        if number > 0:
            on_fall(policy)
        _sweep()
    raise AssertionError("a rung returns or raises")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that there was not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def _sweep() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
