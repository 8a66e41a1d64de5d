"""What a transformer sees beside noise: the encoded prompt, and the encoded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        image_embeds = pipeline.encode_image(pictures[0], pipeline.image_encoder.device)
        image_embeds = image_embeds.to(components.device)
    return ImageCondition(channels=condition[0], image_embeds=image_embeds)
