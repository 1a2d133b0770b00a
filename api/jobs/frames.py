"""Converts a job's events to the frames of the API's documentation, without I/O; `sse.py` sends them."""

from __future__ import annotations

from typing import Any, cast

from api.jobs.response_bodies import error_fields, logprobs
from api.schemas.errors import ErrorFrame
from api.schemas.frames import (
    CheckpointFrame,
    EndFrame,
    FrameData,
    ProgressFrame,
    SampleFrame,
    StatusFrame,
    TextFrame,
)
from api.schemas.training import TrainingCheckpoint, TrainingProgress, TrainingSample
from common.errors import SLMError
from common.jobs.events import Event, EventType
from common.jobs.job import JobKind, JobState
from common.jobs.store import QueuePosition

QUEUED = "Queued"
_COMPLETE = {
    JobKind.LOAD: "Load complete!",
    JobKind.UNLOAD: "Unload complete!",
    JobKind.PUBLISH: "Publish complete!",
    JobKind.TOKENIZE: "Tokenize complete!",
    JobKind.CHECK_DATASET: "Check complete!",
    JobKind.TRAIN: "Training complete!",
    JobKind.EVALUATE: "Evaluation complete!",
    JobKind.EMBED: "Embedding complete!",
}


def position_frame(found: QueuePosition) -> StatusFrame:
    """Return the data of the frame that reports a new queue position."""
    return StatusFrame(status=QUEUED, position=found.position, estimated_wait_s=found.estimated_wait_s)


class FrameWriter:
    """Writes the frames of one job for one client. It keeps the text so far, which every text frame repeats.

    Args:
        kind: the job's kind, on which the last status line depends.
        text: the text that the client has received already, if it resumes.
        request_id: the request's id, for error frames.
    """

    def __init__(self, kind: JobKind, *, text: str = "", request_id: str) -> None:
        self._kind = kind
        self._text = text
        self._request_id = request_id

    def write(self, event: Event) -> FrameData | None:
        """Return the data of the event's frame; None if the event has nothing to show."""
        match event.type:
            case EventType.QUEUED:
                return StatusFrame(status=QUEUED, position=event.data["position"])
            case EventType.STATUS:
                return StatusFrame(status=event.data["status"])
            case EventType.TOKEN:
                return self._text_frame(event.data)
            case EventType.PROGRESS:
                progress = cast(TrainingProgress, event.data)
                return ProgressFrame(status=event.data["status"], progress=progress)
            case EventType.SAMPLE:
                return SampleFrame(status="Sample", sample=cast(TrainingSample, event.data))
            case EventType.CHECKPOINT:
                line = f"Checkpoint at step {event.data['step']}"
                return CheckpointFrame(status=line, checkpoint=cast(TrainingCheckpoint, event.data))
            case EventType.FINISHED:
                return EndFrame(status=self._last_line(event), device_used=event.data["device"])
            case EventType.ERROR:
                return self.failure(SLMError.from_dict(event.data))

    def failure(self, err: SLMError) -> ErrorFrame:
        """Return the data of the frame with the error that ends the stream."""
        return error_fields(err, self._request_id)

    def _text_frame(self, data: dict[str, Any]) -> TextFrame | None:
        """Return a text frame; None if the event is empty, because the bytes of a character can span several tokens."""
        piece, is_last = data["text"], data["is_last"]
        if not piece and not is_last:
            return None
        self._text += piece
        frame: TextFrame = {"text": piece, "full_text": self._text.strip(), "is_complete": is_last}
        if "logprobs" in data:
            frame["logprobs"] = logprobs(data["logprobs"])
        return frame

    def _last_line(self, event: Event) -> str:
        if event.data["state"] == JobState.CANCELLED:
            return "Cancelled"
        return _COMPLETE.get(self._kind, "Response complete!")
