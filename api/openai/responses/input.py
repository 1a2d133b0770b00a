"""The fields of a response's request from which its prompt is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from api.openai.responses.text_format import TextOptions
from api.openai.responses.tools import FunctionCallItem, FunctionCallOutput, ResponseToolFields
from api.schemas.conversation_place import ConversationId, ConversationPlace
from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, MessageFields, SentBack, prompt_message, with_reasoning
from api.schemas.reasoning import ReasoningEffort
from api.schemas.strict import FIRST_ERROR
from api.schemas.tool_use import ToolUse, tool_use
from common.errors import InvalidRequest
from common.jobs.prompts import Conversation
from common.jobs.prompts import Message as PromptMessage


def _kind(item: Any) -> str:
    """Return the tag of an input item, as it was sent or as it was read; a message needs no type."""
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return _TAGS.get(str(kind), "Message")


_TAGS = {"function_call": "Call", "function_call_output": "Output", "reasoning": "Reasoning"}


class InputMessage(MessageFields):
    """A message. A message of an earlier response may be sent back unchanged."""

    role: Literal["system", "developer", "user", "assistant"]
    status: Annotated[Literal["in_progress", "completed", "incomplete"] | None, IGNORED] = None


class ReasoningPart(SentBack):
    """A part of the text of a reasoning."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class GivenReasoning(SentBack):
    """The reasoning of an earlier answer, for templates that show it; not what another server has encrypted."""

    type: Literal["reasoning"]
    content: Annotated[list[ReasoningPart], FIRST_ERROR] = Field(default_factory=list)
    summary: Annotated[list[Any] | None, IGNORED] = None
    encrypted_content: Annotated[str | None, IGNORED] = None
    id: Annotated[str | None, IGNORED] = None
    status: Annotated[str | None, IGNORED] = None

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(part.text for part in self.content)


InputItem = Annotated[
    Annotated[InputMessage, Tag("Message")]
    | Annotated[FunctionCallItem, Tag("Call")]
    | Annotated[FunctionCallOutput, Tag("Output")]
    | Annotated[GivenReasoning, Tag("Reasoning")],
    Discriminator(_kind),
]


class ResponseInput(ResponseToolFields, ReasoningEffort):
    """The input, what comes before it, and the tools."""

    input: Annotated[
        Annotated[str, Field(min_length=1)]
        | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES), FIRST_ERROR],
        Meaning("The input: a text, or the conversation so far."),
    ] = Field(description=f"a non-empty string or a non-empty list of at most {MAX_MESSAGES} messages and calls")
    instructions: Annotated[str | None, Meaning("A system message before the input.")] = Field(
        None, description="a string"
    )
    previous_response_id: Annotated[
        str | None,
        Meaning("A stored response, which this one continues: its input and output come first, not its instructions."),
    ] = Field(None, min_length=1, description="the id of a response")
    conversation: Annotated[
        ConversationId | ConversationPlace | None,
        Meaning(
            "The conversation that this response continues: its messages come first, up to the one that is shown last "
            "or to the message `parent_id`. The input and the answer are added to it."
        ),
    ] = Field(None, description="the id of a conversation, or an object with an id and the parent_id of a message")
    text: Annotated[TextOptions, Meaning("The form that the answer must have, such as a JSON schema.")] = Field(
        TextOptions(), description="an object with a format"
    )

    @model_validator(mode="after")
    def _continues_one_thing(self) -> ResponseInput:
        if self.conversation is not None and self.previous_response_id is not None:
            raise InvalidRequest(
                "conversation cannot be used together with previous_response_id: it already has that response",
                param="conversation",
            )
        return self

    @model_validator(mode="after")
    def _has_more_than_reasoning(self) -> ResponseInput:
        if all(isinstance(item, GivenReasoning) for item in self.items):
            raise InvalidRequest("input must have more than reasoning", param="input")
        return self

    @property
    def items(self) -> list[InputItem]:
        """The input as items."""
        return [InputMessage(role="user", content=self.input)] if isinstance(self.input, str) else self.input

    @property
    def tool_use(self) -> ToolUse:
        """The use of tools."""
        several = self.parallel_tool_calls is not False
        return tool_use(self.tools, self.chosen, self.text.format.grammar, several=several)

    def prompt(self, history: Sequence[PromptMessage], tools: Sequence[dict[str, Any]]) -> Conversation:
        """Return the prompt: `history` are the messages that the input follows."""
        first = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        return Conversation((*first, *history, *_messages(self.items)), tuple(tools), variables=self.variables)


def _messages(items: Sequence[InputItem]) -> list[PromptMessage]:
    """Return the messages of the prompt; adjacent calls belong to one message, with what comes before them."""
    written: list[PromptMessage] = []
    reasoning = ""
    for item in items:
        if isinstance(item, GivenReasoning):
            reasoning = item.text
            continue
        if isinstance(item, FunctionCallItem):
            _add_call(written, item)
        else:
            written.append(prompt_message(item, item.role) if isinstance(item, InputMessage) else item.to_prompt())
        written[-1], reasoning = with_reasoning(written[-1], reasoning), ""
    return written


def _add_call(written: list[PromptMessage], call: FunctionCallItem) -> None:
    if not written or written[-1]["role"] != "assistant":
        written.append({"role": "assistant", "content": ""})
    written[-1]["tool_calls"] = [*written[-1].get("tool_calls", ()), call.to_prompt()]
