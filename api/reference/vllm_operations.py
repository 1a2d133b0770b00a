"""Describes vLLM's routes outside of `/v1`, by their endpoints."""

from __future__ import annotations

from api.reference import headers
from api.reference.error_models import GENERATION
from api.reference.operation import Operation, RequestBody, SuccessResponse, Tag, simple
from api.schemas.parsing import OPENAI
from api.schemas.server import Health
from api.schemas.vllm import Version, VllmDetokenizeBody, VllmText, VllmTokenizeBody, VllmTokens
from common import errors

VLLM_OPERATIONS = {
    "vllm.health": simple(
        "vllmHealth",
        Tag.OPENAI,
        "Check whether a generation can start now, as `/readyz` does",
        SuccessResponse("A worker has loaded the model.", Health, example={"status": "ok"}),
        errors=(errors.RedisUnavailable, errors.NoWorker, errors.ModelUnavailable),
    ),
    "vllm.version": simple(
        "vllmVersion", Tag.OPENAI, "Return the server's version", SuccessResponse("The version.", Version)
    ),
    "vllm.tokenize": Operation(
        id="vllmTokenize",
        tag=Tag.OPENAI,
        summary="Return the tokens of a text or of a chat, in vLLM's form",
        body=RequestBody(VllmTokenizeBody, {"prompt": "What is the capital of France?"}, dialect=OPENAI),
        responses=[SuccessResponse("The tokens.", VllmTokens, headers=headers.JOB)],
        errors=GENERATION,
    ),
    "vllm.detokenize": Operation(
        id="vllmDetokenize",
        tag=Tag.OPENAI,
        summary="Return the text of tokens, in vLLM's form",
        body=RequestBody(VllmDetokenizeBody, {"tokens": [19556]}, dialect=OPENAI),
        responses=[SuccessResponse("The text.", VllmText, headers=headers.JOB)],
        errors=GENERATION,
    ),
}
