"""Finds the bytes of a single token."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from worker.engine.output.detokenizer import REPLACEMENT

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class TokenBytes:
    """The bytes of a transformers tokenizer's tokens; each token is looked up once.

    Args:
        tokenizer: the tokenizer.
        special_token_ids: the tokens that `decode` skips; their bytes are their names.
        decode: converts tokens to text.
    """

    def __init__(self, tokenizer: Any, special_token_ids: frozenset[int], decode: Callable[[list[int]], str]) -> None:
        self._tokenizer = tokenizer
        self._special_token_ids = special_token_ids
        self._decode = decode
        self._known: dict[int, bytes] = {}
        # At the beginning of a text some tokenizers drop a token's space.
        self._context = tokenizer.encode("a", add_special_tokens=False)[:1]
        self._context_text = decode(self._context)

    def of(self, token_id: int) -> bytes:
        """Return the token's bytes inside a text; empty for an unknown id."""
        if (known := self._known.get(token_id)) is None:
            known = self._known[token_id] = self._look_up(token_id)
        return known

    def _look_up(self, token_id: int) -> bytes:
        name: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        if name is None or token_id in self._special_token_ids:
            return (name or "").encode()
        text = self._decode([*self._context, token_id]).removeprefix(self._context_text)
        return text.encode() if REPLACEMENT not in text else _bytes_of_name(name, otherwise=text)


def fallback_bytes(tokenizer: Any) -> dict[int, int]:
    """Return the byte tokens that a vocabulary uses for text without other tokens: token id -> byte.

    Empty for a tokenizer without byte fallback.
    """
    names = {f"<0x{byte:02X}>": byte for byte in range(256)}
    ids = tokenizer.convert_tokens_to_ids(list(names))
    found = zip(
        tokenizer.convert_ids_to_tokens([0 if token_id is None else token_id for token_id in ids]), ids, strict=True
    )
    return {token_id: names[name] for name, token_id in found if name in names}


def _bytes_of_name(name: str, otherwise: str) -> bytes:
    """Return the bytes of a token that is a part of a character, from its name in one of the two common notations."""
    if (match := _BYTE_TOKEN.fullmatch(name)) is not None:
        return bytes([int(match[1], 16)])
    letters = byte_letters()
    return bytes(letters[char] for char in name) if letters.keys() >= set(name) else otherwise.encode()


@cache
def byte_letters() -> dict[str, int]:
    """Return the letters of byte-level BPE: printable bytes are themselves, the others start at U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
