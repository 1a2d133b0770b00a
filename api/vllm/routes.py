"""Health, version, and tokens, as vLLM's clients ask for them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api import __version__
from api.auth.access import Access, set_access
from api.current import caller, services
from api.gate import is_admin
from api.jobs.request import model_named, read_body
from api.jobs.running import run_to_end
from api.schemas.server import Health
from api.schemas.vllm import Version, VllmDetokenizeBody, VllmText, VllmTokenizeBody, VllmTokens
from api.service import NewJob
from common.errors import SLMError
from common.jobs import prompts
from common.jobs.job import JobKind, TokenizeResult
from common.jobs.store import JobOptions

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
    result = _run(body)
    return jsonify(
        VllmTokens(
            count=len(result.ids),
            max_model_len=result.context_length,
            tokens=result.ids,
            token_strs=result.tokens if body.return_token_strs else None,
        )
    )


@vllm.post("/detokenize")
def detokenize() -> Response:
    """Return the text of tokens."""
    body = read_body(VllmDetokenizeBody)
    try:
        return jsonify(VllmText(prompt=_run(body).text))
    except SLMError as err:
        raise err.renamed({"prompt": "tokens"}) from err


def _run(body: VllmTokenizeBody | VllmDetokenizeBody) -> TokenizeResult:
    options = JobOptions(reader_grace_s=services().settings.reader_grace_s, model=model_named(body.model))
    new = NewJob(caller().owner, JobKind.TOKENIZE, prompts.to_wire(body.to_prompt()), options)
    return TokenizeResult.from_dict(run_to_end(new).result or {})
