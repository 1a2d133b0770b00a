"""Shows an answer while it is generated, and cancels its job if nobody waits for it any more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from slm_client import ConnectionLost, Finished, Frame, Queued, SLMClientError, Status, Stream, Text

from slm.live_line import LiveLine
from slm.output import Output
from slm.session import Session

SAMPLE_CHARS = 80  # of each text of a sample


@dataclass
class Answered:
    """An answer, as far as it has been shown. `was_cancelled`: by somebody else, or because nobody read it."""

    text: str = ""
    was_cancelled: bool = False

    def take(self, frame: Frame) -> None:
        """Take what the frame adds."""
        match frame:
            case Text(piece):
                self.text += piece
            case Finished(was_cancelled):
                self.was_cancelled = was_cancelled


def answer(session: Session, output: Output, stream: Stream, answered: Answered) -> None:
    """Write the pieces of the answer as they arrive, and note them in `answered`. An interruption cancels the job.

    Raises:
        ApiError: the job failed.
        ConnectionLost: the server did not come back.
    """
    with _cancelled_if_interrupted(session, stream), output.live_line("Sending") as waiting:
        try:
            for frame in stream:
                answered.take(frame)
                _show(frame, output, waiting)
        except ConnectionLost as err:
            where = (
                "" if stream.job_id is None else f" 'slm jobs show {stream.job_id}' has the answer as far as it got."
            )
            raise ConnectionLost(f"the connection was lost and did not come back ({err}).{where}") from err
        finally:
            if answered.text and not (output.as_json or answered.text.endswith("\n")):
                output.piece("\n")


def _show(frame: Frame, output: Output, waiting: LiveLine) -> None:
    if output.as_json:
        output.event(event(frame))
    elif isinstance(frame, Text):
        waiting.end()
        output.piece(frame.piece)
    elif (line := waiting_line(frame)) is not None:
        waiting.show(line)


def event(frame: Frame) -> dict[str, Any]:
    """Return a frame as the JSON of one line."""
    match frame:
        case Text(piece):
            return {"type": "text", "text": piece}
        case Status(line, sample):
            return {"type": "status", "status": line} | ({} if sample is None else {"sample": dict(sample)})
        case Queued():
            return {"type": "queued", **asdict(frame)}
        case Finished():
            return {"type": "finished", **asdict(frame)}


def waiting_line(frame: Frame) -> str | None:
    """Return what a frame says about a job that has no text yet; None if nothing."""
    match frame:
        case Queued(0, _):
            return "Waiting for a worker"
        case Queued(position, None):
            return f"Queued, position {position}"
        case Queued(position, wait_s):
            return f"Queued, position {position}, about {max(1, round(wait_s or 0))} s"
        case Status(line, sample):
            return line if sample is None else f"{line}: {_sample_line(sample)}"
        case _:
            return None


def _sample_line(sample: Mapping[str, Any]) -> str:
    prompt, expected, response = (_shortened(sample[name]) for name in ("prompt", "expected", "response"))
    return f"{prompt} -> {response} (expected: {expected})"


def _shortened(text: str) -> str:
    return json.dumps(text if len(text) <= SAMPLE_CHARS else f"{text[:SAMPLE_CHARS]}...", ensure_ascii=False)


@contextmanager
def _cancelled_if_interrupted(session: Session, stream: Stream) -> Iterator[None]:
    try:
        yield
    except SLMClientError:
        raise
    except BaseException:  # Ctrl-C, or nobody reads the output any more
        stream.close()
        if stream.job_id is not None:
            with suppress(SLMClientError):
                session.cancel(stream.job_id)
        raise
