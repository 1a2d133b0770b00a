from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.fakes import ASSISTANT, EOS, ByteTokenizer
from worker.engine.detokenizer import MAX_HELD_TOKENS, MAX_WINDOW_TOKENS, Detokenizer, TokenDecoder

TEXT = "Grüße aus 東京 🎌👩‍👩‍👧 e\u0301té, naïve\u2028line\x0c\r\n\tЖ " * 3


class FastDecoder:
    """A `tokenizers` tokenizer without special tokens, and what it was asked to decode."""

    special_token_ids = frozenset[int]()

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.longest = 0

    def decode(self, token_ids: list[int]) -> str:
        self.longest = max(self.longest, len(token_ids))
        text: str = self.tokenizer.decode(token_ids)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        raise NotImplementedError("nothing here asks for log probabilities")


def byte_level_bpe() -> FastDecoder:
    """As GPT-2 and Llama 3 do it: tokens are runs of bytes, also parts of characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet))
    return FastDecoder(tokenizer)


def byte_fallback_bpe() -> FastDecoder:
    """As Llama 2 and Gemma do it: words begin with a visible space, unknown characters are spelled in bytes."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for piece in ("▁", "G", "r", "a", "u", "s", "▁a", "us", "n", "e", "t", "v", "l", "i", ",", "▁aus"):
        vocab[piece] = len(vocab)
    merges = [("▁", "a"), ("u", "s"), ("▁a", "us")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return FastDecoder(tokenizer)


def pieces_of(decoder: TokenDecoder, token_ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(decoder, [])
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


def test_the_first_tokens_space_shows_when_text_stands_before_it() -> None:
    decoder = byte_fallback_bpe()
    word = decoder.tokenizer.token_to_id("▁aus")

    assert Detokenizer(decoder, []).push(word) == "aus"
    assert Detokenizer(decoder, [decoder.tokenizer.token_to_id("G")]).push(word) == " aus"


@pytest.mark.parametrize("seed", range(50))
def test_any_bytes_give_the_same_text_in_pieces_as_at_once(seed: int) -> None:
    rng = random.Random(seed)
    token_ids = [byte for _ in range(40) for byte in rng.choice([rng.randbytes(2), "é🎌".encode(), b"x"])]

    assert "".join(pieces_of(ByteTokenizer(), token_ids)) == ByteTokenizer().decode(token_ids)


def test_endless_invalid_bytes_are_neither_held_for_ever_nor_decoded_again_and_again() -> None:
    decoder = byte_level_bpe()
    broken = decoder.tokenizer.encode("🎌").ids[:1]

    pieces = pieces_of(decoder, broken * 500)

    assert "".join(pieces) == decoder.tokenizer.decode(broken * 500)
    assert decoder.longest <= MAX_WINDOW_TOKENS + MAX_HELD_TOKENS


def test_the_work_per_token_does_not_grow_with_the_text() -> None:
    decoder = byte_level_bpe()

    pieces_of(decoder, decoder.tokenizer.encode(TEXT * 20).ids)

    assert decoder.longest <= MAX_WINDOW_TOKENS + MAX_HELD_TOKENS
