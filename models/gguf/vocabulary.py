"""Describes a byte-level tokenizer in the terms of a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BaseModelError
from models.gguf.file import GgufFile
from models.gguf.tokenizer import SPECIAL_TOKENS, TokenType, build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# One name for each of the rules that the reader knows, the most common first.
PRE_TOKENIZERS = ("smollm", "llama-bpe", "qwen2", "gpt-2", "olmo", "gpt-4o", "tekken", "deepseek-r1-qwen", "falcon")
# Texts on which tokenizers differ: digits, contractions, capitals, spaces, accents, control tokens between words.
SAMPLES = (
    "Hello world, it's 2026: 1234567 items cost $99.50!",
    "I'LL see\tthe  café,   naïve\n\n  cafe\u0301 über-große Straße\r\n",
    'def f(x):\n    return {"a": [1, 22, 333]}  # done\n',
    "東京は日本の首都です。 Привет! مرحبا 🙂👍🏽",
)
ENDS = ("eos", "eot", "eom")  # the names under which the reader finds the tokens that end a response


def vocabulary_fields(
    tokenizer: PreTrainedTokenizerBase, end_ids: list[int], vocab_size: int, architecture: str
) -> dict[str, Any]:
    """Return the settings of the tokenizer by their names in a GGUF file.

    Args:
        tokenizer: the tokenizer.
        end_ids: the tokens that end a response, at most three.
        vocab_size: number of tokens of the model, which may be larger than the tokenizer's.
        architecture: the file's architecture.

    Raises:
        BaseModelError: the format cannot describe the tokenizer; the text says why.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.loads(backend.to_str()) if backend is not None else {}
    if described.get("model", {}).get("type") != "BPE" or "ByteLevel" not in json.dumps(described.get("decoder")):
        raise _refusal("its tokenizer is not a byte-level BPE; only these can be written")
    if len(end_ids) > len(ENDS):
        raise _refusal(f"it has {len(end_ids)} end tokens; a GGUF file has room for {len(ENDS)}")
    fields = _tokens(tokenizer, vocab_size) | _special_ids(tokenizer, end_ids)
    merges = [one if isinstance(one, str) else " ".join(one) for one in described["model"]["merges"]]
    fields |= {"model": "gpt2", "merges": merges, "add_bos_token": _adds_start(tokenizer)}
    fields["pre"] = _pre_tokenizer(tokenizer, fields, architecture)
    return {f"tokenizer.ggml.{name}": value for name, value in fields.items()}


def tokenizes_alike(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Return whether two tokenizers give the same tokens for texts on which tokenizers differ."""
    between = "".join(f"{text} {token}" for text, token in zip(SAMPLES, one.all_special_tokens, strict=False))
    return all(one(text)["input_ids"] == other(text)["input_ids"] for text in (*SAMPLES, between))


def _tokens(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> dict[str, Any]:
    """Return the tokens and their types; those that only the model has are unused."""
    tokens = [f"[unused{token_id}]" for token_id in range(vocab_size)]
    types = [int(TokenType.UNUSED)] * vocab_size
    for token, token_id in tokenizer.get_vocab().items():
        if token_id >= vocab_size:
            raise _refusal(f"its tokenizer has the token {token!r}, for which the model has no embedding")
        tokens[token_id], types[token_id] = token, int(TokenType.NORMAL)
    for token_id, added in tokenizer.added_tokens_decoder.items():
        types[token_id] = int(TokenType.CONTROL if added.special else TokenType.USER_DEFINED)
    return {"tokens": tokens, "token_type": types}


def _special_ids(tokenizer: PreTrainedTokenizerBase, end_ids: list[int]) -> dict[str, int]:
    ids = {theirs: getattr(tokenizer, f"{ours}_token_id") for ours, theirs in SPECIAL_TOKENS.items() if ours != "eos"}
    ids |= dict(zip(ENDS, end_ids, strict=False))
    return {f"{name}_token_id": int(token_id) for name, token_id in ids.items() if token_id is not None}


def _adds_start(tokenizer: PreTrainedTokenizerBase) -> bool:
    first = tokenizer("a")["input_ids"][:1]
    return tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]


def _pre_tokenizer(tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any], architecture: str) -> str:
    """Return the name of the rules by which the tokenizer splits texts: those with which the reader splits them so."""
    for name in PRE_TOKENIZERS:
        settings = {f"tokenizer.ggml.{field}": value for field, value in (fields | {"pre": name}).items()}
        file = GgufFile(Path("model.gguf"), settings | {"general.architecture": architecture}, {})
        if tokenizes_alike(tokenizer, build_tokenizer(file)):
            return name
    raise _refusal("its tokenizer splits texts by rules that have no name in GGUF files")


def _refusal(why: str) -> BaseModelError:
    return BaseModelError(f"The model cannot be written as a GGUF file: {why}.")
