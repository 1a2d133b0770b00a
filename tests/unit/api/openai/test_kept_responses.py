"""Responses that are kept: continuing them, listing their input, deleting them; and counting an input's tokens."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from common.errors import WorkerLost
from common.jobs.prompts import Conversation
from common.owners.api_keys import ApiKeyStore, Role
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import Seen
from tests.unit.api.openai.test_responses import TOOL, Json, background, calling, respond, stream_again

HI = {"role": "user", "content": "Hi"}
OK = {"role": "assistant", "content": "ok"}


def items_of(api: Api, response_id: str, **query: Any) -> TestResponse:
    return api.client.get(f"/v1/responses/{response_id}/input_items", query_string=query)


def test_a_response_continues_another_without_its_instructions(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    first = respond(api, instructions="Be brief").json
    assert first["previous_response_id"] is None
    second = respond(api, input="Well?", previous_response_id=first["id"], instructions="Be long").json
    respond(api, input=[HI], previous_response_id=second["id"])
    assert second["previous_response_id"] == first["id"]
    well = {"role": "user", "content": "Well?"}
    assert seen.params[1].prompt == Conversation(({"role": "system", "content": "Be long"}, HI, OK, well))
    assert seen.params[2].prompt == Conversation((HI, OK, well, OK, HI))


def test_the_result_of_a_call_continues_it(start_api: StartApi) -> None:
    prompts = []

    def script(play: Play) -> None:
        prompts.append(play.params.prompt)
        calling(play)

    api = start_api(script)
    first = respond(api, tools=[TOOL]).json
    call = first["output"][1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Rain"}
    second = respond(api, input=[result], previous_response_id=first["id"], tools=[TOOL], stream=True)
    second.get_data()
    called = {"id": call["call_id"], "type": "function", "function": {"name": "weather", "arguments": {}}}
    assert prompts[1].messages == (
        HI,
        {"role": "assistant", "content": "Well.", "tool_calls": [called]},
        {"role": "tool", "content": "Rain", "tool_call_id": call["call_id"]},
    )
    found = items_of(api, f"resp_{second.headers['X-Job-Id']}", order="asc").json["data"]
    kinds = ["message", "message", "function_call", "function_call_output"]
    assert [one["type"] for one in found] == kinds
    assert [one["content"][0] for one in found[:2]] == [
        {"type": "input_text", "text": "Hi"},
        {"type": "output_text", "text": "Well.", "annotations": [], "logprobs": []},
    ]
    assert {name: call[name] for name in call if name != "id"} == {
        name: value for name, value in found[2].items() if name != "id"
    }
    assert (found[3]["call_id"], found[3]["output"]) == (call["call_id"], "Rain")


def test_the_input_comes_in_pages(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    response_id = respond(api, input=[HI, OK, HI], instructions="Be brief").json["id"]
    newest = items_of(api, response_id).json
    oldest = items_of(api, response_id, order="asc").json
    assert newest["data"] == oldest["data"][::-1]
    assert [one["role"] for one in oldest["data"]] == ["user", "assistant", "user"]
    first = items_of(api, response_id, limit=2).json
    rest = items_of(api, response_id, limit=2, after=first["last_id"]).json
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert first["data"] + rest["data"] == newest["data"]
    assert len({one["id"] for one in newest["data"]}) == 3


@pytest.mark.parametrize(
    ("query", "param"), [({"order": "up"}, "order"), ({"limit": 0}, "limit"), ({"after": "x"}, "after")]
)
def test_a_wrong_query_is_refused_by_name(api: Api, query: Json, param: str) -> None:
    answer = items_of(api, respond(api).json["id"], **query)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_a_deleted_response_is_gone_with_its_job(api: Api) -> None:
    response_id = respond(api).json["id"]
    job = f"/slm/jobs/{response_id.removeprefix('resp_')}"
    assert api.client.get(job).status_code == 200
    deleted = api.client.delete(f"/v1/responses/{response_id}")
    assert deleted.json == {"id": response_id, "object": "response", "deleted": True}
    for path in (job, f"/v1/responses/{response_id}", f"/v1/responses/{response_id}/input_items"):
        assert api.client.get(path).status_code == 404
    assert api.client.delete(f"/v1/responses/{response_id}").status_code == 404
    assert response_id.removeprefix("resp_") not in str(api.client.get("/slm/jobs").json)


def test_deleting_frees_its_owner_s_room(api: Api, redis: Redis) -> None:
    response_id = respond(api).json["id"]
    assert int(redis.hvals("slm:owners:bytes")[0]) > 0
    api.client.delete(f"/v1/responses/{response_id}")
    assert redis.hvals("slm:owners:bytes") == ["0"]
    assert redis.hgetall("slm:jobs:bytes") == {}


def test_a_response_in_progress_is_cancelled_and_deleted(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    response_id = background(api)
    assert api.client.delete(f"/v1/responses/{response_id}").status_code == 200
    assert api.client.get(f"/v1/responses/{response_id}").status_code == 404


def test_what_continued_a_deleted_response_stays(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    first = respond(api).json["id"]
    second = respond(api, input="Well?", previous_response_id=first).json["id"]
    api.client.delete(f"/v1/responses/{first}")
    assert respond(api, previous_response_id=second).status_code == 200
    assert seen.params[2].prompt == Conversation((HI, OK, {"role": "user", "content": "Well?"}, OK, HI))


@pytest.mark.parametrize("way", ["unknown", "not stored", "somebody else's"])
def test_what_cannot_be_found_cannot_be_continued(start_api: StartApi, redis: Redis, way: str) -> None:
    api = start_api()
    response_id = "resp_x" if way == "unknown" else respond(api, store=way != "not stored").json["id"]
    headers = {"X-API-Key": ApiKeyStore(redis).create("someone", Role.USER)} if "else" in way else {}
    client = start_api().client  # it knows the key, if there is one
    body = {"input": "Hi", "previous_response_id": response_id}
    for path in ("/v1/responses", "/v1/responses/input_tokens"):
        answer = client.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json["error"]["param"]) == (404, "previous_response_id")
    assert client.delete(f"/v1/responses/{response_id}", headers=headers).status_code == 404
    assert client.get(f"/v1/responses/{response_id}/input_items", headers=headers).status_code == 404


def test_a_failed_response_has_no_answer_to_continue(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(WorkerLost("gone")))
    response_id = background(api)
    stream_again(api, response_id)
    answer = respond(api, previous_response_id=response_id)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "previous_response_id")
    assert "failed" in answer.json["error"]["message"]
    assert items_of(api, response_id).status_code == 404


def test_a_response_in_progress_has_no_answer_either(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    response_id = background(api)
    assert respond(api, previous_response_id=response_id).status_code == 400
    assert items_of(api, response_id).json["data"][0]["content"] == [{"type": "input_text", "text": "Hi"}]
    api.client.delete(f"/v1/responses/{response_id}")


def test_the_tokens_of_an_input_are_counted(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)

    def count(**body: Any) -> int:
        answer = api.client.post("/v1/responses/input_tokens", json={"input": "Hi"} | body)
        assert answer.json["object"] == "response.input_tokens"
        return int(answer.json["input_tokens"])

    first = respond(api).json["id"]
    assert count(previous_response_id=first) > count()
    assert count(instructions="Be brief") > count()
    assert count(tools=[TOOL]) > count(tools=[TOOL], tool_choice="none") == count()
    assert "'temperature' is not supported" in str(
        api.client.post("/v1/responses/input_tokens", json={"input": "Hi", "temperature": 1}).json
    )
