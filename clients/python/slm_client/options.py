"""What a generation can be asked for, besides its prompt. docs/api.md of the server explains each one."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class GenerateOptions(TypedDict, total=False):
    """All options can be omitted. Times are in seconds; `logit_bias` maps token ids to biases."""

    max_new_tokens: int
    min_new_tokens: int
    temperature: float
    do_sample: bool
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[str, float]
    logprobs: int
    stop: str | list[str]
    stop_token_ids: list[int]
    ignore_eos: bool
    response_format: dict[str, Any]
    regex: str
    choice: list[str]
    seed: int
    priority: Literal["interactive", "bulk"]
    ttl: float
    timeout: float
    on_disconnect: Literal["cancel", "continue"]
    webhook_url: str
