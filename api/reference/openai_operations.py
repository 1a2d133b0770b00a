"""The routes under `/v1`, by their endpoints."""

from __future__ import annotations

from dataclasses import replace

from api.openai.chat import ChatBody
from api.openai.completions import CompletionBody
from api.openai.responses.body import ResponseBody
from api.reference import headers
from api.reference.error_models import GENERATION
from api.reference.operation import EVENTS, Answer, Operation, Parameter, RequestBody, Tag, simple
from api.schemas.openai.chat import ChatCompletion, ChatFrame
from api.schemas.openai.completions import Completion, CompletionFrame
from api.schemas.openai.models import ModelList, ModelObject
from api.schemas.openai.responses import ResponseFrame, ResponseObject
from api.schemas.parsing import OPENAI
from common import errors, ids

MODEL_ID = Parameter("path", "model_id", {"type": "string", "minLength": 1}, "A name from the list of models.")
RESPONSE_ID = Parameter(
    "path",
    "response_id",
    {"type": "string", "pattern": f"^{ids.RESPONSE_ID}$"},
    "The response's id.",
    f"resp_{headers.EXAMPLE_JOB}",
)
EVENTS_WANTED = (
    Parameter(
        "query", "stream", {"type": "string", "enum": ["true", "false"], "default": "false"}, "Whether to stream it."
    ),
    Parameter(
        "query",
        "starting_after",
        {"type": "integer", "minimum": 0},
        "With `stream=true`, the number of the last event that you have.",
    ),
)
RESPONSE_EVENTS = (
    "Server-sent events, each with its kind as its name and its `sequence_number` in its `data`. Comments tell the "
    "queue position."
)
RESPONSE_STREAM = Answer(RESPONSE_EVENTS, ResponseFrame, media_types=(EVENTS,))
EXAMPLE_MODEL = "SmolLM2-135M-Instruct"
CHUNKS = (
    "Server-sent events without names or numbers, with JSON as their `data`; the last one's is `[DONE]`. Comments tell "
    "the queue position. An error ends the stream without `[DONE]`."
)
COMPLETING = (*GENERATION, errors.IdempotencyMismatch, errors.ModelNotFound)
CHAT_STREAM = """\
data: {"id": "chatcmpl-…", "object": "chat.completion.chunk", …, "choices": [{"index": 0, "delta": {"content": "Hi"}}]}

data: [DONE]

"""

OPENAI_OPERATIONS = {
    "openai.complete_chat": Operation(
        id="completeChat",
        tag=Tag.OPENAI,
        summary="Give the assistant's next message, whole or in pieces",
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(
            ChatBody,
            {"model": EXAMPLE_MODEL, "messages": [{"role": "user", "content": "Tell me a joke"}], "max_tokens": 60},
            dialect=OPENAI,
        ),
        answers=[
            Answer("The message.", ChatCompletion, headers=headers.REPEATABLE),
            Answer(
                CHUNKS,
                ChatFrame,
                media_types=(EVENTS,),
                headers=headers.REPEATABLE,
                example=CHAT_STREAM,
            ),
        ],
        errors=COMPLETING,
    ),
    "openai.complete_text": Operation(
        id="completeText",
        tag=Tag.OPENAI,
        summary="Go on with a text as it stands, whole or in pieces",
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(
            CompletionBody,
            {"model": EXAMPLE_MODEL, "prompt": "Once upon a time", "max_tokens": 60},
            dialect=OPENAI,
        ),
        answers=[
            Answer("The text.", Completion, headers=headers.REPEATABLE),
            Answer(CHUNKS, CompletionFrame, media_types=(EVENTS,), headers=headers.REPEATABLE),
        ],
        errors=COMPLETING,
    ),
    "openai.list_models": simple(
        "listModels", Tag.OPENAI, "List the model that is served", Answer("The models.", ModelList)
    ),
    "openai.show_model": simple(
        "showModel",
        Tag.OPENAI,
        "Show one model",
        Answer("The model.", ModelObject),
        MODEL_ID,
        errors=(errors.ModelNotFound, errors.NoWorker),
    ),
    "responses.create": Operation(
        id="createResponse",
        tag=Tag.OPENAI,
        summary="Begin a response: wait for it, read it as it comes, or leave it alone",
        description="With `background` it goes on by itself, and can be asked for, streamed and cancelled by its id.",
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(
            ResponseBody,
            {"model": EXAMPLE_MODEL, "input": "Tell me a joke", "max_output_tokens": 60},
            dialect=OPENAI,
        ),
        answers=[
            Answer("The response.", ResponseObject, headers=headers.REPEATABLE),
            replace(RESPONSE_STREAM, headers=headers.REPEATABLE),
        ],
        errors=COMPLETING,
    ),
    "responses.show": Operation(
        id="showResponse",
        tag=Tag.OPENAI,
        summary="Show a response as it stands, or stream it behind the last event that you have",
        parameters=(RESPONSE_ID, *EVENTS_WANTED),
        answers=[Answer("The response.", ResponseObject), RESPONSE_STREAM],
        errors=(errors.InvalidRequest, errors.NotFound),
    ),
    "responses.cancel": simple(
        "cancelResponse",
        Tag.OPENAI,
        "Cancel a response that goes on in the background",
        Answer("The response as it stands then.", ResponseObject),
        RESPONSE_ID,
        errors=(errors.InvalidRequest, errors.NotFound),
    ),
}
