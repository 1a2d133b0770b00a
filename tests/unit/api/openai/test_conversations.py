"""OpenAI's conversations: the messages that a conversation under /slm shows, as items."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import chat
from tests.unit.api.openai.test_tools import TOOLS, TWO

Json = dict[str, Any]
PATH = "/v1/conversations"
HI = {"role": "user", "content": "Hi"}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Paris"}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "Sunny"}


def created(api: Api, *items: Json) -> str:
    answer = api.client.post(PATH, json={"items": list(items), "metadata": {"a": "b"}})
    assert answer.status_code == 200, answer.text
    return str(answer.json["id"])


def items(api: Api, conversation: str, query: str = "order=asc") -> list[Json]:
    return list(api.client.get(f"{PATH}/{conversation}/items?{query}").json["data"])


def texts(found: list[Json]) -> list[str]:
    return [one["content"][0]["text"] for one in found]


def test_a_conversation_is_created_changed_and_deleted(shared_api: Api) -> None:
    conversation = created(shared_api, HI)
    path = f"{PATH}/{conversation}"
    shown = shared_api.client.get(path).json
    assert shown | {"created_at": 0} == {
        "id": conversation,
        "object": "conversation",
        "created_at": 0,
        "metadata": {"a": "b"},
    }
    assert shared_api.client.post(path, json={"metadata": {"c": "d"}}).json["metadata"] == {"c": "d"}
    gone = {"id": conversation, "object": "conversation.deleted", "deleted": True}
    assert shared_api.client.delete(path).json == gone
    missing = shared_api.client.get(path)
    assert (missing.status_code, missing.json["error"]["param"]) == (404, "conversation_id")


def test_every_kind_of_item_is_returned_as_it_was_sent(shared_api: Api) -> None:
    conversation = created(shared_api, HI)
    added = shared_api.client.post(f"{PATH}/{conversation}/items", json={"items": [CALL, OUTPUT]}).json
    [message, call, output] = items(shared_api, conversation)
    assert added["data"] == [call, output]
    assert message["content"] == [{"type": "input_text", "text": "Hi"}]
    assert {name: call[name] for name in CALL} == CALL
    assert {name: output[name] for name in OUTPUT} == OUTPUT
    for one in (message, call, output):
        assert shared_api.client.get(f"{PATH}/{conversation}/items/{one['id']}").json == one


def test_items_are_listed_in_pages_and_the_newest_come_first(shared_api: Api) -> None:
    conversation = created(shared_api, *(HI | {"content": text} for text in "abc"))
    page = shared_api.client.get(f"{PATH}/{conversation}/items?limit=2").json
    assert (texts(page["data"]), page["has_more"]) == (["c", "b"], True)
    page = shared_api.client.get(f"{PATH}/{conversation}/items?limit=2&after={page['last_id']}").json
    assert (texts(page["data"]), page["has_more"]) == (["a"], False)


def test_only_the_branch_that_is_shown_is_listed(shared_api: Api) -> None:
    conversation = created(shared_api, HI)
    shared_api.client.post(
        f"/slm/conversations/{conversation}/messages", json={"role": "user", "content": "Hey", "parent_id": None}
    )
    assert texts(items(shared_api, conversation)) == ["Hey"]


def test_an_item_is_deleted_and_those_after_it_are_kept(shared_api: Api) -> None:
    conversation = created(shared_api, *(HI | {"content": text} for text in "abc"))
    middle = items(shared_api, conversation)[1]["id"]
    path = f"{PATH}/{conversation}/items/{middle}"
    assert shared_api.client.delete(path).json["object"] == "conversation"
    assert texts(items(shared_api, conversation)) == ["a", "c"]
    missing = shared_api.client.delete(path)
    assert (missing.status_code, missing.json["error"]["param"]) == (404, "item_id")


def test_an_answer_with_calls_is_several_items(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.status("Generating response...", tool_form="hermes")
        play.end(f"Let me see. {TWO}")

    api = start_api(script)
    conversation = created(api, HI)
    job_id = chat(api, tools=TOOLS, conversation=conversation).headers["X-Job-Id"]
    [_, message, weather, now] = items(api, conversation)
    assert (message["id"], message["content"][0]["text"]) == (f"msg_{job_id}", "Let me see.")
    assert (weather["name"], weather["arguments"]) == ("weather", '{"city": "Paris"}')
    assert (now["id"], now["call_id"]) == (f"fc_{job_id}_1", f"call_{job_id}_1")
    assert api.client.get(f"{PATH}/{conversation}/items/{now['id']}").json == now


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("post", "", {"items": [HI] * 21}, "items"),
        ("post", "", {"items": [{"role": "user"}]}, "items[0].content"),
        ("post", "", {"metadata": {"a": 1}}, "metadata.a"),
        ("post", "", {"title": "x"}, "title"),
        ("post", "/{id}/items", {"items": []}, "items"),
        ("get", "/{id}/items?order=up", None, "order"),
        ("get", "/{id}/items?after=x", None, "after"),
    ],
    ids=["too_many", "content", "metadata", "unknown", "none", "order", "after"],
)
def test_a_wrong_request_is_explained(shared_api: Api, method: str, path: str, body: Any, param: str) -> None:
    where = PATH + path.replace("{id}", created(shared_api))
    answer = shared_api.client.open(where, method=method, json=body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_an_unknown_item_is_not_found(shared_api: Api) -> None:
    for item in ("x", f"msg_{uuid.UUID(int=0)}"):
        assert shared_api.client.get(f"{PATH}/{created(shared_api)}/items/{item}").status_code == 404
