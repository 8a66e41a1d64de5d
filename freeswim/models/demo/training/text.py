"""Tokenizer and text encoder: a word a token, the words of the captions and a few beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from freeswim.models.demo.scene import COLORS, COUNT_WORDS, DIRECTIONS, WATERS
from freeswim.models.demo.training.recipe import MAX_TEXT

_OTHER_WORDS = "koi swimming in water with lily pads close-up of a an the video pond calm clear"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Lower case, split at spaces, without punctuation; `</s>` behind every text."""
    words = {*_OTHER_WORDS.split(), *COLORS, *WATERS, *DIRECTIONS, *COUNT_WORDS}
    vocabulary = {
        word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *sorted(words)])
    }
    tokenizer: Any = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    punctuation = pre_tokenizers.Split(pattern=Regex(r"[.,;:!?]"), behavior="removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), punctuation]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=512,
    )  # fmt: skip


def make_encoder(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> UMT5EncoderModel:
    """The encoder, with random weights."""
    return UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), **config))


def as_tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Texts as (texts, MAX_TEXT) token numbers; pads are 0."""
    coded = tokenizer(list(texts), padding="max_length", max_length=MAX_TEXT, truncation=True)
    return torch.tensor(coded["input_ids"])


def encode(encoder: UMT5EncoderModel, tokens: Tensor) -> Tensor:
    """Tokens as the transformer sees them, (texts, MAX_TEXT, D): pads are zero, as in diffusers."""
    mask = (tokens != 0).long()
    hidden = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    return hidden * mask[..., None]
