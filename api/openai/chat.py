"""`POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field, model_validator

from api.jobs.choices import GeneratedChoice
from api.jobs.tool_reader import (
    Arguments,
    Call,
    CallBegin,
    Content,
    Delta,
    PlainReader,
    Thought,
    answer_reader,
    calls_in,
    content_of,
    reasoning_of,
)
from api.openai.endpoint import Endpoint, Json, ResponseHeader
from api.openai.logprobs import ScoredTokens, prompt_logprobs, scored_tokens
from api.openai.sampling_body import LIMIT, NUM_LOGPROBS, UNLIMITED, NewTokens, NumLogprobs, SamplingBody, limited
from api.schemas.chat_ending import ChatEnding
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, Message, conversation
from api.schemas.openai.chat import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatFunction,
    ChatFunctionDelta,
    ChatLogprobs,
    ChatMessage,
    ChatToolCall,
    FinishReason,
)
from api.schemas.reasoning import ChatReasoning
from api.schemas.strict import FIRST_ERROR
from api.schemas.tool_use import ToolUse, tool_use
from api.schemas.tools import ToolFields
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams


class ChatBody(ChatReasoning, SamplingBody, ToolFields, ChatEnding):
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
    top_logprobs: Annotated[
        NumLogprobs | None, Meaning("With `logprobs`, the number of alternatives for each token.")
    ] = Field(None, description=NUM_LOGPROBS)
    echo: Annotated[
        bool, Meaning("Whether the answer begins with the assistant's message at the end, which it continues.")
    ] = Field(False, description="true or false")

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

    @model_validator(mode="after")
    def _token_ids_require_logprobs(self) -> ChatBody:
        if self.logprob_token_ids and not self.logprobs:
            raise InvalidRequest("logprob_token_ids can only be used with logprobs: true", param="logprob_token_ids")
        return self

    @property
    def echoed(self) -> str:
        """The text with which the answer begins, although the client sent it."""
        last = self.messages[-1]
        return last.content if self.echo and last.role == "assistant" else ""

    @property
    def tool_use(self) -> ToolUse:
        """The use of tools."""
        several = not self.functions and self.parallel_tool_calls is not False
        return tool_use(self.declared, self.chosen, self.form, several=several)

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
    names: ClassVar = {"prompt": "messages", "logprobs": "top_logprobs"}

    def names_of(self, body: ChatBody) -> dict[str, str]:
        """See `Endpoint.names_of`."""
        return super().names_of(body) | ({"tools": "functions"} if body.functions else {})

    def answer(self, body: ChatBody, header: ResponseHeader, choices: Sequence[GeneratedChoice]) -> ChatCompletion:
        """See `Endpoint.answer`. As in vLLM, what belongs to the prompt is beside the choices."""
        answer = cast(ChatCompletion, super().answer(body, header, choices))
        if body.prompt_logprobs is not None:
            answer["prompt_logprobs"] = prompt_logprobs(choices[0].prompt_logprobs or [], body.prompt_logprobs)
        if body.return_token_ids:
            answer["prompt_token_ids"] = choices[0].prompt_token_ids or []
        return answer

    def with_prompt_ids(self, chunk: Json, prompt_ids: Sequence[int]) -> Json:
        """See `Endpoint.with_prompt_ids`."""
        return chunk | {"prompt_token_ids": prompt_ids}

    def params(self, body: ChatBody) -> list[GenerateParams]:
        """See `Endpoint.params`."""
        use, seed = body.tool_use, body.drawn_seed()
        if use.can_call and body.allowed_token_ids is not None:
            raise InvalidRequest("allowed_token_ids cannot be used together with tools", param="allowed_token_ids")
        prompt = conversation(body.messages, body.ending, use.shown, body.variables)
        more: dict[str, Any] = {
            "grammar": use.grammar,
            "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
        }
        more |= use.no_stop
        return [
            GenerateParams(
                prompt,
                body.choice_sampling(seed + index, max_new_tokens=body.max_new_tokens, **more),
                tells_prompt_ids=body.tells_prompt_ids,
                cut=body.cut,
                splits_reasoning=body.splits_reasoning,
            )
            for index in range(body.n)
        ]

    def reader(self, body: ChatBody, job_id: str) -> PlainReader:
        """See `Endpoint.reader`."""
        return answer_reader(job_id, can_call=body.tool_use.can_call, shows_reasoning=body.include_reasoning)

    def choice(self, body: ChatBody, index: int, choice: GeneratedChoice) -> ChatChoice:
        """See `Endpoint.choice`."""
        reader = self.reader(body, choice.job_id)
        begin = [Content(body.echoed)] if body.echoed else []
        message = _message(body, [*begin, *reader.read_whole(choice.text, choice.syntax)])
        reason = _finish_reason(body, choice.finish_reason, has_calls=reader.has_calls)
        written = ChatChoice(index=index, message=message, logprobs=_logprobs(body, choice), finish_reason=reason)
        return written | {"token_ids": choice.token_ids} if body.return_token_ids else written

    def opening(self, body: ChatBody, index: int) -> ChatChunkChoice:
        """Return the role, and what is echoed."""
        content = body.echoed or (None if body.tool_use.can_call else "")
        return _delta(index, {"role": "assistant", "content": content})

    def piece(self, body: ChatBody, index: int, delta: Delta, scored: ScoredTokens | None) -> ChatChunkChoice:
        """See `Endpoint.piece`."""
        return _delta(index, _chunk_delta(body, delta), scored=scored)

    def closing(self, body: ChatBody, index: int, finish_reason: FinishReason, *, has_calls: bool) -> ChatChunkChoice:
        """See `Endpoint.closing`."""
        return _delta(index, {}, _finish_reason(body, finish_reason, has_calls=has_calls))


def _logprobs(body: ChatBody, choice: GeneratedChoice) -> ChatLogprobs | None:
    if choice.logprobs is None:
        return None
    return ScoredTokens(scored_tokens(choice.logprobs), as_ids=body.return_tokens_as_token_ids).for_chat()


def _message(body: ChatBody, deltas: Sequence[Delta]) -> ChatMessage:
    text, calls, reasoning = content_of(deltas), calls_in(deltas), reasoning_of(deltas)
    is_missing = not text and (calls or reasoning is not None)
    message = ChatMessage(role="assistant", content=None if is_missing else text, refusal=None)
    if reasoning is not None:
        message |= {"reasoning": reasoning, "reasoning_content": reasoning}
    if calls and body.functions:
        return message | {"function_call": _function(calls[0])}
    if calls:
        message["tool_calls"] = [ChatToolCall(id=call.id, type="function", function=_function(call)) for call in calls]
    return message


def _function(call: Call) -> ChatFunction:
    return ChatFunction(name=call.name, arguments=call.arguments)


def _chunk_delta(body: ChatBody, delta: Delta) -> ChatDelta:
    match delta:
        case Thought(text):
            return {"reasoning": text, "reasoning_content": text}
        case Content(text):
            return {"content": text}
        case CallBegin(index, call_id, name) if not body.functions:
            function: ChatFunctionDelta = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
        case Arguments(index, text) if not body.functions:
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
        case CallBegin(_, _, name):
            return {"function_call": {"name": name, "arguments": ""}}
        case Arguments(_, text):
            return {"function_call": {"arguments": text}}


def _finish_reason(body: ChatBody, reason: FinishReason, *, has_calls: bool) -> FinishReason:
    if not has_calls or reason != "stop":
        return reason
    return "function_call" if body.functions else "tool_calls"


def _delta(
    index: int, delta: ChatDelta, finish_reason: FinishReason | None = None, scored: ScoredTokens | None = None
) -> ChatChunkChoice:
    written = None if scored is None else scored.for_chat()
    return {"index": index, "delta": delta, "logprobs": written, "finish_reason": finish_reason}


CHAT = Chat(ChatBody)
