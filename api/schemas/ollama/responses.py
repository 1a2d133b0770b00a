"""The bodies of responses under `/api`. Durations are in nanoseconds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, RootModel

from api.schemas.embedded import Vector
from api.schemas.response_model import Count, ResponseModel, Time

Nanoseconds = Annotated[int, Field(ge=0, description="nanoseconds")]
DoneReason = Literal["stop", "length", "load"]


class OllamaError(ResponseModel):
    """The body of every error response under `/api`, and the last line of a stream that fails."""

    error: str


class OllamaVersion(ResponseModel):
    """The server's version."""

    version: str


class OllamaDetails(ResponseModel):
    """What is known about a model."""

    parent_model: Annotated[str, Field(description="the base model of an adapter")]
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(ResponseModel):
    """A model that a request can name."""

    name: Annotated[str, Field(description="the model's name with the tag `latest`")]
    model: str
    modified_at: Time
    size: Count
    digest: Annotated[
        str,
        Field(description="SHA-256; of an adapter's or encoder's files, or of a base model's name"),
    ]
    details: OllamaDetails


class OllamaTags(ResponseModel):
    """The models."""

    models: list[OllamaModel]


class OllamaLoaded(OllamaModel):
    """A model in memory."""

    expires_at: Time
    size_vram: Count
    context_length: Count


class OllamaLoadedList(ResponseModel):
    """The models in memory."""

    models: list[OllamaLoaded]


class OllamaShown(ResponseModel):
    """A model."""

    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: Annotated[
        dict[str, Any],
        Field(description="with `slm.context_length`, if it is known; for embeddings also `slm.embedding_length`"),
    ]
    capabilities: list[str]
    modified_at: Time


class OllamaTimings(ResponseModel):
    """The last part of an answer: the numbers of tokens, and the durations of the phases."""

    model: str
    created_at: Time
    done: bool
    done_reason: NotRequired[DoneReason]
    total_duration: NotRequired[Nanoseconds]
    load_duration: NotRequired[Annotated[int, Field(ge=0, description="nanoseconds, waiting in the queue included")]]
    prompt_eval_count: NotRequired[Count]
    prompt_eval_duration: NotRequired[Nanoseconds]
    eval_count: NotRequired[Count]
    eval_duration: NotRequired[Nanoseconds]


class OllamaFunctionCall(ResponseModel):
    """A called function; `index` counts the calls of the answer."""

    index: Count
    name: str
    arguments: dict[str, Any]


class OllamaCall(ResponseModel):
    """A call of a tool."""

    id: str
    function: OllamaFunctionCall


class OllamaEmbedded(ResponseModel):
    """The vectors of all inputs, in their order."""

    model: str
    embeddings: list[Vector]
    total_duration: Nanoseconds
    load_duration: Annotated[int, Field(ge=0, description="nanoseconds in the queue")]
    prompt_eval_count: Annotated[Count, Field(description="the number of tokens of all inputs")]


class OllamaEmbedding(ResponseModel):
    """The vector of a text."""

    embedding: Vector


Thinking = Annotated[str, Field(description="what the model has written before its answer")]


class OllamaSaid(ResponseModel):
    """The assistant's message, or the next piece of it. A call comes whole; one that was cut off is left out."""

    role: Literal["assistant"]
    content: str
    thinking: NotRequired[Thinking]
    tool_calls: NotRequired[list[OllamaCall]]


class OllamaChat(OllamaTimings):
    """An answer in a chat, or a piece of it; only the last one, with `done`, has numbers and durations."""

    message: OllamaSaid


class OllamaGenerated(OllamaTimings):
    """An answer, or a piece of it; only the last one, with `done`, has numbers and durations."""

    response: str
    thinking: NotRequired[Thinking]


class OllamaChatLine(RootModel[OllamaChat | OllamaError]):
    """A line of a streamed chat."""


class OllamaGeneratedLine(RootModel[OllamaGenerated | OllamaError]):
    """A line of a streamed generation."""
