"""Builds the blocks of a message from the parts of an answer, whole and as events."""

from __future__ import annotations

from collections.abc import Sequence

from api.jobs.tool_reader import (
    Arguments,
    Call,
    CallBegin,
    Content,
    Delta,
    Thought,
    calls_in,
    content_of,
    object_of,
    reasoning_of,
)
from api.schemas.anthropic.responses import (
    AnthropicBlock,
    AnthropicText,
    AnthropicThinking,
    AnthropicToolUse,
    BlockDelta,
    BlockStart,
    BlockStop,
    InputDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)


def blocks(deltas: Sequence[Delta]) -> list[AnthropicBlock]:
    """Return the blocks of a complete answer: its reasoning, text and calls; if it has nothing, an empty text."""
    text, reasoning = content_of(deltas), reasoning_of(deltas)
    before: list[AnthropicBlock] = [] if reasoning is None else [_thinking(reasoning)]
    calls: list[AnthropicBlock] = [_call(one) for one in calls_in(deltas)]
    return [*before, *([_text(text)] if text or not (before or calls) else []), *calls]


class BlockStream:
    """Writes the events of the blocks as the answer arrives."""

    def __init__(self) -> None:
        self._num_blocks = 0
        self._is_in_text = False

    def add(self, delta: Delta) -> list[StreamEvent]:
        """Return the events for the next part of the answer."""
        match delta:
            case Thought(text):
                begin = [] if self._num_blocks else self._open(_thinking(""))
                return [*begin, self._piece(ThinkingDelta(type="thinking_delta", thinking=text))]
            case Content(text):
                begin = [] if self._is_in_text else self._open(_text(""))
                self._is_in_text = True
                return [*begin, self._piece(TextDelta(type="text_delta", text=text))] if text else begin
            case CallBegin(_, call_id, name):
                return self._open(AnthropicToolUse(type="tool_use", id=call_id, name=name, input={}))
            case Arguments(_, text):
                return [self._piece(InputDelta(type="input_json_delta", partial_json=text))]

    def close(self) -> list[StreamEvent]:
        """Return the events at the answer's end; every message has a block."""
        begin = [] if self._num_blocks else self._open(_text(""))
        return [*begin, self._end()]

    def _open(self, block: AnthropicBlock) -> list[StreamEvent]:
        before = [self._end()] if self._num_blocks else []
        self._num_blocks += 1
        return [*before, BlockStart(type="content_block_start", index=self._index, content_block=block)]

    def _piece(self, delta: ThinkingDelta | TextDelta | InputDelta) -> StreamEvent:
        return BlockDelta(type="content_block_delta", index=self._index, delta=delta)

    def _end(self) -> StreamEvent:
        return BlockStop(type="content_block_stop", index=self._index)

    @property
    def _index(self) -> int:
        return self._num_blocks - 1


def _thinking(text: str) -> AnthropicThinking:
    return AnthropicThinking(type="thinking", thinking=text, signature="")


def _text(text: str) -> AnthropicText:
    return AnthropicText(type="text", text=text)


def _call(call: Call) -> AnthropicToolUse:
    return AnthropicToolUse(type="tool_use", id=call.id, name=call.name, input=object_of(call) or {})
