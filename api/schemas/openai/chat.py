"""Chat completions, whole and in chunks, with the fields that this server supports."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, RootModel

from api.schemas.errors import OpenAIError
from api.schemas.generated import TokenCounts
from api.schemas.response_model import Count, ResponseModel, UnixTime

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]


class PromptDetails(ResponseModel):
    """Details about the prompt's tokens."""

    cached_tokens: Annotated[int, Field(ge=0, description="tokens that an earlier request's prompt already had")]


class CompletionDetails(ResponseModel):
    """Details about the answer's tokens."""

    reasoning_tokens: Annotated[int, Field(ge=0, description="tokens of the reasoning before the answer")]


class ChatUsage(TokenCounts):
    """The numbers of tokens of prompts and answers."""

    prompt_tokens_details: PromptDetails
    completion_tokens_details: NotRequired[
        Annotated[CompletionDetails, Field(description="if the model can reason before it answers")]
    ]


class ChatScored(ResponseModel):
    """A token and the natural logarithm of its probability, before all sampling settings."""

    token: Annotated[str, Field(description="as text; U+FFFD replaces a part of a character")]
    logprob: float
    bytes: list[int]


class ChatToken(ChatScored):
    """A token of the answer, and the most probable tokens at its position."""

    top_logprobs: list[ChatScored]


class ChatLogprobs(ResponseModel):
    """The log probabilities of a message's tokens."""

    content: list[ChatToken]
    refusal: None


class PromptLogprob(ResponseModel):
    """A token at a position of the prompt, as vLLM writes it."""

    logprob: float
    rank: Annotated[Count | None, Field(description="1 for the most probable token; null if it is not among these")]
    decoded_token: str


PromptLogprobs = Annotated[
    list[dict[str, PromptLogprob] | None],
    Field(description="if the request asked for it: for each token of the prompt, by token id; null for the first"),
]
TokenIds = Annotated[list[Count], Field(description="if the request had `return_token_ids`")]


class ChatFunction(ResponseModel):
    """A called function."""

    name: str
    arguments: Annotated[str, Field(description="a JSON text; incomplete if `finish_reason` is `length`")]


class ChatToolCall(ResponseModel):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: ChatFunction


ReasoningField = Annotated[str, Field(description="what the model has written before its answer, as vLLM names it")]
ReasoningContent = Annotated[str, Field(description="the same, as llama.cpp and DeepSeek name it")]


class ChatMessage(ResponseModel):
    """The assistant's message."""

    role: Literal["assistant"]
    content: Annotated[str | None, Field(description="null if the answer has only calls of tools, or reasoning")]
    refusal: None
    reasoning: NotRequired[ReasoningField]
    reasoning_content: NotRequired[ReasoningContent]
    tool_calls: NotRequired[list[ChatToolCall]]
    function_call: NotRequired[Annotated[ChatFunction, Field(description="if the request had `functions`")]]


class ChatChoice(ResponseModel):
    """One of the `n` answers."""

    index: Count
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    token_ids: NotRequired[TokenIds]


class ChatCompletion(ResponseModel):
    """A complete answer."""

    id: Annotated[str, Field(description="`chatcmpl-` and the id of the first choice's job")]
    object: Literal["chat.completion"]
    created: UnixTime
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage
    system_fingerprint: Annotated[str, Field(description="changes if the model, its files or the device change")]
    prompt_logprobs: NotRequired[PromptLogprobs]
    prompt_token_ids: NotRequired[TokenIds]


class ChatFunctionDelta(ResponseModel):
    """The new part of a called function; only the first has the name."""

    name: NotRequired[str]
    arguments: NotRequired[str]


class ChatToolCallDelta(ResponseModel):
    """The new part of a call; only the first has id and type."""

    index: Count
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: ChatFunctionDelta


class ChatDelta(ResponseModel):
    """The new part of a message."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str | None]
    reasoning: NotRequired[ReasoningField]
    reasoning_content: NotRequired[ReasoningContent]
    tool_calls: NotRequired[list[ChatToolCallDelta]]
    function_call: NotRequired[ChatFunctionDelta]


class ChatChunkChoice(ResponseModel):
    """The new part of one of the `n` answers."""

    index: Count
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    token_ids: NotRequired[TokenIds]


class ChatChunk(ResponseModel):
    """A chunk of the answers."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: UnixTime
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    prompt_token_ids: NotRequired[TokenIds]
    usage: NotRequired[
        Annotated[
            ChatUsage | TokenCounts | None,
            Field(description="with `include_usage`; null before the last chunk, except with `continuous_usage_stats`"),
        ]
    ]


class ChatFrame(RootModel[ChatChunk | OpenAIError]):
    """The data of an event of a streamed chat completion; the last one's is `[DONE]`, unless there was an error."""
