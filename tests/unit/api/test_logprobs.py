"""How probable the tokens were: in the answer, in the job and in the stream's frames."""

from __future__ import annotations

from typing import Any

from common.jobs.logprobs import ScoredToken, TokenLogprobs
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi, data_of

ONCE = TokenLogprobs(ScoredToken(7, b"Once", -0.25), (ScoredToken(7, b"Once", -0.25), ScoredToken(9, b" A", -2.0)))
HALF = TokenLogprobs(ScoredToken(200, b"\xc3", -1.0), (ScoredToken(201, b"\xe6", -0.5),))
OTHER_HALF = TokenLogprobs(ScoredToken(202, b"\xa9", -0.0000001))
ONCE_SCORED = {
    "token": "Once",
    "token_id": 7,
    "logprob": -0.25,
    "top": [
        {"token": "Once", "token_id": 7, "logprob": -0.25},
        {"token": " A", "token_id": 9, "logprob": -2.0},
    ],
}
E_SCORED = [
    {
        "token": "\ufffd",
        "token_id": 200,
        "logprob": -1.0,
        "bytes": [195],
        "top": [{"token": "\ufffd", "token_id": 201, "logprob": -0.5, "bytes": [230]}],
    },
    {"token": "\ufffd", "token_id": 202, "logprob": 0.0, "bytes": [169], "top": []},
]


def script(play: Play) -> None:
    play.tell("Once", ONCE)
    play.tell("é", HALF, OTHER_HALF)
    play.end("", logprobs=())


def test_the_answer_describes_every_token(start_api: StartApi) -> None:
    api = start_api(script)

    answer = api.generate(logprobs=2)

    assert answer.json["logprobs"] == [ONCE_SCORED, *E_SCORED]
    assert answer.json["settings"]["logprobs"] == 2
    assert api.job(answer.json["job_id"])["result"]["logprobs"] == [ONCE_SCORED, *E_SCORED]


def test_every_frame_describes_its_own_tokens(start_api: StartApi) -> None:
    found = [data.get("logprobs") for data in data_of(start_api(script).stream(logprobs=2).get_data(as_text=True))]

    assert found == [[ONCE_SCORED], E_SCORED, [], None]


def test_log_probabilities_are_only_returned_on_request(start_api: StartApi) -> None:
    api = start_api()

    frames: list[dict[str, Any]] = data_of(api.stream().get_data(as_text=True))

    assert not any("logprobs" in frame for frame in frames)
    assert "logprobs" not in api.generate().json
