"""Each kind of frame has the fields that its model describes, and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from api.jobs.frames import FrameWriter, position_frame
from api.schemas.errors import ErrorFrame
from api.schemas.frames import EndFrame, StatusFrame, TextFrame
from common.errors import PromptTooLong, WorkerLost
from common.jobs import events
from common.jobs.events import Event, EventType
from common.jobs.job import JobKind, JobState
from common.jobs.logprobs import ScoredToken, TokenLogprobs
from common.jobs.store import QueuePosition

PART_OF_A_CHARACTER = TokenLogprobs(ScoredToken(7, b"\xc3", -0.5), (ScoredToken(8, b"a", -1.0),))
EVENTS: dict[str, tuple[Event, type]] = {
    "queued": (Event(0, EventType.QUEUED, {"position": 1}), StatusFrame),
    "status": (events.status(1, "Generating response..."), StatusFrame),
    "token": (events.token(2, "Once ", [5]), TextFrame),
    "token with log probabilities": (events.token(3, "é", [7], logprobs=[PART_OF_A_CHARACTER]), TextFrame),
    "finished": (events.finished(4, JobState.SUCCEEDED, "stop", "cuda"), EndFrame),
    "cancelled in the queue": (events.finished(1, JobState.CANCELLED), EndFrame),
    "error": (events.error(2, WorkerLost("The job's workers died 3 times; it is not tried again.")), ErrorFrame),
    "error that names a field": (events.error(2, PromptTooLong("Too long.", param="prompt")), ErrorFrame),
}


def check(frame: Any, model: type) -> None:
    TypeAdapter(model).validate_json(json.dumps(frame), strict=True)


@pytest.mark.parametrize("name", EVENTS)
def test_a_frame_matches_its_model(name: str) -> None:
    event, model = EVENTS[name]
    check(FrameWriter(JobKind.STREAM, request_id="r1").write(event), model)


@pytest.mark.parametrize("wait_s", [2.5, None])
def test_a_queue_position_matches_its_model(wait_s: float | None) -> None:
    check(position_frame(QueuePosition(position=3, estimated_wait_s=wait_s)), StatusFrame)


@pytest.mark.parametrize("frame", [{"text": "a"}, {"text": "a", "full_text": "a", "is_complete": False, "x": 1}])
def test_a_frame_with_other_fields_is_refused(frame: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check(frame, TextFrame)
