"""Routes that tokenize and detokenize texts."""

from __future__ import annotations

from flask import Blueprint, Response

from api.auth.access import Access, set_access
from api.jobs.request import read_job_request
from api.routes.jobs import answer
from api.schemas.tokens import DetokenizeBody, TokenizeBody
from common.errors import SLMError
from common.jobs.job import JobKind

tokens = Blueprint("tokens", __name__, url_prefix="/slm")
set_access(tokens, Access.USER)


@tokens.post("/tokenize")
def tokenize() -> Response:
    """Return the tokens of a prompt."""
    return answer(read_job_request(JobKind.TOKENIZE, TokenizeBody))


@tokens.post("/detokenize")
def detokenize() -> Response:
    """Return the text of tokens."""
    try:
        return answer(read_job_request(JobKind.TOKENIZE, DetokenizeBody))
    except SLMError as err:
        raise err.renamed({"prompt": "ids"}) from err
