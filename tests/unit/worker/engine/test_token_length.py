from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from common.errors import PromptTooLong
from common.jobs.prompts import Conversation, Prompt, RawText, TokenIds
from common.settings import ROOT
from tests.missing import skip_or_fail
from tests.small_tokenizers import byte_fallback, byte_level, unigram, word_level
from tests.unit.worker.engine.tiny_models import make_tokenizer
from worker.engine.prompts.prompt import PromptRenderer
from worker.engine.prompts.token_length import TokenLength

ALPHABETS = [
    "ab ",
    " \n\t",
    "abcdefghij .,",
    "éü日本語🎌👩‍💻\x00\ud7ff",
    "=-_#",
    "\x04\x06\x13\U00040000a ",
    "<|im_start|></s>",
]
DEFAULT = ROOT / "data" / "models" / "SmolLM2-135M-Instruct"


def texts(seed: int) -> list[str]:
    chance = random.Random(seed)
    made = ["".join(chance.choices(alphabet, k=chance.randrange(1, 400))) for alphabet in ALPHABETS for _ in range(20)]
    return [*made, *(letter * 300 for alphabet in ALPHABETS for letter in alphabet)]


def default_tokenizer() -> Any:
    if not DEFAULT.is_dir():
        skip_or_fail("the default model is not installed: python -m models.base_model")
    return AutoTokenizer.from_pretrained(DEFAULT)


@pytest.mark.parametrize("make", [byte_level, byte_fallback, make_tokenizer, default_tokenizer])
def test_no_token_stands_for_more_characters_than_the_bound(make: Callable[[], Any]) -> None:
    renderer = PromptRenderer(tokenizer := make())
    length = TokenLength(tokenizer)

    assert length.max_bytes is not None
    for text in texts(5):
        assert length.min_tokens(text) <= len(renderer.render(RawText(text)).token_ids)
    assert length.min_tokens("a" * 10 * length.max_bytes) == 10


def test_characters_that_a_tokenizer_skips_do_not_count() -> None:
    """The default model has no token for some control characters: a text of them has no tokens."""
    tokenizer = default_tokenizer()

    assert tokenizer.encode("a" + "\x06" * 1000) == tokenizer.encode("a")
    assert TokenLength(tokenizer).min_tokens("a" + "\x06" * 1000) == 1


def test_the_bound_is_the_longest_token() -> None:
    assert TokenLength(default_tokenizer()).max_bytes == 81


def changed(change: Callable[[PreTrainedTokenizerFast], object]) -> PreTrainedTokenizerFast:
    tokenizer = byte_level()
    change(tokenizer)
    return tokenizer


def set_normalizer(normalizer: Any) -> PreTrainedTokenizerFast:
    return changed(lambda tokenizer: setattr(tokenizer.backend_tokenizer, "normalizer", normalizer))


def set_pre_tokenizer(pre_tokenizer: Any) -> PreTrainedTokenizerFast:
    return changed(lambda tokenizer: setattr(tokenizer.backend_tokenizer, "pre_tokenizer", pre_tokenizer))


@pytest.mark.parametrize(
    "make",
    [
        unigram,
        word_level,
        lambda: set_normalizer(normalizers.NFC()),
        lambda: set_normalizer(normalizers.Strip()),
        lambda: set_normalizer(normalizers.Replace("  ", "")),
        lambda: set_pre_tokenizer(pre_tokenizers.Whitespace()),
        lambda: set_pre_tokenizer(pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed")])),
        lambda: changed(lambda tokenizer: tokenizer.add_tokens([AddedToken("<mask>", lstrip=True)])),
    ],
)
def test_there_is_no_bound_if_a_token_can_stand_for_any_number_of_characters(make: Callable[[], Any]) -> None:
    length = TokenLength(make())

    assert length.max_bytes is None
    assert length.min_tokens("a" * 1_000_000) == 0


# Purpose


def at_most(number: int) -> Callable[[int], None]:
    def check(num_tokens: int) -> None:
        if num_tokens > number:
            raise PromptTooLong(f"at least {num_tokens}")

    return check


@pytest.mark.parametrize(
    "prompt", ["a" * 50_000, RawText("a" * 50_000), Conversation(({"role": "user", "content": "a" * 50_000},))]
)
def test_a_text_that_is_certainly_too_long_is_refused_without_being_encoded(
    prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = make_tokenizer()
    renderer = PromptRenderer(tokenizer)
    monkeypatch.setattr("models.text.text_encoder.FastEncoding._encode", None)

    with pytest.raises(PromptTooLong):
        renderer.render(prompt, check_length=at_most(1000))


def test_token_ids_are_counted_before_they_are_decoded() -> None:
    with pytest.raises(PromptTooLong):
        PromptRenderer(make_tokenizer()).render(TokenIds((10**9,) * 11), check_length=at_most(10))


@pytest.mark.parametrize("make", [byte_level, byte_fallback, default_tokenizer])
def test_a_text_that_fits_is_never_refused_by_its_length(make: Callable[[], Any], tmp_path: Path) -> None:
    renderer = PromptRenderer(make())
    for text in texts(6):
        num_tokens = len(renderer.render(RawText(text)).token_ids)
        renderer.render(RawText(text), check_length=at_most(num_tokens))
