"""Computes a lower bound of a text's tokens, so that a text that is too long is refused without encoding it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from worker.engine.output.token_bytes import byte_letters

# Steps that keep the whole text. Some others drop blanks, or merge several characters.
_KEEP_ALL = frozenset({"ByteLevel", "Metaspace", "Digits", "Punctuation", "Split", "Prepend", "Replace"})
_FALLBACK = frozenset(f"<0x{byte:02X}>" for byte in range(256))


class TokenLength:
    """The maximum number of bytes per token of a transformers tokenizer.

    There is no bound if the tokenizer drops blanks, or has one token for all unknown text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.max_bytes: int | None = None  # maximum UTF-8 bytes of a token; None: unbounded
        self._lost = b""  # bytes that the tokenizer ignores
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or type(backend.model).__name__ != "BPE":
            return
        steps = [*_steps(backend.normalizer), *_steps(backend.pre_tokenizer)]
        added = list(tokenizer.added_tokens_decoder.values())
        if not all(map(_keeps_all, steps)) or any(token.lstrip or token.rstrip for token in added):
            return
        self._read(tokenizer.get_vocab().keys(), [token.content for token in added], steps, backend.model.byte_fallback)

    def min_tokens(self, text: str) -> int:
        """Return a lower bound of the number of tokens of the text."""
        if self.max_bytes is None:
            return 0
        size = len(text.encode(errors="surrogatepass").translate(None, self._lost))
        return -(-size // self.max_bytes)

    def _read(self, vocabulary: Iterable[str], added: list[str], steps: list[Any], has_fallback: bool) -> None:
        tokens = set(vocabulary)
        if any(step["type"] == "ByteLevel" for step in steps):
            letters = byte_letters()
            # Each letter is a byte. Tokens with other characters are added tokens.
            longest = max((len(token) for token in tokens if letters.keys() >= set(token)), default=1)
            self._lost = bytes(byte for letter, byte in letters.items() if letter not in tokens)
        elif has_fallback and tokens >= _FALLBACK:
            longest = _longest(tokens)
        else:
            return
        self.max_bytes = max(longest, _longest(added))


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """Yield the steps of a normalizer or pre-tokenizer in their serialized form."""
    if part is None:
        return
    state = json.loads(part.__getstate__())
    if state["type"] == "Sequence":
        yield from state.get("normalizers") or state.get("pretokenizers") or ()
    else:
        yield state


def _keeps_all(step: dict[str, Any]) -> bool:
    if step["type"] == "Replace":
        replaced = step["pattern"].get("String")
        return replaced is not None and len(step["content"].encode()) >= len(replaced.encode())
    return step["type"] in _KEEP_ALL and step.get("behavior") != "Removed"


def _longest(tokens: Iterable[str]) -> int:
    return max((len(token.encode(errors="surrogatepass")) for token in tokens), default=0)
