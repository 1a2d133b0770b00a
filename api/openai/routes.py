"""The routes for models, chat completions, completions and embeddings."""

from __future__ import annotations

from typing import TypeVar

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import caller, services
from api.jobs.request import job_options, keyed, read_body, wants_no_wait
from api.jobs.running import completed, opened
from api.jobs.sse import stream_response, together
from api.openai import models
from api.openai.chat import CHAT
from api.openai.completions import COMPLETIONS
from api.openai.embeddings import embeddings_answer
from api.openai.endpoint import Endpoint, ResponseHeader
from api.openai.sampling_body import SamplingBody
from api.openai.stream import ChunkStream
from api.routes.jobs import submit_job
from api.schemas.openai.models import ModelList
from api.service import NewJob
from common.errors import InvalidRequest
from common.jobs.job import JobKind, JobRecord

B = TypeVar("B", bound=SamplingBody)

openai = Blueprint("openai", __name__, url_prefix="/v1")
set_access(openai, Access.USER)


@openai.get("/models")
def list_models() -> Response:
    """List the models."""
    return jsonify(ModelList(object="list", data=models.all_models()))


@openai.get("/models/<path:model_id>")
def show_model(model_id: str) -> Response:
    """Show one model."""
    return jsonify(models.model(model_id))


@openai.post("/chat/completions")
def complete_chat() -> Response:
    """Generate the assistant's next message, whole or as a stream."""
    return complete(CHAT)


@openai.post("/completions")
def complete_text() -> Response:
    """Continue a text, whole or as a stream."""
    return complete(COMPLETIONS)


@openai.post("/embeddings")
def embed() -> Response:
    """Return the vectors of texts."""
    return embeddings_answer()


def complete(endpoint: Endpoint[B]) -> Response:
    """Answer the current request, whole or as a stream."""
    body = read_body(endpoint.schema)
    body.check_logprobs(services().settings.max_logprobs)
    if wants_no_wait():
        return _submitted(endpoint, body)
    new, names = _new_jobs(endpoint, body), endpoint.names_of(body)
    if not body.stream:
        record, choices = completed(new, names)
        return jsonify(endpoint.answer(body, _header(body, record), choices))
    record, generations = opened(new, names)
    stream = ChunkStream(endpoint, body, _header(body, record), generations)
    return stream_response(together(stream.frames(pulse_s=services().settings.heartbeat_s)), generations.close)


def _submitted(endpoint: Endpoint[B], body: B) -> Response:
    """Respond with the job's id, whose stream has the answer. Raises `InvalidRequest` if there are several answers."""
    new = _new_jobs(endpoint, body, is_async=True)
    if len(new) > 1:
        raise InvalidRequest("Prefer: respond-async needs one prompt and n = 1; an answer is a job", param="n")
    return submit_job(new[0])


def _new_jobs(endpoint: Endpoint[B], body: B, *, is_async: bool = False) -> list[NewJob]:
    """Return the request's jobs, one per choice, each with its own key derived from the Idempotency-Key."""
    options = job_options(body, body.model, is_async=is_async)
    kind = JobKind.STREAM if body.stream else JobKind.GENERATE
    return [
        NewJob(caller().owner, kind, params.to_dict(), keyed(options, body, index))
        for index, params in enumerate(endpoint.params(body))
    ]


def _header(body: SamplingBody, record: JobRecord) -> ResponseHeader:
    fingerprint = services().fingerprints.of(record)
    return ResponseHeader(record.id, record.created_ms // 1000, body.model, fingerprint)
