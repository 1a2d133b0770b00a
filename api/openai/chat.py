"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from api.jobs.choices import GeneratedChoice
from api.openai.endpoint import Endpoint
from api.openai.logprobs import ScoredTokens, TokenScale
from api.openai.sampling_body import LIMIT, UNLIMITED, NewTokens, SamplingBody, limited
from api.schemas.chat_ending import ChatEnding
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, Message, conversation
from api.schemas.openai.chat import ChatChoice, ChatChunkChoice, ChatDelta, ChatMessage, FinishReason
from api.schemas.strict import FIRST_ERROR
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.sampling import MAX_LOGPROBS


class ChatBody(SamplingBody, ChatEnding):
    """The body of a chat completion. Without a limit the answer may fill the context."""

    messages: Annotated[
        Annotated[list[Message], FIRST_ERROR],
        Meaning("The conversation so far; the model's chat template combines the messages."),
    ] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"a non-empty list of at most {MAX_MESSAGES} messages, each an object",
    )
    max_tokens: Annotated[
        NewTokens | None, Meaning("Maximum number of tokens of the answer; the model's context also applies.")
    ] = Field(None, description=LIMIT)
    max_completion_tokens: Annotated[NewTokens | None, Meaning("OpenAI's newer name for `max_tokens`.")] = Field(
        None, description=LIMIT
    )
    logprobs: bool = Field(False, description="true or false")
    top_logprobs: Annotated[int | None, Meaning("With `logprobs`, the number of alternatives for each token.")] = Field(
        None, ge=0, le=MAX_LOGPROBS, description=f"an integer from 0 to {MAX_LOGPROBS}"
    )

    @model_validator(mode="after")
    def _has_one_limit(self) -> ChatBody:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise InvalidRequest("max_tokens must not differ from max_completion_tokens", param="max_tokens")
        return self

    @model_validator(mode="after")
    def _top_logprobs_require_logprobs(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs can only be used with logprobs: true", param="top_logprobs")
        return self

    @property
    def max_new_tokens(self) -> int:
        """The maximum number of tokens of an answer."""
        return limited(self.max_completion_tokens or self.max_tokens or UNLIMITED)


class Chat(Endpoint[ChatBody]):
    """The chat completions endpoint."""

    path = "/v1/chat/completions"
    id_prefix = "chatcmpl-"
    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"
    names: ClassVar = {"prompt": "messages"}

    def params(self, body: ChatBody) -> list[GenerateParams]:
        """See `Endpoint.params`."""
        prompt, seed = conversation(body.messages, body.ending), body.drawn_seed()
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        return [
            GenerateParams(
                prompt, body.choice_sampling(seed + index, max_new_tokens=body.max_new_tokens, logprobs=logprobs)
            )
            for index in range(body.n)
        ]

    def choice(self, body: ChatBody, index: int, choice: GeneratedChoice) -> ChatChoice:
        """See `Endpoint.choice`."""
        del body
        message = ChatMessage(role="assistant", content=choice.text, refusal=None)
        scored = None if choice.logprobs is None else TokenScale().take(choice.logprobs).for_chat()
        return ChatChoice(index=index, message=message, logprobs=scored, finish_reason=choice.finish_reason)

    def opening(self, body: ChatBody, index: int) -> ChatChunkChoice:
        """Return the role."""
        del body
        return _delta(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, text: str, scored: ScoredTokens | None) -> ChatChunkChoice:
        """See `Endpoint.piece`."""
        return _delta(index, {"content": text}, scored=scored)

    def closing(self, index: int, finish_reason: FinishReason) -> ChatChunkChoice:
        """See `Endpoint.closing`."""
        return _delta(index, {}, finish_reason)


def _delta(
    index: int, delta: ChatDelta, finish_reason: FinishReason | None = None, scored: ScoredTokens | None = None
) -> ChatChunkChoice:
    written = None if scored is None else scored.for_chat()
    return {"index": index, "delta": delta, "logprobs": written, "finish_reason": finish_reason}


CHAT = Chat(ChatBody)
