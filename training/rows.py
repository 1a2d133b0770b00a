"""Encodes a dataset for a run: exactly what serving renders, and never truncated."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from models.errors import DatasetError, UnspellableText
from training.data import Conversation, Dataset, Encoder, Preference

IGNORED = -100  # label of a token that the loss ignores

TrainerRow = dict[str, list[int]]


def trainer_rows(dataset: Dataset, encoder: Encoder, limit: int) -> tuple[list[TrainerRow], int]:
    """Return the rows as TRL takes them already tokenised, and how many examples were left out.

    An example of more than `limit` tokens is left out: cut off, it would teach the model to stop in mid-sentence.

    Raises:
        DatasetError: the chat template rejects an example, or the tokenizer has no tokens for it.
    """
    rows: list[TrainerRow] = []
    left_out = 0
    for example, line in zip(dataset.examples, dataset.lines, strict=True):
        try:
            found = _rows(example, encoder, limit)
        except (TemplateError, UnspellableText) as err:
            raise DatasetError(f"Line {line} of the dataset cannot be encoded: {err}") from err
        left_out += not found
        rows += found
    return rows, left_out


def _rows(example: Conversation | Preference, encoder: Encoder, limit: int) -> list[TrainerRow]:
    if isinstance(example, Preference):
        pair = encoder.preference(example)
        return [_preference(pair)] if len(pair) <= limit else []
    rows = encoder.rows(example)
    return [_supervised(row) for row in rows] if all(len(row) <= limit for row in rows) else []


def _supervised(row: Any) -> TrainerRow:
    labels = [token if counts else IGNORED for token, counts in zip(row.ids, row.loss, strict=True)]
    return {"input_ids": row.ids, "labels": labels}


def _preference(row: Any) -> TrainerRow:
    return {"prompt_ids": row.prompt, "chosen_ids": row.chosen, "rejected_ids": row.rejected}
