from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import edit_json, write_json

from freeswim.errors import CheckpointCorrupt, CheckpointMissing, RequestError
from freeswim.models.catalog import CATALOG, Checkpoint, find_checkpoint
from freeswim.models.loading import Components, choose_device, load, load_text_encoder

SHARDED, PLAIN = "wan2.1-t2v-1.3b", "wan2.1-t2v-14b"
IMAGE, EXPERTS, FIVE_B = "wan2.1-i2v-14b-480p", "wan2.2-t2v-a14b", "wan2.2-ti2v-5b"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
MODELS = ("transformer", "vae", "text_encoder", "image_encoder")
CPU = torch.device("cpu")

every_row = pytest.mark.parametrize("row", CATALOG, ids=[row.name for row in CATALOG])
OwnCopy = Callable[..., Path]
LoadTiny = Callable[[str], Components]


def load_all(row: Checkpoint) -> tuple[Any, Any]:
    """Text encoder, then the rest, as a take loads them."""
    text_encoder = load_text_encoder(row, torch.float32).text_encoder
    return text_encoder, load(row, CPU).pipeline


def load_error(name: str, kind: type[Exception] = CheckpointCorrupt) -> Any:
    """What loading the checkpoint fails with: one sentence, and how to get it again."""
    row = find_checkpoint(name)
    with pytest.raises(kind) as caught:
        load_all(row)
    error: Any = caught.value
    assert type(error) is kind
    assert error.message.startswith(row.title)
    assert error.message.count("\n") == 0
    assert error.message.endswith(".")
    assert f"hf download {row.repository} --local-dir" in error.hint
    return error


# -------------------------------------------------------------------------------- what is there


@every_row
def test_checkpoint_loads_ready_to_use(row: Checkpoint, models: Path):
    text_encoder, components = load_all(row)[0], load(row, CPU)
    for part in (text_encoder, components.transformer, components.vae):
        assert {weight.dtype for weight in part.parameters()} == {torch.float32}
        assert not any(weight.is_meta for weight in part.parameters())
        assert not part.training
    assert components.vae.config["z_dim"] == components.transformer.config["out_channels"]
    assert components.scheduler.config["prediction_type"] == "flow_prediction"


@every_row
def test_only_wan_2_1_image_to_video_has_an_image_encoder(row: Checkpoint, models: Path):
    pipeline = load(row, CPU).pipeline
    has_one = row.name.startswith("wan2.1-i2v")
    assert (pipeline.image_encoder is not None) == (pipeline.image_processor is not None) == has_one


@every_row
def test_two_experts_hand_over_at_the_published_boundary(row: Checkpoint, models: Path):
    components = load(row, CPU)
    boundaries = {"wan2.2-t2v-a14b": 875, "wan2.2-i2v-a14b": 900}
    if row.name not in boundaries:
        assert components.low_noise is None
        return
    assert components.low_noise is not None
    assert components.low_noise.boundary == pytest.approx(boundaries[row.name])
    assert components.low_noise.transformer is not components.transformer


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "image_encoder"])
def test_every_weight_is_the_one_on_disk(part: str, models: Path):
    stored = load_file(next((models / IMAGE / part).glob("*.safetensors")))
    text_encoder, pipeline = load_all(find_checkpoint(IMAGE))
    model = text_encoder if part == "text_encoder" else getattr(pipeline, part)
    loaded = model.state_dict()
    for name, weight in stored.items():
        assert torch.equal(loaded[name.removeprefix("vision_model.")], weight.float())


def test_shards_make_the_same_model_as_one_file(load_tiny: LoadTiny, models: Path):
    assert len(list((models / SHARDED / "transformer").glob("*.safetensors"))) > 1
    whole = load_tiny(PLAIN).transformer.state_dict()
    for name, weight in load_tiny(SHARDED).transformer.state_dict().items():
        assert torch.equal(weight, whole[name])


def test_text_encoder_uses_its_stored_embedding_though_it_says_it_is_not_tied(models: Path):
    config = json.loads((models / PLAIN / "text_encoder/config.json").read_text("utf-8"))
    assert config["tie_word_embeddings"] is False
    encoder, _ = load_all(find_checkpoint(PLAIN))
    assert torch.equal(encoder.encoder.embed_tokens.weight, encoder.shared.weight)
    assert encoder.encoder.embed_tokens.weight.abs().sum() > 0


def test_image_encoder_may_have_a_projection_that_wan_does_not_use(own_copy: OwnCopy):
    change_weights(
        own_copy(IMAGE) / "image_encoder/model.safetensors",
        lambda weights: weights | {"visual_projection.weight": torch.zeros(8, 24)},
    )
    assert load(find_checkpoint(IMAGE), CPU).pipeline.image_encoder is not None


# ---------------------------------------------------------------------------- what is not there


@every_row
def test_missing_folder_says_how_to_get_it(
    row: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if row.repository is None:
        return  # comes with the package
    monkeypatch.setenv("FREESWIM_MODELS", str(tmp_path))
    error = load_error(row.name, CheckpointMissing)
    assert str(tmp_path / row.name) in error.hint


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json", "image_processor/preprocessor_config.json",
        *(f"{model}/config.json" for model in MODELS),
    ],
)  # fmt: skip
def test_missing_file_is_named(file: str, own_copy: OwnCopy):
    (own_copy(IMAGE) / file).unlink()
    assert f"{file} is missing" in load_error(IMAGE, CheckpointMissing).message


@pytest.mark.parametrize("model", MODELS)
def test_missing_weights_are_named(model: str, own_copy: OwnCopy):
    next((own_copy(IMAGE) / model).glob("*.safetensors")).unlink()
    assert f"{model} holds no weights" in load_error(IMAGE, CheckpointMissing).message


def test_missing_shard_is_named(own_copy: OwnCopy):
    shard = sorted((own_copy(SHARDED) / "transformer").glob("*.safetensors"))[1]
    shard.unlink()
    assert f"transformer/{shard.name} is missing" in load_error(SHARDED, CheckpointMissing).message


@pytest.mark.parametrize(
    "name, folder", [(EXPERTS, "transformer_2"), (IMAGE, "image_encoder"), (PLAIN, "vae")]
)
def test_missing_model_is_named(name: str, folder: str, own_copy: OwnCopy):
    shutil.rmtree(own_copy(name) / folder)
    assert f"{folder}/config.json is missing" in load_error(name, CheckpointMissing).message


# ------------------------------------------------------------------------------ damaged weights


GIT_LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n"
    b"size 4999999999\n"
)


def change_weights(
    file: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:5],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: GIT_LFS_POINTER,
        lambda content: pickle.dumps({"weight": [1.0]}),
    ],
    ids=["half", "five bytes", "too long", "empty", "zeros", "git-lfs pointer", "pickle"],
)
def test_damaged_weights_are_named(model: str, damage: Callable[[bytes], bytes], own_copy: OwnCopy):
    file = next((own_copy(IMAGE) / model).glob("*.safetensors"))
    file.write_bytes(damage(file.read_bytes()))
    assert f"{model}/{file.name} is damaged" in load_error(IMAGE).message


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("which", [0, -1])
def test_weight_that_the_file_lacks_is_never_random(model: str, which: int, own_copy: OwnCopy):
    file = next((own_copy(IMAGE) / model).glob("*.safetensors"))
    change_weights(file, lambda weights: drop(weights, sorted(weights)[which]))
    assert f"{model} cannot be loaded (weight " in load_error(IMAGE).message
    assert "is not there" in load_error(IMAGE).message


def drop(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {other: weight for other, weight in weights.items() if other != name}


def test_text_encoder_without_its_embedding_is_refused(own_copy: OwnCopy):
    file = own_copy(PLAIN) / "text_encoder/model.safetensors"
    change_weights(file, lambda weights: drop(weights, "shared.weight"))
    assert "weight encoder.embed_tokens.weight is not there" in load_error(PLAIN).message


@pytest.mark.parametrize("model", MODELS)
def test_weight_of_another_shape_is_named(model: str, own_copy: OwnCopy):
    file = next((own_copy(IMAGE) / model).glob("*.safetensors"))
    name = sorted(load_file(file))[0]
    change_weights(file, lambda weights: weights | {name: torch.zeros(3, 5)})
    message = load_error(IMAGE).message
    assert model in message
    assert name.removeprefix("vision_model.") in message
    assert "shape" in message


@pytest.mark.parametrize("model", ["transformer", "vae"])
def test_weight_too_many_is_named(model: str, own_copy: OwnCopy):
    file = own_copy(PLAIN) / model / "diffusion_pytorch_model.safetensors"
    change_weights(file, lambda weights: weights | {"blocks.7.lora": torch.zeros(2)})
    assert "weight blocks.7.lora is of another model" in load_error(PLAIN).message


# ------------------------------------------------------------------------ damaged configurations

JSON_FILES = [
    "model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json",
    "image_processor/preprocessor_config.json", *(f"{model}/config.json" for model in MODELS),
]  # fmt: skip


@pytest.mark.parametrize("file", [*JSON_FILES, "tokenizer/tokenizer.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b'"Wan-AI/elsewhere"', b"\xff\xfe\0", b"[" * 100_000],
    ids=["empty", "list", "number", "hub name", "not UTF-8", "too deep"],
)
def test_broken_json_is_named(file: str, content: bytes, own_copy: OwnCopy):
    (own_copy(IMAGE) / file).write_bytes(content)
    part = Path(file).parent.name or Path(file).name
    assert part in load_error(IMAGE).message


def test_json_without_end_is_not_read(own_copy: OwnCopy):
    with (own_copy(PLAIN) / "transformer/config.json").open("wb") as file:
        file.truncate(2**30)
    assert "it is too large" in load_error(PLAIN).message


@pytest.mark.parametrize(
    "file, change",
    [
        ("transformer/config.json", {"_class_name": "AutoencoderKLWan"}),
        ("vae/config.json", {"_class_name": "AutoencoderKL"}),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}),
        ("text_encoder/config.json", {"model_type": "t5"}),
        ("image_encoder/config.json", {"model_type": ["os", "system"]}),
    ],
)
def test_configuration_of_another_class_is_named(
    file: str, change: dict[str, object], own_copy: OwnCopy
):
    edit_json(own_copy(IMAGE) / file, lambda said: said | change)
    assert f"{file} is of " in load_error(IMAGE).message


@pytest.mark.parametrize(
    "file, change",
    [
        ("transformer/config.json", {"num_layers": "many"}),
        ("transformer/config.json", {"num_layers": 0}),
        ("transformer/config.json", {"patch_size": [0]}),
        ("transformer/config.json", {"attention_head_dim": -4}),
        ("transformer/config.json", {"cross_attn_norm": None}),
        ("transformer/config.json", {"quantization_config": {"quant_method": "evil"}}),
        ("vae/config.json", {"dim_mult": None}),
        ("vae/config.json", {"z_dim": 1.5}),
        ("text_encoder/config.json", {"d_model": [16]}),
        ("text_encoder/config.json", {"num_heads": None}),
        ("image_encoder/config.json", {"hidden_size": "x"}),
        ("scheduler/scheduler_config.json", {"beta_schedule": 7}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": {}}),
        ("image_processor/preprocessor_config.json", {"crop_size": "x"}),
        ("tokenizer/tokenizer_config.json", {"pad_token": 7}),
    ],
)
def test_garbage_in_a_configuration_is_an_error_of_that_part(
    file: str, change: dict[str, object], own_copy: OwnCopy
):
    edit_json(own_copy(IMAGE) / file, lambda said: said | change)
    assert Path(file).parent.name in load_error(IMAGE).message


@pytest.mark.parametrize(
    "file, change, words",
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "prediction_type"),
        ("scheduler/scheduler_config.json", {"use_flow_sigmas": False}, "use_flow_sigmas"),
        ("model_index.json", {"expand_timesteps": True}, "expand_timesteps"),
        ("model_index.json", {"boundary_ratio": 0.9}, "expert boundary"),
        ("tokenizer/tokenizer_config.json", {"pad_token": "</s>"}, "pad_token_id"),
        ("image_processor/preprocessor_config.json", {"crop_size": 224}, "crop_size"),
    ],
)
def test_part_that_does_not_fit_the_others_is_named(
    file: str, change: dict[str, object], words: str, own_copy: OwnCopy
):
    edit_json(own_copy(IMAGE) / file, lambda said: said | change)
    assert words in load_error(IMAGE).message


@pytest.mark.parametrize("ratio", [None, 0, 1, 1.5, -0.5, True, "0.9", float("nan"), [0.9]])
def test_two_experts_need_a_boundary_between_0_and_1(ratio: object, own_copy: OwnCopy):
    edit_json(own_copy(EXPERTS) / "model_index.json", lambda said: said | {"boundary_ratio": ratio})
    assert "expert boundary" in load_error(EXPERTS).message


@pytest.mark.parametrize(
    "name, other",
    [
        (PLAIN, IMAGE), (IMAGE, PLAIN), (PLAIN, FIVE_B), (FIVE_B, PLAIN), (PLAIN, EXPERTS),
        ("wan2.2-i2v-a14b", EXPERTS), (EXPERTS, "wan2.2-i2v-a14b"),
    ],
)  # fmt: skip
def test_checkpoint_in_the_folder_of_another_one_is_refused(
    name: str, other: str, own_copy: OwnCopy
):
    own_copy(other, name)
    load_error(name)


# -------------------------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    "shard", ["../../x.safetensors", "/x.safetensors", "..\\x.safetensors", "..", "", "x.bin", 3, None]
)  # fmt: skip
def test_index_that_leads_elsewhere_is_refused(shard: object, own_copy: OwnCopy):
    folder = own_copy(SHARDED)
    index = next((folder / "transformer").glob("*.index.json"))
    edit_json(index, lambda said: said | {"weight_map": {"scale_shift_table": shard}})
    for place in (folder.parent, folder / "transformer"):
        shutil.copy(next((folder / "vae").glob("*.safetensors")), place / "x.safetensors")
    assert "is not the name of a shard" in load_error(SHARDED).message


@pytest.mark.parametrize("weight_map", [None, [], "x", 3])
def test_index_without_a_map_is_refused(weight_map: object, own_copy: OwnCopy):
    index = next((own_copy(SHARDED) / "transformer").glob("*.index.json"))
    write_json(index, {"metadata": {}, "weight_map": weight_map})
    assert f"{index.name} is damaged" in load_error(SHARDED).message


class Evil:
    """Unpickling it makes a folder: proof that something was executed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


WATCHED_LOADS = """
import json
import os
import sys
import torch
from freeswim.errors import FreeswimError
from freeswim.models.catalog import find_checkpoint
from freeswim.models.loading import load

FORBIDDEN = {
    "pickle.find_class", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname",
}
seen = []

def watch(event, arguments):  # an audit hook stays until its process ends
    if event in FORBIDDEN:
        seen.append(event)

sys.addaudithook(watch)
for name, os.environ["FREESWIM_MODELS"] in json.loads(sys.argv[1]):
    seen.clear()
    try:
        load(find_checkpoint(name), torch.device("cpu"))
        became = "loaded"
    except FreeswimError as error:
        became = error.code
    print(json.dumps([became, *seen]))
"""


def watched_loads(*checkpoints: tuple[str, Path]) -> list[list[str]]:
    """Load in one process of its own: what became of each, and the forbidden events seen."""
    named = json.dumps([(name, str(folder)) for name, folder in checkpoints])
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_LOADS, named],
        env=os.environ | {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"},
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_loading_unpickles_nothing_and_reaches_for_no_network(
    models: Path, own_copy: OwnCopy, tmp_path: Path
):
    marker = tmp_path / "executed"
    make_pickle_of(own_copy(PLAIN), marker)
    # diffusers takes a configuration that is a text for the name of a repository
    write_json(own_copy(SHARDED) / "scheduler/scheduler_config.json", "Wan-AI/elsewhere")
    write_json(own_copy(EXPERTS) / "transformer_2/config.json", "Wan-AI/elsewhere")
    sound = [(row.name, models) for row in CATALOG]
    damaged = [(name, tmp_path) for name in (PLAIN, SHARDED, EXPERTS)]
    became = watched_loads(*sound, *damaged)
    assert became == [["loaded"]] * len(sound) + [["checkpoint_corrupt"]] * len(damaged)
    assert not marker.exists()


def make_pickle_of(folder: Path, marker: Path) -> None:
    """Replace the transformer's safetensors by pickles that make `marker` when they are read."""
    (folder / WEIGHTS).unlink()
    for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.pt"):
        torch.save(Evil(marker), folder / "transformer" / name)


def test_pickle_is_refused_by_its_name(own_copy: OwnCopy, tmp_path: Path):
    make_pickle_of(own_copy(PLAIN), tmp_path / "executed")
    error = load_error(PLAIN)
    assert "transformer is a pickle" in error.message
    assert "safetensors only" in error.hint
    assert not (tmp_path / "executed").exists()


def test_evil_pickle_would_have_been_seen(tmp_path: Path):
    torch.save(Evil(tmp_path / "executed"), tmp_path / "evil.bin")
    torch.load(tmp_path / "evil.bin", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_evil_pickle_beside_or_named_as_safetensors_is_never_opened(
    own_copy: OwnCopy, tmp_path: Path
):
    folder, marker = own_copy(PLAIN), tmp_path / "executed"
    torch.save(Evil(marker), folder / "transformer/diffusion_pytorch_model.bin")
    load(find_checkpoint(PLAIN), CPU)  # the safetensors beside it are what counts
    torch.save(Evil(marker), folder / WEIGHTS)
    assert f"{WEIGHTS} is damaged" in load_error(PLAIN).message
    assert not marker.exists()


def test_classes_and_code_that_files_name_change_nothing(own_copy: OwnCopy, tmp_path: Path):
    folder, marker = own_copy(PLAIN), tmp_path / "executed"
    evil = ["os", "system"]
    edit_json(
        folder / "model_index.json",
        lambda said: said | dict.fromkeys(("transformer", "vae", "tokenizer", "scheduler"), evil),
    )
    for file in ("text_encoder/config.json", "tokenizer/tokenizer_config.json"):
        edit_json(folder / file, lambda said: said | {"auto_map": {"AutoModel": "evil.Model"}})
        program = f"import os\nos.mkdir({str(marker)!r})\nclass Model: pass\n"
        (folder / file).with_name("evil.py").write_text(program, "utf-8")
    components = load(find_checkpoint(PLAIN), CPU)
    assert type(components.transformer).__name__ == "WanTransformer3DModel"
    assert not marker.exists()


# --------------------------------------------------------------------------------------- devices


def test_auto_is_a_device_of_this_machine():
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["", "gpu", "cuda:99", "toaster", "cpu:x", "meta:x"])
def test_unknown_device_is_an_error_that_names_it(name: str):
    with pytest.raises(RequestError, match="There is no device") as caught:
        choose_device(name)
    assert repr(name) in caught.value.message
    assert "auto" in caught.value.hint
