"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from api.openai.choices import Choice
from api.openai.endpoint import Endpoint, Json
from api.openai.messages import Message, conversation
from api.openai.response_format import ResponseFormat
from api.openai.sampling_body import MAX_NEW_TOKENS, SamplingBody
from common.errors import InvalidRequest
from common.jobs import GenerateParams

NewTokens = Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)]


class ChatBody(SamplingBody):
    """The body. Without a limit the answer may fill the context."""

    messages: list[Message] = Field(min_length=1, description="a non-empty list of messages, each an object")
    max_tokens: NewTokens | None = Field(None, description=f"an integer from 1 to {MAX_NEW_TOKENS}")
    max_completion_tokens: NewTokens | None = Field(None, description=f"an integer from 1 to {MAX_NEW_TOKENS}")
    response_format: ResponseFormat | None = Field(None, description="an object with a type")

    @model_validator(mode="after")
    def _has_one_limit(self) -> ChatBody:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise InvalidRequest("max_tokens must not differ from max_completion_tokens", param="max_tokens")
        return self

    @property
    def max_new_tokens(self) -> int:
        """The most tokens of an answer."""
        return self.max_completion_tokens or self.max_tokens or MAX_NEW_TOKENS


class Chat(Endpoint[ChatBody]):
    """Messages in, a message out."""

    path = "/v1/chat/completions"
    id_prefix = "chatcmpl-"
    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"
    prompt_field = "messages"

    def params(self, body: ChatBody) -> list[GenerateParams]:
        """As `Endpoint.params`."""
        prompt, seed = conversation(body.messages), body.drawn_seed()
        grammar = None if body.response_format is None else body.response_format.grammar
        return [
            GenerateParams(prompt, body.sampling(seed + index, max_new_tokens=body.max_new_tokens, grammar=grammar))
            for index in range(body.n)
        ]

    def choice(self, body: ChatBody, index: int, choice: Choice) -> Json:
        """As `Endpoint.choice`."""
        del body
        message = {"role": "assistant", "content": choice.text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}

    def opening(self, body: ChatBody, index: int) -> Json:
        """The role comes first."""
        del body
        return _delta(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, text: str) -> Json:
        """As `Endpoint.piece`."""
        return _delta(index, {"content": text})

    def closing(self, index: int, finish_reason: str) -> Json:
        """As `Endpoint.closing`."""
        return _delta(index, {}, finish_reason)


def _delta(index: int, delta: Json, finish_reason: str | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


CHAT = Chat(ChatBody)
