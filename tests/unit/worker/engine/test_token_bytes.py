from __future__ import annotations

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.unit.worker.engine.tiny_models import make_tokenizer
from worker.engine.loading.texts import TokenizerDecoder

TEXT = "Grüße aus 東京 🎌, naïve \x00\n\t"


def byte_fallback_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Like Llama 2's and Gemma's: words begin with a visible space, unknown characters are spelled in bytes."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for piece in ("</s>", "▁", "a", "u", "s", "▁a", "us", "▁aus"):
        vocab[piece] = len(vocab)
    merges = [("▁", "a"), ("u", "s"), ("▁a", "us")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


@pytest.mark.parametrize("make", [make_tokenizer, byte_fallback_tokenizer])
def test_the_bytes_of_its_tokens_are_a_texts_bytes(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    decoder = TokenizerDecoder(tokenizer)

    token_ids = tokenizer.encode(TEXT, add_special_tokens=False)

    assert b"".join(map(decoder.token_bytes, token_ids)).removeprefix(b" ") == TEXT.encode()


def test_a_words_space_belongs_to_it_at_any_position() -> None:
    tokenizer = byte_fallback_tokenizer()

    assert TokenizerDecoder(tokenizer).token_bytes(tokenizer.convert_tokens_to_ids("▁aus")) == b" aus"


def test_a_special_token_is_returned_by_name_and_an_unknown_one_is_empty() -> None:
    tokenizer = make_tokenizer()
    decoder = TokenizerDecoder(tokenizer)

    assert decoder.token_bytes(tokenizer.eos_token_id) == b"</s>"
    assert decoder.token_bytes(len(tokenizer) + 5) == b""
