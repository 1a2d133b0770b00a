"""What an endpoint makes of a request: the generations that it asks for, and the shapes of its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from api.openai.choices import GeneratedChoice, usage
from api.openai.logprobs import ScoredTokens
from api.openai.sampling_body import SamplingBody
from api.schemas.openai.chat import ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, FinishReason
from api.schemas.openai.completions import Completion, CompletionChoice
from common.jobs.job import GenerateParams

Json = dict[str, Any]
ChunkChoice = ChatChunkChoice | CompletionChoice
B = TypeVar("B", bound=SamplingBody)


@dataclass(frozen=True, slots=True)
class ResponseHeader:
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
    def choice(self, body: B, index: int, choice: GeneratedChoice) -> ChatChoice | CompletionChoice:
        """One choice of a complete answer."""

    @abstractmethod
    def opening(self, body: B, index: int) -> ChunkChoice | None:
        """What a choice begins with in a stream, before its first token; None for nothing."""

    @abstractmethod
    def piece(self, index: int, text: str, scored: ScoredTokens | None) -> ChunkChoice:
        """The next piece of a choice, with its tokens where their log probabilities were asked for."""

    @abstractmethod
    def closing(self, index: int, finish_reason: FinishReason) -> ChunkChoice:
        """The end of a choice."""

    def answer(
        self, body: B, header: ResponseHeader, choices: Sequence[GeneratedChoice]
    ) -> ChatCompletion | Completion:
        """The complete answer."""
        answer = {
            **self._header(header, self.object_name),
            "choices": [self.choice(body, index, choice) for index, choice in enumerate(choices)],
            "usage": usage(choices, body.n),
            "system_fingerprint": header.fingerprint,
        }
        return cast(ChatCompletion | Completion, answer)

    def chunk(self, header: ResponseHeader, choices: Sequence[ChunkChoice]) -> ChatChunk | Completion:
        """One chunk of a stream."""
        chunk = {
            **self._header(header, self.chunk_name),
            "system_fingerprint": header.fingerprint,
            "choices": list(choices),
        }
        return cast(ChatChunk | Completion, chunk)

    def _header(self, header: ResponseHeader, object_name: str) -> Json:
        return {
            "id": f"{self.id_prefix}{header.job_id}",
            "object": object_name,
            "created": header.created,
            "model": header.model,
        }
