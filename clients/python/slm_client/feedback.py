"""What people think of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Feedback:
    """Feedback on a job, with the prompt (as it was sent) and the answer that it is about."""

    job_id: str
    rating: Literal["up", "down"] | None
    correction: str | None
    tags: Sequence[str]
    prompt: Any
    response: str
    model: str
    base: str
    created_at: str
    updated_at: str

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Feedback:
        """Read the server's JSON; ignores fields of newer servers. Raises `KeyError` if a field is missing."""
        return cls(**{name: body[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class FeedbackPage:
    """A page of feedback, the latest change first.

    `last_id` is the `after` of the next page. A page may be short although it `has_more` after it.
    """

    feedback: Sequence[Feedback]
    last_id: str | None
    has_more: bool

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> FeedbackPage:
        """Read the server's JSON. Raises as `Feedback.from_body`."""
        return cls([Feedback.from_body(one) for one in body["feedback"]], body["last_id"], body["has_more"])
