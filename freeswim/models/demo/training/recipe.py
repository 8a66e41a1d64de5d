"""Every number of a training run. The same recipe on the same machine gives the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

PIXELS = 16  # along a side of a token
NATIVE = 8  # tokens along a side of the size that koi are counted at
MAX_TEXT = 16  # tokens of the longest caption, its end and one pad


@dataclass(frozen=True)
class Schedule:
    """How long one stage trains, and how fast."""

    steps: int
    warmup: int  # steps until the full rate
    cooldown: float  # share of the steps, the last ones, over which the rate falls to `floor`
    save_every: int  # steps; what a kill costs at most
    log_every: int
    check_every: int  # steps between measurements on what is not trained on
    floor: float = 0.02
    height: float = 1.0  # share of the full rate that is reached

    def rate(self, step: int) -> float:
        """What the learning rates are multiplied with at `step`, 0…1."""
        left = min(1.0, (self.steps - step) / (self.cooldown * self.steps))
        share = self.floor + (1 - self.floor) * left
        return self.height * min(1.0, (step + 1) / self.warmup) * share


@dataclass(frozen=True)
class Bucket:
    """Clips of one size: rendered and encoded once, trained on together."""

    rows: int  # tokens
    columns: int
    frames: int  # 1: single frames, a first latent frame each; else 4n + 1
    clips: int  # how many there are
    batch: int
    share: float  # of the steps with clips, or of those with single frames

    @property
    def name(self) -> str:
        """In file names and logs."""
        return f"{self.rows}x{self.columns}x{self.frames}"


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    name: str  # in logs
    autoencoder: Schedule  # encoder and decoder
    decoder: Schedule  # the decoder alone, for texture
    transformer: Schedule  # with the text encoder
    buckets: tuple[Bucket, ...]
    vae_config: Mapping[str, Any]
    transformer_config: Mapping[str, Any]
    text_config: Mapping[str, Any]
    seed: int = 0
    shift: float = 2.0  # of the noise levels that are trained on, towards more noise
    counted: float | None = None  # share of clips that say how many koi; None: as many as there are
    # How far velocities for one, two and three koi (rows) are pushed from those for one, two and
    # three (columns), as multiples of the differences; None: it learns from clips alone.
    pushes: tuple[tuple[float, float, float], ...] | None = None
    crops: int = 8  # in a batch of the autoencoder
    crop_side: int = 64  # pixels
    crop_frames: int = 9  # the third latent frame takes the path of all that follow
    shard: int = 128  # clips of a file of latents
    first_frames_share: float = 0.7  # of the steps that train on single frames, at the start ...
    last_frames_share: float = 0.25  # ... and from `settled` on
    settled: float = 0.4  # share of the steps
    native_frames: int = 17
    check_prompts: int = 24
    check_steps: int = 25
    compiled: bool = True


def _vae(base: int, decoder: int, channels: int) -> dict[str, Any]:
    """16 times smaller in space, 4 times in time: patches of 4, then two halvings."""
    return dict(
        base_dim=base, decoder_base_dim=decoder, z_dim=channels, dim_mult=[1, 2, 2],
        num_res_blocks=1, temperal_downsample=[True, True], is_residual=True,
        in_channels=48, out_channels=48, patch_size=4,
        scale_factor_temporal=4, scale_factor_spatial=PIXELS,
        latents_mean=[0.0] * channels, latents_std=[1.0] * channels,
    )  # fmt: skip


def _transformer(heads: int, head_dim: int, layers: int, ffn: int, channels: int) -> dict[str, Any]:
    return dict(
        patch_size=(1, 1, 1), num_attention_heads=heads, attention_head_dim=head_dim,
        in_channels=channels, out_channels=channels, text_dim=64, freq_dim=64, ffn_dim=ffn,
        num_layers=layers, rope_max_seq_len=256,
    )  # fmt: skip


_TEXT: dict[str, Any] = dict(
    d_model=64, d_kv=16, num_heads=4, d_ff=128, num_layers=2,
    relative_attention_num_buckets=16, relative_attention_max_distance=32,
    feed_forward_proj="gated-gelu", dropout_rate=0.0, pad_token_id=0, eos_token_id=1,
    is_encoder_decoder=False, tie_word_embeddings=False,
)  # fmt: skip

FULL = Recipe(
    name="full",
    autoencoder=Schedule(5000, 60, 0.6, 100, 50, 500),
    decoder=Schedule(4000, 60, 0.6, 100, 50, 500),
    transformer=Schedule(16000, 150, 0.5, 200, 100, 2000),
    # Nine tenths of the work on the native grid, where koi are counted. The larger grids are there
    # so that rotary positions beyond it, and koi larger than there, are nothing new.
    buckets=(
        Bucket(8, 8, 17, clips=9000, batch=12, share=0.84),
        Bucket(8, 12, 17, clips=640, batch=8, share=0.04),
        Bucket(12, 8, 17, clips=640, batch=8, share=0.04),
        Bucket(12, 12, 17, clips=768, batch=5, share=0.05),
        Bucket(16, 16, 17, clips=384, batch=3, share=0.03),
        Bucket(8, 8, 1, clips=12032, batch=48, share=0.7),
        Bucket(12, 12, 1, clips=3072, batch=24, share=0.15),
        Bucket(16, 16, 1, clips=2048, batch=12, share=0.15),
    ),
    vae_config=_vae(16, 24, 48),
    transformer_config=_transformer(4, 48, 6, 640, 48),
    text_config=_TEXT,
)

# Another round for the transformer of a finished checkpoint, on clips that it has not seen. How many
# koi there are is decided where the noise is strongest, so most of it is spent there, on clips that
# say how many.
AGAIN = replace(
    FULL,
    name="again",
    transformer=Schedule(7000, 300, 0.8, 200, 100, 2000, height=0.5),
    buckets=(
        Bucket(8, 8, 17, clips=4096, batch=12, share=0.84),
        Bucket(8, 12, 17, clips=320, batch=8, share=0.04),
        Bucket(12, 8, 17, clips=320, batch=8, share=0.04),
        Bucket(12, 12, 17, clips=384, batch=5, share=0.05),
        Bucket(16, 16, 17, clips=192, batch=3, share=0.03),
        Bucket(8, 8, 1, clips=4096, batch=48, share=0.7),
        Bucket(12, 12, 1, clips=1024, batch=24, share=0.15),
        Bucket(16, 16, 1, clips=1024, batch=12, share=0.15),
    ),
    seed=1,
    shift=8.0,
    counted=0.85,
    first_frames_share=0.25,
)

# A last, short round on the clips of AGAIN: it learns to keep to a count by what it knows. It errs
# towards more koi. Two is pushed from both neighbours, and further from three. What three is mistaken
# for is four, which it does not know; so three goes a little towards two. Guidance multiplies each of
# these, by 2.5 in the preset.
COUNTS = replace(
    AGAIN,
    name="counts",
    transformer=Schedule(600, 20, 0.7, 50, 25, 600),
    buckets=(replace(AGAIN.buckets[0], batch=16), *AGAIN.buckets[1:]),
    shift=3.0,
    counted=None,
    pushes=((0.0, 0.3, 0.0), (1.0, 0.0, 2.0), (0.0, -0.25, 0.0)),
)

# Shows that every stage runs; what it makes shows nothing.
QUICK = Recipe(
    name="quick",
    autoencoder=Schedule(4, 2, 0.5, 2, 1, 4),
    decoder=Schedule(4, 2, 0.5, 2, 1, 4),
    transformer=Schedule(6, 2, 0.5, 2, 1, 6),
    buckets=(
        Bucket(2, 2, 5, clips=6, batch=2, share=0.5),
        Bucket(2, 3, 5, clips=3, batch=2, share=0.5),
        Bucket(2, 2, 1, clips=6, batch=4, share=1.0),
    ),
    vae_config=_vae(4, 4, 8),
    transformer_config=_transformer(2, 12, 2, 32, 8),
    text_config=_TEXT | dict(num_layers=1, d_ff=32),
    crops=1,
    crop_side=32,
    crop_frames=5,
    shard=3,
    native_frames=5,
    check_prompts=1,
    check_steps=2,
    compiled=False,
)

QUICK_AGAIN = replace(QUICK, name="quick, again", seed=1, shift=8.0, counted=0.85)
QUICK_COUNTS = replace(QUICK_AGAIN, name="quick, counts", pushes=COUNTS.pushes)
