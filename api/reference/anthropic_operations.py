"""Describes the routes under `/v1/messages`, by their endpoints."""

from __future__ import annotations

from api.reference import headers
from api.reference.error_models import GENERATION
from api.reference.operation import EVENTS, Operation, RequestBody, SuccessResponse, Tag
from api.schemas.anthropic.requests import CountTokensBody, MessagesBody
from api.schemas.anthropic.responses import AnthropicAnswer, AnthropicFrame, TokenCount
from api.schemas.parsing import OPENAI
from common import errors

CONVERSATION = {"model": "SmolLM2-135M-Instruct", "messages": [{"role": "user", "content": "Tell me a joke"}]}

ANTHROPIC_OPERATIONS = {
    "anthropic.create_message": Operation(
        id="createMessage",
        tag=Tag.ANTHROPIC,
        summary="Generate the assistant's next message, whole or as a stream",
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(MessagesBody, CONVERSATION | {"max_tokens": 60}, dialect=OPENAI),
        responses=[
            SuccessResponse("The message.", AnthropicAnswer, headers=headers.GENERATING),
            SuccessResponse(
                "Server-sent events, each with its type as its name. Comments report the queue position.",
                AnthropicFrame,
                media_types=(EVENTS,),
                headers=headers.GENERATING,
            ),
        ],
        errors=(*GENERATION, errors.IdempotencyMismatch),
    ),
    "anthropic.count_tokens": Operation(
        id="countTokens",
        tag=Tag.ANTHROPIC,
        summary="Count the tokens of a conversation as the model sees it",
        body=RequestBody(CountTokensBody, CONVERSATION, dialect=OPENAI),
        responses=[SuccessResponse("The number.", TokenCount, headers=headers.JOB)],
        errors=GENERATION,
    ),
}
