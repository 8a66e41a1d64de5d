"""What the studio can make takes on: NVIDIA GPUs, else the processor. Without torch."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import pynvml  # pyright: ignore[reportMissingTypeStubs]
from pydantic import BaseModel, ConfigDict

from freeswim import paths
from freeswim.machine import cpu_model
from freeswim.plan import Machine


class Memory(BaseModel):
    """Of something, in bytes."""

    model_config = ConfigDict(frozen=True)

    total_bytes: int
    free_bytes: int


class Gpu(Memory):
    """A GPU of this machine."""

    uuid: str
    name: str
    ours_bytes: int = 0  # of the memory in use, what the studio's own workers hold


def gpus(workers: Collection[int] = ()) -> list[Gpu]:
    """The NVIDIA GPUs; none where there is no driver.

    Args:
        workers: process ids of the studio's own.
    """
    with suppress(pynvml.NVMLError), _nvml():
        nvml: Any = pynvml
        count = nvml.nvmlDeviceGetCount()
        return [_gpu(nvml.nvmlDeviceGetHandleByIndex(index), workers) for index in range(count)]
    return []


def host_memory() -> Memory:
    """The machine's own memory."""
    memory = psutil.virtual_memory()
    return Memory(total_bytes=memory.total, free_bytes=memory.available)


def disk() -> Memory:
    """Of the disk that the takes are on."""
    folder = paths.takes() if paths.takes().is_dir() else paths.home()
    usage = shutil.disk_usage(folder)
    return Memory(total_bytes=usage.total, free_bytes=usage.free)


def whole_machine() -> Machine:
    """The machine with nothing else on it: what cannot be made there can never be."""
    host = host_memory().total_bytes
    best = max(gpus(), key=lambda gpu: gpu.total_bytes, default=None)
    if best is None:
        return Machine("cpu", cpu_model(), host)
    return Machine("cuda", best.name, host, best.total_bytes)


def free_machine(workers: Collection[int]) -> Machine:
    """The machine as it is now, as a worker will find it."""
    host = host_memory().free_bytes
    best = max(gpus(workers), key=lambda gpu: gpu.total_bytes, default=None)
    if best is None:
        return Machine("cpu", cpu_model(), host)
    return Machine("cuda", best.name, host, best.free_bytes + best.ours_bytes)


@contextmanager
def _nvml() -> Generator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _gpu(handle: Any, workers: Collection[int]) -> Gpu:
    nvml: Any = pynvml  # its types are those of C
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    ours = 0
    with suppress(pynvml.NVMLError):  # not every driver tells
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid in workers:
                ours += process.usedGpuMemory or 0
    return Gpu(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=nvml.nvmlDeviceGetName(handle),
        total_bytes=memory.total,
        free_bytes=memory.free,
        ours_bytes=ours,
    )
