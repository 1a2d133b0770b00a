"""The output of a response: a message and calls of functions, which grow with the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from api.jobs.tool_reader import Arguments, CallBegin, Content, Delta, Thought
from api.schemas.openai.chat import ChatToken
from api.schemas.openai.responses import (
    ArgumentsEvent,
    ArgumentsEventType,
    FunctionCall,
    ItemEvent,
    ItemEventType,
    ItemStatus,
    OutputItem,
    OutputMessage,
    OutputText,
    PartEvent,
    PartEventType,
    ReasoningItem,
    ReasoningText,
    ResponseStreamEvent,
)
from common.jobs.reasoning import Reasoning, ReasoningSplitter


@dataclass(slots=True)
class _Message:
    """The answer's text."""

    id: str
    status: ItemStatus = "in_progress"
    text: str = ""
    logprobs: list[ChatToken] = field(default_factory=list)

    def part(self) -> OutputText:
        return part(self.text, self.logprobs)

    def item(self) -> OutputMessage:
        return self._item([self.part()])

    def empty(self) -> OutputMessage:
        return self._item([])

    def _item(self, content: list[OutputText]) -> OutputMessage:
        return OutputMessage(id=self.id, type="message", status=self.status, role="assistant", content=content)


@dataclass(slots=True)
class _Reasoning:
    """The reasoning before the answer."""

    id: str
    status: ItemStatus = "in_progress"
    text: str = ""

    def part(self) -> ReasoningText:
        return ReasoningText(type="reasoning_text", text=self.text)

    def item(self) -> ReasoningItem:
        return self._item([self.part()])

    def empty(self) -> ReasoningItem:
        return self._item([])

    def _item(self, content: list[ReasoningText]) -> ReasoningItem:
        return ReasoningItem(id=self.id, type="reasoning", status=self.status, summary=[], content=content)


@dataclass(slots=True)
class _Call:
    """A call of a function."""

    id: str
    call_id: str
    name: str
    status: ItemStatus = "in_progress"
    arguments: str = ""

    def item(self) -> FunctionCall:
        return FunctionCall(
            id=self.id,
            type="function_call",
            status=self.status,
            arguments=self.arguments,
            call_id=self.call_id,
            name=self.name,
        )


class Output:
    """Collects the items, and returns the events of each change.

    Args:
        job_id: the generation's, from which the ids of the items are made.
        number: returns the number of the next event.
    """

    def __init__(self, job_id: str, number: Callable[[], int]) -> None:
        self._job_id = job_id
        self._number = number
        self._items: list[_Reasoning | _Message | _Call] = []
        self._scored: list[ChatToken] = []  # the tokens of text that has not arrived
        self._splitter: ReasoningSplitter | None = None  # reads the tokens, to tell those of the text

    def items(self) -> list[OutputItem]:
        """Return the items so far."""
        return [one.item() for one in self._items]

    def expect(self, reasoning: Reasoning | None) -> None:
        """Set the reasoning that the answer may have, before it begins."""
        self._splitter = None if reasoning is None else ReasoningSplitter(reasoning)

    def score(self, tokens: Sequence[ChatToken]) -> None:
        """Add the log probabilities of the next tokens, before their text; those of the reasoning are left out."""
        for token in tokens:
            self._scored.append(token)
            if self._is_of_reasoning(token):
                self._scored.clear()

    def add(self, delta: Delta) -> list[ResponseStreamEvent]:
        """Add the next part of the answer."""
        match delta:
            case Thought(text):
                return self._add_thought(text)
            case Content(text):
                return self._add_text(text)
            case CallBegin():
                return self._open_call(delta)
            case Arguments(_, text):
                return self._add_arguments(text)

    def close(self, status: ItemStatus) -> list[ResponseStreamEvent]:
        """End the last item."""
        if not self._items:
            return []
        last = self._items[-1]
        last.status = status
        match last:
            case _Reasoning():
                return self._end_of_reasoning(last)
            case _Message():
                return self._end_of_message(last)
            case _Call():
                return self._end_of_call(last)

    def fail(self) -> None:
        """Mark the last item as incomplete."""
        if self._items:
            self._items[-1].status = "incomplete"

    def _is_of_reasoning(self, token: ChatToken) -> bool:
        """Read a token; return whether it and those before it belong to the reasoning, its tags or the blanks after."""
        if self._splitter is None or self._splitter.is_in_rest:
            return False
        self._splitter.feed(token["token"])
        return self._splitter.has_begun and not self._splitter.is_in_rest

    def _add_thought(self, text: str) -> list[ResponseStreamEvent]:
        written = [] if self._items else self._open_reasoning()
        reasoning = self._items[-1]
        assert isinstance(reasoning, _Reasoning)  # noqa: S101 - it comes first
        reasoning.text += text
        return [*written, self._in_part(reasoning, "response.reasoning_text.delta", delta=text)]

    def _open_reasoning(self) -> list[ResponseStreamEvent]:
        reasoning = _Reasoning(f"rs_{self._job_id}")
        self._items.append(reasoning)
        return [
            self._with_item("response.output_item.added", reasoning.empty()),
            self._in_part(reasoning, "response.content_part.added", part=reasoning.part()),
        ]

    def _end_of_reasoning(self, reasoning: _Reasoning) -> list[ResponseStreamEvent]:
        return [
            self._in_part(reasoning, "response.reasoning_text.done", text=reasoning.text),
            self._in_part(reasoning, "response.content_part.done", part=reasoning.part()),
            self._with_item("response.output_item.done", reasoning.item()),
        ]

    def _add_text(self, text: str) -> list[ResponseStreamEvent]:
        has_begun = any(not isinstance(one, _Reasoning) for one in self._items)
        written = [] if has_begun else [*self.close("completed"), *self._open_message()]
        message = self._items[-1]
        if text and isinstance(message, _Message):
            message.text += text
            scored = self._take_scored(message)
            written.append(self._in_part(message, "response.output_text.delta", delta=text, logprobs=scored))
        return written

    def _take_scored(self, message: _Message) -> list[ChatToken]:
        scored, self._scored = self._scored, []
        message.logprobs += scored
        return scored

    def _open_message(self) -> list[ResponseStreamEvent]:
        message = _Message(f"msg_{self._job_id}")
        self._items.append(message)
        return [
            self._with_item("response.output_item.added", message.empty()),
            self._in_part(message, "response.content_part.added", part=part("")),
        ]

    def _end_of_message(self, message: _Message) -> list[ResponseStreamEvent]:
        self._take_scored(message)
        return [
            self._in_part(message, "response.output_text.done", text=message.text, logprobs=message.logprobs),
            self._in_part(message, "response.content_part.done", part=message.part()),
            self._with_item("response.output_item.done", message.item()),
        ]

    def _open_call(self, begin: CallBegin) -> list[ResponseStreamEvent]:
        self._scored.clear()  # those of the call's beginning
        written = self.close("completed")
        call = _Call(f"fc_{self._job_id}_{begin.index}", begin.id, begin.name)
        self._items.append(call)
        return [*written, self._with_item("response.output_item.added", call.item())]

    def _add_arguments(self, text: str) -> list[ResponseStreamEvent]:
        call = self._items[-1]
        assert isinstance(call, _Call)  # noqa: S101 - arguments follow the beginning of their call
        call.arguments += text
        return [self._of_arguments(call, "response.function_call_arguments.delta", delta=text)]

    def _end_of_call(self, call: _Call) -> list[ResponseStreamEvent]:
        done = self._of_arguments(
            call, "response.function_call_arguments.done", name=call.name, arguments=call.arguments
        )
        return [done, self._with_item("response.output_item.done", call.item())]

    def _with_item(self, kind: ItemEventType, item: OutputItem) -> ItemEvent:
        return ItemEvent(type=kind, sequence_number=self._number(), output_index=self._index, item=item)

    def _in_part(self, message: _Message | _Reasoning, kind: PartEventType, **content: Any) -> PartEvent:
        event = PartEvent(
            type=kind,
            sequence_number=self._number(),
            item_id=message.id,
            output_index=self._index,
            content_index=0,
        )
        return cast(PartEvent, {**event, **content})

    def _of_arguments(self, call: _Call, kind: ArgumentsEventType, **content: Any) -> ArgumentsEvent:
        event = ArgumentsEvent(type=kind, sequence_number=self._number(), item_id=call.id, output_index=self._index)
        return cast(ArgumentsEvent, {**event, **content})

    @property
    def _index(self) -> int:
        return len(self._items) - 1


def part(text: str, logprobs: Sequence[ChatToken] = ()) -> OutputText:
    """Return the part of a message that has the text."""
    return OutputText(type="output_text", text=text, annotations=[], logprobs=list(logprobs))
