"""What a single token stands for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from worker.engine.detokenizer import REPLACEMENT

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class TokenBytes:
    """The bytes of a transformers tokenizer's tokens; each is looked up once.

    Args:
        tokenizer: the tokenizer.
        special_token_ids: the tokens that `decode` skips; they are told by their names.
        decode: makes text of tokens.
    """

    def __init__(self, tokenizer: Any, special_token_ids: frozenset[int], decode: Callable[[list[int]], str]) -> None:
        self._tokenizer = tokenizer
        self._special_token_ids = special_token_ids
        self._decode = decode
        self._known: dict[int, bytes] = {}
        self._context = next(iter(tokenizer.encode("a", add_special_tokens=False)), None)

    def of(self, token_id: int) -> bytes:
        """The token's bytes inside a text; nothing for an id that the tokenizer does not know."""
        if (known := self._known.get(token_id)) is None:
            known = self._known[token_id] = self._look_up(token_id)
        return known

    def _look_up(self, token_id: int) -> bytes:
        name: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        if name is None or token_id in self._special_token_ids:
            return (name or "").encode()
        # At the beginning of a text some tokenizers drop a token's space.
        context = [] if self._context is None else [self._context]
        text = self._decode([*context, token_id]).removeprefix(self._decode(context))
        return text.encode() if REPLACEMENT not in text else _bytes_of_name(name, otherwise=text)


def fallback_bytes(tokenizer: Any) -> dict[int, int]:
    """The tokens of single bytes by which a vocabulary spells what it has no token for: token id -> byte.

    Empty for a tokenizer without byte fallback.
    """
    names = {f"<0x{byte:02X}>": byte for byte in range(256)}
    ids = tokenizer.convert_tokens_to_ids(list(names))
    found = zip(tokenizer.convert_ids_to_tokens([0 if one is None else one for one in ids]), ids, strict=True)
    return {token_id: names[name] for name, token_id in found if name in names}


def _bytes_of_name(name: str, otherwise: str) -> bytes:
    """The bytes of a token that is a part of a character, by its name in one of the two ways in use."""
    if (match := _BYTE_TOKEN.fullmatch(name)) is not None:
        return bytes([int(match[1], 16)])
    letters = byte_letters()
    return bytes(letters[char] for char in name) if letters.keys() >= set(name) else otherwise.encode()


def byte_letters() -> dict[str, int]:
    """The letters of byte-level BPE: printable bytes stand for themselves, the others for what follows U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
