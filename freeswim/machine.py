"""What this machine has: the processor, and the memory that is free."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from freeswim.plan import Machine

if TYPE_CHECKING:
    import torch


def inspect(device: torch.device) -> Machine:
    """The machine as it is now, with `device` for the work."""
    import torch

    host_bytes = psutil.virtual_memory().available
    if device.type != "cuda":
        return Machine("cpu", cpu_model(), host_bytes)
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device)  # this process's own, to be used again
    return Machine("cuda", torch.cuda.get_device_name(device), host_bytes, free)


def cpu_model() -> str:
    """What the processor calls itself."""
    linux = Path("/proc/cpuinfo")
    if linux.is_file():
        for line in linux.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
