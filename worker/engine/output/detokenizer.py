"""Converts token ids to text, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

REPLACEMENT = "\ufffd"
CONTEXT_TOKENS = 6  # of the prompt: the leading space of the first token depends on the tokens before it
MAX_WINDOW_TOKENS = 24
MAX_CHARACTER_TOKENS = 4  # a UTF-8 character has at most four bytes, a token at least one
LONG_RUN_TOKENS = 8  # byte tokens that form whole characters: shown although the next byte could invalidate them
MAX_HELD_TOKENS = LONG_RUN_TOKENS + MAX_CHARACTER_TOKENS  # if still unfinished then, it is not UTF-8


class TokenDecoder(Protocol):
    """The decoding half of a tokenizer."""

    special_token_ids: frozenset[int]
    fallback_bytes: Mapping[int, int]
    """The tokens `<0x00>` to `<0xFF>` of a vocabulary with byte fallback: token id -> byte.

    Consecutive byte tokens decode together: to their text if it is UTF-8, else each to U+FFFD.
    """

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of the tokens without special ones; invalid UTF-8 becomes U+FFFD. Thread-safe."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token inside a text, maybe a part of a character; for a special token, its name."""
        ...


class Detokenizer:
    """Converts a growing list of tokens into text without showing incomplete characters.

    A token's text depends on its neighbours (leading spaces, characters split across tokens), so a window of the last
    few tokens is decoded again with every new token:

        window:  | shown before, for context | shown | new |
                 0                     _boundary           len

    A window that began inside a character would show U+FFFD for it, and with byte fallback for the whole run of byte
    tokens around it. If the prompt ends inside a character, it has already shown U+FFFD for that character or run, so
    the rest of it shows nothing.
    """

    def __init__(self, decoder: TokenDecoder, prompt_ids: list[int], shown_ids: frozenset[int] = frozenset()) -> None:
        """`shown_ids` are special tokens that are a part of the text."""
        self._decoder = decoder
        self._shown_ids = shown_ids
        self._window = _context(decoder, prompt_ids)
        self._boundary = len(self._window)  # all tokens before it are fully shown
        self._shown = decoder.decode(self._window)  # the part of the window's text that has been shown
        self._is_in_cut_run = (
            self._shown.endswith(REPLACEMENT) and bool(self._window) and self._window[-1] in decoder.fallback_bytes
        )

    def push(self, token_id: int) -> str:
        """Append a token; return the text that is now certain, which may be empty."""
        if token_id in self._shown_ids:
            return self.flush() + self._decoder.token_bytes(token_id).decode()
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
        """Return the text of the tokens held back; an unfinished character becomes U+FFFD."""
        return self._show(self._decoder.decode(self._window))

    def _show(self, text: str) -> str:
        if not text.startswith(self._shown.rstrip(REPLACEMENT)):  # the newest bytes invalidated a run that was shown
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
        """Show everything except the last U+FFFD, the only one that can still become a character."""
        new = text[len(self._shown) : -1]
        self._window = self._window[-MAX_CHARACTER_TOKENS:]
        self._shown = self._decoder.decode(self._window)[:-1]
        self._boundary = 0
        return new


def _context(decoder: TokenDecoder, prompt_ids: list[int]) -> list[int]:
    """Return the last tokens of the prompt, starting at the beginning of a character."""
    limit = CONTEXT_TOKENS + MAX_CHARACTER_TOKENS - 1
    tokens = [token for token in prompt_ids[-2 * limit :] if token not in decoder.special_token_ids]
    windows = (tokens[-count:] for count in range(CONTEXT_TOKENS, limit + 1))
    whole = (window for window in windows if not decoder.decode(window).startswith(REPLACEMENT))
    return next(whole, tokens[-CONTEXT_TOKENS:])
