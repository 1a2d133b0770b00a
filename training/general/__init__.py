"""General examples and passages that are shipped. None of them is a question or a text of the gate."""

from __future__ import annotations

from pathlib import Path

from training.data import Dataset, Encoder, read_dataset

HERE = Path(__file__).resolve().parent


def general_examples() -> Dataset:
    """Return questions and requests of many kinds, with answers."""
    return read_dataset((HERE / "examples.jsonl").read_bytes(), name="examples.jsonl")


def general_passages() -> list[str]:
    """Return passages of plain English."""
    return (HERE / "passages.txt").read_text(encoding="utf-8").strip().split("\n\n")


def general_sequences(encoder: Encoder, limit: int) -> list[list[int]]:
    """Return all of them as token ids, without those of more than `limit` tokens."""
    examples = [row.ids for one in general_examples().examples for row in encoder.rows(one)]  # type: ignore[arg-type]
    passages = [encoder.conversations.texts.part_ids(text) for text in general_passages()]
    return [ids for ids in (*examples, *passages) if len(ids) <= limit]
