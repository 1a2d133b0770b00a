"""Turns the frames of an answer into the pages shown while it is generated."""

from __future__ import annotations

from slm_client import Finished, Frame, Queued, SLMClientError, Status, Text

from slm_bot.pages import split_pages

THINKING = "*Thinking …*"
NOTHING = "*The model said nothing.*"
STOPPED = "*Stopped.*"


class Transcript:
    """Takes frames and returns pages. `is_over`: no frame will change it any more."""

    def __init__(self) -> None:
        self.is_over = False
        self._text = ""
        self._notice = THINKING

    def take(self, frame: Frame) -> None:
        """Apply one frame."""
        match frame:
            case Queued(position=position, estimated_wait_s=wait_s):
                self._notice = _place(position, wait_s)
            case Status(line=line):
                self._notice = f"*{line}*"
            case Text(full_text=full_text):
                self._text = full_text
                self._notice = ""
            case Finished(was_cancelled=was_cancelled):
                self._end(STOPPED if was_cancelled else "" if self._text else NOTHING)

    def close(self) -> None:
        """End the transcript: no frame follows."""
        self.is_over = True

    def fail(self, error: SLMClientError) -> None:
        """End the transcript with an error instead of the (rest of the) answer."""
        self._end(f"*That did not work: {error}*")

    def pages(self) -> list[str]:
        """Return the current pages: at least one, and none of them empty."""
        return split_pages("\n\n".join(part for part in (self._text, self._notice) if part) or THINKING)

    def _end(self, notice: str) -> None:
        self._notice = notice
        self.is_over = True


def _place(position: int, wait_s: float | None) -> str:
    if position == 0:
        return THINKING
    wait = "" if wait_s is None else f" (about {wait_s:.0f} s)"
    return f"*Position in the queue: {position}{wait}*"
