"""What an endpoint makes of a request: the generations that it asks for, and the shapes of its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from api.openai.choices import Choice, usage
from api.openai.logprobs import ScoredTokens
from api.openai.sampling_body import SamplingBody
from common.jobs import GenerateParams

Json = dict[str, Any]
B = TypeVar("B", bound=SamplingBody)


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer and every chunk of it say alike. `job_id` is the first job's; `created` in s since the epoch."""

    job_id: str
    created: int
    model: str
    fingerprint: str


class Endpoint(ABC, Generic[B]):
    """One of the two that complete texts."""

    path: ClassVar[str]
    id_prefix: ClassVar[str]
    object_name: ClassVar[str]
    chunk_name: ClassVar[str]
    names: ClassVar[Mapping[str, str]]  # of what the worker knows under other names than the request does

    def __init__(self, schema: type[B]) -> None:
        self.schema = schema

    @abstractmethod
    def params(self, body: B) -> list[GenerateParams]:
        """One generation per choice: the choices of a prompt follow each other."""

    @abstractmethod
    def choice(self, body: B, index: int, choice: Choice) -> Json:
        """One choice of a complete answer."""

    @abstractmethod
    def opening(self, body: B, index: int) -> Json | None:
        """What a choice begins with in a stream, before its first token; None for nothing."""

    @abstractmethod
    def piece(self, index: int, text: str, scored: ScoredTokens | None) -> Json:
        """The next piece of a choice, with its tokens where their log probabilities were asked for."""

    @abstractmethod
    def closing(self, index: int, finish_reason: str) -> Json:
        """The end of a choice."""

    def answer(self, body: B, head: Head, choices: Sequence[Choice]) -> Json:
        """The complete answer."""
        return {
            **self._head(head, self.object_name),
            "choices": [self.choice(body, index, choice) for index, choice in enumerate(choices)],
            "usage": usage(choices, body.n),
            "system_fingerprint": head.fingerprint,
        }

    def chunk(self, head: Head, choices: Sequence[Json]) -> Json:
        """One chunk of a stream."""
        return {
            **self._head(head, self.chunk_name),
            "system_fingerprint": head.fingerprint,
            "choices": list(choices),
        }

    def _head(self, head: Head, object_name: str) -> Json:
        return {
            "id": f"{self.id_prefix}{head.job_id}",
            "object": object_name,
            "created": head.created,
            "model": head.model,
        }
