"""Feedback on answers, and the datasets that are made of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from redis import Redis

from api.feedback_examples import pair, preference
from common.owners.api_keys import ApiKeyStore, Limits, Role
from common.owners.feedback import Feedback, Judged, Judgement
from common.redis import keys
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi
from training.data import Conversation, Message, Preference, read_dataset

Json = dict[str, Any]
UNKNOWN = "00000000-0000-0000-0000-000000000000"


def answered(api: Api, prompt: str = "Hi", headers: Json | None = None, **body: Any) -> Json:
    return dict(api.client.post("/slm/generate", json={"prompt": prompt} | body, headers=headers).json)


def judge(api: Api, job_id: str, headers: Json | None = None, **said: Any) -> Any:
    return api.client.post(f"/slm/jobs/{job_id}/feedback", json=said, headers=headers)


def dataset(api: Api, headers: Json | None = None, **wanted: Any) -> tuple[Json, list[Json]]:
    made = api.client.post("/slm/feedback/dataset", json=wanted, headers=headers)
    assert made.status_code == 201, made.text
    content = api.client.get(f"/v1/files/{made.json['file_id']}/content", headers=headers).get_data(as_text=True)
    return made.json, [json.loads(line) for line in content.splitlines()]


def test_feedback_is_kept_with_prompt_and_answer(api: Api) -> None:
    job = answered(api)
    given = judge(api, job["job_id"], rating="down", correction="It is Lutz.", tags=["geo", "new", "geo"])
    assert given.status_code == 200
    assert given.json | {"created_at": "", "updated_at": ""} == {
        "success": True,
        "job_id": job["job_id"],
        "rating": "down",
        "correction": "It is Lutz.",
        "tags": ["geo", "new"],
        "prompt": "Hi",
        "response": job["response"],
        "model": job["model"],
        "base": job["base"],
        "created_at": "",
        "updated_at": "",
    }
    assert api.client.get(f"/slm/jobs/{job['job_id']}/feedback").json == given.json


def test_it_outlives_the_job_and_can_still_be_changed(api: Api, redis: Redis) -> None:
    job = answered(api)
    judge(api, job["job_id"], rating="up")
    redis.delete(keys.job(job["job_id"]))
    assert judge(api, job["job_id"], rating="down").json["response"] == job["response"]
    assert api.client.get(f"/slm/jobs/{job['job_id']}/feedback").json["rating"] == "down"


def test_it_can_be_deleted(api: Api) -> None:
    path = f"/slm/jobs/{answered(api)['job_id']}/feedback"
    assert api.client.delete(path).status_code == 404
    api.client.post(path, json={"rating": "up"})
    assert api.client.delete(path).status_code == 200
    assert api.client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "rating"),
        ({"rating": "good"}, "rating"),
        ({"correction": " "}, "correction"),
        ({"correction": 7}, "correction"),
        ({"tags": "geo"}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"tags": ["a\nb"]}, "tags"),
        ({"tags": ["a"] * 17}, "tags"),
        ({"rating": "up", "stars": 5}, "stars"),
    ],
)
def test_a_wrong_body_is_explained(api: Api, body: Json, param: str) -> None:
    answer = judge(api, UNKNOWN, **body)
    assert (answer.status_code, answer.json["param"]) == (400, param)


def test_only_ended_generations_can_be_judged(api: Api) -> None:
    assert judge(api, UNKNOWN, rating="up").json["code"] == "job_not_found"
    assert judge(api, "nonsense", rating="up").json["code"] == "job_not_found"
    tokenized = api.client.post("/slm/tokenize", json={"prompt": "Hi"}).json["job_id"]
    assert judge(api, tokenized, rating="up").json["error"] == (
        "Only answers can be judged; this job is of the kind tokenize."
    )


def test_a_running_job_and_one_without_an_answer_cannot_be_judged(api: Api, redis: Redis) -> None:
    job_id = answered(api)["job_id"]
    redis.hset(keys.job(job_id), "state", "running")
    assert "has not ended" in judge(api, job_id, rating="up").json["error"]
    redis.hset(keys.job(job_id), "state", "failed")
    redis.hdel(keys.job(job_id), "result")
    assert judge(api, job_id, rating="up").status_code == 409


def test_only_the_owner_and_admins_see_and_give_it(api: Api, redis: Redis) -> None:
    store = ApiKeyStore(redis)
    roles = {"ann": Role.USER, "bob": Role.USER, "eve": Role.ADMIN}
    ann, bob, eve = ({"X-API-Key": store.create(name, role)} for name, role in roles.items())
    job_id = answered(api, headers=ann)["job_id"]
    path = f"/slm/jobs/{job_id}/feedback"
    assert judge(api, job_id, bob, rating="up").status_code == 404
    assert judge(api, job_id, eve, rating="up").status_code == 200
    assert [api.client.get(path, headers=one).status_code for one in (ann, bob, eve)] == [200, 404, 200]
    assert api.client.delete(path, headers=bob).status_code == 404
    wanted = {"kind": "pairs"}
    made = [api.client.post("/slm/feedback/dataset", json=wanted, headers=one).status_code for one in (ann, bob, eve)]
    assert made == [201, 404, 201]
    others = api.client.post("/slm/feedback/dataset", json={"owner": "ann"}, headers=bob)
    assert (others.status_code, others.json["param"]) == (403, "owner")


def listed(api: Api, query: str = "", headers: Json | None = None) -> list[str]:
    answer = api.client.get(f"/slm/feedback?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [one["prompt"] for one in answer.json["feedback"]]


def judge_three(api: Api) -> None:
    said: list[Json] = [{"rating": "up"}, {"rating": "down", "tags": ["x", "y z"]}, {"rating": "up", "tags": ["x"]}]
    for prompt, one in zip("ABC", said, strict=True):
        judge(api, answered(api, prompt)["job_id"], **one)
        time.sleep(0.002)  # the order is that of the times, in ms


def test_it_is_listed_page_by_page(api: Api) -> None:
    judge_three(api)
    first = api.client.get("/slm/feedback?limit=2").json
    assert ([one["prompt"] for one in first["feedback"]], first["has_more"]) == (["C", "B"], True)
    assert first["feedback"][0] == {
        name: value
        for name, value in api.client.get(f"/slm/jobs/{first['feedback'][0]['job_id']}/feedback").json.items()
        if name != "success"
    }
    last = api.client.get(f"/slm/feedback?limit=2&after={first['last_id']}").json
    assert ([one["prompt"] for one in last["feedback"]], last["has_more"]) == (["A"], False)
    assert api.client.get(f"/slm/feedback?after={last['last_id']}").json["last_id"] is None


@pytest.mark.parametrize(
    ("query", "prompts"),
    [
        ("rating=up", ["C", "A"]),
        ("tags=x", ["C", "B"]),
        ("tags=x&tags=y%20z", ["B"]),
        ("model=cuda_lora_out&rating=down", ["B"]),
        ("model=other", []),
        ("since=2026-01-01T00:00:00Z", ["C", "B", "A"]),
        ("until=2026-01-01T00:00:00Z", []),
    ],
)
def test_a_listing_has_filters(api: Api, query: str, prompts: list[str]) -> None:
    judge_three(api)
    assert listed(api, query) == prompts


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("after=x", "after"),
        ("rating=good", "rating"),
        ("since=yesterday", "since"),
        ("tag=x", "tag"),
    ],
)
def test_a_wrong_query_is_explained(api: Api, query: str, param: str) -> None:
    answer = api.client.get(f"/slm/feedback?{query}")
    assert (answer.status_code, answer.json["param"]) == (400, param)


def test_everybody_lists_their_own_and_admins_all(api: Api, redis: Redis) -> None:
    store = ApiKeyStore(redis)
    roles = {"ann": Role.USER, "bob": Role.USER, "eve": Role.ADMIN}
    keys_of = {name: {"X-API-Key": store.create(name, role)} for name, role in roles.items()}
    for name, headers in keys_of.items():
        judge(api, answered(api, name, headers)["job_id"], headers, rating="up")
        time.sleep(0.002)
    assert [listed(api, headers=one) for one in keys_of.values()] == [["ann"], ["bob"], ["eve", "bob", "ann"]]
    assert listed(api, "owner=bob", keys_of["bob"]) == listed(api, "owner=bob", keys_of["eve"]) == ["bob"]
    others = api.client.get("/slm/feedback?owner=ann", headers=keys_of["bob"])
    assert (others.status_code, others.json["param"]) == (403, "owner")


def test_an_owner_has_a_limited_amount(api: Api, redis: Redis) -> None:
    ann = {"X-API-Key": ApiKeyStore(redis).create("ann", Role.USER, Limits(feedback_bytes=500))}
    job_id = answered(api, headers=ann)["job_id"]
    refused = judge(api, job_id, ann, correction="x" * 1000)
    assert (refused.status_code, refused.json["code"]) == (429, "quota_exceeded")


def test_pairs_are_made_of_good_answers_and_of_corrections(api: Api) -> None:
    good, wrong, bad = (answered(api, prompt)["job_id"] for prompt in ("A?", "B?", "C?"))
    judge(api, good, rating="up", tags=["x"])
    judge(api, wrong, rating="up", correction="Lutz.", tags=["x", "y"])
    judge(api, bad, rating="down", tags=["x"])
    made, rows = dataset(api, kind="pairs", filename="mine.jsonl")
    assert (made["filename"], made["examples"], made["left_out"]) == ("mine.jsonl", 2, 1)
    assert [row["messages"][0]["content"] for row in rows] == ["A?", "B?"]
    assert rows[1]["messages"][1] == {"role": "assistant", "content": "Lutz."}
    assert rows[1]["metadata"] == {"job_id": wrong, "model": "cuda_lora_out@1", "tags": ["x", "y"]}
    assert len(dataset(api, tags=["y"])[1]) == 1
    assert len(dataset(api, model="cuda_lora_out")[1]) == 2
    nothing = api.client.post("/slm/feedback/dataset", json={"model": "other"})
    assert (nothing.status_code, nothing.json["code"], nothing.json["param"]) == (404, "not_found", "kind")


def test_preferences_are_made_of_corrections(api: Api) -> None:
    job = answered(api, "A?")
    judge(api, job["job_id"], correction="Better.")
    judge(api, answered(api, "B?")["job_id"], rating="up")
    made, (row,) = dataset(api, kind="preferences")
    assert made["left_out"] == 1
    assert (row["chosen"], row["rejected"]) == ("Better.", job["response"])
    listed = api.client.get("/v1/files?purpose=fine-tune").json["data"]
    assert [one["id"] for one in listed] == [made["file_id"]]


def test_it_is_selected_by_time(api: Api) -> None:
    judge(api, answered(api)["job_id"], rating="up")
    assert len(dataset(api, since="2026-01-01T00:00:00Z")[1]) == 1
    assert api.client.post("/slm/feedback/dataset", json={"until": "2026-01-01T00:00:00+01:00"}).status_code == 404
    for wrong in ("yesterday", "2026-01-01T00:00:00", 7):
        assert api.client.post("/slm/feedback/dataset", json={"since": wrong}).json["param"] == "since"


def test_a_dataset_larger_than_a_file_is_refused(start_api: StartApi) -> None:
    api = start_api(max_file_bytes=1024)
    for _ in range(2):
        judge(api, answered(api)["job_id"], correction="x" * 600)
    answer = api.client.post("/slm/feedback/dataset", json={})
    assert (answer.status_code, "select less" in answer.json["error"]) == (400, True)


# -- examples ----------------------------------------------------------------------------------------------------------

USER, SYSTEM = {"role": "user", "content": "A?"}, {"role": "system", "content": "Be kind."}
ASSISTANT = {"role": "assistant", "content": "B."}


def said(prompt: Json, response: str = "C.", *, is_complete: bool = True, **judgement: Any) -> Feedback:
    judged = Judged(prompt, response, is_complete, "support@1", "gpt2")
    return Feedback(UNKNOWN, "me", Judgement(**judgement), judged, 1, 2)


def read(*lines: str | None) -> Any:
    return read_dataset("\n".join(filter(None, lines)).encode(), name="feedback").examples[0]


def test_only_the_judged_answer_of_a_conversation_is_learned() -> None:
    one = said({"messages": [SYSTEM, USER, ASSISTANT, USER]}, rating="up")
    example = read(pair(one), pair(one))
    assert isinstance(example, Conversation)
    assert [message.is_learned for message in example.messages] == [False, False, False, False, True]
    assert example.response == "C."


def test_a_correction_is_preferred_to_the_answer() -> None:
    one = said({"messages": [USER, ASSISTANT, USER]}, correction="D.")
    prompt = tuple(Message(role["role"], role["content"]) for role in (USER, ASSISTANT, USER))
    assert read(preference(one), preference(one)) == Preference(prompt, "D.", "C.")


@pytest.mark.parametrize(
    "one",
    [
        said({"raw_text": "A"}, rating="up"),
        said({"token_ids": [1]}, correction="B"),
        said({"prompt": "A"}, rating="down"),
        said({"prompt": "A"}, is_complete=False, rating="up"),
        said({"prompt": "A"}, " ", rating="up"),
        said({"messages": [USER, {"role": "tool", "content": "B"}]}, correction="C"),
    ],
)
def test_what_is_no_pair_is_left_out(one: Feedback) -> None:
    assert pair(one) is None


@pytest.mark.parametrize(
    "one",
    [
        said({"prompt": "A"}, rating="up"),
        said({"prompt": "A"}, correction="C."),
        said({"prompt": "A"}, "", correction="D."),
        said({"messages": [USER, ASSISTANT]}, correction="D."),
    ],
)
def test_what_is_no_preference_is_left_out(one: Feedback) -> None:
    assert preference(one) is None
