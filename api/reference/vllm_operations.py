"""Describes vLLM's routes outside of `/v1`, by their endpoints."""

from __future__ import annotations

from api.reference import headers
from api.reference.error_models import GENERATION
from api.reference.operation import EVENTS, Operation, RequestBody, SuccessResponse, Tag, simple
from api.reference.slm_operations import ACCEPTED, SUBMITTING
from api.schemas.parsing import OPENAI
from api.schemas.server import Health
from api.schemas.vllm import (
    InvocationAnswer,
    InvocationBody,
    InvocationFrame,
    ServerLoad,
    TokenizeAnswer,
    TokenizerInfo,
    Version,
    VllmDetokenizeBody,
    VllmText,
    VllmTokenizeBody,
)
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
        summary="Return the tokens of a text or of a chat, in vLLM's or llama.cpp's form",
        body=RequestBody(VllmTokenizeBody, {"prompt": "What is the capital of France?"}, dialect=OPENAI),
        responses=[SuccessResponse("The tokens.", TokenizeAnswer, headers=headers.JOB)],
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
    "vllm.tokenizer_info": Operation(
        id="vllmTokenizerInfo",
        tag=Tag.OPENAI,
        summary="Return facts about the tokenizer of the default model",
        responses=[SuccessResponse("The facts.", TokenizerInfo, headers=headers.JOB)],
        errors=GENERATION,
    ),
    "vllm.server_load": simple(
        "vllmServerLoad",
        Tag.OPENAI,
        "Return the number of generations that wait or run",
        SuccessResponse("The number.", ServerLoad, example={"server_load": 3}),
    ),
    "vllm.invoke": Operation(
        id="vllmInvoke",
        tag=Tag.OPENAI,
        summary="Answer a chat completion, a completion or a request for embeddings, for platforms with one route only",
        parameters=SUBMITTING,
        body=RequestBody(
            InvocationBody,
            {"messages": [{"role": "user", "content": "Tell me a joke"}], "max_tokens": 60},
            dialect=OPENAI,
        ),
        responses=[
            SuccessResponse("The answer.", InvocationAnswer, headers=headers.GENERATING),
            SuccessResponse(
                "As of the other route.", InvocationFrame, media_types=(EVENTS,), headers=headers.GENERATING
            ),
            ACCEPTED,
        ],
        errors=(*GENERATION, errors.IdempotencyMismatch),
    ),
}
