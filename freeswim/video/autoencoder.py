"""Video <-> latents through the checkpoint's autoencoder, in memory that the clip does not decide.

Frames up to WHOLE_FRAME are coded in one piece, a few at a time. Larger ones are coded in tiles:
each tile goes through the whole clip before the next begins, because the state that the
autoencoder carries through time belongs to the tile and is far larger than its pixels. Wan 2.1 at
3840x2160 in float32 carries 124 GiB for all tiles together and 2.3 GiB for one; 81 frames of
pixels, which wait in a temporary file instead, are 3.8 GiB. Frames are finished with the last tile.

The model's own caches and its tiling switch are never used, so nothing has to be put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, patchify, unpatchify
from torch import Tensor, nn

from freeswim.errors import MediaError
from freeswim.limits import STRIDE, TILE, WHOLE_FRAME
from freeswim.video.tiles import Scratch, Seams, Tile, cut_frame

OnFrame = Callable[[int], None]


def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Latents of a video, normalised per channel as the transformer wants them.

    Args:
        video: (1, 3, frames, height, width) in [-1, 1]; 4n + 1 frames; sides multiples of the
            autoencoder's spatial factor; on any device.

    Returns:
        (1, C, latent frames, latent height, latent width), float32, on the autoencoder's device;
        mode of the posterior.
    """
    grid = _Grid.of_pixels(vae, (video.shape[4], video.shape[3]))
    with Scratch() as scratch:
        return _encode(
            vae,
            grid,
            lambda tile: iter(tile.cut(video[0], grid.factor).unbind(1)),
            video.shape[2],
            scratch,
            on_frame=None,
        )


def encode_frames(
    vae: AutoencoderKLWan,
    frames: Iterable[Tensor],
    *,
    num_frames: int,
    size: tuple[int, int],
    on_frame: OnFrame | None = None,
    folder: Path | None = None,
) -> Tensor:
    """Latents of frames that come one after the other; as `encode`, but no clip is in memory.

    Args:
        frames: (3, height, width) in [-1, 1] each, on any device. Those of tiled frames wait on
            the disk with 16 bits a channel.
        num_frames: how many of them are taken, 4n + 1.
        size: their (width, height), multiples of the autoencoder's spatial factor.
        on_frame: called after each piece of the work with how many frames' worth of it is done;
            may raise to stop.
        folder: where the temporary file of tiled frames lies; 10 bytes a pixel and frame.

    Raises:
        MediaError: fewer frames came.
        OSError: the disk is full.
    """
    grid = _Grid.of_pixels(vae, size)
    taken = _exactly(frames, num_frames)
    with Scratch(folder) as scratch:
        if len(grid.tiles) == 1:
            return _encode(vae, grid, lambda _: taken, num_frames, scratch, on_frame)
        for index, frame in enumerate(taken):
            for tile in grid.tiles:
                scratch.put((tile, index), _as_integers(tile.cut(frame, grid.factor)))
        return _encode(
            vae,
            grid,
            lambda tile: (_as_floats(scratch.get((tile, index))) for index in range(num_frames)),
            num_frames,
            scratch,
            on_frame,
        )


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Video of normalised latents, (1, 3, frames, height, width) in [-1, 1], float32, on the CPU.

    All of it in memory; `decode_frames` spares that.
    """
    factor = vae.config["scale_factor_spatial"]
    num_frames = (latents.shape[2] - 1) * vae.config["scale_factor_temporal"] + 1
    video = torch.empty(1, 3, num_frames, latents.shape[3] * factor, latents.shape[4] * factor)
    for index, frame in enumerate(decode_frames(vae, latents)):
        video[0, :, index] = frame
    return video


def decode_frames(
    vae: AutoencoderKLWan,
    latents: Tensor,
    *,
    on_frame: OnFrame | None = None,
    folder: Path | None = None,
) -> Iterator[Tensor]:
    """Frames of normalised latents, in order, as they are finished.

    Args:
        latents: (1, C, latent frames, latent height, latent width), on any device.
        on_frame: called after each piece of the work with how many frames' worth of it is done;
            of tiled frames most is done before the first is finished. May raise to stop.
        folder: where the temporary file of tiled frames lies; 7 bytes a pixel and frame.

    Yields:
        (3, height, width) in [-1, 1], float32, on the CPU. Those of tiled frames have waited on
        the disk with 16 bits a channel, rounded as the video file rounds them.

    Raises:
        OSError: the disk is full.
    """
    grid = _Grid.of_latents(vae, (latents.shape[4], latents.shape[3]))
    report = _Report(on_frame, len(grid.tiles))
    *waiting, last = grid.tiles
    with Scratch(folder) as scratch:
        seams = Seams(scratch, grid.stride * grid.factor, grain=_patch(vae))
        for tile in waiting:
            for index, part in enumerate(_decode_tile(vae, latents, tile, seams)):
                scratch.put((tile, index), _as_integers(part))
                report.add(1)
        for index, part in enumerate(_decode_tile(vae, latents, last, seams)):
            parts = [(tile, _as_floats(scratch.get((tile, index)))) for tile in waiting]
            frame = _assemble(grid, [*parts, (last, part)]) if waiting else part
            report.add(1)
            yield frame


# --------------------------------------------------------------------------- where the tiles lie


@dataclass(frozen=True)
class _Grid:
    """The tiles of a frame."""

    tiles: list[Tile]  # in latents
    stride: int  # from one to the next, latents
    size: tuple[int, int]  # of the frame, (width, height), latents
    factor: int  # pixels along a side of a latent

    @classmethod
    def of_latents(cls, vae: AutoencoderKLWan, size: tuple[int, int]) -> _Grid:
        factor = vae.config["scale_factor_spatial"]
        if size[0] * size[1] * factor**2 <= WHOLE_FRAME:
            side = stride = max(size)
        else:
            side, stride = TILE // factor, STRIDE // factor
        return cls(cut_frame(size, side, stride), stride, size, factor)

    @classmethod
    def of_pixels(cls, vae: AutoencoderKLWan, size: tuple[int, int]) -> _Grid:
        factor = vae.config["scale_factor_spatial"]
        return cls.of_latents(vae, (size[0] // factor, size[1] // factor))


def _place(part: Tensor, tile: Tile, whole: Tensor, scale: int = 1) -> None:
    """Put the finished part of a tile where it belongs, (..., h, w) each."""
    tile.cut(whole, scale)[..., : part.shape[-2], : part.shape[-1]] = part


def _assemble(grid: _Grid, parts: list[tuple[Tile, Tensor]]) -> Tensor:
    """One frame of its tiles' parts, (3, height, width)."""
    width, height = grid.size
    frame = torch.empty(3, height * grid.factor, width * grid.factor)
    for tile, part in parts:
        _place(part, tile, frame, grid.factor)
    return frame


# ------------------------------------------------------------------------- a tile through the clip


def _encode(
    vae: AutoencoderKLWan,
    grid: _Grid,
    frames_of: Callable[[Tile], Iterator[Tensor]],
    num_frames: int,
    scratch: Scratch,
    on_frame: OnFrame | None,
) -> Tensor:
    """Normalised latents of what `frames_of` gives for each tile, (3, h, w) pixels a frame."""
    group = vae.config["scale_factor_temporal"]
    width, height = grid.size
    latents = torch.empty(1, vae.config["z_dim"], (num_frames - 1) // group + 1, height, width)
    seams, report = Seams(scratch, grid.stride), _Report(on_frame, len(grid.tiles))
    for tile in grid.tiles:
        cache = _empty_cache(vae.encoder)
        for index, frames in enumerate(_groups(frames_of(tile), group)):
            part = seams.blend(tile, index, _encode_group(vae, frames, cache))
            _place(part, tile, latents[:, :, index : index + 1])
            report.add(len(frames))
    mean, std = _statistics(vae, latents)
    return ((latents - mean) / std).to(vae.device)


@torch.no_grad()
def _encode_group(vae: AutoencoderKLWan, frames: list[Tensor], cache: list[Any]) -> Tensor:
    """One latent frame that follows those which `cache` remembers, (1, C, 1, h, w), on the CPU."""
    video = torch.stack(frames, dim=1)[None].to(vae.device, vae.dtype)
    moments = vae.quant_conv(
        vae.encoder(patchify(video, _patch(vae)), feat_cache=cache, feat_idx=[0])
    )
    return moments.chunk(2, dim=1)[0].float().cpu()


def _decode_tile(
    vae: AutoencoderKLWan, latents: Tensor, tile: Tile, seams: Seams
) -> Iterator[Tensor]:
    """The finished part of a tile in every frame, (3, h, w) in [-1, 1], on the CPU."""
    cache = _empty_cache(vae.decoder)
    for index in range(latents.shape[2]):
        video = _decode_group(vae, tile.cut(latents[:, :, index : index + 1]), cache)
        yield from seams.blend(tile, index, video).clamp(-1, 1)[0].unbind(1)


@torch.no_grad()
def _decode_group(vae: AutoencoderKLWan, latents: Tensor, cache: list[Any]) -> Tensor:
    """Frames of one latent frame that follows those of `cache`, (1, 3, 1 or 4, h, w), on the CPU."""
    mean, std = _statistics(vae, latents)
    latents = vae.post_quant_conv((latents * std + mean).to(vae.device, vae.dtype))
    is_first = cache[0] is None
    video = vae.decoder(latents, feat_cache=cache, feat_idx=[0], first_chunk=is_first)
    return unpatchify(video, _patch(vae)).float().cpu()


def _empty_cache(coder: nn.Module) -> list[Any]:
    """What `coder` remembers before its first frame: nothing, for each of its causal layers."""
    return [None for module in coder.modules() if isinstance(module, WanCausalConv3d)]


def _patch(vae: AutoencoderKLWan) -> int:
    """Pixels along a side of what the coders see as one pixel."""
    return vae.config["patch_size"] or 1


def _statistics(vae: AutoencoderKLWan, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, (1, C, 1, 1, 1)."""
    mean = torch.tensor(vae.config["latents_mean"]).view(1, -1, 1, 1, 1).to(latents)
    std = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1).to(latents)
    return mean, std


# ------------------------------------------------------------------------------------------ frames


class _Report:
    """Work on tiles, told as frames."""

    def __init__(self, on_frame: OnFrame | None, num_tiles: int) -> None:
        self._on_frame, self._num_tiles, self._done = on_frame, num_tiles, 0

    def add(self, num_frames: int) -> None:
        """So many more frames of one tile are done."""
        self._done += num_frames
        if self._on_frame is not None:
            self._on_frame(self._done // self._num_tiles)


def _exactly(frames: Iterable[Tensor], num_frames: int) -> Iterator[Tensor]:
    taken = 0
    for frame in islice(frames, num_frames):
        taken += 1
        yield frame
    if taken != num_frames:
        raise MediaError(f"{taken} frames came for a clip of {num_frames}.")


def _groups(frames: Iterator[Tensor], size: int) -> Iterator[list[Tensor]]:
    """The first frame alone, then `size` at a time: what one latent frame holds."""
    for first in frames:
        yield [first]
        while group := list(islice(frames, size)):
            yield group


def _as_integers(pixels: Tensor) -> np.ndarray:
    """[-1, 1] in the 65536 steps of the frames that are written."""
    return (pixels.cpu().numpy() * 32767.5 + 32768).clip(0, 65535).astype(np.uint16)


def _as_floats(steps: np.ndarray) -> Tensor:
    return torch.from_numpy(steps.astype(np.float32)) / 32767.5 - 1
