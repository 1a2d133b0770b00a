"""A job's events as the frames that the API's documentation shows. Pure; `sse.py` puts them on the wire."""

from __future__ import annotations

from typing import Any

from api.jobs.answers import error_fields, logprobs
from api.schemas.errors import ErrorFrame
from api.schemas.frames import EndFrame, FrameData, StatusFrame, TextFrame
from common.errors import SLMError
from common.jobs.events import Event, EventType
from common.jobs.job import JobKind, JobState
from common.jobs.store import QueuePosition

QUEUED = "Queued"
_COMPLETE = {
    JobKind.LOAD: "Load complete!",
    JobKind.UNLOAD: "Unload complete!",
    JobKind.TOKENIZE: "Tokenize complete!",
}


def queue_position(place: QueuePosition) -> StatusFrame:
    """The data of the frame that tells of a move in the queue."""
    return StatusFrame(status=QUEUED, position=place.position, estimated_wait_s=place.estimated_wait_s)


class FrameWriter:
    """Writes the frames of one job for one client; keeps the text so far, which every text frame repeats.

    Args:
        kind: the job's kind; the last line of a load speaks of loading.
        text: what the client has read already, where it resumes.
        request_id: the id that an error frame names.
    """

    def __init__(self, kind: JobKind, *, text: str = "", request_id: str) -> None:
        self._kind = kind
        self._text = text
        self._request_id = request_id

    def write(self, event: Event) -> FrameData | None:
        """The data of the event's frame; None for an event that has nothing to show."""
        match event.type:
            case EventType.QUEUED:
                return StatusFrame(status=QUEUED, position=event.data["position"])
            case EventType.STATUS:
                return StatusFrame(status=event.data["status"])
            case EventType.TOKEN:
                return self._text_frame(event.data)
            case EventType.FINISHED:
                return EndFrame(status=self._last_line(event), device_used=event.data["device"])
            case EventType.ERROR:
                return self.failure(SLMError.from_dict(event.data))

    def failure(self, err: SLMError) -> ErrorFrame:
        """The data of the frame that says why nothing more can come."""
        return error_fields(err, self._request_id)

    def _text_frame(self, data: dict[str, Any]) -> TextFrame | None:
        """A token event can be empty: the bytes of a character may come in several tokens."""
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
