from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.fakes import ASSISTANT, EOS, ByteTokenizer
from worker.engine.output.detokenizer import (
    LONG_RUN_TOKENS,
    MAX_HELD_TOKENS,
    MAX_WINDOW_TOKENS,
    REPLACEMENT,
    Detokenizer,
    TokenDecoder,
)

TEXT = "Grüße aus 東京 🎌👩‍👩‍👧 e\u0301té, naïve\u2028line\x0c\r\n\tЖ " * 3


class FastDecoder:
    """A `tokenizers` tokenizer without special tokens, which records what it decodes."""

    special_token_ids = frozenset[int]()

    def __init__(self, tokenizer: Tokenizer, fallback_bytes: Mapping[int, int] | None = None) -> None:
        self.tokenizer = tokenizer
        self.fallback_bytes = fallback_bytes or {}
        self.longest = 0

    def decode(self, token_ids: list[int]) -> str:
        self.longest = max(self.longest, len(token_ids))
        text: str = self.tokenizer.decode(token_ids)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        raise NotImplementedError("nothing here asks for log probabilities")


def byte_level_bpe() -> FastDecoder:
    """Like GPT-2's and Llama 3's: tokens are byte sequences, which may be parts of characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet))
    return FastDecoder(tokenizer)


def byte_fallback_bpe() -> FastDecoder:
    """Like Llama 2's and Gemma's: words begin with a visible space, unknown characters are spelled in bytes."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for piece in ("▁", "G", "r", "a", "u", "s", "▁a", "us", "n", "e", "t", "v", "l", "i", ",", "▁aus"):
        vocab[piece] = len(vocab)
    merges = [("▁", "a"), ("u", "s"), ("▁a", "us")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return FastDecoder(tokenizer, {byte: byte for byte in range(256)})


def pieces_of(decoder: TokenDecoder, token_ids: list[int], prompt_ids: list[int] | None = None) -> list[str]:
    detokenizer = Detokenizer(decoder, prompt_ids or [])
    return [*map(detokenizer.push, token_ids), detokenizer.flush()]


@pytest.mark.parametrize("make_decoder", [byte_level_bpe, byte_fallback_bpe])
def test_the_pieces_are_the_text_and_never_split_a_character(make_decoder: Callable[[], FastDecoder]) -> None:
    decoder = make_decoder()
    token_ids = decoder.tokenizer.encode(TEXT).ids

    pieces = pieces_of(decoder, token_ids)

    assert "".join(pieces) == decoder.decode(token_ids) == TEXT
    assert not any("\ufffd" in piece for piece in pieces)


def test_an_emoji_appears_with_its_last_byte() -> None:
    assert pieces_of(ByteTokenizer(), list("a🎌b".encode())) == ["a", "", "", "", "🎌", "b", ""]


def test_an_unfinished_character_is_shown_only_at_the_end() -> None:
    assert pieces_of(ByteTokenizer(), list("é".encode())[:1]) == ["", "\ufffd"]


def test_special_tokens_are_skipped_and_split_no_character() -> None:
    first, second = "é".encode()

    assert pieces_of(ByteTokenizer(), [65, EOS, first, ASSISTANT, second]) == ["A", "", "", "", "é", ""]


def test_a_special_token_can_be_a_part_of_the_text() -> None:
    first, second = "é".encode()
    detokenizer = Detokenizer(ByteTokenizer(), [], shown_ids=frozenset({ASSISTANT}))

    pieces = [detokenizer.push(token_id) for token_id in [65, first, second, EOS, ASSISTANT, 66]]

    assert pieces == ["A", "", "é", "", "<|assistant|>", "B"]


def test_the_first_tokens_space_is_shown_if_text_precedes_it() -> None:
    decoder = byte_fallback_bpe()
    word = decoder.tokenizer.token_to_id("▁aus")

    assert Detokenizer(decoder, []).push(word) == "aus"
    assert Detokenizer(decoder, [decoder.tokenizer.token_to_id("G")]).push(word) == " aus"


@pytest.mark.parametrize("seed", range(50))
def test_any_bytes_give_the_same_text_in_pieces_as_at_once(seed: int) -> None:
    rng = random.Random(seed)
    token_ids = [byte for _ in range(40) for byte in rng.choice([rng.randbytes(2), "é🎌".encode(), b"x"])]

    assert "".join(pieces_of(ByteTokenizer(), token_ids)) == ByteTokenizer().decode(token_ids)


def test_endless_invalid_bytes_are_neither_held_back_forever_nor_decoded_repeatedly() -> None:
    decoder = byte_level_bpe()
    broken = decoder.tokenizer.encode("🎌").ids[:1]

    pieces = pieces_of(decoder, broken * 500)

    assert "".join(pieces) == decoder.tokenizer.decode(broken * 500)
    assert decoder.longest <= MAX_WINDOW_TOKENS + MAX_HELD_TOKENS


def test_the_work_per_token_does_not_grow_with_the_text() -> None:
    decoder = byte_level_bpe()

    pieces_of(decoder, decoder.tokenizer.encode(TEXT * 20).ids)

    assert decoder.longest <= MAX_WINDOW_TOKENS + MAX_HELD_TOKENS


# Byte fallback: a run of bytes decodes as one unit

EMOJI = list("😀".encode())
texts = st.text(st.sampled_from("aus ,é你好😀🎌\n\u0301"), max_size=40)


@pytest.mark.parametrize("make_decoder", [byte_level_bpe, byte_fallback_bpe])
@given(prompt=texts, answer=texts)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_an_answer_continues_any_prompt(make_decoder: Callable[[], FastDecoder], prompt: str, answer: str) -> None:
    decoder = make_decoder()
    prompt_ids, answer_ids = (decoder.tokenizer.encode(text).ids for text in (prompt, answer))

    pieces = pieces_of(decoder, answer_ids, prompt_ids)

    assert "".join(pieces) == decoder.decode(prompt_ids + answer_ids)[len(decoder.decode(prompt_ids)) :]
    assert not any(REPLACEMENT in piece for piece in pieces)


@given(st.lists(st.sampled_from([*EMOJI, 0xFF, 0x0A, 0x41, 256, 257]), max_size=60), st.integers(0, 60))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_no_tokens_are_held_back_forever_or_shown_twice(token_ids: list[int], split: int) -> None:
    decoder = byte_fallback_bpe()
    letters = decoder.tokenizer.encode("a us").ids

    text = "".join(pieces_of(decoder, [*token_ids[split:], *letters], token_ids[:split]))

    assert text.endswith("a us")
    assert text.count("😀") <= bytes(one for one in token_ids if one < 256).count(bytes(EMOJI))
    assert decoder.longest <= MAX_WINDOW_TOKENS + MAX_HELD_TOKENS


@pytest.mark.parametrize("num_before", range(5))
def test_a_prompt_of_emoji_does_not_break_the_answers_emoji(num_before: int) -> None:
    assert pieces_of(byte_fallback_bpe(), EMOJI * 2 + [256], EMOJI * num_before) == [""] * 7 + ["😀😀", " ", ""]


def test_a_run_of_bytes_is_shown_when_it_has_ended_or_is_long() -> None:
    decoder = byte_fallback_bpe()

    assert pieces_of(decoder, [*EMOJI, 0xFF, 257], [258]) == [*[""] * 5, "\ufffd" * 5 + "G", ""]
    assert pieces_of(decoder, [*EMOJI, 0x0A], [258]) == ["", "", "", "", "😀\n", ""]
    assert pieces_of(decoder, EMOJI * 3, [258]) == [*[""] * (LONG_RUN_TOKENS - 1), "😀😀", "", "", "", "", "😀"]


def test_a_byte_that_spoils_a_run_takes_nothing_back() -> None:
    decoder = byte_fallback_bpe()

    assert "".join(pieces_of(decoder, [*EMOJI, *EMOJI, 0xFF, 257, 256], [258])) == "😀😀\ufffdG "


@pytest.mark.parametrize("num_given", [1, 2, 3])
def test_the_rest_of_a_run_that_the_prompt_cuts_inside_a_character_shows_nothing(num_given: int) -> None:
    prompt_ids = [257, *EMOJI[:num_given]]

    assert "".join(pieces_of(byte_fallback_bpe(), [*EMOJI[num_given:], *EMOJI, 258, 256], prompt_ids)) == "r "


@pytest.mark.parametrize("num_given", [1, 2, 3])
def test_the_rest_of_a_character_that_the_prompt_cuts_shows_nothing(num_given: int) -> None:
    prompt_ids = [65, *EMOJI[:num_given]]

    assert "".join(pieces_of(ByteTokenizer(), [*EMOJI[num_given:], *EMOJI, 66], prompt_ids)) == "😀B"
