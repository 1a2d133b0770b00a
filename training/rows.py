"""Encodes a dataset for a run: exactly what serving renders, and never truncated.

An example of more tokens than the limit is left out: cut off, it would teach the model to stop in mid-sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from jinja2 import TemplateError

from models.errors import DatasetError, UnspellableText
from training.data import Conversation, Dataset, Encoder, Example, Preference, Row
from training.data.encoding import PreferenceRow

IGNORED = -100  # label of a token that the loss ignores

TrainerRow = dict[str, list[int]]
_Encoded = TypeVar("_Encoded", Row, PreferenceRow)


def trainer_rows(dataset: Dataset, encoder: Encoder, limit: int) -> tuple[list[TrainerRow], int]:
    """Return the rows as TRL takes them already tokenised, and how many examples were left out.

    Raises:
        DatasetError: the chat template rejects an example, or the tokenizer has no tokens for it.
    """
    if dataset.is_preference:
        pairs, left_out = preference_rows(dataset, encoder, limit)
        return [_preference(pair) for pair in pairs], left_out
    rows, left_out = conversation_rows(dataset, encoder, limit)
    return [_supervised(row) for row in rows], left_out


def conversation_rows(dataset: Dataset, encoder: Encoder, limit: int) -> tuple[list[Row], int]:
    """Return the sequences of all conversations, and how many were left out. Raises as `trainer_rows`."""
    return _within(dataset, limit, lambda one: encoder.rows(one) if isinstance(one, Conversation) else [])


def preference_rows(dataset: Dataset, encoder: Encoder, limit: int) -> tuple[list[PreferenceRow], int]:
    """Return all preference pairs, and how many were left out. Raises as `trainer_rows`."""
    return _within(dataset, limit, lambda one: [encoder.preference(one)] if isinstance(one, Preference) else [])


def _within(dataset: Dataset, limit: int, encode: Callable[[Example], list[_Encoded]]) -> tuple[list[_Encoded], int]:
    kept: list[_Encoded] = []
    left_out = 0
    for example, line in zip(dataset.examples, dataset.lines, strict=True):
        try:
            rows = encode(example)
        except (TemplateError, UnspellableText) as err:
            raise DatasetError(f"Line {line} of the dataset cannot be encoded: {err}") from err
        if all(len(row) <= limit for row in rows):
            kept += rows
        else:
            left_out += 1
    return kept, left_out


def _supervised(row: Row) -> TrainerRow:
    labels = [token if counts else IGNORED for token, counts in zip(row.ids, row.loss, strict=True)]
    return {"input_ids": row.ids, "labels": labels}


def _preference(row: PreferenceRow) -> TrainerRow:
    return {"prompt_ids": row.prompt, "chosen_ids": row.chosen, "rejected_ids": row.rejected}
