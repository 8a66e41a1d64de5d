"""Training of the autoencoder: encoder and decoder together, then the decoder alone, for texture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from freeswim.models.demo.quality import SHARP_CYCLES, fine_energy
from freeswim.models.demo.training.optimiser import Muon
from freeswim.models.demo.training.recipe import Recipe
from freeswim.models.demo.training.samples import autoencoder_crop
from freeswim.models.demo.training.stage import Figures, Trainee

KL = 5e-5  # weight of the latents' distance from a normal distribution
LATENT_NOISE = 0.05  # of their deviation: what the transformer leaves, the decoder must bear
TEXTURE = 5.0
FAINT = 0.1  # weight of how strong a frequency is relative to itself: of what is faint
FLOOR = 0.02  # amplitude, below which nothing is a texture
WEIGHT = 20.0  # of the amplitude of a wave one pixel long
SHARP = WEIGHT * SHARP_CYCLES
PIECE = 16  # pixels along a side of what texture is compared in
_JOINT, _DECODER, _HELD_OUT = 11, 12, 64  # parts of seeds; crops that are not trained on


def joint(vae: AutoencoderKLWan, recipe: Recipe) -> Trainee:
    """Encoder and decoder, for what pixels say."""

    def loss(step: int) -> tuple[Tensor, Figures]:
        video = _crops(recipe, step, vae.device)
        generator = torch.Generator().manual_seed(_number(recipe, _JOINT, step))
        with torch.autocast(video.device.type, torch.bfloat16):
            found = vae.encode(video).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
            spread = (found.var + (LATENT_NOISE**2) * found.mean.float().var()).sqrt()
            noise = torch.randn(found.mean.shape, generator=generator).to(video.device)
            made = vae.decode(found.mean + spread * noise).sample.float()  # pyright: ignore
        mean, logvar = found.mean.float(), found.logvar.float()
        divergence = (0.5 * (mean**2 + logvar.exp() - 1 - logvar)).mean()
        pixels, figures = _pixel_loss(made, video)
        return pixels + KL * divergence, figures | {"kl": divergence.item()}

    return Trainee("autoencoder", _optimiser(vae, ""), loss, lambda: _check(vae, recipe), 0.998)


def decoder(vae: AutoencoderKLWan, recipe: Recipe) -> Trainee:
    """The decoder alone: latents stay what they are, pictures get their texture."""

    def loss(step: int) -> tuple[Tensor, Figures]:
        video = _crops(recipe, recipe.autoencoder.steps + step, vae.device)
        generator = torch.Generator().manual_seed(_number(recipe, _DECODER, step))
        with torch.autocast(video.device.type, torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(video).latent_dist.mode()  # pyright: ignore
            noise = torch.randn(latents.shape, generator=generator).to(video.device)
            latents = latents + LATENT_NOISE * latents.float().std() * noise
            made = vae.decode(latents).sample.float()  # pyright: ignore
        pixels, figures = _pixel_loss(made, video)
        texture = texture_loss(made, video)
        return pixels + TEXTURE * texture, figures | {"texture": texture.item()}

    optimiser = _optimiser(vae, "decoder.", "post_quant_conv.")
    return Trainee("decoder", optimiser, loss, lambda: _check(vae, recipe), 0.998)


def texture_loss(made: Tensor, true: Tensor) -> Tensor:
    """Distance of how strong each frequency is, piece by piece; where its waves lie is left open.

    A decoder that cannot know where a ripple lies does best on pixels with none at all. Here it
    does best with ripples as strong as the true ones.

    Args:
        made: (B, 3, T, H, W) in [-1, 1].
        true: the same.
    """
    weights = _frequency_weights(made.device)
    ours, theirs = (_strengths(video) for video in (made, true))
    relative = ((ours + FLOOR).log() - (theirs + FLOOR).log()).abs() * (weights > SHARP)
    return ((ours - theirs).abs() * weights + FAINT * relative).mean()


def _strengths(video: Tensor) -> Tensor:
    """Amplitudes of the luma of overlapping pieces, (pieces, PIECE, PIECE // 2 + 1)."""
    colors = torch.tensor((0.299, 0.587, 0.114), device=video.device).view(1, 3, 1, 1, 1)
    luma = (video * colors).sum(1)
    pieces = luma.unfold(-2, PIECE, PIECE // 2).unfold(-2, PIECE, PIECE // 2)
    window = torch.hann_window(PIECE, device=video.device)
    spectrum = torch.fft.rfft2(pieces * (window[:, None] * window), norm="ortho")
    # Smooth at 0, where the gradient of an amplitude has no direction.
    return (spectrum.real**2 + spectrum.imag**2 + 1e-6).sqrt()


def _frequency_weights(device: torch.device) -> Tensor:
    """In proportion to the frequency, for amplitudes of pictures fall with it."""
    rows = torch.fft.fftfreq(PIECE, device=device)
    columns = torch.fft.rfftfreq(PIECE, device=device)
    return WEIGHT * (rows[:, None] ** 2 + columns**2).sqrt()


def _pixel_loss(made: Tensor, true: Tensor) -> tuple[Tensor, Figures]:
    error = made - true
    square, size = error.pow(2).mean(), error.abs().mean()
    slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    figures = {"psnr": -10 * float(np.log10(square.item() / 4)), "l1": size.item()}
    return size + 2 * square + 0.5 * slopes, figures


def _optimiser(vae: AutoencoderKLWan, *parts: str) -> Muon:
    """Of the weights whose names begin with one of `parts`; the others are not trained."""
    matrices: dict[str, nn.Parameter] = {}
    rest: dict[str, nn.Parameter] = {}
    for name, weight in vae.named_parameters():
        weight.requires_grad_(name.startswith(parts))
        if not weight.requires_grad:
            continue
        is_end = name.endswith(("conv_in.weight", "decoder.conv_out.weight"))
        is_kernel = weight.ndim > 2 and weight.shape[0] > 1 and not name.endswith("gamma")
        (matrices if is_kernel and not is_end else rest)[name] = weight
    return Muon(matrices, rest, rate=0.01, rest_rate=2e-3)


def _crops(recipe: Recipe, step: int, device: torch.device) -> Tensor:
    """(B, 3, T, H, W) in [-1, 1]; never the same ones twice."""
    first = step * recipe.crops
    return as_video(
        autoencoder_crop(recipe.seed, first + index, recipe.crop_side, recipe.crop_frames)
        for index in range(recipe.crops)
    ).to(device)


def as_video(clips: Iterator[np.ndarray]) -> Tensor:
    """(T, H, W, 3), 0…1 each → (B, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack(list(clips))).permute(0, 4, 1, 2, 3).contiguous() * 2 - 1


def _number(recipe: Recipe, part: int, step: int) -> int:
    return int(np.random.SeedSequence([recipe.seed, part, step]).generate_state(1)[0])


@torch.no_grad()
def _check(vae: AutoencoderKLWan, recipe: Recipe) -> Figures:
    """How a round trip leaves crops that are never trained on."""
    errors, kept = [], []
    for index in range(_HELD_OUT if recipe.crops > 1 else 2):
        true = autoencoder_crop(
            recipe.seed, index, recipe.crop_side, recipe.crop_frames, held_out=True
        )
        video = as_video(iter([true])).to(vae.device)
        with torch.autocast(video.device.type, torch.bfloat16):
            made = vae.decode(vae.encode(video).latent_dist.mode()).sample.float()  # pyright: ignore
        errors.append(float((made - video).pow(2).mean()) / 4)
        frame = ((made[0, :, -1].permute(1, 2, 0) + 1) / 2).clamp(0, 1).cpu().numpy()
        kept.append((fine_energy(frame), fine_energy(true[-1])))
    return {
        "held_out_psnr": round(-10 * float(np.log10(np.mean(errors))), 3),
        "held_out_fine": round(sum(made for made, _ in kept) / sum(true for _, true in kept), 4),
    }


def with_statistics(config: Mapping[str, object], mean: Tensor, std: Tensor) -> dict[str, object]:
    """A configuration of the autoencoder that knows mean and deviation of its latents."""
    rounded = {
        "latents_mean": [round(value, 5) for value in mean.tolist()],
        "latents_std": [round(value, 5) for value in std.tolist()],
    }
    return dict(config) | rounded
