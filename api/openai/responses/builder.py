"""Builds a response from a generation's job: its object, and the numbered events of its stream.

The events and their numbers depend only on the job's record and log, so every process and every repetition gives the
same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from api.openai import errors
from api.schemas.openai.responses import (
    Incomplete,
    InputDetails,
    ItemEvent,
    ItemEventType,
    ItemStatus,
    OutputDetails,
    OutputMessage,
    OutputText,
    PartEvent,
    PartEventType,
    ResponseError,
    ResponseEvent,
    ResponseEventType,
    ResponseObject,
    ResponseStatus,
    ResponseStreamEvent,
    ResponseUsage,
)
from common.errors import SLMError
from common.jobs.events import Event, EventType
from common.jobs.job import GenerateResult, JobRecord, JobState

ID_PREFIX = "resp_"
Json = dict[str, Any]


class ResponseBuilder:
    """Takes the events of a job's log in order, from the first on, and returns the events of the response.

    Args:
        record: the job's record, of any time.
        reload: reads the record once more; called when the job has ended.
    """

    def __init__(self, record: JobRecord, reload: Callable[[], JobRecord]) -> None:
        self._job_id = record.id
        self._created_at = record.created_ms // 1000
        self._notes: Json = record.params["notes"]["response"]
        self._reload = reload
        self._next_number = 0
        self._status: ResponseStatus = "queued" if self._notes["background"] else "in_progress"
        self._text = ""
        self._item_status: ItemStatus | None = None  # None: there is no output yet
        self._error: ResponseError | None = None
        self._incomplete: Incomplete | None = None
        self._usage: ResponseUsage | None = None
        self._completed_at: int | None = None

    def opening(self) -> list[ResponseStreamEvent]:
        """Return the first events of every stream."""
        begin: ResponseEventType = "response.queued" if self._notes["background"] else "response.in_progress"
        return [self._with_response("response.created"), self._with_response(begin)]

    def take(self, event: Event) -> list[ResponseStreamEvent]:
        """Return the response's events for an event of the job; none if it does not concern the response."""
        if event.type is EventType.QUEUED:
            return []
        written = self._begin()
        match event.type:
            case EventType.TOKEN:
                written += self._piece(event.data["text"])
            case EventType.FINISHED:
                written += self._finish(event)
            case EventType.ERROR:
                written += self._fail(SLMError.from_dict(event.data))
        return written

    def to_dict(self) -> ResponseObject:
        """Return the response object after the events so far."""
        return ResponseObject(
            id=f"{ID_PREFIX}{self._job_id}",
            object="response",
            created_at=self._created_at,
            status=self._status,
            background=self._notes["background"],
            completed_at=self._completed_at,
            error=self._error,
            incomplete_details=self._incomplete,
            instructions=self._notes["instructions"],
            max_output_tokens=self._notes["max_output_tokens"],
            metadata=self._notes["metadata"],
            model=self._notes["model"],
            output=[] if self._item_status is None else [self._item(self._item_status, [_part(self._text)])],
            parallel_tool_calls=False,
            previous_response_id=None,
            store=self._notes["store"],
            temperature=self._notes["temperature"],
            text=self._notes["text"],
            tool_choice="none",
            tools=[],
            top_p=self._notes["top_p"],
            truncation="disabled",
            usage=self._usage,
            user=self._notes["user"],
        )

    def _begin(self) -> list[ResponseStreamEvent]:
        if self._status != "queued":
            return []
        self._status = "in_progress"
        return [self._with_response("response.in_progress")]

    def _piece(self, text: str) -> list[ResponseStreamEvent]:
        written = [] if self._item_status else self._open_item()
        if text:
            self._text += text
            written.append(self._in_part("response.output_text.delta", delta=text, logprobs=[]))
        return written

    def _open_item(self) -> list[ResponseStreamEvent]:
        self._item_status = "in_progress"
        return [
            self._with_item("response.output_item.added", self._item(self._item_status, [])),
            self._in_part("response.content_part.added", part=_part("")),
        ]

    def _close_item(self, status: ItemStatus) -> list[ResponseStreamEvent]:
        if self._item_status is None:
            return []
        self._item_status = status
        return [
            self._in_part("response.output_text.done", text=self._text, logprobs=[]),
            self._in_part("response.content_part.done", part=_part(self._text)),
            self._with_item("response.output_item.done", self._item(status, [_part(self._text)])),
        ]

    def _finish(self, event: Event) -> list[ResponseStreamEvent]:
        record = self._reload()
        if record.result is not None:
            self._usage = _usage(GenerateResult.from_dict(record.result))
        is_whole = event.data["state"] == JobState.SUCCEEDED and event.data["finish_reason"] != "length"
        written = self._close_item("completed" if is_whole else "incomplete")
        if event.data["state"] == JobState.CANCELLED:
            self._status = "cancelled"
        elif is_whole:
            self._status = "completed"
            self._completed_at = (record.finished_ms or record.created_ms) // 1000
        else:
            self._status = "incomplete"
            self._incomplete = Incomplete(reason="max_output_tokens")
        return [*written, self._with_response("response.completed" if is_whole else "response.incomplete")]

    def _fail(self, err: SLMError) -> list[ResponseStreamEvent]:
        error = errors.body(err)["error"]
        self._error = ResponseError(code=error["code"], message=error["message"])
        self._status = "failed"
        if self._item_status is not None:
            self._item_status = "incomplete"
        return [self._with_response("response.failed")]

    def _item(self, status: ItemStatus, content: list[OutputText]) -> OutputMessage:
        return OutputMessage(id=f"msg_{self._job_id}", type="message", status=status, role="assistant", content=content)

    def _with_item(self, kind: ItemEventType, item: OutputMessage) -> ItemEvent:
        return ItemEvent(type=kind, sequence_number=self._number(), output_index=0, item=item)

    def _in_part(self, kind: PartEventType, **content: Any) -> PartEvent:
        event = PartEvent(
            type=kind,
            sequence_number=self._number(),
            item_id=f"msg_{self._job_id}",
            output_index=0,
            content_index=0,
        )
        return cast(PartEvent, {**event, **content})

    def _with_response(self, kind: ResponseEventType) -> ResponseEvent:
        return ResponseEvent(type=kind, sequence_number=self._number(), response=self.to_dict())

    def _number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number


def _part(text: str) -> OutputText:
    return OutputText(type="output_text", text=text, annotations=[], logprobs=[])


def _usage(result: GenerateResult) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=result.prompt_tokens,
        input_tokens_details=InputDetails(cached_tokens=result.cached_tokens, cache_write_tokens=0),
        output_tokens=result.completion_tokens,
        output_tokens_details=OutputDetails(reasoning_tokens=0),
        total_tokens=result.prompt_tokens + result.completion_tokens,
    )
