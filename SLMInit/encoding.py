"""Turns pairs of text into token ids and labels, and those into padded batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.text.conversation import ConversationEncoder
from SLMInit.dataset import Pair

IGNORED = -100  # label of a token that the loss ignores

Row = Mapping[str, list[int]]  # input_ids and labels, both as long as the text


def encode(pairs: Iterable[Pair], tokenizer: Any, max_length: int) -> list[Row]:
    """Tokenize with the tokenizer's chat template; pairs of more than `max_length` tokens are skipped.

    Truncating them instead would teach the model to stop in the middle of a sentence.

    Raises:
        UnspellableText: the tokenizer has no tokens for a text.
    """
    conversations = ConversationEncoder(tokenizer, tokenizer.chat_template)
    rows = (_encode(pair, conversations, tokenizer.eos_token_id) for pair in pairs)
    return [row for row in rows if len(row["input_ids"]) <= max_length]


def _encode(pair: Pair, conversations: ConversationEncoder, end_id: int) -> Row:
    """Tokenize prompt and response separately, as in serving, where the model continues a complete prompt.

    The name of a special token in the dataset is plain text, as it is in a client's prompt.
    """
    _, prompt_ids = conversations.encode([{"role": "user", "content": pair.instruction}])
    response_ids = [*conversations.texts.part_ids(pair.response), end_id]
    return {
        "input_ids": prompt_ids + response_ids,
        "labels": [IGNORED] * len(prompt_ids) + response_ids,
    }


@dataclass(frozen=True, slots=True)
class Collator:
    """Pads rows on the right to the length of the longest row."""

    pad_id: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, each `[rows, longest]`."""
        return {
            "input_ids": self._pad([row["input_ids"] for row in rows], self.pad_id),
            "attention_mask": self._pad([[1] * len(row["input_ids"]) for row in rows], 0),
            "labels": self._pad([row["labels"] for row in rows], IGNORED),
        }

    @staticmethod
    def _pad(rows: Sequence[list[int]], value: int) -> torch.Tensor:
        longest = max(map(len, rows))
        return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
