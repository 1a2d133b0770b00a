"""Finds the tokens with which a model fills in the middle of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_FORMS = (  # the names of the tokens before the text's beginning, before its end, and before the answer
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma, Granite 4
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),  # DeepSeek
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),  # Code Llama
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM
)
_SUFFIX_FIRST = ("[SUFFIX]", "[PREFIX]")  # Mistral's: the end comes before the beginning, which the answer continues
_ENDS = ("<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|file_separator|>", "\u2581<EOT>")


@dataclass(frozen=True, slots=True)
class MiddleForm:
    """The tokens and their names: three in the order of `_FORMS`, or two in that of `_SUFFIX_FIRST`.

    The tokens `end_ids` end such an answer.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    end_ids: tuple[int, ...]

    def text(self, before: str, after: str) -> str:
        """Return the prompt's text."""
        first, second, *third = self.names
        parts = (before, after) if third else (after, before)
        return "".join([first, parts[0], second, parts[1], *third])

    def token_ids(self, before: Sequence[int], after: Sequence[int]) -> list[int]:
        """Return the prompt's tokens, without those that the tokenizer adds to every text."""
        first, second, *third = self.ids
        parts = (before, after) if third else (after, before)
        return [first, *parts[0], second, *parts[1], *third]


def middle_form(tokenizer: Any) -> MiddleForm | None:
    """Return the form of a model's tokenizer; None if it has no such tokens."""
    for names in (*_FORMS, _SUFFIX_FIRST):
        ids = [token_id for token_id in _token_ids(tokenizer, names) if token_id is not None]
        if len(ids) == len(names):
            ends = [end for end in _token_ids(tokenizer, _ENDS) if end is not None]
            return MiddleForm(names, tuple(ids), tuple(ends))
    return None


def _token_ids(tokenizer: Any, names: Sequence[str]) -> list[int | None]:
    """Return the tokens with these names; None for each that the tokenizer lacks, whatever it has in its place."""
    ids: list[int | None] = tokenizer.convert_tokens_to_ids(list(names))
    return [
        token_id if token_id is not None and tokenizer.convert_ids_to_tokens(token_id) == name else None
        for token_id, name in zip(ids, names, strict=True)
    ]
