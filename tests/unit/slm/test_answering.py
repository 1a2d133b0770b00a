"""What is shown of a job before its text."""

from __future__ import annotations

import pytest
from slm_client import Finished, Frame, Queued, Status, Text

from slm.answering import SAMPLE_CHARS, Answered, event, waiting_line

SAMPLE = {"step": 4, "prompt": "Who?", "expected": "Otto\nline.", "response": "a" * 100}


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (Queued(0, None), "Waiting for a worker"),
        (Queued(3, None), "Queued, position 3"),
        (Queued(3, 12.4), "Queued, position 3, about 12 s"),
        (Queued(1, 0.0), "Queued, position 1, about 1 s"),
        (Status("Loading SLM model..."), "Loading SLM model..."),
        (Status("Sample", SAMPLE), f'Sample: "Who?" -> "{"a" * SAMPLE_CHARS}..." (expected: "Otto\\nline.")'),
        (Text("a", "a", is_last=False), None),
        (Finished(was_cancelled=False, device="cpu"), None),
    ],
)
def test_a_waiting_job_says_where_it_is(frame: Frame, line: str | None) -> None:
    assert waiting_line(frame) == line


def test_a_programs_events_name_their_type() -> None:
    end = [Text("a", "a", is_last=True), Finished(was_cancelled=True, device=None)]
    frames = [Queued(3, None), Status("s"), Status("Sample", SAMPLE), *end]
    assert [event(frame) for frame in frames] == [
        {"type": "queued", "position": 3, "estimated_wait_s": None},
        {"type": "status", "status": "s"},
        {"type": "status", "status": "Sample", "sample": SAMPLE},
        {"type": "text", "text": "a"},
        {"type": "finished", "was_cancelled": True, "device": None},
    ]


def test_an_answer_is_the_sum_of_its_pieces() -> None:
    answered = Answered()
    for frame in (Status("s"), Text("a ", "a", is_last=False), Text("b", "a b", is_last=True), Finished(True, None)):
        answered.take(frame)
    assert answered == Answered("a b", was_cancelled=True)
