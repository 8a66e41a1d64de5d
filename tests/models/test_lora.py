"""LoRA files in every form, against diffusers' own loader and peft, and files that are none."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders import WanLoraLoaderMixin
from safetensors.torch import load_file, save_file
from torch import Tensor

from freeswim.errors import CheckpointMissing, LoraError
from freeswim.models.catalog import find_checkpoint
from freeswim.models.loading import Components, load, plan_loras
from freeswim.models.lora import apply_changes, plan_changes
from freeswim.request import Lora, Media

PLAIN, IMAGE, EXPERTS = "wan2.1-t2v-14b", "wan2.1-i2v-14b-480p", "wan2.2-t2v-a14b"
CPU = torch.device("cpu")
RANK, ALPHA = 2, 3.0

LoadTiny = Callable[[str], Components]
Weights = dict[str, Tensor]

# Modules of one block, as Wan calls them and as diffusers does.
BLOCK = {
    "self_attn.q": "attn1.to_q", "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v", "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q", "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v", "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2",
}  # fmt: skip
OF_IMAGE = {"cross_attn.k_img": "attn2.add_k_proj", "cross_attn.v_img": "attn2.add_v_proj"}
BLOCKS = {
    f"blocks.{block}.{wan}": f"blocks.{block}.{diffusers}"
    for block in range(2)
    for wan, diffusers in BLOCK.items()
}
BLOCKS_OF_IMAGE = BLOCKS | {
    f"blocks.{block}.{wan}": f"blocks.{block}.{diffusers}"
    for block in range(2)
    for wan, diffusers in OF_IMAGE.items()
}
OUTER = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}
EVERYWHERE = BLOCKS_OF_IMAGE | OUTER | {
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
}  # fmt: skip


# ----------------------------------------------------------------------------- LoRAs of all forms


def factors(transformer: WanTransformer3DModel, names: Mapping[str, str]) -> dict[str, Any]:
    """Wan's name -> (down, up) of a LoRA that changes all that `names` has."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for wan, diffusers in names.items():
        rows, columns = transformer.get_submodule(diffusers).weight.shape
        down = torch.randn(RANK, columns, generator=generator)
        found[wan] = (down, torch.randn(rows, RANK, generator=generator) / 10)
    return found


Form = Callable[[Mapping[str, Any], Mapping[str, str]], Weights]


def of_diffusers(pairs: Mapping[str, Any], names: Mapping[str, str]) -> Weights:
    scaled = {names[wan]: (down * ALPHA / RANK, up) for wan, (down, up) in pairs.items()}
    return as_peft(scaled, "transformer.")


def as_peft(pairs: Mapping[str, Any], prefix: str, adapter: str = "") -> Weights:
    keys = {}
    for name, (down, up) in pairs.items():
        keys |= {f"{prefix}{name}.lora_A{adapter}.weight": down}
        keys |= {f"{prefix}{name}.lora_B{adapter}.weight": up.contiguous()}
    return keys


def of_wan(prefix: str, adapter: str = "") -> Form:
    def made(pairs: Mapping[str, Any], names: Mapping[str, str]) -> Weights:
        scaled = {wan: (down * ALPHA / RANK, up) for wan, (down, up) in pairs.items()}
        return as_peft(scaled, prefix, adapter)

    return made


def with_alpha(prefix: str, dot: str = ".") -> Form:
    def made(pairs: Mapping[str, Any], names: Mapping[str, str]) -> Weights:
        keys = {}
        for wan, (down, up) in pairs.items():
            stem = prefix + wan.replace(".", dot)
            keys |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
            keys |= {f"{stem}.alpha": torch.tensor(ALPHA)}
        return keys

    return made


KNOWN_TO_DIFFUSERS: dict[str, Form] = {
    "diffusers": of_diffusers,
    "ComfyUI": of_wan("diffusion_model."),
    "ComfyUI with alpha": with_alpha("diffusion_model."),
    "musubi": with_alpha("lora_unet_", "_"),
}
OTHERS: dict[str, Form] = {
    "peft": of_wan("base_model.model."),
    "DiffSynth": of_wan("", ".default"),
    "DiffSynth pipeline": of_wan("pipe.dit."),
    "VideoX-Fun": with_alpha("lora_unet__", "_"),
    "original checkpoint": of_wan("model.diffusion_model."),
}
both_kinds = pytest.mark.parametrize("checkpoint", [PLAIN, IMAGE])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "koi.safetensors"


def saved(file: Path, keys: Weights, metadata: dict[str, str] | None = None) -> Lora:
    save_file({key: tensor.clone() for key, tensor in keys.items()}, file, metadata)
    return Lora(file=Media.of(file))


def add(transformer: WanTransformer3DModel, *loras: Lora) -> WanTransformer3DModel:
    shapes = {name: tuple(weight.shape) for name, weight in transformer.named_parameters()}
    apply_changes(transformer, plan_changes(loras, shapes), CPU)
    return transformer


def weights_of(transformer: WanTransformer3DModel) -> Weights:
    return {name: weight.clone() for name, weight in transformer.state_dict().items()}


def velocity(transformer: WanTransformer3DModel) -> Tensor:
    """What the transformer makes of some noise."""
    generator = torch.Generator().manual_seed(2)
    config = transformer.config
    latents = torch.randn(1, config["in_channels"], 2, 8, 8, generator=generator)
    text = torch.randn(1, 6, config["text_dim"], generator=generator)
    image = config["image_dim"] and torch.randn(1, 5, config["image_dim"], generator=generator)
    with torch.no_grad():
        return transformer(latents, torch.tensor([500]), text, image, return_dict=False)[0]


@pytest.mark.parametrize("form", KNOWN_TO_DIFFUSERS)
@both_kinds
def test_sum_is_what_diffusers_and_peft_compute_beside_the_weights(
    form: str, checkpoint: str, load_tiny: LoadTiny, file: Path
):
    names = BLOCKS_OF_IMAGE if checkpoint == IMAGE else BLOCKS
    transformer, reference = (load_tiny(checkpoint).transformer for _ in range(2))
    lora = saved(file, KNOWN_TO_DIFFUSERS[form](factors(transformer, names), names))
    without = velocity(transformer)
    reference.load_lora_adapter(WanLoraLoaderMixin.lora_state_dict(load_file(file)))
    expected = velocity(reference)
    assert (expected - without).abs().max() > 0.01
    torch.testing.assert_close(velocity(add(transformer, lora)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", [*KNOWN_TO_DIFFUSERS, *OTHERS])
@both_kinds
def test_every_form_of_a_lora_gives_the_same_weights(
    form: str, checkpoint: str, load_tiny: LoadTiny, file: Path
):
    names = EVERYWHERE if checkpoint == IMAGE else BLOCKS | OUTER
    transformer = load_tiny(checkpoint).transformer
    expected, pairs = weights_of(transformer), factors(transformer, names)
    for wan, (down, up) in pairs.items():
        expected[f"{names[wan]}.weight"] += up @ down * ALPHA / RANK
    lora = saved(file, (KNOWN_TO_DIFFUSERS | OTHERS)[form](pairs, names))
    torch.testing.assert_close(weights_of(add(transformer, lora)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Already found a .peft_config.:UserWarning")
def test_loras_add_up_with_their_weights(load_tiny: LoadTiny, tmp_path: Path):
    transformer, reference = (load_tiny(PLAIN).transformer for _ in range(2))
    pairs = factors(transformer, BLOCKS)
    halves = [dict(list(pairs.items())[:15]), dict(list(pairs.items())[5:])]
    weights = [0.8, -0.3]
    loras = []
    for index, half in enumerate(halves):
        lora = saved(tmp_path / f"{index}.safetensors", of_diffusers(half, BLOCKS))
        loras.append(lora.model_copy(update={"weight": weights[index]}))
        reference.load_lora_adapter(load_file(lora.file.path), adapter_name=f"lora_{index}")
    reference.set_adapters(["lora_0", "lora_1"], weights)
    add(transformer, *loras)
    torch.testing.assert_close(velocity(transformer), velocity(reference), rtol=1e-5, atol=1e-5)


def test_weight_0_changes_no_bit(load_tiny: LoadTiny, file: Path):
    transformer = load_tiny(PLAIN).transformer
    before = weights_of(transformer)
    lora = saved(file, of_diffusers(factors(transformer, BLOCKS), BLOCKS))
    after = weights_of(add(transformer, lora.model_copy(update={"weight": 0.0})))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_negative_weight_takes_away_what_the_positive_adds(load_tiny: LoadTiny, file: Path):
    transformer = load_tiny(PLAIN).transformer
    before = weights_of(transformer)
    lora = saved(file, of_diffusers(factors(transformer, BLOCKS), BLOCKS))
    taken = lora.model_copy(update={"weight": -1.0})
    torch.testing.assert_close(weights_of(add(transformer, lora, taken)), before)


def test_transformer_stays_unmodified_but_for_its_weights(load_tiny: LoadTiny, file: Path):
    transformer, other = (load_tiny(PLAIN).transformer for _ in range(2))
    add(transformer, saved(file, of_diffusers(factors(transformer, BLOCKS), BLOCKS)))
    modules, others = (
        {name: type(module) for name, module in model.named_modules()}
        for model in (transformer, other)
    )
    assert modules == others
    assert transformer.state_dict().keys() == other.state_dict().keys()
    assert not hasattr(transformer, "peft_config")


def test_changes_of_whole_tensors_are_added_where_diffusers_drops_them(
    load_tiny: LoadTiny, file: Path
):
    """Norms, biases, modulations: the few-step LoRAs of LightX2V have them."""
    transformer = load_tiny(IMAGE).transformer
    changed = {
        "blocks.0.norm3.diff": "blocks.0.norm2.weight",
        "blocks.0.norm3.diff_b": "blocks.0.norm2.bias",
        "blocks.1.self_attn.norm_q.diff": "blocks.1.attn1.norm_q.weight",
        "blocks.1.cross_attn.norm_k_img.diff": "blocks.1.attn2.norm_added_k.weight",
        "blocks.1.cross_attn.o.diff_b": "blocks.1.attn2.to_out.0.bias",
        "blocks.1.diff_m": "blocks.1.scale_shift_table",
        "blocks.0.modulation.diff": "blocks.0.scale_shift_table",
        "head.diff_m": "scale_shift_table",
        "head.head.diff": "proj_out.weight",
        "head.head.diff_b": "proj_out.bias",
        "patch_embedding.diff": "patch_embedding.weight",
        "time_projection.1.diff_b": "condition_embedder.time_proj.bias",
        "img_emb.proj.0.diff": "condition_embedder.image_embedder.norm1.weight",
        "img_emb.proj.4.diff_b": "condition_embedder.image_embedder.norm2.bias",
    }
    before = weights_of(transformer)
    generator = torch.Generator().manual_seed(4)
    parts = {
        key: torch.randn(before[name].shape, generator=generator) for key, name in changed.items()
    }
    lora = saved(file, {f"diffusion_model.{key}": part for key, part in parts.items()})
    after = weights_of(add(transformer, lora.model_copy(update={"weight": 0.5})))
    for key, name in changed.items():
        torch.testing.assert_close(after[name], before[name] + 0.5 * parts[key])
    assert all(
        torch.equal(after[name], before[name]) for name in before if name not in changed.values()
    )


def test_bias_of_a_peft_lora_is_scaled_as_its_factors(load_tiny: LoadTiny, file: Path):
    transformer = load_tiny(PLAIN).transformer
    name = "blocks.0.attn1.to_q"
    bias = transformer.get_submodule(name).bias.clone()
    down, up = factors(transformer, BLOCKS)["blocks.0.self_attn.q"]
    keys = as_peft({name: (down, up)}, "transformer.")
    keys[f"transformer.{name}.lora_B.bias"] = torch.ones(24)
    said = json.dumps({"transformer.lora_alpha": ALPHA, "transformer.r": RANK})
    add(transformer, saved(file, keys, {"lora_adapter_metadata": said}))
    torch.testing.assert_close(transformer.get_submodule(name).bias, bias + ALPHA / RANK)


def test_alpha_of_diffusers_metadata_counts(load_tiny: LoadTiny, tmp_path: Path):
    plain, said = (load_tiny(PLAIN).transformer for _ in range(2))
    pairs = factors(plain, BLOCKS)
    add(plain, saved(tmp_path / "a.safetensors", of_diffusers(pairs, BLOCKS)))
    unscaled = as_peft({BLOCKS[wan]: pair for wan, pair in pairs.items()}, "transformer.")
    metadata = json.dumps({"transformer.lora_alpha": ALPHA, "transformer.use_dora": False})
    lora = saved(tmp_path / "b.safetensors", unscaled, {"lora_adapter_metadata": metadata})
    torch.testing.assert_close(weights_of(add(said, lora)), weights_of(plain))


def test_convolution_has_a_lora_too(load_tiny: LoadTiny, file: Path):
    transformer = load_tiny(PLAIN).transformer
    weight = transformer.patch_embedding.weight.clone()
    down, up = torch.randn(RANK, 16, 1, 2, 2), torch.randn(24, RANK, 1, 1, 1)
    add(transformer, saved(file, as_peft({"patch_embedding": (down, up)}, "diffusion_model.")))
    expected = weight + torch.einsum("orxyz,rcfhw->ocfhw", up, down)
    torch.testing.assert_close(transformer.patch_embedding.weight, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_sum_is_rounded_once_to_the_dtype_of_each_weight(
    dtype: torch.dtype, models: Path, tmp_path: Path
):
    """As on a GPU: bfloat16, but for what diffusers keeps in float32."""
    transformer = WanTransformer3DModel.from_pretrained(
        models / PLAIN / "transformer", torch_dtype=torch.bfloat16
    )
    before, pairs = weights_of(transformer), factors(transformer, BLOCKS | OUTER)
    pairs = {wan: (down.to(dtype), up.to(dtype)) for wan, (down, up) in pairs.items()}
    lora = saved(tmp_path / "a.safetensors", as_peft(pairs, "diffusion_model."))
    add(transformer, lora, lora)
    dtypes = set()
    for wan, (down, up) in pairs.items():
        name = f"{(BLOCKS | OUTER)[wan]}.weight"
        delta = up.float() @ down.float()
        after = transformer.state_dict()[name]
        assert torch.equal(after, (before[name].float() + delta + delta).to(before[name].dtype))
        dtypes.add(after.dtype)
    assert dtypes == {torch.bfloat16, torch.float32}  # the time embedding


# ------------------------------------------------------------------------------------- in loading


@pytest.mark.parametrize("expert, changed", [("both", "12"), ("high", "1"), ("low", "2")])
def test_lora_is_for_the_expert_that_is_asked_for(
    expert: str, changed: str, models: Path, file: Path
):
    row = find_checkpoint(EXPERTS)
    before = load(row, CPU).pipeline
    lora = saved(file, of_diffusers(factors(before.transformer, BLOCKS), BLOCKS))
    changes = plan_loras(row, [lora.model_copy(update={"expert": expert})])
    after = load(row, CPU, changes=changes).pipeline
    different = ""
    for number, name in (("1", "transformer"), ("2", "transformer_2")):
        weights, others = (getattr(parts, name).state_dict() for parts in (before, after))
        different += number * any(not torch.equal(weights[key], others[key]) for key in weights)
    assert different == changed


def test_lora_is_part_of_weights_that_are_stored_smaller(models: Path, file: Path):
    row = find_checkpoint(PLAIN)
    before = load(row, CPU).transformer
    lora = saved(file, of_diffusers(factors(before, BLOCKS), BLOCKS))
    expected = velocity(add(before, lora))
    small = load(row, CPU, changes=plan_loras(row, [lora]), precision="fp8-cast").transformer
    without = load(row, CPU, precision="fp8-cast").transformer
    assert small.blocks[0].attn1.to_q.weight.dtype == torch.float8_e4m3fn
    error, gap = ((velocity(one) - expected).norm().item() for one in (small, without))
    assert error < gap / 5


def test_lora_of_another_checkpoint_is_refused_before_weights_are_read(
    own_copy: Callable[..., Path], file: Path
):
    lora = saved(file, {"diffusion_model.blocks.7.self_attn.q.diff_b": torch.ones(24)})
    weights = own_copy(PLAIN) / "transformer/diffusion_pytorch_model.safetensors"
    save_file({"other": torch.ones(1)}, weights)  # would be found at once where it is loaded
    with pytest.raises(LoraError, match=r"blocks\.7"):
        plan_loras(find_checkpoint(PLAIN), [lora])


def test_lora_for_a_checkpoint_that_is_not_here_says_how_to_get_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FREESWIM_MODELS", str(tmp_path))
    with pytest.raises(CheckpointMissing, match="is not on this machine"):
        plan_loras(find_checkpoint(PLAIN), [saved(file, {"blocks.0.diff_m": torch.ones(1)})])


# ------------------------------------------------------------------------------------- bad files


@pytest.fixture(scope="module")
def shapes(tiny_models: Path) -> dict[str, tuple[int, ...]]:
    """Of the parameters of a tiny transformer."""
    folder = tiny_models / PLAIN / "transformer"
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def refused(file: Path, shapes: dict[str, tuple[int, ...]], words: str) -> LoraError:
    """The error that names the file, says `words` and what to do."""
    with pytest.raises(LoraError, match=words) as caught:
        plan_changes([Lora(file=Media.of(file))], shapes)
    assert caught.value.message.startswith(file.name)
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


Q = "diffusion_model.blocks.0.self_attn.q"


def sound(**others: Tensor) -> Weights:
    """A LoRA of one weight, with other keys beside it."""
    pair = {f"{Q}.lora_A.weight": torch.ones(2, 24), f"{Q}.lora_B.weight": torch.ones(24, 2)}
    return pair | others


def test_sound_file_is_not_refused(shapes: dict[str, tuple[int, ...]], file: Path):
    changes = plan_changes([saved(file, sound())], shapes)
    assert list(changes) == ["blocks.0.attn1.to_q.weight"]


SDXL = "lora_unet_down_blocks_1_attentions_0_proj_in"


@pytest.mark.parametrize(
    "keys, named",
    [
        (["diffusion_model.blocks.2.self_attn.q.lora_A.weight"], "blocks.2"),
        (["lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"], "lora_te1"),
        (["text_encoder.layers.0.q.lora_A.weight"], "text_encoder"),
        ([f"{SDXL}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")], SDXL),
        (["transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"], "single_trans"),
        ([f"{Q}.dora_scale"], "dora_scale"),
        ([f"{Q}.lora_magnitude_vector"], "magnitude"),
        (["diffusion_model.blocks.0.self_attn.k.lokr_w1"], "lokr_w1"),
        (["diffusion_model.blocks.0.self_attn.k.hada_w1_a"], "hada_w1_a"),
        (["diffusion_model.blocks.0.cross_attn.k_img.diff_b"], "k_img"),  # of image to video
        (["diffusion_model.blocks.0.cross_attn.o.diff_m"], "diff_m"),
        (["diffusion_model.blocks.0.self_attn.k.lora_B.weight"], "lora_B"),  # no lora_A
        (["diffusion_model.blocks.0.self_attn.k.lora_A.weight"], "lora_A"),
        (["diffusion_model.blocks.0.self_attn.k.alpha"], "alpha"),
        ([f"{Q}.lora_down.weight"], "lora_down"),  # beside its lora_A
        (["diffusion_model.motion_encoder.enc.net_app.convs.0.bias.diff_b"], "motion_encoder"),
        (["face_adapter.fuser_blocks.0.linear1_kv.diff"], "face_adapter"),
    ],
)
def test_key_that_ends_up_in_no_weight_is_named(
    keys: list[str], named: str, shapes: dict[str, tuple[int, ...]], file: Path
):
    saved(file, sound(**dict.fromkeys(keys, torch.ones(1))))
    error = refused(file, shapes, "does not fit")
    assert f"{len(keys)} of its {len(keys) + 2} keys" in error.message
    assert named in error.message


def test_first_three_unknown_keys_are_named(shapes: dict[str, tuple[int, ...]], file: Path):
    keys = {f"transformer.other.{index}.diff": torch.ones(1) for index in range(9)}
    saved(file, sound(**keys))
    message = refused(file, shapes, "9 of its 11 keys").message
    assert re.findall(r"transformer\.other\.(\d)\.diff", message) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "down, up, words",
    [
        ((2, 40), (24, 2), "is for a weight of 24x40, but blocks.0.attn1.to_q.weight is 24x24"),
        ((2, 24), (48, 2), "48x24"),
        ((2, 24), (24, 3), "24x3 and 2x24"),
        ((0, 24), (24, 0), "24x0 and 0x24"),
        ((2, 24, 1, 1), (24, 2, 1, 1), "24x24x1x1"),
        ((24,), (24,), "24 and 24"),
        ((), (), "one number and one number"),
    ],
)
def test_shape_of_another_model_is_named_with_ours(
    down: tuple[int, ...], up: tuple[int, ...], words: str,
    shapes: dict[str, tuple[int, ...]], file: Path,
):  # fmt: skip
    saved(file, {f"{Q}.lora_A.weight": torch.ones(down), f"{Q}.lora_B.weight": torch.ones(up)})
    assert words in refused(file, shapes, "does not fit").message


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e38])
@pytest.mark.parametrize("key", [f"{Q}.lora_A.weight", f"{Q}.lora_B.weight", f"{Q}.alpha"])
def test_what_is_no_number_is_refused(
    value: float, key: str, shapes: dict[str, tuple[int, ...]], file: Path
):
    keys = sound(**{f"{Q}.alpha": torch.tensor(1.0)})
    keys[key].view(-1)[-1:] = value
    saved(file, keys)
    assert Q in refused(file, shapes, "finite").message


def test_integers_are_refused(shapes: dict[str, tuple[int, ...]], file: Path):
    saved(file, {key: tensor.to(torch.int8) for key, tensor in sound().items()})
    refused(file, shapes, "floating-point")


def test_alpha_is_one_number(shapes: dict[str, tuple[int, ...]], file: Path):
    saved(file, sound(**{f"{Q}.alpha": torch.ones(2)}))
    refused(file, shapes, "not one number")


@pytest.mark.parametrize(
    "said, words",
    [
        ('{"transformer.use_dora": true}', "use_dora"),
        ('{"transformer.use_rslora": true}', "use_rslora"),
        ('{"transformer.alpha_pattern": {"blocks.0": 4}}', "alpha_pattern"),
        ('{"transformer.lora_alpha": "many"}', "cannot be followed"),
        ('{"transformer.lora_alpha": NaN}', "finite"),
        ("[]", "cannot be followed"),
        ("[" * 100_000, "cannot be followed"),
        ("{", "cannot be followed"),
    ],
)
def test_metadata_that_changes_the_sum_is_followed_or_refused(
    said: str, words: str, shapes: dict[str, tuple[int, ...]], file: Path
):
    saved(file, sound(), {"lora_adapter_metadata": said})
    refused(file, shapes, words)


@pytest.mark.parametrize("keys", [{}, {"blocks.0.attn1.to_q.weight": torch.ones(24, 24)}])
def test_file_without_a_lora_is_refused(
    keys: Weights, shapes: dict[str, tuple[int, ...]], file: Path
):
    saved(file, keys)
    refused(file, shapes, "holds no LoRA")


class Evil:
    """Unpickling it makes a folder: proof that something was executed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["koi.pt", "koi.bin", "koi.ckpt", "koi", "koi.safetensors"])
@pytest.mark.parametrize("protocol", [0, 2, 5, "torch"])
def test_pickle_is_refused_and_never_opened(
    name: str, protocol: int | str, shapes: dict[str, tuple[int, ...]], tmp_path: Path
):
    file, marker = tmp_path / name, tmp_path / "executed"
    if protocol == "torch":
        torch.save(Evil(marker), file)
    else:
        file.write_bytes(pickle.dumps(Evil(marker), int(protocol)))
    error = refused(file, shapes, "safetensors file")
    assert not marker.exists()
    if protocol != 0 or file.suffix != ".safetensors":  # a pickle of protocol 0 is any text
        assert "safetensors only" in error.hint


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:5],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: struct.pack("<Q", 2**40) + content[8:],
        lambda content: struct.pack("<Q", 17 * 2**20) + b"{" + b" " * (17 * 2**20),
        lambda content: content[:8] + b"[" * 50 + content[58:],
    ],
    ids=[
        "half", "one byte less", "five bytes", "too long", "empty", "zeros",
        "header past the end", "huge header", "no JSON",
    ],
)  # fmt: skip
def test_damaged_file_is_refused(
    damage: Callable[[bytes], bytes], shapes: dict[str, tuple[int, ...]], file: Path
):
    saved(file, sound())
    file.write_bytes(damage(file.read_bytes()))
    refused(file, shapes, "is damaged, or no safetensors file")


def test_number_format_that_cannot_be_read_is_refused(
    shapes: dict[str, tuple[int, ...]], file: Path
):
    saved(file, sound())
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"F32"', b'"I32"'))  # as long
    refused(file, shapes, "floating-point")


def test_bad_lora_behind_a_good_one_leaves_the_weights_alone(load_tiny: LoadTiny, tmp_path: Path):
    transformer = load_tiny(PLAIN).transformer
    before = weights_of(transformer)
    good = saved(tmp_path / "good.safetensors", sound())
    bad = saved(tmp_path / "bad.safetensors", sound(**{"other.diff": torch.ones(1)}))
    with pytest.raises(LoraError, match=r"bad\.safetensors"):
        add(transformer, good, bad)
    after = weights_of(transformer)
    assert all(torch.equal(before[name], after[name]) for name in before)
