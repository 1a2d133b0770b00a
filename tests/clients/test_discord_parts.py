"""The parts of the Discord bot that need no Discord."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_bot.in_flight import Busy, InFlight
from slm_bot.pages import MESSAGE_CHARS, split_pages
from slm_bot.relay import relay
from slm_bot.transcript import Transcript
from slm_client import ConnectionLost, Finished, Frame, Queued, Status, Text

END = Finished(was_cancelled=False, device="cpu")
MARKDOWN = st.lists(st.sampled_from(["word ", "\n", "\n\n", "  ", "```python\n", "```\n", "x" * 700, "y" * 2500, "ä"]))


@given(MARKDOWN.map("".join).map(str.strip).filter(bool))
def test_pages_are_messages_that_discord_accepts_and_nothing_is_lost(text: str) -> None:
    pages = split_pages(text)
    assert all(0 < len(page) <= MESSAGE_CHARS and page.strip() for page in pages)
    assert re.sub(r"\s|```(python)?", "", "".join(pages)) == re.sub(r"\s|```(python)?", "", text)
    if len(pages) > 1:
        assert all(page.count("```") % 2 == 0 for page in pages[:-1])


@given(MARKDOWN.map("".join).map(str.strip).filter(bool), MARKDOWN.map("".join).map(str.rstrip))
def test_a_full_page_stays_as_it_is_when_the_text_grows(text: str, more: str) -> None:
    before, after = split_pages(text), split_pages((text + more).strip())
    assert after[: len(before) - 1] == before[:-1]


def test_a_page_ends_where_a_paragraph_does() -> None:
    first, second = "a " * 700 + "end.", "b " * 700
    assert split_pages(f"{first}\n\n{second}".strip()) == [first, second.strip()]


def test_a_code_block_continues_in_its_language() -> None:
    code = "```python\n" + "print(1)\n" * 300 + "```"
    first, second = split_pages(code)
    assert first.endswith("print(1)\n```")
    assert second.startswith("```python\nprint(1)")


def test_a_transcript_shows_the_progress_until_there_is_text() -> None:
    transcript = Transcript()
    said = [transcript.pages()]
    for frame in (
        Queued(3, 12.4),
        Queued(1, None),
        Queued(0, None),
        Status("Loading SLM model..."),
        Text("a", "a", False),
    ):
        transcript.take(frame)
        said.append(transcript.pages())
    thinking = ["*Thinking …*"]
    place = ["*Position in the queue: 3 (about 12 s)*"], ["*Position in the queue: 1*"]
    assert said == [thinking, *place, thinking, ["*Loading SLM model...*"], ["a"]]


@pytest.mark.parametrize(
    ("frames", "page"),
    [
        ([Text("a", "a", True), END], "a"),
        ([END], "*The model said nothing.*"),
        ([Text("a", "a", False), Finished(was_cancelled=True, device=None)], "a\n\n*Stopped.*"),
    ],
)
def test_a_transcript_ends_with_the_outcome(frames: list[Frame], page: str) -> None:
    transcript = Transcript()
    for frame in frames:
        transcript.take(frame)
    assert transcript.is_over
    assert transcript.pages() == [page]


def test_each_user_has_one_question_in_flight() -> None:
    in_flight = InFlight()
    with in_flight.reserve(1), in_flight.reserve(2), pytest.raises(Busy), in_flight.reserve(1):
        pass
    with in_flight.reserve(1):
        pass


class FakeStream:
    """Yields its frames and lets others run in between; then raises the error, if there is one."""

    job_id = "job-1"

    def __init__(self, *frames: Frame, failure: Exception | None = None) -> None:
        self.is_closed = False
        self._frames = frames
        self._failure = failure

    async def __aiter__(self) -> AsyncIterator[Frame]:
        for frame in self._frames:
            yield frame
            await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure

    async def aclose(self) -> None:
        self.is_closed = True


class FakeScreen:
    """Keeps the texts that it was shown."""

    def __init__(self, *, failure: Exception | None = None) -> None:
        self.shown: list[tuple[list[str], str | None]] = []
        self._failure = failure

    async def show(self, pages: list[str], job_id: str | None) -> None:
        self.shown.append((pages, job_id))
        if self._failure is not None:
            raise self._failure


def relayed(stream: FakeStream, screen: FakeScreen) -> list[float]:
    """The pauses between the texts shown: each gives the stream time for ten frames."""
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(relay(stream, screen, every_s=1.2, sleep=sleep))
    return pauses


def test_frames_that_arrive_faster_than_allowed_edits_are_shown_together() -> None:
    frames = [Text("a", "a" * number, False) for number in range(1, 96)]
    stream, screen = FakeStream(*frames, END), FakeScreen()
    pauses = relayed(stream, screen)
    assert len(screen.shown) <= 12
    assert pauses == [1.2] * (len(screen.shown) - 1)
    assert screen.shown[-1] == (["a" * 95], None)
    assert {job_id for _, job_id in screen.shown[:-1]} == {"job-1"}
    assert stream.is_closed


@pytest.mark.parametrize(
    ("stream", "page"),
    [
        (FakeStream(Text("a", "a", False), failure=ConnectionLost("gone")), "a\n\n*That did not work: gone*"),
        (FakeStream(Text("a", "a", False)), "a"),
    ],
)
def test_a_stream_that_ends_without_a_final_frame_is_over(stream: FakeStream, page: str) -> None:
    screen = FakeScreen()
    relayed(stream, screen)
    assert screen.shown[-1] == ([page], None)


@pytest.mark.parametrize(
    ("stream", "screen"),
    [
        (FakeStream(Status("x"), END), FakeScreen(failure=ZeroDivisionError())),
        (FakeStream(Status("x"), failure=ZeroDivisionError()), FakeScreen()),
    ],
)
def test_an_unexpected_error_is_raised_and_closes_the_stream(stream: FakeStream, screen: FakeScreen) -> None:
    with pytest.raises(ZeroDivisionError):
        relayed(stream, screen)
    assert stream.is_closed
