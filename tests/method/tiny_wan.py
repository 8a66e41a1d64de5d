"""A tiny random transformer and its inputs, for tests of the refine pass."""

from __future__ import annotations

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

NUM_BLOCKS = 2


def tiny_transformer(seed: int = 0, **config: object) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    shape = dict(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4,
        out_channels=4, text_dim=8, freq_dim=16, ffn_dim=32, num_layers=NUM_BLOCKS,
        rope_max_seq_len=64,
    )  # fmt: skip
    return WanTransformer3DModel(**{**shape, **config}).eval()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def latents_of(rows: int = 6, columns: int = 7, frames: int = 2) -> Tensor:
    return noise(1, 4, frames, rows * 2, columns * 2)


TEXT, NEGATIVE = noise(1, 5, 8, seed=2), noise(1, 5, 8, seed=3)
