"""Describes the routes under `/api`, by their endpoints."""

from __future__ import annotations

from api.reference import headers
from api.reference.error_models import GENERATION
from api.reference.operation import LINES, Operation, RequestBody, SuccessResponse, Tag, simple
from api.schemas.ollama.requests import (
    OllamaChatBody,
    OllamaEmbedBody,
    OllamaEmbeddingsBody,
    OllamaGenerateBody,
    ShowBody,
)
from api.schemas.ollama.responses import (
    OllamaChat,
    OllamaChatLine,
    OllamaEmbedded,
    OllamaEmbedding,
    OllamaGenerated,
    OllamaGeneratedLine,
    OllamaLoadedList,
    OllamaShown,
    OllamaTags,
    OllamaVersion,
)
from api.schemas.parsing import OPENAI
from common import errors

EXAMPLE_MODEL = "SmolLM2-135M-Instruct"
EXAMPLE_ENCODER = "all-MiniLM-L6-v2"
NEEDS_ENCODER = "Needs a model for embeddings (`SLM_EMBED_MODEL`)."
ANSWERING = (*GENERATION, errors.IdempotencyMismatch)
ONE_PER_LINE = "One object per line, the last with `done`. An error is the last line."


def _generation(id_: str, summary: str, body: RequestBody, model: type, of_line: type) -> Operation:
    """Describe a route that generates; the answer is streamed unless `stream` is false."""
    return Operation(
        id=id_,
        tag=Tag.OLLAMA,
        summary=summary,
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=body,
        responses=[
            SuccessResponse("The answer.", model, headers=headers.GENERATING),
            SuccessResponse(ONE_PER_LINE, of_line, media_types=(LINES,), headers=headers.GENERATING),
        ],
        errors=ANSWERING,
    )


OLLAMA_OPERATIONS = {
    "ollama.chat": _generation(
        "ollamaChat",
        "Generate the assistant's next message",
        RequestBody(
            OllamaChatBody,
            {"model": EXAMPLE_MODEL, "messages": [{"role": "user", "content": "Tell me a joke"}]},
            dialect=OPENAI,
        ),
        OllamaChat,
        OllamaChatLine,
    ),
    "ollama.generate": _generation(
        "ollamaGenerate",
        "Answer a prompt",
        RequestBody(OllamaGenerateBody, {"model": EXAMPLE_MODEL, "prompt": "Tell me a joke"}, dialect=OPENAI),
        OllamaGenerated,
        OllamaGeneratedLine,
    ),
    "ollama.embed": Operation(
        id="ollamaEmbed",
        tag=Tag.OLLAMA,
        summary="Return the vectors of texts",
        description=NEEDS_ENCODER,
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(OllamaEmbedBody, {"model": EXAMPLE_ENCODER, "input": ["Good morning"]}, dialect=OPENAI),
        responses=[SuccessResponse("The vectors.", OllamaEmbedded, headers=headers.GENERATING)],
        errors=ANSWERING,
    ),
    "ollama.embeddings": Operation(
        id="ollamaEmbeddings",
        tag=Tag.OLLAMA,
        summary="Return the vector of one text: the older form of `/api/embed`",
        description=NEEDS_ENCODER,
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(OllamaEmbeddingsBody, {"model": EXAMPLE_ENCODER, "prompt": "Good morning"}, dialect=OPENAI),
        responses=[SuccessResponse("The vector.", OllamaEmbedding, headers=headers.GENERATING)],
        errors=ANSWERING,
    ),
    "ollama.tags": simple("ollamaTags", Tag.OLLAMA, "List the models", SuccessResponse("The models.", OllamaTags)),
    "ollama.ps": simple(
        "ollamaPs", Tag.OLLAMA, "List the models in memory", SuccessResponse("The models.", OllamaLoadedList)
    ),
    "ollama.show": Operation(
        id="ollamaShow",
        tag=Tag.OLLAMA,
        summary="Show one model",
        body=RequestBody(ShowBody, {"model": EXAMPLE_MODEL}, dialect=OPENAI),
        responses=[SuccessResponse("The model.", OllamaShown)],
        errors=(errors.ModelNotFound,),
    ),
    "ollama.version": simple(
        "ollamaVersion", Tag.OLLAMA, "Return the server's version", SuccessResponse("The version.", OllamaVersion)
    ),
}
