"""A late reader gets the existing events in few frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.jobs.replay import FEW, Replay
from common.jobs import events
from common.jobs.event_log import READ_CHUNK
from common.jobs.events import Event
from common.jobs.job import JobState
from common.jobs.logprobs import ScoredToken, TokenLogprobs
from tests.api_in_process import Api, api_in_process
from tests.fake_redis import fake_redis
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi, frames

NUM_TOKENS = 5000
END = events.finished(NUM_TOKENS, JobState.SUCCEEDED, "stop", "cpu")


def token(seq: int) -> Event:
    return events.token(seq, f"{seq} ", [seq])


def given(replay: Replay, *past: Event) -> list[Event]:
    return [one for event in past for one in replay.take(event)]


def test_a_few_events_are_returned_unchanged() -> None:
    past = [*map(token, range(FEW - 1)), events.finished(FEW - 1, JobState.SUCCEEDED)]
    assert given(Replay(-1, FEW), *past) == past


def test_many_events_are_merged_without_loss() -> None:
    past = [events.status(0, "Generating"), *map(token, range(1, NUM_TOKENS)), END]
    few = given(Replay(-1, len(past)), *past)
    assert len(few) < 10
    assert (few[0], few[-1]) == (past[0], END)
    assert events.committed(few) == events.committed(past)
    assert [event.seq for event in few] == sorted({event.seq for event in few})
    assert few[-2].seq == NUM_TOKENS - 1


def test_repetition_is_limited_by_the_answers_length() -> None:
    few = given(Replay(-1, NUM_TOKENS), *map(token, range(NUM_TOKENS)))
    assert sum(event.seq for event in few) < 3 * NUM_TOKENS


def test_new_events_are_returned_token_by_token() -> None:
    replay = Replay(-1, 100)
    assert len(given(replay, *map(token, range(100)))) == 1
    assert given(replay, token(100), token(101)) == [token(100), token(101)]


def test_another_event_ends_a_merged_one_and_keeps_its_position() -> None:
    past = [*map(token, range(70)), events.status(70, "Generating again"), *map(token, range(71, 140))]
    few = given(Replay(-1, 140), *past)
    assert [event.seq for event in few] == [69, 70, 139]


def test_a_pulse_returns_held_events() -> None:
    """The log may be shorter than expected: Redis has lost the rest."""
    replay = Replay(-1, 200)
    assert given(replay, token(0), token(1)) == []
    assert replay.take(None) == [events.merged([token(0), token(1)]), None]


def test_seen_events_are_not_merged_with_new_ones() -> None:
    """Redis had lost the end of the log, and another attempt has written it again."""
    seen, new = [*map(token, range(10, 100))], [*map(token, range(100, 300))]
    assert given(Replay(99, 300), *seen, *new) == [*seen, events.merged(new)]


def test_log_probabilities_are_not_held_for_long() -> None:
    scored = [TokenLogprobs(ScoredToken(1, b"a", -0.5))]
    past = [events.token(seq, "a", [seq], logprobs=scored) for seq in range(4 * READ_CHUNK)]
    few = given(Replay(-1, len(past)), *past)
    assert [len(event.data["logprobs"]) for event in few] == [READ_CHUNK] * 4


@pytest.fixture(scope="module")
def long_job() -> Iterator[tuple[Api, str]]:
    """An API, and a job whose long answer is complete."""

    def script(play: Play) -> None:
        play.status("Generating response...")
        play.say(*(f"t{number} " for number in range(NUM_TOKENS)))
        play.end("end")

    with api_in_process(fake_redis(), script) as api:
        job_id = api.submit()
        api.finish(job_id)
        yield api, job_id


TEXT = "".join(f"t{number} " for number in range(NUM_TOKENS)) + "end"


def replayed(api: Api, job_id: str, seen: int | None = None) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    headers = {} if seen is None else {"Last-Event-ID": str(seen)}
    raw = api.client.get(f"/slm/jobs/{job_id}/stream", headers=headers).get_data(as_text=True)
    return frames(raw), len(raw)


def test_the_cost_of_a_replay_is_linear_in_its_answer(long_job: tuple[Api, str]) -> None:
    found, size = replayed(*long_job)
    texts = [data for _, data in found if "text" in data]
    assert "".join(data["text"] for data in texts) == TEXT
    assert texts[-1] == {"text": texts[-1]["text"], "full_text": TEXT, "is_complete": True}
    assert len(found) < 10
    assert size < 5 * len(json.dumps(TEXT))


def test_a_reader_can_resume_after_any_frame(long_job: tuple[Api, str]) -> None:
    everything, _ = replayed(*long_job)
    read = ""
    for number, data in everything[:-1]:
        read += data.get("text", "")
        rest, _ = replayed(*long_job, seen=number)
        assert read + "".join(later.get("text", "") for _, later in rest) == TEXT


@pytest.mark.parametrize("seen", [0, 1, 2, 700, NUM_TOKENS - 3, NUM_TOKENS])
def test_a_reader_can_resume_in_the_middle_of_a_frame(long_job: tuple[Api, str], seen: int) -> None:
    rest, _ = replayed(*long_job, seen=seen)
    text = "".join(data.get("text", "") for _, data in rest)
    assert TEXT.endswith(text)
    assert len(TEXT) - len(text) == len("".join(f"t{number} " for number in range(seen)))
    assert [data["full_text"] for _, data in rest if "full_text" in data][-1] == TEXT


def test_a_repeat_under_an_idempotency_key_is_a_replay(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say(*(f"t{number} " for number in range(NUM_TOKENS)))
        play.end("end")

    api = start_api(script)
    wanted: dict[str, Any] = {"json": {"prompt": "Hi"}, "headers": {"Idempotency-Key": "k"}}
    api.client.post("/slm/stream", **wanted).get_data()
    again = frames(api.client.post("/slm/stream", **wanted).get_data(as_text=True))
    assert len(again) < 10
    assert "".join(data.get("text", "") for _, data in again) == TEXT
