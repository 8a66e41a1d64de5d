"""Video <-> latents through the checkpoint's autoencoder."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

# Pixels of a frame that are coded in one piece: 720p, the largest native size. Larger frames are
# coded in tiles whose overlaps are blended, so that memory does not grow with the frame.
WHOLE_FRAME = 1280 * 736


@torch.no_grad()
def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Latents of a video, normalised per channel as the transformer wants them.

    Args:
        video: (1, 3, frames, height, width) in [-1, 1]; 4n + 1 frames; sides multiples of the
            autoencoder's spatial factor.

    Returns:
        (1, C, latent frames, latent height, latent width), float32; mode of the posterior.
    """
    prepare(vae, video.shape[3] * video.shape[4])
    latents = vae.encode(video.to(vae.dtype)).latent_dist.mode().float()  # pyright: ignore
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std


@torch.no_grad()
def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Video of normalised latents, (1, 3, frames, height, width) in [-1, 1], float32."""
    factor = vae.config["scale_factor_spatial"]
    prepare(vae, latents.shape[3] * latents.shape[4] * factor**2)
    mean, std = _statistics(vae, latents)
    video = vae.decode((latents * std + mean).to(vae.dtype), return_dict=False)[0]
    return video.float().clamp(-1, 1)


def _statistics(vae: AutoencoderKLWan, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, (1, C, 1, 1, 1)."""
    mean = torch.tensor(vae.config["latents_mean"]).view(1, -1, 1, 1, 1).to(latents)
    std = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1).to(latents)
    return mean, std


def prepare(vae: AutoencoderKLWan, pixels: int) -> None:
    """Have `vae` code frames of so many pixels whole, or in tiles where they are large."""
    vae.use_tiling = False
    if pixels > WHOLE_FRAME:
        vae.enable_tiling(512, 512, 384, 384)
