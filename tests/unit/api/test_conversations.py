"""The routes of conversations, and generations that keep their answer in one."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from redis import Redis

from common.owners.api_keys import ApiKeyStore, Role
from common.redis import keys
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi

Json = dict[str, Any]
PATH = "/slm/conversations"
UNKNOWN = f"conv_{uuid.UUID(int=0)}"
UNKNOWN_MESSAGE = f"msg_{uuid.UUID(int=0)}"


def created(api: Api, headers: Json | None = None, **about: Any) -> str:
    answer = api.client.post(PATH, json=about, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def say(api: Api, conversation: str, content: str = "Hi", **more: Any) -> str:
    answer = api.client.post(f"{PATH}/{conversation}/messages", json={"role": "user", "content": content} | more)
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def read(api: Api, conversation: str) -> Json:
    return dict(api.client.get(f"{PATH}/{conversation}").json)


def shown(thread: Json) -> list[str]:
    """The texts on the path to the leaf."""
    by_id, path, at = {one["id"]: one for one in thread["messages"]}, [], thread["leaf_id"]
    while at is not None:
        path.append(by_id[at]["content"])
        at = by_id[at]["parent_id"]
    return path[::-1]


# -- generations -------------------------------------------------------------------------------------------------------

GENERATIONS: dict[str, tuple[str, Json]] = {
    "generate": ("/slm/generate", {"prompt": "Hi"}),
    "stream": ("/slm/stream", {"prompt": "Hi"}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    "chat_stream": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "stream": True}),
    "completion": ("/v1/completions", {"prompt": "Hi"}),
}


@pytest.mark.parametrize("name", GENERATIONS)
def test_a_generation_keeps_its_answer(shared_api: Api, name: str) -> None:
    path, body = GENERATIONS[name]
    conversation = created(shared_api)
    question = say(shared_api, conversation)
    answer = shared_api.client.post(path, json=body | {"conversation": conversation})
    answer.get_data()
    thread = read(shared_api, conversation)
    assert shown(thread) == ["Hi", "Once upon a time."]
    [_, message] = thread["messages"]
    assert message["id"] == f"msg_{answer.headers['X-Job-Id']}"
    assert (message["parent_id"], message["status"], message["finish_reason"]) == (question, "completed", "stop")
    assert (message["job_id"], message["usage"]["completion_tokens"]) == (answer.headers["X-Job-Id"], 3)


def test_choices_are_branches_after_the_same_question(api: Api) -> None:
    conversation = created(api)
    question = say(api, conversation)
    body = GENERATIONS["chat"][1] | {"n": 2, "conversation": {"id": conversation, "parent_id": question}}
    assert api.client.post("/v1/chat/completions", json=body).status_code == 200
    answers = [one for one in read(api, conversation)["messages"] if one["role"] == "assistant"]
    assert [one["parent_id"] for one in answers] == [question, question]


def test_the_answer_goes_on_without_its_client_and_outlives_its_job(start_api: StartApi, redis: Redis) -> None:
    api = start_api(Play.run_until_cancelled)
    conversation = created(api)
    say(api, conversation)
    stream = api.stream(conversation=conversation)
    job_id = stream.headers["X-Job-Id"]
    [_, running] = read(api, conversation)["messages"]
    assert (running["status"], running["content"], running["job_id"]) == ("in_progress", "", job_id)
    assert redis.hget(keys.job(job_id), "reader_ms") is None
    api.client.delete(f"/slm/jobs/{job_id}")
    stream.get_data()
    redis.delete(keys.job(job_id), keys.log(job_id))
    [_, ended] = read(api, conversation)["messages"]
    assert (ended["status"], ended["job_id"]) == ("incomplete", job_id)


def test_a_client_can_still_want_its_job_to_end_with_it(api: Api, redis: Redis) -> None:
    body = {"conversation": created(api), "on_disconnect": "cancel"}
    job_id = api.generate(**body).json["job_id"]
    assert redis.hget(keys.job(job_id), "reader_ms") is not None


@pytest.mark.parametrize(
    ("place", "status", "param"),
    [
        ("abc", 400, "conversation"),
        (7, 400, "conversation"),
        ({"parent_id": UNKNOWN_MESSAGE}, 400, "conversation"),
        ({"id": UNKNOWN, "x": 1}, 400, "conversation"),
        (UNKNOWN, 404, "conversation"),
    ],
    ids=["form", "type", "no_id", "field", "unknown"],
)
def test_a_wrong_conversation_is_refused(shared_api: Api, place: Any, status: int, param: str) -> None:
    answer = shared_api.generate(conversation=place)
    assert (answer.status_code, answer.json["param"]) == (status, param)


def test_an_unknown_parent_is_refused(shared_api: Api) -> None:
    conversation = created(shared_api)
    answer = shared_api.generate(conversation={"id": conversation, "parent_id": UNKNOWN_MESSAGE})
    assert (answer.status_code, answer.json["param"]) == (404, "conversation")
    assert read(shared_api, conversation)["messages"] == []


def test_what_is_not_to_be_stored_is_not_kept(shared_api: Api) -> None:
    body = GENERATIONS["chat"][1] | {"store": False, "conversation": created(shared_api)}
    answer = shared_api.client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "store")


def test_an_answer_from_before_can_be_kept(shared_api: Api) -> None:
    job_id = shared_api.generate().json["job_id"]
    conversation = created(shared_api)
    answer = shared_api.client.post(
        f"{PATH}/{conversation}/messages", json={"role": "assistant", "job_id": job_id, "parent_id": None}
    )
    assert (answer.status_code, answer.json["content"]) == (201, "Once upon a time.")


def test_what_is_sent_again_with_the_same_key_is_done_once(shared_api: Api) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first, second = (shared_api.client.post(PATH, json={"title": "A"}, headers=key).json["id"] for _ in range(2))
    assert first == second
    said = {"role": "user", "content": "Hi"}
    ids = [shared_api.client.post(f"{PATH}/{first}/messages", json=said, headers=key).json["id"] for _ in range(2)]
    assert [one["id"] for one in read(shared_api, first)["messages"]] == ids[:1]


# -- branches ----------------------------------------------------------------------------------------------------------


def test_edit_and_send_again_then_change_back(shared_api: Api) -> None:
    conversation = created(shared_api)
    say(shared_api, conversation, "Hi")
    first = say(shared_api, conversation, "Hello", role="assistant")
    say(shared_api, conversation, "Hey", parent_id=None)
    assert shown(read(shared_api, conversation)) == ["Hey"]
    shared_api.client.patch(f"{PATH}/{conversation}", json={"leaf_id": first})
    assert shown(read(shared_api, conversation)) == ["Hi", "Hello"]


def test_a_message_is_rated_edited_and_deleted(shared_api: Api) -> None:
    conversation = created(shared_api)
    shared_api.generate(conversation=conversation)
    [message] = read(shared_api, conversation)["messages"]
    path = f"{PATH}/{conversation}/messages/{message['id']}"
    assert shared_api.client.patch(path, json={"rating": "up"}).json["rating"] == "up"
    edited = shared_api.client.patch(path, json={"content": "Twice."}).json
    assert (edited["content"], edited["rating"], edited["is_edited"]) == ("Twice.", "up", True)
    assert shared_api.client.patch(path, json={"rating": None}).json["rating"] is None
    assert shared_api.client.delete(path).json["leaf_id"] is None
    assert shared_api.client.delete(path).status_code == 404


# -- export and import -------------------------------------------------------------------------------------------------


def test_an_export_can_be_imported(shared_api: Api) -> None:
    conversation = created(shared_api, title="Räder", settings={"temperature": 0.5}, metadata={"a": "b"})
    say(shared_api, conversation, "Hi")
    shared_api.generate(conversation=conversation)
    branch = say(shared_api, conversation, "Hey", parent_id=None)
    exported = shared_api.client.get(f"{PATH}/{conversation}/export")
    assert exported.headers["Content-Disposition"] == 'attachment; filename="R-der.json"'
    imported = shared_api.client.post(f"{PATH}/import", json=exported.json)
    assert imported.status_code == 201, imported.text
    old, new = read(shared_api, conversation), read(shared_api, imported.json["id"])
    for same in ("title", "settings", "metadata"):
        assert new[same] == old[same]
    assert [one["content"] for one in new["messages"]] == [one["content"] for one in old["messages"]]
    assert [one["created_at"] for one in new["messages"]] == [one["created_at"] for one in old["messages"]]
    assert shown(new) == ["Hey"]
    assert branch not in {one["id"] for one in new["messages"]}
    assert [one["job_id"] for one in new["messages"]] == [None] * 3


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"id": "x", "role": "user"}], "messages[0].id"),
        ([{"id": UNKNOWN_MESSAGE, "role": "king"}], "messages[0].role"),
        ([{"id": UNKNOWN_MESSAGE, "role": "user", "x": 1}], "messages[0].x"),
        ([{"id": UNKNOWN_MESSAGE, "role": "user", "parent_id": UNKNOWN_MESSAGE}], "messages[0].parent_id"),
        ([{"id": UNKNOWN_MESSAGE, "role": "user"}] * 2, "messages[1].id"),
    ],
    ids=["id", "role", "field", "order", "twice"],
)
def test_a_wrong_import_is_explained(shared_api: Api, messages: list[Json], param: str) -> None:
    answer = shared_api.client.post(f"{PATH}/import", json={"version": 1, "messages": messages})
    assert (answer.status_code, answer.json["param"]) == (400, param)


# -- errors and rights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"title": "x" * 201}, "title"),
        ({"title": 7}, "title"),
        ({"settings": {"temperature": 9}}, "settings.temperature"),
        ({"settings": {"x": 1}}, "settings.x"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"leaf_id": UNKNOWN_MESSAGE}, "leaf_id"),
    ],
    ids=["long_title", "title", "temperature", "unknown_setting", "metadata", "leaf_of_a_new_one"],
)
def test_a_wrong_conversation_is_explained(shared_api: Api, body: Json, param: str) -> None:
    answer = shared_api.client.post(PATH, json=body)
    assert (answer.status_code, answer.json["param"]) == (400, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "role"),
        ({"role": "king"}, "role"),
        ({"role": "user", "content": None}, "content"),
        ({"role": "user", "parent_id": "x"}, "parent_id"),
        ({"role": "user", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}, "tool_calls"),
        ({"role": "tool", "content": "4"}, "tool_call_id"),
        ({"role": "user", "job_id": str(uuid.UUID(int=0))}, "job_id"),
        ({"role": "user", "rating": "good"}, "rating"),
    ],
    ids=["nothing", "role", "content", "parent", "calls", "tool", "job", "rating"],
)
def test_a_wrong_message_is_explained(shared_api: Api, body: Json, param: str) -> None:
    answer = shared_api.client.post(f"{PATH}/{created(shared_api)}/messages", json=body)
    assert (answer.status_code, answer.json["param"]) == (400, param)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "after=x", "q=", "x=1"])
def test_a_wrong_query_is_explained(shared_api: Api, query: str) -> None:
    answer = shared_api.client.get(f"{PATH}?{query}")
    assert (answer.status_code, answer.json["param"]) == (400, query.partition("=")[0])


def test_pages_and_search(api: Api) -> None:
    ids = [created(api, title=f"Chat {i}") for i in range(3)]
    page = api.client.get(f"{PATH}?limit=2").json
    rest = api.client.get(f"{PATH}?limit=2&after={page['last_id']}").json
    assert {one["id"] for one in (*page["conversations"], *rest["conversations"])} == set(ids)
    assert (page["has_more"], rest["has_more"]) == (True, False)
    [found] = api.client.get(f"{PATH}?q=chat+1").json["conversations"]
    assert (found["id"], found["match"]) == (ids[1], {"message_id": None, "excerpt": "Chat 1"})


def test_an_owner_sees_only_their_own(api: Api, redis: Redis) -> None:
    ann, bob = ({"X-API-Key": ApiKeyStore(redis).create(name, Role.USER)} for name in ("ann", "bob"))
    conversation = created(api, ann)
    path = f"{PATH}/{conversation}"
    assert api.client.get(path, headers=ann).status_code == 200
    for method, where, body in (
        ("get", path, None),
        ("get", f"{path}/export", None),
        ("patch", path, {"title": "x"}),
        ("post", f"{path}/messages", {"role": "user", "content": "x"}),
        ("patch", f"{path}/messages/{UNKNOWN_MESSAGE}", {"rating": "up"}),
        ("delete", f"{path}/messages/{UNKNOWN_MESSAGE}", None),
        ("delete", path, None),
        ("post", "/slm/generate", {"prompt": "Hi", "conversation": conversation}),
    ):
        answer = api.client.open(where, method=method, json=body, headers=bob)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found"), (method, where)
    assert api.client.get(PATH, headers=bob).json["conversations"] == []


def test_the_quota_is_a_setting(start_api: StartApi) -> None:
    api = start_api(max_conversations=1)
    created(api)
    answer = api.client.post(PATH, json={})
    assert (answer.status_code, answer.json["code"]) == (429, "quota_exceeded")
