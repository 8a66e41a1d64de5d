from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from freeswim.method import RefineSettings, refine
from freeswim.models.catalog import find_checkpoint
from freeswim.models.loading import Components, load
from freeswim.models.memory import MemoryPolicy, Precision, policies

EXPERTS, PLAIN = "wan2.2-t2v-a14b", "wan2.1-t2v-14b"
CPU = torch.device("cpu")
TWICE = RefineSettings(steps=4, strength=1.0, refresh_interval=2, guidance_scale=3.0)


def refined(components: Components) -> Tensor:
    """A refine pass over noise: all steps of both experts, two refreshes at least."""
    generator = torch.Generator().manual_seed(0)
    config = components.transformer.config
    latents = torch.randn(1, config["in_channels"], 3, 12, 16, generator=generator)
    prompt, negative = torch.randn(2, 1, 8, config["text_dim"], generator=generator)
    return refine(
        components.transformer,
        latents,
        prompt,
        negative,
        native_grid=(3, 4),
        settings=TWICE,
        low_noise=components.low_noise,
    )


@pytest.mark.parametrize("name", [PLAIN, EXPERTS])
@pytest.mark.parametrize("weights", ["swapped", "streamed"])
def test_where_weights_live_changes_no_bit(name: str, weights: Any, models: Path):
    checkpoint = find_checkpoint(name)
    plain = refined(load(checkpoint, CPU))
    policy = MemoryPolicy(weights=weights)
    components = load(checkpoint, CPU, policy=policy)
    assert torch.equal(refined(components), plain)
    assert torch.equal(refined(components), plain)  # as warm as a second pass finds it


@pytest.mark.parametrize(
    "precision, bytes_a_weight, gap",
    [("int8", 1, 0.02), ("fp8", 1, 0.05), ("fp8-cast", 1, 0.05)],
)
@pytest.mark.parametrize("weights", ["whole", "streamed"])
def test_smaller_weights_come_near_the_plain_ones(
    precision: Precision, bytes_a_weight: int, gap: float, weights: Any
):
    demo = find_checkpoint("demo")
    plain = velocity(load(demo, CPU).transformer)
    small = load(demo, CPU, precision=precision, policy=MemoryPolicy(weights=weights)).transformer
    weight: Any = small.blocks[0].ffn.net[0].proj.weight  # pyright: ignore
    stored = getattr(weight, "qdata", weight)
    assert stored.element_size() == bytes_a_weight
    error = float((velocity(small) - plain).norm() / plain.norm())
    assert 0 < error < gap


def velocity(transformer: WanTransformer3DModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return transformer(
            torch.randn(1, 48, 3, 8, 8, generator=generator),
            torch.tensor([500]),
            torch.randn(1, 32, 64, generator=generator),
            return_dict=False,
        )[0]


def test_a_cpu_has_one_memory():
    assert policies("cpu", num_experts=2) == (MemoryPolicy(),)


@pytest.mark.parametrize("num_experts, weights", [(1, 2), (2, 3)])
def test_policies_go_from_the_fastest_to_the_leanest(num_experts: int, weights: int):
    ladder = policies("cuda", num_experts)
    assert ladder[0] == MemoryPolicy("whole", "device")
    assert ladder[-1] == MemoryPolicy("streamed", "host")
    assert len(set(ladder)) == len(ladder) == 2 * weights
