"""Token ids to text, token by token."""

from __future__ import annotations

from typing import Protocol

REPLACEMENT = "\ufffd"
CONTEXT_TOKENS = 6  # of the prompt: whether a first token's leading space shows depends on what stands before it
MAX_WINDOW_TOKENS = 24
MAX_HELD_TOKENS = 8  # no character needs as many; what is still unfinished then is not UTF-8
MAX_CHARACTER_TOKENS = 4  # a UTF-8 character has at most four bytes, a token at least one


class TokenDecoder(Protocol):
    """The half of a tokenizer that makes text."""

    special_token_ids: frozenset[int]

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
    """

    def __init__(self, decoder: TokenDecoder, prompt_ids: list[int]) -> None:
        self._decoder = decoder
        self._window = [token for token in prompt_ids[-CONTEXT_TOKENS:] if token not in decoder.special_token_ids]
        self._boundary = len(self._window)  # the tokens before it are shown in full
        self._num_shown = len(decoder.decode(self._window))  # characters of the window's text

    def push(self, token_id: int) -> str:
        """Take the next token; return the text that is certain now, which may be empty."""
        if token_id in self._decoder.special_token_ids:
            return ""
        self._window.append(token_id)
        text = self._decoder.decode(self._window)
        if not text.endswith(REPLACEMENT):
            return self._show(text)
        if len(self._window) - self._boundary > MAX_HELD_TOKENS:
            return self._show_invalid(text)
        return ""

    def flush(self) -> str:
        """The text of the tokens still held back: an unfinished character becomes U+FFFD."""
        return self._show(self._decoder.decode(self._window))

    def _show(self, text: str) -> str:
        new = text[self._num_shown :]
        self._num_shown += len(new)
        if len(self._window) > MAX_WINDOW_TOKENS:
            self._shrink_window(self._boundary)
        self._boundary = len(self._window)
        return new

    def _show_invalid(self, text: str) -> str:
        """Show all but the last U+FFFD, the only one that can still become a character."""
        new = text[self._num_shown : -1]
        self._shrink_window(-MAX_CHARACTER_TOKENS)
        self._num_shown -= 1
        self._boundary = 0
        return new

    def _shrink_window(self, start: int) -> None:
        self._window = self._window[start:]
        self._num_shown = len(self._decoder.decode(self._window))
