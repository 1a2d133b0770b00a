"""The blocks of a message's content: text, calls of tools, and their results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from api.schemas.ignored import IGNORED
from api.schemas.messages import with_reasoning
from api.schemas.strict import FIRST_ERROR, Strict
from common.jobs.prompts import Message

CacheControl = Annotated[dict[str, Any] | None, IGNORED]


class TextBlock(Strict):
    """A text of a message. A block of an earlier answer may be sent back unchanged."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl = None
    citations: Annotated[list[Any] | None, IGNORED] = None


Texts = str | Annotated[list[TextBlock], FIRST_ERROR]
Content = str | Annotated[list[TextBlock], Field(min_length=1), FIRST_ERROR]


class ToolUseBlock(Strict):
    """A call in an earlier answer."""

    type: Literal["tool_use"]
    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    input: dict[str, Any]
    cache_control: CacheControl = None
    caller: Annotated[dict[str, Any] | None, IGNORED] = None

    def to_prompt(self) -> dict[str, Any]:
        """Return the call for the prompt."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.input}}


class ToolResultBlock(Strict):
    """The result of a call. The model sees its text alone, which should say if it is an error."""

    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1)
    content: Texts = ""
    is_error: Annotated[bool | None, IGNORED] = None
    cache_control: CacheControl = None

    def to_prompt(self) -> Message:
        """Return the result for the prompt."""
        return {"role": "tool", "content": text_of(self.content), "tool_call_id": self.tool_use_id}


class ThinkingBlock(Strict):
    """The reasoning of an earlier answer, for templates that show it."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: str | None = None
    signature: Annotated[str | None, IGNORED] = None
    data: Annotated[str | None, IGNORED] = None


def _kind(block: Any) -> str:
    """Return the tag of a block, as it was sent or as it was read."""
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return _TAGS.get(str(kind), "Text")


_TAGS = {"tool_use": "Call", "tool_result": "Result", "thinking": "Thinking", "redacted_thinking": "Thinking"}
Block = Annotated[
    Annotated[TextBlock, Tag("Text")]
    | Annotated[ToolUseBlock, Tag("Call")]
    | Annotated[ToolResultBlock, Tag("Result")]
    | Annotated[ThinkingBlock, Tag("Thinking")],
    Discriminator(_kind),
]
Blocks = str | Annotated[list[Block], Field(min_length=1), FIRST_ERROR]


def text_of(content: Texts) -> str:
    """Return the text, one block per line."""
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def said_by_assistant(content: Blocks) -> list[Message]:
    """Return the assistant's message for the prompt: its text and its calls."""
    if isinstance(content, str):
        return [{"role": "assistant", "content": content}]
    text = text_of([block for block in content if isinstance(block, TextBlock)])
    calls = [block.to_prompt() for block in content if isinstance(block, ToolUseBlock)]
    reasoning = "".join(block.thinking or "" for block in content if isinstance(block, ThinkingBlock))
    said = with_reasoning({"role": "assistant", "content": text}, reasoning)
    return [said | ({"tool_calls": calls} if calls else {})]


def said_by_user(content: Blocks) -> list[Message]:
    """Return the messages of the prompt: each result is one, and so is the text between results."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    written: list[Message] = []
    for block in content:
        if isinstance(block, ToolResultBlock):
            written.append(block.to_prompt())
        elif isinstance(block, TextBlock):
            _add_text(written, block.text)
    return written


def _add_text(written: list[Message], text: str) -> None:
    if written and written[-1]["role"] == "user":
        written[-1]["content"] += f"\n{text}"
    else:
        written.append({"role": "user", "content": text})


def misplaced(role: str, content: Blocks) -> str | None:
    """Return the type of a block that a message of this role cannot have; None if there is none."""
    foreign = ("tool_use", "thinking", "redacted_thinking") if role == "user" else ("tool_result",)
    kinds = [] if isinstance(content, str) else [block.type for block in content]
    return next((kind for kind in kinds if kind in foreign), None)
