from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from freeswim.ladder import AllRungsFailed, climb, is_out_of_memory
from freeswim.models.memory import MemoryPolicy, policies

LADDER = policies("cuda", num_experts=1)
WORDS = [
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory",
]


class Allocator:
    """Runs out of memory until its `works`-th call; the border that a GPU is."""

    def __init__(self, works: int, error: Callable[[], Exception]) -> None:
        self.works, self.error = works, error
        self.calls: list[MemoryPolicy] = []

    def __call__(self, policy: MemoryPolicy) -> str:
        self.calls.append(policy)
        if len(self.calls) <= self.works:
            raise self.error()
        return f"made with {policy}"


def full_gpu() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("failures", range(len(LADDER) + 1))
def test_every_rung_is_tried_in_its_order(failures: int):
    make, fell = Allocator(failures, full_gpu), []
    assert climb(LADDER, make, fell.append) == f"made with {make.calls[-1]}"
    assert make.calls == [LADDER[0], *LADDER][: failures + 1]
    assert fell == list(LADDER[: max(0, failures - 1)])


def test_last_rung_fails_with_all_policies_named():
    make, fell = Allocator(99, full_gpu), []
    with pytest.raises(AllRungsFailed) as caught:
        climb(LADDER, make, fell.append)
    assert fell == list(LADDER)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


@pytest.mark.parametrize("words", WORDS)
def test_errors_of_libraries_without_a_class_for_it_count(words: str):
    assert climb(LADDER, Allocator(2, lambda: RuntimeError(words)), lambda policy: None)


def test_an_allocation_that_really_is_too_large_counts():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory")])
def test_other_errors_end_the_climb(error: Exception):
    make = Allocator(1, lambda: error)
    with pytest.raises(type(error)):
        climb(LADDER, make, lambda policy: None)
    assert len(make.calls) == 1


def test_what_the_failed_rung_held_is_free_before_the_next():
    held: list[weakref.ref[Any]] = []

    def make(policy: MemoryPolicy) -> str:
        assert not [ref for ref in held if ref() is not None]
        if policy == LADDER[2]:
            return "made"
        large = torch.zeros(1000)
        held.append(weakref.ref(large))
        raise full_gpu()

    gc.disable()
    try:
        assert climb(LADDER, make, lambda policy: None) == "made"
    finally:
        gc.enable()
    assert len(held) == 3
