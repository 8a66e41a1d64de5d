"""The supported checkpoints: what they are, where they come from, and the sizes they were made for.

Adding a checkpoint is adding a row. Native sizes, rates and expert boundaries are those of the
published model cards; the files on disk decide the architecture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from freeswim.errors import RequestError


@dataclass(frozen=True)
class Autoencoder:
    """What an autoencoder costs, float32."""

    parameters: int
    latent_channels: int
    # Bytes for each pixel of what is coded at once, counted while 9 frames were coded.
    encode_bytes: int
    decode_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Of all its weights."""
        return 4 * self.parameters


@dataclass(frozen=True)
class Architecture:
    """What decides the cost of a checkpoint's transformer; the files on disk decide the model."""

    width: int  # D
    heads: int
    ffn_width: int  # F
    blocks: int
    in_channels: int
    autoencoder: Autoencoder
    patch: int = 2  # side of a token, latents
    text_width: int = 4096
    time_width: int = 256
    text_encoder_parameters: int = 5_680_910_336  # UMT5-XXL's encoder
    image_width: int = 0  # of the image encoder (CLIP ViT-H of Wan 2.1); 0: there is none

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def block_parameters(self) -> int:
        """Weights of one block."""
        width = self.width
        attention = 4 * (width * width + width) + 2 * width  # with the norms of query and key
        image = 2 * (width * width + width) + width if self.image_width else 0
        ffn = 2 * width * self.ffn_width + self.ffn_width + width
        return 2 * attention + image + ffn + 2 * width + 6 * width  # a norm; the modulation

    @property
    def other_parameters(self) -> int:
        """Weights outside the blocks."""
        width, pixels = self.width, self.patch**2
        patches = self.in_channels * pixels * width + width
        out = width * pixels * self.autoencoder.latent_channels
        out += pixels * self.autoencoder.latent_channels + 2 * width
        text = self.text_width * width + width + width * width + width
        time = self.time_width * width + width + width * width + width + 6 * (width * width + width)
        image = 0
        if self.image_width:
            side = self.image_width
            image = side * side + side + side * width + width + 2 * side + 2 * width
        return patches + out + text + time + image

    @property
    def parameters(self) -> int:
        """Weights of one transformer."""
        return self.blocks * self.block_parameters + self.other_parameters


@dataclass(frozen=True)
class Checkpoint:
    """One row of the catalog."""

    name: str  # what a request and a preset call it
    title: str  # what a person reads
    speed: str  # what a person can expect, in words
    fidelity: str
    least_gpu_gb: int  # of a GPU that makes 1080p takes with it, GB; 0: any machine does
    repository: str | None  # on the Hugging Face hub, diffusers layout; None: inside this package
    licence: str  # SPDX identifier of the weights' licence
    native_width: int  # pixels of the size it was trained on
    native_height: int
    native_frames: int  # 4n + 1
    frame_rate: Fraction  # frames per second that it makes
    multiple: int  # width and height must be multiples of it: autoencoder factor times patch
    architecture: Architecture
    takes_text: bool = True  # makes a clip from a prompt alone
    takes_image: bool = False  # makes a clip from a first frame
    takes_last_image: bool = False  # and ends it on a last frame
    num_experts: int = 1  # transformers, high noise first
    max_text_tokens: int = 512  # longer prompts are cut
    max_positions: int = 1024  # of its position table: latent frames, and tokens along a side
    recommended_gpu_gb: int = 0  # the first choice for GPUs from this size on; 0: for none
    revision: str = "main"  # of the repository; the commit it means is pinned when it is fetched
    text_encoder_width: int = 4  # bytes of each of its weights as they are published

    @property
    def download_bytes(self) -> int:
        """Of its published weights, to the megabyte; the Hub's list of files says it exactly.

        Counted from the architecture: all published weights are float32 but Wan 2.2's text
        encoder, which is bfloat16.
        """
        size = self.architecture
        image_encoder = _CLIP_PARAMETERS if size.image_width else 0
        weights = 4 * (self.num_experts * size.parameters + image_encoder)
        text = self.text_encoder_width * size.text_encoder_parameters
        return weights + text + size.autoencoder.weight_bytes

    @property
    def max_side(self) -> int:
        """Pixels of the longest side that can be computed; H.264 players end at 8192."""
        return min(8192, self.max_positions * self.multiple)

    @property
    def max_frames(self) -> int:
        """Frames of the longest clip that can be computed."""
        return 4 * (self.max_positions - 1) + 1

    def computed_size(self, width: int, height: int) -> tuple[int, int]:
        """The smallest size this checkpoint can compute that covers (width, height)."""
        return _up(width, self.multiple), _up(height, self.multiple)

    def base_size(self, width: int, height: int) -> tuple[int, int]:
        """Size of the base pass for a target of (width, height): native area, target's aspect.

        An aspect within 5 % of the native one takes the native size itself, as the official
        program does for 832x480 → 1920x1088. A portrait has that of its landscape, turned. Never
        larger than what the target needs.
        """
        if height > width:
            turned = self.base_size(height, width)
            return turned[1], turned[0]
        aspect = width / height
        native_aspect = self.native_width / self.native_height
        if abs(aspect / native_aspect - 1) <= 0.05:
            base = (self.native_width, self.native_height)
        else:
            area = self.native_width * self.native_height
            base = (
                _nearest(math.sqrt(area * aspect), self.multiple),
                _nearest(math.sqrt(area / aspect), self.multiple),
            )
        computed = self.computed_size(width, height)
        if computed[0] <= base[0] and computed[1] <= base[1]:
            return computed
        return base

    def computed_frames(self, frames: int) -> int:
        """The smallest 4n + 1 that covers `frames`."""
        return 4 * math.ceil((frames - 1) / 4) + 1


def recommended(gpu_bytes: int) -> Checkpoint | None:
    """The first choice for a GPU with this much memory; None: it is too small for any.

    Args:
        gpu_bytes: all of its memory; a GPU that is sold as 24 GB has a little more or less.
    """
    gigabytes = 1.05 * gpu_bytes / 2**30
    fitting = [row for row in CATALOG if 0 < row.recommended_gpu_gb <= gigabytes]
    return max(fitting, key=lambda row: row.recommended_gpu_gb, default=None)


def _up(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


def _nearest(size: float, multiple: int) -> int:
    return max(1, round(size / multiple)) * multiple


def find_checkpoint(name: str) -> Checkpoint:
    """The row called `name`.

    Raises:
        RequestError: there is none.
    """
    for checkpoint in CATALOG:
        if checkpoint.name == name:
            return checkpoint
    raise RequestError(
        f"There is no checkpoint called {name!r}.",
        hint=f"Use one of: {', '.join(checkpoint.name for checkpoint in CATALOG)}.",
    )


_WAN_RATE = Fraction(16)
_CLIP_PARAMETERS = 630_766_080  # of CLIP ViT-H/14's image half, which Wan 2.1 sees images with

_DEMO_VAE = Autoencoder(1_356_584, latent_channels=48, encode_bytes=400, decode_bytes=570)
_VAE_2_1 = Autoencoder(126_892_531, latent_channels=16, encode_bytes=14_300, decode_bytes=19_700)
_VAE_2_2 = Autoencoder(704_688_668, latent_channels=48, encode_bytes=7_420, decode_bytes=21_900)

_SIZE_DEMO = Architecture(
    width=192, heads=4, ffn_width=640, blocks=6, in_channels=48, autoencoder=_DEMO_VAE, patch=1,
    text_width=64, time_width=64, text_encoder_parameters=84_544,
)  # fmt: skip
_SIZE_1_3B = Architecture(
    width=1536, heads=12, ffn_width=8960, blocks=30, in_channels=16, autoencoder=_VAE_2_1
)
_SIZE_5B = Architecture(
    width=3072, heads=24, ffn_width=14_336, blocks=30, in_channels=48, autoencoder=_VAE_2_2
)
_SIZE_14B = Architecture(
    width=5120, heads=40, ffn_width=13_824, blocks=40, in_channels=16, autoencoder=_VAE_2_1
)
# An encoded image and its mask are joined to the latents.
_SIZE_14B_IMAGE = replace(_SIZE_14B, in_channels=36)

CATALOG: tuple[Checkpoint, ...] = (
    Checkpoint(
        name="demo",
        title="Demo (koi)",
        speed="A minute on any processor",
        fidelity="Koi only: shows how it works",
        least_gpu_gb=0,
        repository=None,
        licence="MIT",
        native_width=128,
        native_height=128,
        native_frames=17,
        frame_rate=Fraction(8),
        multiple=16,
        architecture=_SIZE_DEMO,
        max_text_tokens=32,
        max_positions=256,
    ),
    Checkpoint(
        name="wan2.1-t2v-1.3b",
        title="Wan 2.1 1.3B, text to video",
        speed="Quick: 1080p on one consumer GPU",
        fidelity="Good detail",
        least_gpu_gb=12,
        repository="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        licence="Apache-2.0",
        native_width=832,
        native_height=480,
        native_frames=81,
        frame_rate=_WAN_RATE,
        multiple=16,
        architecture=_SIZE_1_3B,
        recommended_gpu_gb=12,
    ),
    Checkpoint(
        name="wan2.1-t2v-14b",
        title="Wan 2.1 14B, text to video",
        speed="Slow: ten times the work of the 1.3B",
        fidelity="Fine detail",
        least_gpu_gb=32,
        repository="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        licence="Apache-2.0",
        native_width=1280,
        native_height=720,
        native_frames=81,
        frame_rate=_WAN_RATE,
        multiple=16,
        architecture=_SIZE_14B,
        recommended_gpu_gb=80,
    ),
    Checkpoint(
        name="wan2.1-i2v-14b-480p",
        title="Wan 2.1 14B 480p, image to video",
        speed="Slow: ten times the work of the 1.3B",
        fidelity="Fine detail, true to the first frame",
        least_gpu_gb=32,
        repository="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        licence="Apache-2.0",
        native_width=832,
        native_height=480,
        native_frames=81,
        frame_rate=_WAN_RATE,
        multiple=16,
        architecture=replace(_SIZE_14B_IMAGE, image_width=1280),
        takes_text=False,
        takes_image=True,
    ),
    Checkpoint(
        name="wan2.1-i2v-14b-720p",
        title="Wan 2.1 14B 720p, image to video",
        speed="Slow: ten times the work of the 1.3B",
        fidelity="Fine detail, true to the first frame",
        least_gpu_gb=32,
        repository="Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
        licence="Apache-2.0",
        native_width=1280,
        native_height=720,
        native_frames=81,
        frame_rate=_WAN_RATE,
        multiple=16,
        architecture=replace(_SIZE_14B_IMAGE, image_width=1280),
        takes_text=False,
        takes_image=True,
    ),
    Checkpoint(
        name="wan2.2-ti2v-5b",
        title="Wan 2.2 5B, text or image to video",
        speed="Medium: 24 frames per second at 720p",
        fidelity="Better detail, from a prompt or a first frame",
        least_gpu_gb=20,
        repository="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        licence="Apache-2.0",
        native_width=1280,
        native_height=704,
        native_frames=121,
        frame_rate=Fraction(24),
        multiple=32,
        architecture=_SIZE_5B,
        takes_image=True,
        recommended_gpu_gb=32,
        text_encoder_width=2,
    ),
    Checkpoint(
        name="wan2.2-t2v-a14b",
        title="Wan 2.2 A14B, text to video, two experts",
        speed="Slow: two experts take turns",
        fidelity="Finest detail",
        least_gpu_gb=32,
        repository="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        licence="Apache-2.0",
        native_width=1280,
        native_height=720,
        native_frames=81,
        frame_rate=_WAN_RATE,
        multiple=16,
        architecture=_SIZE_14B,
        num_experts=2,
        text_encoder_width=2,
    ),
    Checkpoint(
        name="wan2.2-i2v-a14b",
        title="Wan 2.2 A14B, image to video, two experts",
        speed="Slow: two experts take turns",
        fidelity="Finest detail, between a first and a last frame",
        least_gpu_gb=32,
        repository="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        licence="Apache-2.0",
        native_width=1280,
        native_height=720,
        native_frames=81,
        frame_rate=_WAN_RATE,
        multiple=16,
        architecture=_SIZE_14B_IMAGE,
        takes_text=False,
        takes_image=True,
        takes_last_image=True,
        num_experts=2,
        text_encoder_width=2,
    ),
)
