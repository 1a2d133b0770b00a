"""What a generation can be asked for, besides its prompt. The README of the server says what each one does."""

from __future__ import annotations

from typing import Literal, TypedDict


class GenerateOptions(TypedDict, total=False):
    """All of them can be left out. Times are in seconds."""

    max_new_tokens: int
    temperature: float
    do_sample: bool
    top_p: float
    top_k: int
    repetition_penalty: float
    stop: str | list[str]
    seed: int
    priority: Literal["interactive", "bulk"]
    ttl: float
    timeout: float
    on_disconnect: Literal["cancel", "continue"]
    webhook_url: str
