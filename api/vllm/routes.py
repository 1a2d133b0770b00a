"""Health, version, and tokens, as vLLM's clients ask for them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api import __version__
from api.auth.access import Access, set_access
from api.current import services
from api.gate import is_admin
from api.http.request_body import json_text
from api.jobs.request import read_body
from api.jobs.running import tokenized
from api.openai.chat import CHAT
from api.openai.completions import COMPLETIONS
from api.openai.embeddings import embeddings_answer
from api.openai.routes import complete
from api.schemas.json_object import json_object
from api.schemas.server import Health
from api.schemas.vllm import (
    LlamaPiece,
    LlamaTokens,
    ServerLoad,
    Version,
    VllmDetokenizeBody,
    VllmText,
    VllmTokenizeBody,
    VllmTokens,
)
from common.adapters.names import DEFAULT_ALIAS
from common.errors import InvalidRequest, SLMError
from common.jobs.job import TokenizeResult, Wanted
from common.jobs.prompts import RawText

vllm = Blueprint("vllm", __name__)
set_access(vllm, Access.USER, health=Access.PUBLIC)


@vllm.get("/health")
def health() -> Response:
    """Report that a generation can start now; otherwise 503 with the reason."""
    services().overview.check_ready(in_full=is_admin())
    return jsonify(Health(status="ok"))


@vllm.get("/version")
def version() -> Response:
    """Return the server's version."""
    return jsonify(Version(version=__version__))


@vllm.post("/tokenize")
def tokenize() -> Response:
    """Return the tokens of a text or of a chat."""
    body = read_body(VllmTokenizeBody)
    result = tokenized(body.to_prompt(), body.model, [Wanted.NAMES] if body.return_token_strs else [])
    if body.content is not None:
        return jsonify(_pieces(result) if body.with_pieces else LlamaTokens(tokens=result.ids))
    return jsonify(
        VllmTokens(
            count=len(result.ids),
            max_model_len=result.context_length,
            tokens=result.ids,
            token_strs=result.names,
        )
    )


def _pieces(result: TokenizeResult) -> LlamaTokens:
    pairs = zip(result.ids, result.tokens, strict=True)
    return LlamaTokens(tokens=[LlamaPiece(id=token_id, piece=text) for token_id, text in pairs])


@vllm.post("/detokenize")
def detokenize() -> Response:
    """Return the text of tokens."""
    body = read_body(VllmDetokenizeBody)
    try:
        text = tokenized(body.to_prompt(), body.model).text if body.tokens else ""
    except SLMError as err:
        raise err.renamed({"prompt": "tokens"}) from err
    is_llamas = "model" not in body.model_fields_set
    return jsonify(VllmText(prompt=text, content=text) if is_llamas else VllmText(prompt=text))


@vllm.get("/tokenizer_info")
def tokenizer_info() -> Response:
    """Return facts about the tokenizer of the default model."""
    result = tokenized(RawText(" "), DEFAULT_ALIAS, [Wanted.ABOUT])
    return jsonify({**(result.about or {}), "model_max_length": result.context_length})


@vllm.get("/load")
def server_load() -> Response:
    """Return the number of generations that wait or run."""
    snapshot = services().overview.snapshot()
    return jsonify(ServerLoad(server_load=snapshot.waiting + snapshot.running))


@vllm.post("/invocations")
def invoke() -> Response:
    """Answer a chat completion, a completion or a request for embeddings, for platforms with one route only."""
    fields = json_object(json_text())
    given = {name for name, value in fields.items() if value is not None}
    if "messages" in given:
        return complete(CHAT)
    if "prompt" in given:
        return complete(COMPLETIONS)
    if "input" in given:
        return embeddings_answer()
    raise InvalidRequest("The body must have messages, a prompt or an input", param="messages")
