"""Where weights and kept outputs live while a take is made.

A `MemoryPolicy` never changes a pixel: it is chosen for the machine (plan.py), not for the take.
`Precision` does change them: it is part of the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How a transformer's weights are stored.
# * plain: as published
# * int8, fp8: torchao, one scale for each row of a matrix
# * fp8-cast: diffusers' layerwise casting, no scale; runs anywhere
Precision = Literal["plain", "int8", "fp8", "fp8-cast"]


@dataclass(frozen=True)
class MemoryPolicy:
    """Where things are while they are not used."""

    # Transformers: all on the device; the one of two experts that runs; the blocks that run, the
    # others streamed from host memory while these compute.
    weights: Literal["whole", "swapped", "streamed"] = "whole"
    kept: Literal["device", "host"] = "device"  # kept cross-attention outputs

    def __str__(self) -> str:
        weights = {
            "whole": "weights on the device",
            "swapped": "one expert on the device at a time",
            "streamed": "weights streamed from host memory",
        }
        kept = {"device": "", "host": ", kept outputs in host memory"}
        return weights[self.weights] + kept[self.kept]


def policies(device_type: str, num_experts: int) -> tuple[MemoryPolicy, ...]:
    """The policies that make sense for a checkpoint on a device, the fastest first.

    On a CPU host memory is the only one there is.
    """
    if device_type == "cpu":
        return (MemoryPolicy(),)
    holds = ("whole", "swapped", "streamed") if num_experts > 1 else ("whole", "streamed")
    return tuple(MemoryPolicy(weights, kept) for weights in holds for kept in ("device", "host"))
