"""Writes a tiny random model for embeddings, as sentence-transformers does: BERT with a tokenizer of letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WIDTH = 16
MAX_TOKENS = 32
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz:"
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Like BERT's without case: each letter is a token."""
    ids = {piece: index for index, piece in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_TOKENS, **names)


def tiny_bert() -> BertModel:
    """A random model, always the same."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=0.5,
    )
    return BertModel(config).eval()


def save_encoder(
    folder: Path,
    *,
    pooling: dict[str, Any] | None = None,
    others: tuple[str, ...] = ("Normalize",),
    texts: dict[str, Any] | None = None,
    prompts: dict[str, Any] | None = None,
) -> Path:
    """Write the model and return its folder.

    Args:
        folder: where to write it.
        pooling: the config of its pooling; None: the mean.
        others: the kinds of the modules after that.
        texts: the content of sentence_bert_config.json, if any.
        prompts: the content of config_sentence_transformers.json, if any.
    """
    tiny_bert().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    kinds = ["Transformer", "Pooling", *others]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    for path in paths:
        (folder / path).mkdir(exist_ok=True)
    write(folder / "modules.json", modules)
    write(
        folder / "1_Pooling" / "config.json",
        pooling or {"pooling_mode_mean_tokens": True, "word_embedding_dimension": WIDTH},
    )
    if texts is not None:
        write(folder / "sentence_bert_config.json", texts)
    if prompts is not None:
        write(folder / "config_sentence_transformers.json", prompts)
    return folder


def write(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content), "utf-8")
