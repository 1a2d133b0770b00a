"""Ollama's routes: models, chats, generations, embeddings."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api import __version__
from api.auth.access import Access, set_access
from api.current import caller, services
from api.jobs.request import job_options, keyed, model_named, read_body
from api.jobs.running import completed, opened
from api.jobs.sse import stream_response, together
from api.ollama import models
from api.ollama.answers import line, lines, loaded, names_of, whole
from api.ollama.embeddings import many, single
from api.schemas.job_options import RequestOptions
from api.schemas.ollama.requests import (
    OllamaBody,
    OllamaChatBody,
    OllamaEmbedBody,
    OllamaEmbeddingsBody,
    OllamaGenerateBody,
    ShowBody,
)
from api.schemas.ollama.responses import OllamaLoadedList, OllamaTags, OllamaVersion
from api.service import NewJob
from common.jobs.job import JobKind

NDJSON = "application/x-ndjson"

ollama = Blueprint("ollama", __name__, url_prefix="/api")
set_access(ollama, Access.USER)


@ollama.get("/version")
def version() -> Response:
    """Return the server's version."""
    return jsonify(OllamaVersion(version=__version__))


@ollama.get("/tags")
def tags() -> Response:
    """List the models."""
    return jsonify(OllamaTags(models=models.listed()))


@ollama.get("/ps")
def ps() -> Response:
    """List the models in memory."""
    return jsonify(OllamaLoadedList(models=models.loaded()))


@ollama.post("/show")
def show() -> Response:
    """Show one model."""
    return jsonify(models.shown(read_body(ShowBody).name))


@ollama.post("/chat")
def chat() -> Response:
    """Generate the assistant's next message."""
    return _answer(read_body(OllamaChatBody))


@ollama.post("/generate")
def generate() -> Response:
    """Answer a prompt."""
    return _answer(read_body(OllamaGenerateBody))


@ollama.post("/embed")
def embed() -> Response:
    """Return the vectors of texts."""
    return jsonify(many(read_body(OllamaEmbedBody)))


@ollama.post("/embeddings")
def embeddings() -> Response:
    """Return the vector of one text: the older form of `/api/embed`."""
    return jsonify(single(read_body(OllamaEmbeddingsBody)))


def _answer(body: OllamaBody) -> Response:
    if body.is_empty:
        models.shown(body.name)
        return Response(line(loaded(body)), mimetype=NDJSON) if body.stream else jsonify(loaded(body))
    new, names = [_new_job(body)], names_of(body)
    jobs = services().jobs
    if not body.stream:
        record, (choice,) = completed(new, names)
        return jsonify(whole(body, choice, jobs.get(record.id, caller())))
    record, generations = opened(new, names)
    owner = caller()
    written = lines(body, generations, lambda: jobs.get(record.id, owner), pulse_s=services().settings.heartbeat_s)
    return stream_response(together(written), generations.close, NDJSON)


def _new_job(body: OllamaBody) -> NewJob:
    options = job_options(RequestOptions(), model_named(body.name), is_async=False)
    kind = JobKind.STREAM if body.stream else JobKind.GENERATE
    return NewJob(caller().owner, kind, body.to_params().to_dict(), keyed(options, body))
