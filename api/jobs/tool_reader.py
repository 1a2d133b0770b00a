"""Splits an answer, as it arrives, into reasoning, text and calls of tools.

What has been read so far depends on the text so far alone, not on how it was split into pieces. So every process that
follows a job, from its beginning, reads the same.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.jobs.events import PLAIN, AnswerSyntax, Event, EventType
from common.jobs.reasoning import ReasoningSplitter
from common.jobs.tools import FORMS, HERMES

_HEADER = re.compile(r'\{"name": "([^"\\]*)", "(?:arguments|parameters)": ')


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the reasoning, which comes before everything else."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """A call begins; `index` counts the calls of the answer."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """A piece of the JSON text of a call's arguments."""

    index: int
    text: str


Delta = Thought | Content | CallBegin | Arguments


@dataclass(frozen=True, slots=True)
class Call:
    """A call; `arguments` is its JSON text, incomplete if the answer ends inside it."""

    id: str
    name: str
    arguments: str


def content_of(deltas: Sequence[Delta]) -> str:
    """Return the text of an answer."""
    return "".join(one.text for one in deltas if isinstance(one, Content))


def reasoning_of(deltas: Sequence[Delta]) -> str | None:
    """Return the reasoning of an answer; None if it has none."""
    return "".join(one.text for one in deltas if isinstance(one, Thought)) or None


def calls_in(deltas: Sequence[Delta]) -> list[Call]:
    """Return the calls of an answer."""
    texts: dict[int, list[str]] = defaultdict(list)
    for one in deltas:
        if isinstance(one, Arguments):
            texts[one.index].append(one.text)
    return [Call(one.id, one.name, "".join(texts[one.index])) for one in deltas if isinstance(one, CallBegin)]


def object_of(call: Call) -> dict[str, Any] | None:
    """Return the arguments of a call; None if the answer ends inside it."""
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None


def answer_reader(job_id: str, *, can_call: bool, shows_reasoning: bool = True) -> PlainReader:
    """Return a reader of the answer of this job."""
    return (
        ToolReader(job_id, shows_reasoning=shows_reasoning)
        if can_call
        else PlainReader(shows_reasoning=shows_reasoning)
    )


class PlainReader:
    """Reads an answer that cannot call tools.

    `shows_reasoning`: whether the client wants the reasoning, if the answer has any.
    """

    has_calls = False

    def __init__(self, *, shows_reasoning: bool = True) -> None:
        self._shows_reasoning = shows_reasoning
        self._splitter: ReasoningSplitter | None = None

    def note(self, event: Event) -> None:
        """Note how the answer is written, if the event reports that."""
        if event.type is EventType.STATUS and (syntax := AnswerSyntax.of(event.data)) is not None:
            self.expect(syntax)

    def expect(self, syntax: AnswerSyntax) -> None:
        """Set how the answer is written, which the worker reports before it."""
        self._splitter = None if syntax.reasoning is None else ReasoningSplitter(syntax.reasoning)

    def read(self, text: str) -> list[Delta]:
        """Read the next piece of the answer."""
        if self._splitter is None:
            return self._read_answer(text)
        return self._split(*self._splitter.feed(text))

    def end(self) -> list[Delta]:
        """Return what was held back, after the last piece."""
        held = [] if self._splitter is None else self._split(*self._splitter.end())
        return [*held, *self._end_answer()]

    def _split(self, thought: str, answer: str) -> list[Delta]:
        thoughts: list[Delta] = [Thought(thought)] if thought and self._shows_reasoning else []
        return [*thoughts, *(self._read_answer(answer) if answer else [])]

    def _read_answer(self, text: str) -> list[Delta]:
        return [Content(text)]

    def _end_answer(self) -> list[Delta]:
        return []

    def take(self, event: Event) -> list[Delta]:
        """Read the next event of the job's log; return what it adds to the answer."""
        self.note(event)
        match event.type:
            case EventType.TOKEN:
                return self.read(event.data["text"])
            case EventType.FINISHED:
                return self.end()
        return []

    def read_whole(self, text: str, syntax: AnswerSyntax = PLAIN) -> list[Delta]:
        """Read a complete answer."""
        self.expect(syntax)
        return [*self.read(text), *self.end()]


class ToolReader(PlainReader):
    """Reads an answer that may call tools. Blanks before the calls are dropped.

    `job_id` is the generation's, from which the ids of its calls are made.
    """

    def __init__(self, job_id: str, *, shows_reasoning: bool = True) -> None:
        super().__init__(shows_reasoning=shows_reasoning)
        self._job_id = job_id
        self._form = HERMES
        self._unread = ""
        self._num_calls = 0
        self._has_content = False
        self._is_in_calls = False
        self._object: _ObjectScanner | None = None  # the arguments, if inside a call

    def expect(self, syntax: AnswerSyntax) -> None:
        """As `PlainReader.expect`."""
        super().expect(syntax)
        self._form = HERMES if syntax.tool_form is None else FORMS[syntax.tool_form]

    def _read_answer(self, text: str) -> list[Delta]:
        self._unread += text
        content = [] if self._is_in_calls else self._content()
        return [*content, *self._calls()] if self._is_in_calls else content

    def _end_answer(self) -> list[Delta]:
        held = "" if self._is_in_calls else self._take(len(self._unread))
        return [Content(held)] if held else []

    def _content(self) -> list[Delta]:
        """Read text up to the marker of calls, but not what may belong to it."""
        marker, begin = self._form.marker, self._marker_position()
        if begin is None:
            text = self._take(len(self._unread) - self._num_held())
        else:
            text = self._take(begin).rstrip()
            self._take(0 if self._form.begins_answer else len(marker))
            self._is_in_calls = True
        self._has_content |= bool(text)
        return [Content(text)] if text else []

    def _marker_position(self) -> int | None:
        marker = self._form.marker
        position = self._unread.find(marker)
        if self._form.begins_answer and (position or self._has_content):
            return None
        return None if position < 0 else position

    def _num_held(self) -> int:
        """Return how many of the last characters may be blanks before the marker, or the marker's beginning."""
        marker, text = self._form.marker, self._unread
        if self._form.begins_answer:
            return len(text) if marker.startswith(text) and not self._has_content else 0
        sizes = range(min(len(text), len(marker) - 1), 0, -1)
        rest = text.removesuffix(next((marker[:size] for size in sizes if text.endswith(marker[:size])), ""))
        return len(text) - len(rest.rstrip())

    def _calls(self) -> Iterator[Delta]:
        while self._unread:
            if self._object is not None:
                yield self._arguments(self._object)
            elif (header := _HEADER.search(self._unread)) is not None:
                yield self._begin(header)
            else:
                return

    def _begin(self, header: re.Match[str]) -> CallBegin:
        self._take(header.end())
        self._object = _ObjectScanner()
        self.has_calls = True
        self._num_calls += 1
        index = self._num_calls - 1
        return CallBegin(index, f"call_{self._job_id}_{index}", header[1])

    def _arguments(self, scanner: _ObjectScanner) -> Arguments:
        end = scanner.end_in(self._unread)
        if end is not None:
            self._object = None
        return Arguments(self._num_calls - 1, self._take(len(self._unread) if end is None else end))

    def _take(self, count: int) -> str:
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken


class _ObjectScanner:
    """Finds the end of a JSON object that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False

    def end_in(self, text: str) -> int | None:
        """Read the next piece; return the position after the object's end, if that is in it."""
        for position, char in enumerate(text):
            if self._is_escaped:
                self._is_escaped = False
            elif char == "\\":
                self._is_escaped = True
            elif char == '"':
                self._is_in_string = not self._is_in_string
            elif char in "{}" and not self._is_in_string:
                self._depth += 1 if char == "{" else -1
                if not self._depth:
                    return position + 1
        return None
