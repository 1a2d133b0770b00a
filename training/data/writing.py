"""Writes datasets, for files that are derived from others."""

from __future__ import annotations

import json
from typing import Any

from training.data.examples import Conversation, Dataset, Example, Message


def write_dataset(dataset: Dataset) -> bytes:
    """Return the dataset as JSON Lines: OpenAI's `messages`, or `prompt`, `chosen` and `rejected`."""
    return b"".join(json.dumps(_row(one), ensure_ascii=False).encode() + b"\n" for one in dataset.examples)


def _row(example: Example) -> dict[str, Any]:
    if isinstance(example, Conversation):
        return {"messages": [_message(one) for one in example.messages]}
    prompt = [_message(one) for one in example.prompt]
    return {"prompt": prompt, "chosen": example.chosen, "rejected": example.rejected}


def _message(message: Message) -> dict[str, Any]:
    unlearned = message.role == "assistant" and not message.is_learned
    return message.to_dict() | ({"weight": 0} if unlearned else {})
