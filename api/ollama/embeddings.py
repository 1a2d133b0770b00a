"""Answers requests for embeddings in Ollama's form."""

from __future__ import annotations

from api.current import services
from api.embedding.running import embedded
from api.schemas.embedded import numbers
from api.schemas.job_options import RequestOptions
from api.schemas.ollama.requests import OllamaEmbedBody, OllamaEmbeddingsBody
from api.schemas.ollama.responses import OllamaEmbedded, OllamaEmbedding
from common.errors import SLMError

NS_OF_MS = 1_000_000


def many(body: OllamaEmbedBody) -> OllamaEmbedded:
    """Return the vectors of all inputs; none if there is no input, which loads a model in Ollama."""
    params = body.to_params()
    if not params.inputs:
        services().embedding.name_of(body.name)
        return OllamaEmbedded(model=body.model, embeddings=[], total_duration=0, load_duration=0, prompt_eval_count=0)
    result, record = embedded(body, params, body.name, RequestOptions())
    started, finished = record.started_ms or record.created_ms, record.finished_ms or record.created_ms
    return OllamaEmbedded(
        model=body.model,
        embeddings=[numbers(row) for row in result.rows()],
        total_duration=(finished - record.created_ms) * NS_OF_MS,
        load_duration=(started - record.created_ms) * NS_OF_MS,
        prompt_eval_count=result.prompt_tokens,
    )


def single(body: OllamaEmbeddingsBody) -> OllamaEmbedding:
    """Return the vector of one text; an empty one for an empty text."""
    if not body.prompt:
        services().embedding.name_of(body.name)
        return OllamaEmbedding(embedding=[])
    try:
        result, _ = embedded(body, body.to_params(), body.name, RequestOptions())
    except SLMError as err:
        raise err.renamed({"input": "prompt", "input[0]": "prompt"}) from err
    (row,) = result.rows()
    return OllamaEmbedding(embedding=numbers(row))
