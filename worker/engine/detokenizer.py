"""Token ids to text, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

REPLACEMENT = "\ufffd"
CONTEXT_TOKENS = 6  # of the prompt: whether a first token's leading space shows depends on what stands before it
MAX_WINDOW_TOKENS = 24
MAX_CHARACTER_TOKENS = 4  # a UTF-8 character has at most four bytes, a token at least one
LONG_RUN_TOKENS = 8  # of bytes that are whole characters so far: shown although the next byte could spoil them
MAX_HELD_TOKENS = LONG_RUN_TOKENS + MAX_CHARACTER_TOKENS  # what is still unfinished then is not UTF-8


class TokenDecoder(Protocol):
    """The half of a tokenizer that makes text."""

    special_token_ids: frozenset[int]
    fallback_bytes: Mapping[int, int]
    """The tokens `<0x00>` to `<0xFF>` of a vocabulary that spells unknown characters in bytes: token id -> byte.

    Neighbours among them decode as one unit: to their text if that is UTF-8, else each of them to U+FFFD.
    """

    def decode(self, token_ids: list[int]) -> str:
        """Text of the tokens, special ones skipped; bytes that are not UTF-8 become U+FFFD. Callable by any thread."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for inside a text: UTF-8, or a part of a character. A special token's is its name."""
        ...


class Detokenizer:
    """Turns a growing list of tokens into text without ever showing a part of a character.

    A token's text depends on its neighbours (leading spaces, characters spread over tokens), so a window of the last
    few tokens is decoded again with every new one:

        window:  | shown before, for context | shown | new |
                 0                     _boundary           len

    A window that began inside a character would show U+FFFD for it, and with byte fallback for the whole run of bytes
    that the character stands in. A prompt that ends inside a character has shown U+FFFD for that character or run;
    the rest of it shows nothing.
    """

    def __init__(self, decoder: TokenDecoder, prompt_ids: list[int]) -> None:
        self._decoder = decoder
        self._window = _context(decoder, prompt_ids)
        self._boundary = len(self._window)  # the tokens before it are shown in full
        self._shown = decoder.decode(self._window)  # the part of the window's text that is shown
        self._is_in_cut_run = (
            self._shown.endswith(REPLACEMENT) and bool(self._window) and self._window[-1] in decoder.fallback_bytes
        )

    def push(self, token_id: int) -> str:
        """Take the next token; return the text that is certain now, which may be empty."""
        if token_id in self._decoder.special_token_ids:
            return ""
        byte = self._decoder.fallback_bytes.get(token_id)
        self._is_in_cut_run &= byte is not None
        if self._is_in_cut_run:
            return ""
        self._window.append(token_id)
        text = self._decoder.decode(self._window)
        num_held = len(self._window) - self._boundary
        if text.endswith(REPLACEMENT):
            return self._show_invalid(text) if num_held > MAX_HELD_TOKENS else ""
        is_certain = byte is None or byte < 0x80 or num_held >= LONG_RUN_TOKENS
        return self._show(text) if is_certain else ""

    def flush(self) -> str:
        """The text of the tokens still held back: an unfinished character becomes U+FFFD."""
        return self._show(self._decoder.decode(self._window))

    def _show(self, text: str) -> str:
        if not text.startswith(self._shown.rstrip(REPLACEMENT)):  # the newest bytes spoiled a run that is shown
            self._window = self._window[self._boundary :]
            self._shown, text = "", self._decoder.decode(self._window)
        new = text[len(self._shown) :]
        self._shown = text
        if len(self._window) > MAX_WINDOW_TOKENS:
            self._window = self._window[self._boundary :]
            self._shown = self._decoder.decode(self._window)
        self._boundary = len(self._window)
        return new

    def _show_invalid(self, text: str) -> str:
        """Show all but the last U+FFFD, the only one that can still become a character."""
        new = text[len(self._shown) : -1]
        self._window = self._window[-MAX_CHARACTER_TOKENS:]
        self._shown = self._decoder.decode(self._window)[:-1]
        self._boundary = 0
        return new


def _context(decoder: TokenDecoder, prompt_ids: list[int]) -> list[int]:
    """The last tokens of the prompt, from the beginning of a character on."""
    most = CONTEXT_TOKENS + MAX_CHARACTER_TOKENS - 1
    tokens = [token for token in prompt_ids[-2 * most :] if token not in decoder.special_token_ids]
    windows = (tokens[-count:] for count in range(CONTEXT_TOKENS, most + 1))
    whole = (window for window in windows if not decoder.decode(window).startswith(REPLACEMENT))
    return next(whole, tokens[-CONTEXT_TOKENS:])
