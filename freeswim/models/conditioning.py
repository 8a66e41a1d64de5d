"""What a transformer sees beside noise: the encoded prompt, and the encoded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from freeswim.method.denoise import ImageCondition
from freeswim.models.loading import Components
from freeswim.video import autoencoder


@dataclass(frozen=True)
class Text:
    """An encoded prompt, (1, text tokens, D) each."""

    prompt: Tensor
    negative: Tensor


def encode_prompt(components: Components, prompt: str, negative_prompt: str) -> Text:
    """Prompt and negative prompt through the checkpoint's text encoder."""
    embeds, negative_embeds = components.pipeline.encode_prompt(
        prompt,
        negative_prompt,
        do_classifier_free_guidance=True,
        max_sequence_length=components.checkpoint.max_text_tokens,
        device=components.device,
    )
    assert negative_embeds is not None  # guidance was asked for
    return Text(embeds, negative_embeds)


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
    pixels = [
        torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        for picture in pictures
    ]
    pipeline = components.pipeline
    width, height = size
    autoencoder.prepare(components.vae, width * height)
    _, *condition = pipeline.prepare_latents(
        pixels[0],
        batch_size=1,
        height=height,
        width=width,
        num_frames=num_frames,
        dtype=torch.float32,
        device=components.device,
        latents=torch.empty(0),  # given, so that none are drawn
        last_image=pixels[1] if len(pixels) > 1 else None,
    )
    if pipeline.config["expand_timesteps"]:
        return ImageCondition(first_frame=condition[0])
    image_embeds = None
    if components.transformer.config["image_dim"] is not None:
        image_embeds = pipeline.encode_image(pictures[0], components.device)
    return ImageCondition(channels=condition[0], image_embeds=image_embeds)
