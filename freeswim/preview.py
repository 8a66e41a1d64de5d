"""A picture of the take while it is being made: the middle frame of its latents, as a small JPEG.

Decoding would cost as much as several steps. A latent's channels say its colours almost linearly,
so a linear map from channels to colours is fitted once per autoencoder, by least squares over what
it makes of random latents.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from PIL import Image
from torch import Tensor

from freeswim.video import autoencoder

LONGEST_SIDE = 512  # pixels
MOST_OF_TIME = 0.02  # of the work's, that its previews may take
FIT_LATENTS = 32  # the sides of what is fitted on
DOT = 4  # pixels, the sides of what has one colour
JPEG_QUALITY = 80

log = logging.getLogger(__name__)

# Of autoencoders that are loaded; the last row is the colour of zeros.
_maps: WeakKeyDictionary[AutoencoderKLWan, Tensor] = WeakKeyDictionary()


class Previews:
    """Writes the newest preview of one job to one file, as often as its share of the time lets."""

    def __init__(
        self,
        path: Path,
        on_preview: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin; the work's time counts from here.

        Args:
            path: the JPEG file, replaced as a whole each time.
            on_preview: called with the preview's number, from 1.
            clock: seconds.
        """
        self._path = path
        self._on_preview = on_preview
        self._clock = clock
        self._began = clock()
        self._spent = 0.0
        self._last_cost = 0.0
        self._number = 0

    def show(self, vae: AutoencoderKLWan, latents: Tensor) -> None:
        """Write a preview, if the time for one has come.

        Args:
            vae: whose latents they are; as it was afterwards.
            latents: (1, C, latent frames, latent height, latent width), clean or an estimate of
                the clean ones, normalised per channel.
        """
        began = self._clock()
        if self._spent + self._last_cost > MOST_OF_TIME * (began - self._began):
            return
        picture = to_picture(vae, latents)
        if _replace(self._path, picture):
            self._number += 1
            self._on_preview(self._number)
        self._last_cost = self._clock() - began
        self._spent += self._last_cost


def to_picture(vae: AutoencoderKLWan, latents: Tensor) -> Image.Image:
    """The middle latent frame in colour, at most LONGEST_SIDE pixels; see `Previews.show`."""
    if vae not in _maps:
        _maps[vae] = _fit(vae)
    frame = latents[0, :, latents.shape[2] // 2].float().cpu()
    colour = _maps[vae][:-1].T @ frame.flatten(1) + _maps[vae][-1][:, None]
    dots = F.pixel_shuffle(colour.unflatten(1, frame.shape[1:]), _dots(vae))
    height, width = (side * vae.config["scale_factor_spatial"] for side in frame.shape[1:])
    scale = min(1, LONGEST_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    shown = F.interpolate(dots[None], size=size, mode="bilinear", antialias=True)[0]
    pixels = ((shown.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels.numpy()))


def _dots(vae: AutoencoderKLWan) -> int:
    """How many dots of colour a latent stands for along each side."""
    return vae.config["scale_factor_spatial"] // DOT


@torch.inference_mode()
def _fit(vae: AutoencoderKLWan) -> Tensor:
    """The linear map from a latent's channels to its dots, (C + 1, 3 dots^2), on the CPU."""
    generator = torch.Generator().manual_seed(0)
    channels: int = vae.config["z_dim"]
    field = torch.zeros(1, channels, FIT_LATENTS, FIT_LATENTS)
    for cells, weight in ((4, 0.7), (16, 0.5), (FIT_LATENTS, 0.5)):
        noise = torch.randn(1, channels, cells, cells, generator=generator)
        field += weight * F.interpolate(noise, size=(FIT_LATENTS, FIT_LATENTS), mode="bicubic")
    field /= field.std()
    # Two latent frames: the first, which stands for one frame alone, is decoded otherwise.
    video = autoencoder.decode(vae, field[:, :, None].expand(-1, -1, 2, -1, -1).to(vae.device))
    frame = F.adaptive_avg_pool2d(video[0, :, 1:].mean(1), FIT_LATENTS * _dots(vae))
    dots = F.pixel_unshuffle(frame, _dots(vae)).flatten(1)
    samples = torch.cat([field[0].flatten(1), torch.ones(1, FIT_LATENTS**2)]).T
    # A little ridge: channels that decide nothing would have no one best map.
    gram = samples.T @ samples
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve(gram + ridge, samples.T @ dots.T)


def _replace(path: Path, picture: Image.Image) -> bool:
    """Whether the picture is in its place now; a preview is never worth a failed job."""
    draft = path.with_name(f"{path.name}.new")
    try:
        picture.save(draft, format="JPEG", quality=JPEG_QUALITY)
        draft.replace(path)
    except OSError as error:
        log.warning("no preview: %s", error)
        return False
    return True
