"""How many tokens a text has at least: one that is certainly too long need not be encoded to be refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from worker.engine.token_bytes import byte_letters

# What they make of a text has all of it. Of others some forget blanks, or write several characters as one.
_KEEP_ALL = frozenset({"ByteLevel", "Metaspace", "Digits", "Punctuation", "Split", "Prepend", "Replace"})
_FALLBACK = frozenset(f"<0x{byte:02X}>" for byte in range(256))


class TokenLength:
    """What a transformers tokenizer's tokens can stand for at most.

    There is no such bound if it leaves out blanks, or has one token for all that it does not know.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.most_bytes: int | None = None  # of UTF-8, that one token can stand for; None: any number
        self._lost = b""  # bytes that the tokenizer passes over
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or type(backend.model).__name__ != "BPE":
            return
        steps = [*_steps(backend.normalizer), *_steps(backend.pre_tokenizer)]
        added = list(tokenizer.added_tokens_decoder.values())
        if not all(map(_keeps_all, steps)) or any(token.lstrip or token.rstrip for token in added):
            return
        self._read(tokenizer.get_vocab().keys(), [token.content for token in added], steps, backend.model.byte_fallback)

    def least_tokens(self, text: str) -> int:
        """The text has as many tokens or more."""
        if self.most_bytes is None:
            return 0
        size = len(text.encode(errors="surrogatepass").translate(None, self._lost))
        return -(-size // self.most_bytes)

    def _read(self, vocabulary: Iterable[str], added: list[str], steps: list[Any], has_fallback: bool) -> None:
        tokens = set(vocabulary)
        if any(step["type"] == "ByteLevel" for step in steps):
            letters = byte_letters()
            # Each letter stands for a byte. Tokens that are spelled otherwise are the added ones.
            longest = max((len(token) for token in tokens if letters.keys() >= set(token)), default=1)
            self._lost = bytes(byte for letter, byte in letters.items() if letter not in tokens)
        elif has_fallback and tokens >= _FALLBACK:
            longest = _longest(tokens)
        else:
            return
        self.most_bytes = max(longest, _longest(added))


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """A normalizer's or pre-tokenizer's steps, as they are saved."""
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
