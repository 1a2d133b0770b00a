"""The base of the two endpoints: which generations a request needs, and how its responses are built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from api.jobs.choices import GeneratedChoice, usage
from api.jobs.tool_reader import Delta, PlainReader
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
    """The fields that a response and its chunks share. `job_id` is the first job's; `created` in s since the epoch."""

    job_id: str
    created: int
    model: str
    fingerprint: str


class Endpoint(ABC, Generic[B]):
    """Completions or chat completions."""

    path: ClassVar[str]
    id_prefix: ClassVar[str]
    object_name: ClassVar[str]
    chunk_name: ClassVar[str]
    names: ClassVar[Mapping[str, str]]  # the worker's names of fields -> the request's

    def __init__(self, schema: type[B]) -> None:
        self.schema = schema

    def names_of(self, body: B) -> dict[str, str]:
        """Return the names under which the request has the fields that a worker's error can name."""
        return {**self.names, **body.form_names}

    @abstractmethod
    def params(self, body: B) -> list[GenerateParams]:
        """Return one generation per choice; the choices of a prompt are adjacent."""

    @abstractmethod
    def choice(self, body: B, index: int, choice: GeneratedChoice) -> ChatChoice | CompletionChoice:
        """Return one choice of a complete response."""

    @abstractmethod
    def opening(self, body: B, index: int) -> ChunkChoice | None:
        """Return the chunk before the first token of a choice in a stream; None if there is none."""

    def reader(self, body: B, job_id: str) -> PlainReader:
        """Return a reader of the answer of this job."""
        del body, job_id
        return PlainReader()

    @abstractmethod
    def piece(self, body: B, index: int, delta: Delta, scored: ScoredTokens | None) -> ChunkChoice:
        """Return the next chunk of a choice; `scored` are its tokens if log probabilities were requested."""

    @abstractmethod
    def closing(self, body: B, index: int, finish_reason: FinishReason, *, has_calls: bool) -> ChunkChoice:
        """Return the last chunk of a choice; `has_calls`: whether its answer calls tools."""

    def with_prompt_ids(self, chunk: Json, prompt_ids: Sequence[int]) -> Json:
        """Return the chunk with the prompt's tokens."""
        (choice,) = chunk["choices"]
        return chunk | {"choices": [choice | {"prompt_token_ids": prompt_ids}]}

    def answer(
        self, body: B, header: ResponseHeader, choices: Sequence[GeneratedChoice]
    ) -> ChatCompletion | Completion:
        """Return the complete response."""
        answer = {
            **self._header(header, self.object_name),
            "choices": [self.choice(body, index, choice) for index, choice in enumerate(choices)],
            "usage": usage(choices, body.n),
            "system_fingerprint": header.fingerprint,
        }
        return cast(ChatCompletion | Completion, answer)

    def chunk(self, header: ResponseHeader, choices: Sequence[ChunkChoice]) -> ChatChunk | Completion:
        """Return one chunk of a stream."""
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
