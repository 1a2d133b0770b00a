"""Builds a response from a generation's job: its object, and the numbered events of its stream.

The events and their numbers depend only on the job's record and log, so every process and every repetition gives the
same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.jobs.tool_reader import Delta, answer_reader
from api.openai import errors
from api.openai.logprobs import ScoredTokens, scored_tokens
from api.openai.responses.output import Output
from api.schemas.openai.responses import (
    Incomplete,
    InputDetails,
    OutputDetails,
    ResponseError,
    ResponseEvent,
    ResponseEventType,
    ResponseObject,
    ResponseStatus,
    ResponseStreamEvent,
    ResponseUsage,
)
from common.errors import SLMError
from common.jobs.events import AnswerSyntax, Event, EventType
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
        self._output = Output(record.id, self._number)
        self._reader = answer_reader(record.id, can_call="tools" in self._notes)
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
            case EventType.STATUS:
                if (syntax := AnswerSyntax.of(event.data)) is not None:
                    self._reader.expect(syntax)
                    self._output.expect(syntax.reasoning)
            case EventType.TOKEN:
                if wire := event.data.get("logprobs"):
                    self._output.score(ScoredTokens(scored_tokens(wire)).for_chat()["content"])
                written += self._add(self._reader.read(event.data["text"]))
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
            conversation=self._notes.get("conversation"),
            error=self._error,
            incomplete_details=self._incomplete,
            instructions=self._notes["instructions"],
            max_output_tokens=self._notes["max_output_tokens"],
            metadata=self._notes["metadata"],
            model=self._notes["model"],
            output=self._output.items(),
            parallel_tool_calls=self._notes.get("parallel_tool_calls", False),
            previous_response_id=self._notes.get("previous_response_id"),
            store=self._notes["store"],
            temperature=self._notes["temperature"],
            text=self._notes["text"],
            tool_choice=self._notes.get("tool_choice", "none"),
            tools=self._notes.get("tools", []),
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

    def _add(self, deltas: list[Delta]) -> list[ResponseStreamEvent]:
        return [written for delta in deltas for written in self._output.add(delta)]

    def _finish(self, event: Event) -> list[ResponseStreamEvent]:
        record = self._reload()
        if record.result is not None:
            self._usage = _usage(GenerateResult.from_dict(record.result))
        is_whole = event.data["state"] == JobState.SUCCEEDED and event.data["finish_reason"] != "length"
        written = self._add(self._reader.end()) + self._output.close("completed" if is_whole else "incomplete")
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
        self._output.fail()
        return [self._with_response("response.failed")]

    def _with_response(self, kind: ResponseEventType) -> ResponseEvent:
        return ResponseEvent(type=kind, sequence_number=self._number(), response=self.to_dict())

    def _number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number


def _usage(result: GenerateResult) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=result.prompt_tokens,
        input_tokens_details=InputDetails(cached_tokens=result.cached_tokens, cache_write_tokens=0),
        output_tokens=result.completion_tokens,
        output_tokens_details=OutputDetails(reasoning_tokens=result.reasoning_tokens or 0),
        total_tokens=result.prompt_tokens + result.completion_tokens,
    )
