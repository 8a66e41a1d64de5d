"""Tiny checkpoints with random weights, on disk as the published repositories have them.

Real classes at tiny configurations, saved by their own `save_pretrained`, then put into the
published form where it differs from what today's libraries write: the text encoder's embedding is
stored once and its configuration says that it is not tied, the image encoder's names begin with
`vision_model.`, and the configurations lack every key that is younger than the repository.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

WORDS = ["<pad>", "</s>", "<unk>", "a", "koi", "swims", "in", "green", "water", "blurred"]
TEXT_DIM = 16
IMAGE_DIM = 24

YOUNGER_KEYS = {
    "vae": (
        "decoder_base_dim", "is_residual", "in_channels", "out_channels", "patch_size",
        "scale_factor_temporal", "scale_factor_spatial",
    ),
    "scheduler": ("shift_terminal", "sigma_min", "sigma_max"),
}  # fmt: skip


# ------------------------------------------------------------------------------- checkpoints


def write_all(folder: Path) -> None:
    """Every downloadable checkpoint of the catalog, in folders of their catalog names."""
    text_to_video(folder / "wan2.1-t2v-1.3b", max_shard_size="40KB")
    text_to_video(folder / "wan2.1-t2v-14b")
    image_to_video(folder / "wan2.1-i2v-14b-480p")
    shutil.copytree(folder / "wan2.1-i2v-14b-480p", folder / "wan2.1-i2v-14b-720p")
    text_and_image_to_video(folder / "wan2.2-ti2v-5b")
    two_experts(folder / "wan2.2-t2v-a14b", boundary_ratio=0.875, in_channels=16)
    two_experts(folder / "wan2.2-i2v-a14b", boundary_ratio=0.9, in_channels=36)


def text_to_video(folder: Path, max_shard_size: str = "10GB") -> None:
    """Wan 2.1 T2V: 16 channels, autoencoder of factor 8."""
    _write_common(folder, flow_shift=3.0)
    _write_old_vae(folder / "vae")
    _write_transformer(folder / "transformer", seed=0, max_shard_size=max_shard_size)
    _write_index(folder, "WanPipeline")


def image_to_video(folder: Path) -> None:
    """Wan 2.1 I2V: the image as 20 more channels, and through an image encoder."""
    _write_common(folder, flow_shift=5.0)
    _write_old_vae(folder / "vae")
    _write_image_encoder(folder)
    _write_transformer(
        folder / "transformer", seed=1, in_channels=36, image_dim=IMAGE_DIM, added_kv_proj_dim=24
    )
    _write_index(
        folder,
        "WanImageToVideoPipeline",
        image_encoder=["transformers", "CLIPVisionModel"],
        image_processor=["transformers", "CLIPImageProcessor"],
    )


def text_and_image_to_video(folder: Path) -> None:
    """Wan 2.2 TI2V 5B: 48 channels, autoencoder of factor 16, a timestep for each token."""
    _write_common(folder, flow_shift=5.0)
    seeded(2, _tiny_vae, **NEW_VAE).save_pretrained(folder / "vae")
    # A key of the published file that diffusers does not know.
    edit_json(folder / "vae/config.json", lambda said: said | {"clip_output": False})
    _write_transformer(folder / "transformer", seed=2, in_channels=48, out_channels=48)
    _write_index(folder, "WanPipeline", boundary_ratio=None, expand_timesteps=True)


def two_experts(folder: Path, *, boundary_ratio: float, in_channels: int) -> None:
    """Wan 2.2 A14B: a transformer for high noise and one for low; no image encoder."""
    _write_common(folder, flow_shift=3.0)
    _write_old_vae(folder / "vae")
    _write_transformer(folder / "transformer", seed=3, in_channels=in_channels)
    _write_transformer(folder / "transformer_2", seed=4, in_channels=in_channels)
    _write_index(
        folder,
        "WanPipeline" if in_channels == 16 else "WanImageToVideoPipeline",
        boundary_ratio=boundary_ratio,
        transformer_2=["diffusers", "WanTransformer3DModel"],
        image_encoder=[None, None],
        image_processor=[None, None],
    )


# --------------------------------------------------------------------------------- components

NEW_VAE = {
    "z_dim": 48, "in_channels": 12, "out_channels": 12, "is_residual": True, "patch_size": 2,
    "scale_factor_spatial": 16, "scale_factor_temporal": 4, "decoder_base_dim": 4,
    "latents_mean": [0.1 * (channel % 5 - 2) for channel in range(48)],
    "latents_std": [0.5 + 0.05 * (channel % 7) for channel in range(48)],
}  # fmt: skip


def seeded(seed: int, make: Callable[..., Any], **config: Any) -> Any:
    """What `make` makes with random weights that depend on `seed` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(**config)


def _tiny_vae(**config: Any) -> AutoencoderKLWan:
    shape = {"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return AutoencoderKLWan(**{**shape, **config})


def _write_old_vae(folder: Path) -> None:
    seeded(1, _tiny_vae, z_dim=16).save_pretrained(folder)
    _drop_younger_keys(folder / "config.json", "vae")


def _write_transformer(
    folder: Path, *, seed: int, max_shard_size: str = "10GB", **config: Any
) -> None:
    shape = {
        "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12,
        "in_channels": 16, "out_channels": 16, "text_dim": TEXT_DIM, "freq_dim": 16,
        "ffn_dim": 32, "num_layers": 2, "cross_attn_norm": True, "rope_max_seq_len": 1024,
    }  # fmt: skip
    model = seeded(seed, WanTransformer3DModel, **{**shape, **config})
    model.save_pretrained(folder, max_shard_size=max_shard_size)


def _write_common(folder: Path, *, flow_shift: float) -> None:
    """What all checkpoints have alike: text encoder, tokenizer, scheduler."""
    _write_text_encoder(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=flow_shift,
        num_train_timesteps=1000,
    ).save_pretrained(folder / "scheduler")
    _drop_younger_keys(folder / "scheduler" / "scheduler_config.json", "scheduler")


def _write_text_encoder(folder: Path) -> None:
    config = UMT5Config(
        vocab_size=len(WORDS), d_model=TEXT_DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    encoder = seeded(5, UMT5EncoderModel, config=config).to(torch.bfloat16)
    encoder.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    assert "shared.weight" in weights
    weights.pop("encoder.embed_tokens.weight", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(
        folder / "config.json",
        lambda said: said | {"tie_word_embeddings": False, "torch_dtype": said.pop("dtype")},
    )


def _write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", WORDS.index("</s>"))]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "T5Tokenizer",
            "model_max_length": 512,
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "sp_model_kwargs": {},
        },
    )


def _write_image_encoder(folder: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=IMAGE_DIM, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    encoder = folder / "image_encoder"
    seeded(6, CLIPVisionModel, config=config).save_pretrained(encoder)
    weights = {
        f"vision_model.{name.removeprefix('vision_model.')}": weight
        for name, weight in load_file(encoder / "model.safetensors").items()
    }
    save_file(weights, encoder / "model.safetensors", metadata={"format": "pt"})
    (folder / "image_processor").mkdir()
    write_json(
        folder / "image_processor" / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": 28},
            "do_center_crop": True,
            "crop_size": {"height": 28, "width": 28},
            "resample": 3,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "do_convert_rgb": True,
        },
    )


def _write_index(folder: Path, pipeline: str, **entries: Any) -> None:
    write_json(
        folder / "model_index.json",
        {
            "_class_name": pipeline,
            "_diffusers_version": "0.33.0.dev0",
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
            "text_encoder": ["transformers", "UMT5EncoderModel"],
            "tokenizer": ["transformers", "T5TokenizerFast"],
            "transformer": ["diffusers", "WanTransformer3DModel"],
            "vae": ["diffusers", "AutoencoderKLWan"],
            **entries,
        },
    )


# --------------------------------------------------------------------------------------- JSON


def _drop_younger_keys(path: Path, component: str) -> None:
    edit_json(
        path,
        lambda said: {
            key: value for key, value in said.items() if key not in YOUNGER_KEYS[component]
        },
    )


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Replace what the file says by what `change` makes of it."""
    write_json(path, change(json.loads(path.read_text("utf-8"))))


def write_json(path: Path, content: object) -> None:
    """Write `content` as the hub's files look."""
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
