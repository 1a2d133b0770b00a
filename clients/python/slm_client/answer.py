"""A generation's result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """`response` is the answer, `full_response` has the filled-in prompt before it.

    `finish_reason` is "stop", "length" or "cancelled". `settings` are the sampling parameters that were used, among
    them the `seed` that gives the same answer again.
    """

    job_id: str
    prompt: str
    response: str
    full_response: str
    finish_reason: str
    device: str
    prompt_tokens: int
    completion_tokens: int
    settings: Mapping[str, Any]

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Answer:
        """Read the JSON of the server; what a newer server adds is left out. Raises `KeyError` for another's."""
        return cls(
            job_id=body["job_id"],
            prompt=body["prompt"],
            response=body["response"],
            full_response=body["full_response"],
            finish_reason=body["finish_reason"],
            device=body["device"],
            prompt_tokens=body["usage"]["prompt_tokens"],
            completion_tokens=body["usage"]["completion_tokens"],
            settings=body["settings"],
        )
