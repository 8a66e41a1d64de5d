from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import UMT5EncoderModel

from freeswim import paths
from freeswim.errors import CheckpointCorrupt
from freeswim.models import text_cache
from freeswim.models.catalog import find_checkpoint
from freeswim.models.conditioning import Text, encode_prompt

NAME = "wan2.1-t2v-14b"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every text that the text encoder reads."""
    reads: list[int] = []
    forward = UMT5EncoderModel.forward

    def counted(self: UMT5EncoderModel, *args: object, **kwargs: object) -> object:
        reads.append(1)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(UMT5EncoderModel, "forward", counted)
    return reads


def encode(prompt: str = "koi", negative_prompt: str = "blurred") -> Text:
    return encode_prompt(find_checkpoint(NAME), prompt, negative_prompt, CPU)


def kept() -> list[Path]:
    return sorted(paths.text_embeds().glob("*.safetensors"))


def test_a_prompt_is_encoded_once(models: Path, encoded: list[int]):
    first = encode()
    assert len(encoded) == 2
    again = encode()
    assert len(encoded) == 2
    assert torch.equal(first.prompt, again.prompt)
    assert torch.equal(first.negative, again.negative)
    assert not torch.equal(first.prompt, first.negative)


def test_only_the_text_that_is_new_is_encoded(models: Path, encoded: list[int]):
    encode()
    encode(prompt="carp")
    assert len(encoded) == 3


def test_same_prompt_and_negative_prompt_are_one_text(models: Path, encoded: list[int]):
    text = encode("koi", "koi")
    assert len(encoded) == 1
    assert torch.equal(text.prompt, text.negative)


def test_another_text_encoder_does_not_use_what_is_kept(own_copy, encoded: list[int]):
    config = own_copy(NAME) / "text_encoder/config.json"
    encode()
    config.write_text(config.read_text("utf-8") + " ", "utf-8")
    encode()
    assert len(encoded) == 4


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "foreign"])
def test_damaged_file_is_encoded_again(damage: str, models: Path, encoded: list[int]):
    first = encode()
    for file in kept():
        content = file.read_bytes()
        flipped = content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]
        file.write_bytes(
            {"flipped": flipped, "cut": content[:-9], "empty": b"", "foreign": b"x" * 99}[damage]
        )
    again = encode()
    assert len(encoded) == 4
    assert torch.equal(first.prompt, again.prompt)
    encode()
    assert len(encoded) == 4  # it was written anew


def test_oldest_texts_go(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_cache, "KEPT", 3)
    for number in range(5):
        encode(f"koi number {number}")
    assert len(kept()) == 3


def test_disk_that_refuses_costs_only_the_file(models: Path, tmp_path: Path, encoded: list[int]):
    (tmp_path / "home").write_text("a file where the folder should be")
    encode()
    encode()
    assert len(encoded) == 4


def test_prompt_that_is_kept_still_needs_a_sound_checkpoint(own_copy):
    folder = own_copy(NAME)
    (folder / "text_encoder/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointCorrupt, match="text_encoder"):
        encode()
