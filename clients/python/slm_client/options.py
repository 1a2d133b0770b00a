"""The options of a generation. docs/api.md of the server explains each one.

Written by `python -m api.reference.client_options`.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class GenerateOptions(TypedDict, total=False):
    """All options can be omitted. Times are in seconds; `logit_bias` maps token ids to biases."""

    max_new_tokens: int
    min_new_tokens: int
    do_sample: bool
    logprobs: int
    response_format: dict[str, Any]
    regex: str
    choice: list[str]
    seed: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[str, float]
    stop: str | list[str]
    stop_token_ids: list[int]
    ignore_eos: bool
    priority: Literal["interactive", "bulk"]
    ttl: float
    timeout: float
    webhook_url: str
    on_disconnect: Literal["cancel", "continue"]
    conversation: str | dict[str, Any]
    model: str
    adapter: str
