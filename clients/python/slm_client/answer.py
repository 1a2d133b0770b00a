"""The result of a generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: `response` is its text, `full_response` also has the rendered prompt before it.

    `finish_reason` is "stop", "length" or "cancelled". `settings` has the sampling parameters used, including the
    `seed` that reproduces the answer. `model` is the version that answered, such as "support@3", or the base model.
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
    model: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Answer:
        """Read the server's JSON; ignores fields of newer servers. Raises `KeyError` if a field is missing."""
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
            model=body.get("model"),
        )
