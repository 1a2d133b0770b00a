"""A GGUF file's tokenizer gives the same ids as the model's own tokenizer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPT2Tokenizer, Qwen2Tokenizer

from models.errors import BaseModelError
from models.gguf.file import read_gguf
from models.gguf.tokenizer import TokenType, build_tokenizer
from tests.gguf_files import sentencepiece_fields, tokenizer_fields, write_gguf
from tests.unit.worker.engine.tiny_models import CONFIGS, from_config

TEXTS = [
    "Hello world, it's 12345 and I'LL have 3.14!",
    "  leading,   many   spaces \n\n\n and\ttabs\r\n",
    "def f(x):\n    return x+1  # done\n",
    "caf\u00e9 cafe\u0301 na\u00efve 你好吗 \U0001f680\U0001f680 مرحبا ١٢٣",
    "a1b22c333d4444 #1 $100,000.00 x_y-z",
    "",
    " ",
]
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def trained(pre_tokenizer: Any) -> tuple[list[str], list[str]]:
    """Tokens and merges learned from the texts, split in that way."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    return sorted(learned["vocab"], key=learned["vocab"].get), [" ".join(merge) for merge in learned["merges"]]


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )


def from_gguf(folder: Path, fields: dict[str, Any], architecture: str = "llama") -> Any:
    """The tokenizer after the round trip: written to a GGUF file, read, saved and loaded."""
    config = CONFIGS[architecture]()
    config.vocab_size, config.pad_token_id = len(fields["tokens"]) or 1, None
    build_tokenizer(read_gguf(write_gguf(folder / "m.gguf", from_config(config), fields))).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def merged(tokens: list[str], merges: list[str]) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    return {token: n for n, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges]


def gpt2_reference(tokens: list[str], merges: list[str]) -> Any:
    vocabulary, pairs = merged(tokens, merges)
    return GPT2Tokenizer(vocab=vocabulary, merges=pairs)


def smollm_reference(tokens: list[str], merges: list[str]) -> Any:
    tokenizer = gpt2_reference(tokens, merges)
    tokenizer.backend_tokenizer.pre_tokenizer = SMOLLM
    return tokenizer


def llama3_reference(tokens: list[str], merges: list[str]) -> Any:
    vocabulary, pairs = merged(tokens, merges)
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=True))
    tokenizer.pre_tokenizer = split(LLAMA3_WORDS)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = gpt2_reference(tokens, merges)
    wrapped._tokenizer = tokenizer
    return wrapped


def qwen2_reference(tokens: list[str], merges: list[str]) -> Any:
    vocabulary, pairs = merged(tokens, merges)
    return Qwen2Tokenizer(vocab=vocabulary, merges=pairs)


SMOLLM = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)])
REFERENCES = {
    "gpt-2": (pre_tokenizers.ByteLevel(False), gpt2_reference),
    "smollm": (SMOLLM, smollm_reference),
    "llama-bpe": (split(LLAMA3_WORDS), llama3_reference),
    "qwen2": (split(LLAMA3_WORDS.replace("{1,3}", "")), qwen2_reference),
}


@pytest.mark.parametrize("pre", REFERENCES)
def test_a_byte_level_vocabulary_is_used_as_the_model_learned_it(pre: str, tmp_path: Path) -> None:
    pre_tokenizer, make_reference = REFERENCES[pre]
    tokens, merges = trained(pre_tokenizer)
    reference = make_reference(tokens, merges)
    own = from_gguf(tmp_path, tokenizer_fields(tokens, merges, pre=pre))
    for text in TEXTS:
        ids = own.encode(text, add_special_tokens=False)
        assert ids == reference.encode(text, add_special_tokens=False), text
        assert own.decode(ids) == reference.decode(ids)


def test_the_pre_tokenizers_differ_on_these_texts(tmp_path: Path) -> None:
    """Otherwise the test above could not distinguish them."""
    splits = [from_gguf(tmp_path, tokenizer_fields(["a"], [], pre=pre)).backend_tokenizer for pre in REFERENCES]
    words = {str([split.pre_tokenizer.pre_tokenize_str(text) for text in TEXTS]) for split in splits}
    assert len(words) == len(REFERENCES)


@pytest.mark.parametrize("pre", ["never-heard-of", None])
def test_an_unknown_pre_tokenizer_gives_a_warning_with_its_name(
    pre: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, merges = trained(pre_tokenizers.ByteLevel(False))
    with caplog.at_level(logging.WARNING, logger="SLMInit"):
        own = from_gguf(tmp_path, tokenizer_fields(tokens, merges) | {"pre": pre})
    assert f"m.gguf has the unknown pre-tokenizer {pre!r}" in caplog.text
    assert own.encode(TEXTS[0]) == gpt2_reference(tokens, merges).encode(TEXTS[0])


def test_control_tokens_are_found_in_a_text_in_any_spelling(tmp_path: Path) -> None:
    tokens, merges = trained(pre_tokenizers.ByteLevel(False))
    special = ["<|user|>", "<\uff5cAssistant\uff5c>", "<end of turn>"]
    own = from_gguf(tmp_path, tokenizer_fields([*tokens, *special], merges, eos=len(tokens) + 2))
    ids = own.encode("<|user|>Hi<\uff5cAssistant\uff5c><end of turn>")
    assert [ids[0], *ids[-2:]] == [len(tokens), len(tokens) + 1, len(tokens) + 2]
    assert own.decode(ids, skip_special_tokens=True) == "Hi"
    assert own.eos_token == "<end of turn>"
    assert len(own) == len(tokens) + 3


@pytest.mark.parametrize(
    ("pre", "said", "begins"), [("llama-bpe", None, True), ("llama-bpe", False, False), ("gpt-2", None, False)]
)
def test_a_text_begins_with_the_start_token_if_the_model_wants_it(
    pre: str, said: bool | None, begins: bool, tmp_path: Path
) -> None:
    tokens, merges = trained(pre_tokenizers.ByteLevel(False))
    fields = tokenizer_fields([*tokens, "<s>"], merges, pre=pre, bos=len(tokens), add_bos=said)
    assert (from_gguf(tmp_path, fields).encode("Hello")[0] == len(tokens)) is begins


def test_the_chat_template_and_the_length_are_read_too(tmp_path: Path) -> None:
    template = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"
    own = from_gguf(tmp_path, tokenizer_fields(["a", "b"], [], chat_template=template))
    assert own.chat_template == template
    assert own.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False) == "<a>"
    assert own.model_max_length == CONFIGS["llama"]().max_position_embeddings


def sentencepiece(prefix: bool) -> tuple[Any, dict[str, Any]]:
    """A BPE over whole texts like Llama 2's, and its form in a GGUF file."""
    writes_spaces = normalizers.Replace(" ", "\u2581")
    normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), writes_spaces]) if prefix else writes_spaces
    learning = Tokenizer(models.BPE())
    learning.normalizer = normalizer
    learning.train_from_iterator(TEXTS * 5, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    learned = json.loads(learning.to_str())["model"]
    letters = sorted(learned["vocab"], key=learned["vocab"].get)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL] + [TokenType.BYTE] * 256
    types += [TokenType.NORMAL] * len(letters)
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(letters))]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    merges = [tuple(merge) for merge in learned["merges"]]
    reference = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    reference.normalizer = normalizer
    return reference, sentencepiece_fields(tokens, types, scores, bos=1, eos=2, unk=0, add_space_prefix=prefix)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_sentencepiece_vocabulary_is_used_as_the_model_learned_it(
    architecture: str, prefix: bool, tmp_path: Path
) -> None:
    reference, fields = sentencepiece(prefix)
    own = from_gguf(tmp_path, fields, architecture)
    for text in [*TEXTS, "unseen: \u00df\u4e16\u754c"]:
        ids = own.encode(text)
        assert ids == [1, *reference.encode(text).ids], text
        assert own.decode(ids, skip_special_tokens=True) == text


def test_tokens_of_several_spaces_are_found_in_a_text(tmp_path: Path) -> None:
    _, fields = sentencepiece(prefix=False)
    fields["tokens"].append(" " * 9)
    fields["token_type"].append(TokenType.USER_DEFINED)
    fields["scores"].append(0.0)
    own = from_gguf(tmp_path, fields, "gemma2")
    ids = own.encode("a" + " " * 9 + "b", add_special_tokens=False)
    assert own.decode(ids) == "a" + " " * 9 + "b"


def test_phi3s_control_tokens_include_the_line_end_after_them(tmp_path: Path) -> None:
    reference, fields = sentencepiece(prefix=True)
    fields["tokens"].append("<|user|>")
    fields["token_type"].append(TokenType.CONTROL)
    fields["scores"].append(0.0)
    own = from_gguf(tmp_path, fields, "phi3")
    assert own.encode("<|user|>\nHello") == [1, len(fields["tokens"]) - 1, *reference.encode("Hello").ids]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"tokens": []}, "has no tokenizer"),
        ({"model": "bert"}, "tokenizer is of the kind 'bert'"),
        ({"merges": ["x y"]}, "merges 'x y', which are not tokens"),
    ],
)
def test_a_tokenizer_that_cannot_be_built_is_reported(changed: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=complaint):
        from_gguf(tmp_path, tokenizer_fields(["a", "b"], []) | changed)
