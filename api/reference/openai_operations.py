"""Describes the routes under `/v1`, by their endpoints."""

from __future__ import annotations

from dataclasses import replace

from api.openai.chat import ChatBody
from api.openai.completions import CompletionBody
from api.openai.responses.body import InputTokensBody, ResponseBody
from api.reference import headers, paging
from api.reference.error_models import GENERATION
from api.reference.operation import EVENTS, Operation, Parameter, RequestBody, SuccessResponse, Tag, simple
from api.reference.slm_operations import ACCEPTED, SUBMITTING
from api.schemas.openai.chat import ChatCompletion, ChatFrame
from api.schemas.openai.completions import Completion, CompletionFrame
from api.schemas.openai.embeddings import EmbeddingBody, EmbeddingList
from api.schemas.openai.models import ModelList, ModelObject
from api.schemas.openai.responses import DeletedResponse, InputItemList, InputTokens, ResponseFrame, ResponseObject
from api.schemas.parsing import OPENAI
from common import errors, ids

MODEL_ID = Parameter(
    "path",
    "model_id",
    {"type": "string", "minLength": 1},
    "A name from the list of models, or a version of an adapter such as `support@3`.",
)
RESPONSE_ID = Parameter(
    "path",
    "response_id",
    {"type": "string", "pattern": f"^{ids.RESPONSE_ID}$"},
    "The response's id.",
    f"resp_{headers.EXAMPLE_JOB}",
)
ORDER = Parameter(
    "query", "order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}, "Oldest or newest first."
)
EVENTS_WANTED = (
    Parameter(
        "query", "stream", {"type": "string", "enum": ["true", "false"], "default": "false"}, "Whether to stream it."
    ),
    Parameter(
        "query",
        "starting_after",
        {"type": "integer", "minimum": 0},
        "With `stream=true`, the number of the last event that you have received.",
    ),
)
RESPONSE_EVENTS = (
    "Server-sent events, each with its type as its name and a `sequence_number` in its `data`. Comments report the "
    "queue position."
)
RESPONSE_STREAM = SuccessResponse(RESPONSE_EVENTS, ResponseFrame, media_types=(EVENTS,))
EXAMPLE_MODEL = "SmolLM2-135M-Instruct"
CHUNKS = (
    "Server-sent events without names or ids. Their `data` is JSON, and that of the last one is `[DONE]`. Comments "
    "report the queue position. An error ends the stream without `[DONE]`."
)
COMPLETING = (*GENERATION, errors.IdempotencyMismatch)
CHAT_STREAM = """\
data: {"id": "chatcmpl-…", "object": "chat.completion.chunk", …, "choices": [{"index": 0, "delta": {"content": "Hi"}}]}

data: [DONE]

"""

OPENAI_OPERATIONS = {
    "openai.complete_chat": Operation(
        id="completeChat",
        tag=Tag.OPENAI,
        summary="Generate the assistant's next message, whole or as a stream",
        parameters=SUBMITTING,
        body=RequestBody(
            ChatBody,
            {"model": EXAMPLE_MODEL, "messages": [{"role": "user", "content": "Tell me a joke"}], "max_tokens": 60},
            dialect=OPENAI,
        ),
        responses=[
            SuccessResponse("The message.", ChatCompletion, headers=headers.GENERATING),
            SuccessResponse(
                CHUNKS,
                ChatFrame,
                media_types=(EVENTS,),
                headers=headers.GENERATING,
                example=CHAT_STREAM,
            ),
            ACCEPTED,
        ],
        errors=COMPLETING,
    ),
    "openai.complete_text": Operation(
        id="completeText",
        tag=Tag.OPENAI,
        summary="Continue a text, whole or as a stream",
        parameters=SUBMITTING,
        body=RequestBody(
            CompletionBody,
            {"model": EXAMPLE_MODEL, "prompt": "Once upon a time", "max_tokens": 60},
            dialect=OPENAI,
        ),
        responses=[
            SuccessResponse("The text.", Completion, headers=headers.GENERATING),
            SuccessResponse(CHUNKS, CompletionFrame, media_types=(EVENTS,), headers=headers.GENERATING),
            ACCEPTED,
        ],
        errors=COMPLETING,
    ),
    "openai.embed": Operation(
        id="createEmbeddings",
        tag=Tag.OPENAI,
        summary="Return the vectors of texts",
        description="Needs a model for embeddings (`SLM_EMBED_MODEL`).",
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(EmbeddingBody, {"input": ["Good morning", "Guten Morgen"]}, dialect=OPENAI),
        responses=[SuccessResponse("The vectors.", EmbeddingList, headers=headers.GENERATING)],
        errors=COMPLETING,
    ),
    "openai.list_models": simple(
        "listModels",
        Tag.OPENAI,
        "List the models: base models, adapters and aliases",
        SuccessResponse("The models.", ModelList),
    ),
    "openai.show_model": simple(
        "showModel",
        Tag.OPENAI,
        "Show one model",
        SuccessResponse("The model.", ModelObject),
        MODEL_ID,
        errors=(errors.ModelNotFound,),
    ),
    "responses.create": Operation(
        id="createResponse",
        tag=Tag.OPENAI,
        summary="Create a response: wait for it, stream it, or run it in the background",
        description="A `background` response can be shown, streamed and cancelled by its id.",
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(
            ResponseBody,
            {"model": EXAMPLE_MODEL, "input": "Tell me a joke", "max_output_tokens": 60},
            dialect=OPENAI,
        ),
        responses=[
            SuccessResponse("The response.", ResponseObject, headers=headers.GENERATING),
            replace(RESPONSE_STREAM, headers=headers.GENERATING),
        ],
        errors=COMPLETING,
    ),
    "responses.show": Operation(
        id="showResponse",
        tag=Tag.OPENAI,
        summary="Show a response, or stream it after the last event that you have received",
        parameters=(RESPONSE_ID, *EVENTS_WANTED),
        responses=[SuccessResponse("The response.", ResponseObject), RESPONSE_STREAM],
        errors=(errors.InvalidRequest, errors.NotFound),
    ),
    "responses.cancel": simple(
        "cancelResponse",
        Tag.OPENAI,
        "Cancel a background response",
        SuccessResponse("The response with its new status.", ResponseObject),
        RESPONSE_ID,
        errors=(errors.InvalidRequest, errors.NotFound),
    ),
    "responses.delete": simple(
        "deleteResponse",
        Tag.OPENAI,
        "Delete a response; one that is still generated is cancelled first",
        SuccessResponse("The response was deleted.", DeletedResponse),
        RESPONSE_ID,
        errors=(errors.Conflict, errors.NotFound),
    ),
    "responses.list_input_items": Operation(
        id="listInputItems",
        tag=Tag.OPENAI,
        summary="List what a response was asked",
        description="The items of the responses that it continues come first; instructions are left out.",
        parameters=(RESPONSE_ID, paging.after(ids.RESPONSE_ITEM_ID), paging.LIMIT, ORDER),
        responses=[SuccessResponse("The page.", InputItemList)],
        errors=(errors.InvalidRequest, errors.NotFound),
    ),
    "responses.count_input_tokens": Operation(
        id="countInputTokens",
        tag=Tag.OPENAI,
        summary="Count the tokens of a response's input as the model sees it",
        body=RequestBody(InputTokensBody, {"model": EXAMPLE_MODEL, "input": "Tell me a joke"}, dialect=OPENAI),
        responses=[SuccessResponse("The number.", InputTokens, headers=headers.JOB)],
        errors=(*GENERATION, errors.NotFound),
    ),
}
