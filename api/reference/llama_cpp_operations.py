"""Describes llama.cpp's own routes, by their endpoints."""

from __future__ import annotations

from api.openai.chat import ChatBody
from api.reference import headers
from api.reference.error_models import GENERATION
from api.reference.operation import EVENTS, Operation, RequestBody, SuccessResponse, Tag, simple
from api.reference.slm_operations import SUBMITTING
from api.schemas.llama_cpp import (
    LlamaAnswers,
    LlamaCompletionBody,
    LlamaFrame,
    LlamaInfillBody,
    LlamaPrompt,
    LlamaProps,
    LlamaSlots,
)
from api.schemas.openai.responses import InputTokens
from api.schemas.parsing import OPENAI
from common import errors

CHAT = {"messages": [{"role": "user", "content": "Tell me a joke"}]}
PARTS = "Server-sent events without names or ids. The last one of each prompt has `stop: true`."
GENERATING = (*GENERATION, errors.IdempotencyMismatch)
ANSWERS = [
    SuccessResponse("The answers.", LlamaAnswers, headers=headers.GENERATING),
    SuccessResponse(PARTS, LlamaFrame, media_types=(EVENTS,), headers=headers.GENERATING),
]

LLAMA_CPP_OPERATIONS = {
    "llama_cpp.complete": Operation(
        id="llamaComplete",
        tag=Tag.OPENAI,
        summary="Continue texts or tokens, in llama.cpp's form",
        parameters=SUBMITTING[:1],
        body=RequestBody(LlamaCompletionBody, {"prompt": "Once upon a time", "n_predict": 60}, dialect=OPENAI),
        responses=ANSWERS,
        errors=GENERATING,
    ),
    "llama_cpp.infill": Operation(
        id="llamaInfill",
        tag=Tag.OPENAI,
        summary="Fill in the text between a prefix and a suffix, in llama.cpp's form",
        parameters=SUBMITTING[:1],
        body=RequestBody(
            LlamaInfillBody,
            {"input_prefix": "def add(a, b):\n", "input_suffix": "\n", "n_predict": 60},
            dialect=OPENAI,
        ),
        responses=ANSWERS,
        errors=GENERATING,
    ),
    "llama_cpp.props": Operation(
        id="llamaProps",
        tag=Tag.OPENAI,
        summary="Return facts about the server and its default model, in llama.cpp's form",
        responses=[SuccessResponse("The facts.", LlamaProps, headers=headers.JOB)],
        errors=GENERATION,
    ),
    "llama_cpp.slots": simple(
        "llamaSlots",
        Tag.OPENAI,
        "Return the places for generations, in llama.cpp's form",
        SuccessResponse("The places.", LlamaSlots),
    ),
    "llama_cpp.apply_template": Operation(
        id="llamaApplyTemplate",
        tag=Tag.OPENAI,
        summary="Return a chat as the model sees it, in llama.cpp's form",
        body=RequestBody(ChatBody, CHAT, dialect=OPENAI),
        responses=[SuccessResponse("The prompt.", LlamaPrompt, headers=headers.JOB)],
        errors=GENERATION,
    ),
    "llama_cpp.count_input_tokens": Operation(
        id="llamaInputTokens",
        tag=Tag.OPENAI,
        summary="Count the tokens of a chat as the model sees it",
        body=RequestBody(ChatBody, CHAT, dialect=OPENAI),
        responses=[SuccessResponse("The number.", InputTokens, headers=headers.JOB)],
        errors=GENERATION,
    ),
}
