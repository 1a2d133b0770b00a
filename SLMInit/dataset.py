"""Reads the instruction dataset: a JSONL file of `{"instruction": ..., "response": ...}`, one pair per line."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DatasetError

FIELDS = ("instruction", "response")
HELD_OUT_SHARE = 0.1
MAX_HELD_OUT = 200  # pairs; more would only make each evaluation slower


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example."""

    instruction: str
    response: str


def read_pairs(path: Path) -> list[Pair]:
    """Read the dataset; empty lines are skipped.

    Raises:
        DatasetError: the file cannot be read, or a line does not have that form; the text names file, line and field.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as err:
        raise DatasetError(f"{path}: the dataset cannot be read: {err.strerror}.") from err
    pairs = list(_pairs(path, lines))
    if len(pairs) < 2:
        raise DatasetError(
            f"{path}: the dataset needs at least 2 pairs, one to train on and one to test with; it has {len(pairs)}."
        )
    return pairs


def split(pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split the pairs into a training set and a random tenth, chosen by `seed`, held out for the evaluation."""
    shuffled = random.Random(seed).sample(pairs, len(pairs))  # noqa: S311 - no secret depends on it
    held_out = min(max(1, round(HELD_OUT_SHARE * len(pairs))), MAX_HELD_OUT)
    return shuffled[held_out:], shuffled[:held_out]


def _pairs(path: Path, lines: Sequence[bytes]) -> Iterator[Pair]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _parse(line)
            except ValueError as err:
                raise DatasetError(f"{path}, line {number}: {err}.") from err


def _parse(line: bytes) -> Pair:
    """Parse one line. Raises ValueError with a readable reason, also for bad JSON and bad UTF-8."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as err:
        raise ValueError("the line is not UTF-8 text") from err
    except json.JSONDecodeError as err:
        raise ValueError(f"the line is not valid JSON ({err.msg} at column {err.colno})") from err
    if not isinstance(row, dict):
        raise ValueError('the line is not a JSON object like {"instruction": "...", "response": "..."}')
    unknown = sorted(row.keys() - set(FIELDS))
    if unknown:
        raise ValueError(f"the field {unknown[0]!r} is unknown; a line has only 'instruction' and 'response'")
    return Pair(*(_text(row, field) for field in FIELDS))


def _text(row: dict[str, Any], field: str) -> str:
    if field not in row:
        raise ValueError(f"the field {field!r} is missing")
    value = row[field]
    if not isinstance(value, str):
        raise ValueError(f"the field {field!r} must be a string, not {json.dumps(value)[:40]}")
    if not value.strip():
        raise ValueError(f"the field {field!r} is empty")
    return value
