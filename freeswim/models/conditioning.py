"""What a transformer sees beside noise: the encoded prompt, and the encoded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from freeswim.method.denoise import ImageCondition
from freeswim.models import text_cache
from freeswim.models.catalog import Checkpoint
from freeswim.models.loading import Components, compute_dtype, load_text_encoder
from freeswim.video import autoencoder


@dataclass(frozen=True)
class Text:
    """An encoded prompt, (1, text tokens, D) each."""

    prompt: Tensor
    negative: Tensor


def encode_prompt(
    checkpoint: Checkpoint, prompt: str, negative_prompt: str, device: torch.device
) -> Text:
    """Prompt and negative prompt through the checkpoint's text encoder, on `device`.

    The encoder is loaded only for a text that is not on the disk yet, works on the CPU, and is
    gone from memory afterwards.
    """
    dtype = compute_dtype(device)
    kept = {text: text_cache.read(checkpoint, text, dtype) for text in (prompt, negative_prompt)}
    known = {text: embeds for text, embeds in kept.items() if embeds is not None}
    if len(known) < len(kept):
        pipeline = load_text_encoder(checkpoint, dtype)
        for text in kept.keys() - known.keys():
            known[text], _ = pipeline.encode_prompt(
                text,
                do_classifier_free_guidance=False,
                max_sequence_length=checkpoint.max_text_tokens,
                device=torch.device("cpu"),
            )
            text_cache.write(checkpoint, text, known[text])
    return Text(known[prompt].to(device), known[negative_prompt].to(device))


def image_condition(
    components: Components,
    images: Sequence[np.ndarray],
    size: tuple[int, int],
    num_frames: int,
) -> ImageCondition | None:
    """What an image-conditioned checkpoint sees of its images, at the size of a pass.

    Args:
        images: first and, if there is one, last frame, (H, W, 3) uint8, any size; cut to the
            pass's aspect around their middle. None of them: no condition.
        size: (width, height) of the pass.
        num_frames: of the pass, 4n + 1.
    """
    if not images:
        return None
    pictures = [
        ImageOps.fit(Image.fromarray(image), size, Image.Resampling.LANCZOS) for image in images
    ]
    first, *last = (
        torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1) / 127.5 - 1
        for picture in pictures
    )
    pipeline = components.pipeline
    if pipeline.config["expand_timesteps"]:
        first_frame = autoencoder.encode_frames(components.vae, [first], num_frames=1, size=size)
        return ImageCondition(first_frame=first_frame)
    blank = repeat(torch.zeros_like(first), num_frames - 1 - len(last))
    latents = autoencoder.encode_frames(
        components.vae, chain([first], blank, last), num_frames=num_frames, size=size
    )
    image_embeds = None
    if components.transformer.config["image_dim"] is not None:
        image_embeds = pipeline.encode_image(pictures[0], pipeline.image_encoder.device)
        image_embeds = image_embeds.to(components.device)
    group = components.vae.config["scale_factor_temporal"]
    channels = torch.cat([_known_frames(latents, group, bool(last)), latents], dim=1)
    return ImageCondition(channels=channels, image_embeds=image_embeds)


def _known_frames(latents: Tensor, group: int, has_last: bool) -> Tensor:
    """1 where a frame is an image and 0 where it is blank, (1, group, T, h, w).

    A channel for each frame of a latent frame; the first one stands for a single frame.
    """
    known = latents.new_zeros(1, group, *latents.shape[2:])
    known[:, :, 0] = 1
    if has_last:
        known[:, -1, -1] = 1
    return known
