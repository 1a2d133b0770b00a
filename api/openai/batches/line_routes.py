"""The routes that the lines of a batch may name: what each needs to run a line's jobs and to answer it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from api.embedding.model import EmbeddingModel
from api.embedding.running import check_lengths
from api.fingerprints import Fingerprints
from api.jobs.choices import GeneratedChoice
from api.openai.chat import CHAT
from api.openai.completions import COMPLETIONS
from api.openai.embeddings import embedding_list
from api.openai.endpoint import Endpoint, ResponseHeader
from api.openai.sampling_body import SamplingBody
from api.schemas.openai.embeddings import EmbeddingBody
from api.service import JobService
from common.embedding.task import KEPT_S, EmbedResult
from common.errors import ModelNotFound
from common.jobs.job import JobKind, JobRecord
from common.settings import Settings

LineBody = SamplingBody | EmbeddingBody
EMBEDDINGS = "/v1/embeddings"
SCHEMAS: dict[str, type[SamplingBody] | type[EmbeddingBody]] = {
    CHAT.path: CHAT.schema,
    COMPLETIONS.path: COMPLETIONS.schema,
    EMBEDDINGS: EmbeddingBody,
}

B = TypeVar("B", SamplingBody, EmbeddingBody)


class LineRoute(ABC, Generic[B]):
    """One of the routes. `keep_s`: how long an ended job stays; None: as long as any."""

    kind: ClassVar[JobKind]
    keep_s: ClassVar[int | None] = None

    @abstractmethod
    def model(self, body: B, known: Mapping[str, str]) -> str:
        """Return the model of a line's jobs. Raises `SLMError` if there is none of the requested name.

        Args:
            body: the line's request.
            known: what the names of models stood for when the batch was created.
        """

    @abstractmethod
    def params(self, body: B) -> list[dict[str, Any]]:
        """Return the parameters of the line's jobs, in JSON form."""

    @abstractmethod
    def names_of(self, body: B) -> dict[str, str]:
        """Return the names under which the request has the fields that a worker's error can name."""

    @abstractmethod
    def answer(self, body: B, records: Sequence[JobRecord]) -> Mapping[str, Any]:
        """Return the line's answer from its ended jobs. Raises `SLMError` if one has failed."""


class GenerationLines(LineRoute[SamplingBody]):
    """Chat completions or completions."""

    kind = JobKind.GENERATE

    def __init__(
        self, endpoint: Endpoint[Any], jobs: JobService, fingerprints: Fingerprints, max_logprobs: int
    ) -> None:
        self._endpoint = endpoint
        self._max_logprobs = max_logprobs
        self._jobs = jobs
        self._fingerprints = fingerprints

    def model(self, body: SamplingBody, known: Mapping[str, str]) -> str:
        """See `LineRoute.model`."""
        if body.model not in known:
            raise ModelNotFound(f"There was no model {body.model[:80]!r} when the batch was created.", param="model")
        return known[body.model]

    def params(self, body: SamplingBody) -> list[dict[str, Any]]:
        """See `LineRoute.params`."""
        body.check_logprobs(self._max_logprobs)
        return [one.to_dict() for one in self._endpoint.params(body)]

    def names_of(self, body: SamplingBody) -> dict[str, str]:
        """See `LineRoute.names_of`."""
        return self._endpoint.names_of(body)

    def answer(self, body: SamplingBody, records: Sequence[JobRecord]) -> Mapping[str, Any]:
        """See `LineRoute.answer`."""
        first = records[0]
        header = ResponseHeader(first.id, first.created_ms // 1000, body.model, self._fingerprints.of(first))
        choices = [GeneratedChoice.of(record, self._jobs.logged_events(record.id)) for record in records]
        return self._endpoint.answer(body, header, choices)


class EmbeddingLines(LineRoute[EmbeddingBody]):
    """Embeddings. Their vectors are large, so they are kept only until the driver has certainly read them."""

    kind = JobKind.EMBED
    keep_s = KEPT_S

    def __init__(self, model: EmbeddingModel, max_prompt_chars: int) -> None:
        self._model = model
        self._max_prompt_chars = max_prompt_chars

    def model(self, body: EmbeddingBody, known: Mapping[str, str]) -> str:
        """See `LineRoute.model`. There is one model for embeddings, which has no versions."""
        del known
        return self._model.name_of(body.model)

    def params(self, body: EmbeddingBody) -> list[dict[str, Any]]:
        """See `LineRoute.params`."""
        params = body.to_params()
        check_lengths(params, self._max_prompt_chars)
        return [params.to_dict()]

    def names_of(self, body: EmbeddingBody) -> dict[str, str]:
        """See `LineRoute.names_of`."""
        del body
        return {}

    def answer(self, body: EmbeddingBody, records: Sequence[JobRecord]) -> Mapping[str, Any]:
        """See `LineRoute.answer`."""
        (record,) = records
        result = EmbedResult.from_dict(record.required_result())
        return embedding_list(result, record.model, is_base64=body.encoding_format == "base64")


def line_routes(
    jobs: JobService, fingerprints: Fingerprints, embedding: EmbeddingModel, settings: Settings
) -> dict[str, LineRoute[Any]]:
    """Return the routes by their paths."""
    most = settings.max_logprobs
    generations = {one.path: GenerationLines(one, jobs, fingerprints, most) for one in (CHAT, COMPLETIONS)}
    return {**generations, EMBEDDINGS: EmbeddingLines(embedding, settings.max_prompt_chars)}
