"""Who may do what: keys, roles, owners, and the limits of a key."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from api.auth.access import Access, access_of, rules_of
from api.auth.keyring import CACHE_S, Keyring
from api.current import EXTENSION
from common.errors import Unauthorized
from common.fleet import WorkerState
from common.owners.api_keys import ApiKeyStore, Role
from tests.api_in_process import MODEL, Api
from tests.fake_redis import fake_redis
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class Guarded:
    """An API with keys: two users and an admin."""

    def __init__(self, api: Api, keys: ApiKeyStore) -> None:
        self.api = api
        self.keys = keys
        self.secrets = {name: keys.create(name, Role.USER) for name in ("ann", "bob")}
        self.secrets["root"] = keys.create("root", Role.ADMIN)

    def ask(self, who: str | None, method: str, path: str, **options: Any) -> TestResponse:
        headers = {} if who is None else {"Authorization": f"Bearer {self.secrets[who]}"}
        return self.api.client.open(path, method=method, headers=headers | options.pop("headers", {}), **options)

    def generate(self, who: str, **body: Any) -> TestResponse:
        return self.ask(who, "POST", "/slm/generate", json={"prompt": "Hi"} | body)

    def submit(self, who: str, **body: Any) -> str:
        answer = self.generate(who, **body | {"async": True})
        assert answer.status_code == 202, answer.json
        return str(answer.json["job_id"])


@pytest.fixture
def guarded(start_api: StartApi, redis: Redis) -> Guarded:
    return Guarded(start_api(), ApiKeyStore(redis))


@pytest.fixture
def waiting(start_api: StartApi, redis: Redis) -> Guarded:
    """An API whose jobs run until somebody cancels them."""
    return Guarded(start_api(Play.run_until_cancelled), ApiKeyStore(redis))


# -- the rule of every route -------------------------------------------------------------------------------------------


def test_every_route_states_who_may_use_it(api: Api) -> None:
    app = api.client.application
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert {endpoint for endpoint in endpoints if access_of(app, endpoint) is None} == set()
    unused = rules_of(app).keys() - endpoints - app.blueprints.keys()
    assert unused == set(), "a rule for a view that does not exist"


def test_nothing_is_public_but_health_and_the_pages(api: Api) -> None:
    app = api.client.application
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    public = {endpoint for endpoint in endpoints if access_of(app, endpoint) is Access.PUBLIC}
    asks_by_itself = {"metrics.show_metrics"}  # shows little while no key can be looked up
    pages = {"static", "pages.index", "pages.docs", "reference.document"}
    assert public - asks_by_itself == pages | {"health.healthz", "health.readyz", "vllm.health"}


def test_only_admins_see_the_metrics(guarded: Guarded) -> None:
    asked = {who: guarded.ask(who, "GET", "/metrics").status_code for who in (None, "ann", "root")}
    assert asked == {None: 401, "ann": 403, "root": 200}


def test_every_route_that_is_not_public_requires_a_key(guarded: Guarded) -> None:
    app = guarded.api.client.application
    asked = 0
    for rule in app.url_map.iter_rules():
        if access_of(app, rule.endpoint) is Access.PUBLIC:
            continue
        path = app.url_map.bind("localhost").build(rule.endpoint, dict.fromkeys(rule.arguments, UNKNOWN))
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            answer = guarded.ask(None, method, path)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), (method, path)
            asked += 1
    assert asked >= 10


def test_only_admins_see_hosts_process_ids_and_paths(guarded: Guarded) -> None:
    guarded.api.worker.report = guarded.api.worker.report.but(
        base_model="/srv/models/gpt2", state=WorkerState.FAILED, error="/srv/models/gpt2 is empty"
    )
    guarded.api.worker.beat()
    shown = {
        who: [guarded.ask(who, "GET", path).get_data(as_text=True) for path in ("/slm/info", "/readyz", "/v1/models")]
        for who in ("ann", "root")
    }
    shown[None] = [guarded.ask(None, "GET", "/readyz").get_data(as_text=True)]
    inside = ("slm1@host", '"host"', "4711", "../SLMInit", "/srv/models")
    for who in ("ann", None):
        assert [word for word in inside for text in shown[who] if word in text.replace('"host":', "")] == []
    assert all(word in shown["root"][0] for word in inside)
    assert "slm1@host is failed" in shown["root"][1]
    assert guarded.ask("ann", "GET", "/slm/info").json["workers"] == [
        {
            "id": "worker-1",
            "host": None,
            "pid": None,
            "device": "cuda",
            "state": "failed",
            "running": 0,
            "slots": 2,
            "error": "Only an admin can see the error.",
        }
    ]
    assert guarded.ask("ann", "GET", "/slm/info").json["lora_path"] == "cuda_lora_out"


def test_every_route_of_an_admin_refuses_a_user(guarded: Guarded) -> None:
    app = guarded.api.client.application
    asked = set()
    for rule in app.url_map.iter_rules():
        if access_of(app, rule.endpoint) is Access.ADMIN:
            path = app.url_map.bind("localhost").build(rule.endpoint, dict.fromkeys(rule.arguments, UNKNOWN))
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
                answer = guarded.ask("ann", method, path)
                assert (answer.status_code, answer.json["code"]) == (403, "forbidden"), (method, path)
                asked.add(path.removesuffix(f"/{UNKNOWN}"))
    assert {"/slm/load", "/slm/unload", "/slm/quarantine"} <= asked


def test_a_route_without_a_rule_is_for_admins(guarded: Guarded) -> None:
    del rules_of(guarded.api.client.application)["usage"]
    assert guarded.ask("ann", "GET", "/slm/usage").status_code == 403
    assert guarded.ask("root", "GET", "/slm/usage").status_code == 200


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_server_without_keys_serves_everybody_on_this_machine(api: Api) -> None:
    assert api.generate().status_code == 200
    answer = api.client.post("/slm/generate", json={"prompt": "Hi"}, headers={"Authorization": "Bearer whatever"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "127.0.0.1:5000"}, 200),
        ({"Host": "[::1]:5000"}, 200),
        ({"Host": "localhost:5000", "Origin": "http://localhost:5000"}, 200),
        ({"Host": "localhost:5000", "Origin": "http://localhost:8080"}, 403),
        ({"Host": "127.0.0.1:5000", "Origin": "https://example.org"}, 403),
        ({"Host": "127.0.0.1:5000", "Origin": "null"}, 403),
        ({"Host": "rebound.example.org:5000"}, 403),
        ({"Host": "rebound.example.org:5000", "Origin": "http://rebound.example.org:5000"}, 403),
        ({"Host": "127.example.org"}, 403),
        ({"Host": "[oops"}, 403),
        ({"Host": ""}, 200),
    ],
)
def test_no_other_sites_page_uses_a_server_without_keys(api: Api, headers: dict[str, str], status: int) -> None:
    answer = api.client.post("/slm/generate", data='{"prompt": "Hi"}', headers=headers, content_type="application/json")
    assert answer.status_code == status


def test_a_key_is_enough_whatever_the_pages_origin(guarded: Guarded) -> None:
    headers = {"Host": "slm.example.org", "Origin": "https://chat.example.org"}
    assert guarded.ask("ann", "GET", "/slm/info", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"host": "0.0.0.0"}, 401),
        ({"host": "0.0.0.0", "insecure": True}, 200),
        ({"host": "0.0.0.0", "published_host": "127.0.0.1"}, 200),
        ({"host": "0.0.0.0", "published_host": "192.168.1.7"}, 401),
        ({"host": "127.example.org"}, 401),
    ],
)
def test_a_server_without_keys_serves_other_machines_only_if_it_is_configured_to(
    start_api: StartApi, settings: dict[str, Any], status: int
) -> None:
    """Even if its keys were lost."""
    assert start_api(**settings).client.get("/slm/info").status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer {}"},
        {"Authorization": "bearer {}"},
        {"X-API-Key": "{}"},
        {"X-API-Key": "{}", "Authorization": "Basic cHJveHk6cHJveHk="},
    ],
)
def test_a_key_can_be_sent_in_either_header(guarded: Guarded, headers: dict[str, str]) -> None:
    sent = {name: value.format(guarded.secrets["ann"]) for name, value in headers.items()}
    assert guarded.api.client.get("/slm/usage", headers=sent).json["owner"] == "ann"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer slm_wrong"},
        {"Authorization": "Basic {}"},
        {"Authorization": "{}"},
        {"X-API-Key": ""},
        {"X-API-Key": "slm_wrong", "Authorization": "Bearer {}"},
        {"X-API-Key": "{}x"},
        {"X-API-Key": "é"},
    ],
)
def test_an_invalid_key_is_refused(guarded: Guarded, headers: dict[str, str]) -> None:
    sent = {name: value.format(guarded.secrets["ann"]) for name, value in headers.items()}
    answer = guarded.api.client.get("/slm/info", headers=sent)
    assert (answer.status_code, answer.json["code"]) == (401, "invalid_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.secrets["ann"] not in answer.text


def test_a_key_in_the_url_is_ignored(guarded: Guarded) -> None:
    path = f"/slm/info?api_key={guarded.secrets['ann']}&access_token={guarded.secrets['ann']}"
    assert guarded.api.client.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/static/docs.js", "/healthz", "/readyz"])
def test_the_pages_and_health_need_no_key(guarded: Guarded, path: str) -> None:
    answer = guarded.api.client.get(path)
    assert answer.status_code == 200
    answer.close()


def test_everybody_gets_a_404_for_an_unknown_path(guarded: Guarded) -> None:
    assert guarded.api.client.get("/slm/nothing").status_code == 404
    assert guarded.api.client.put("/slm/generate").status_code == 405
    assert guarded.api.client.options("/slm/generate").status_code == 200


def test_a_revoked_key_is_rejected_within_two_seconds() -> None:
    redis = fake_redis()
    store, now = ApiKeyStore(redis), [100.0]
    secret = store.create("ann", Role.USER)
    store.create("bob", Role.USER)
    keyring = Keyring(store, allows_anonymous=True, clock=lambda: now[0])
    assert keyring.identify(secret).owner == "ann"
    store.revoke("ann")
    now[0] += CACHE_S
    with pytest.raises(Unauthorized):
        keyring.identify(secret)


def test_the_keys_are_not_read_for_every_request() -> None:
    reads = itertools.count()

    class Counting(ApiKeyStore):
        def all(self) -> list[Any]:
            next(reads)
            return super().all()

    redis = fake_redis()
    keyring = Keyring(Counting(redis), allows_anonymous=True, clock=lambda: 100.0)
    for _ in range(5):
        keyring.identify(None)
    assert next(reads) == 1


# -- whose jobs --------------------------------------------------------------------------------------------------------


def test_a_user_can_only_access_their_own_jobs(guarded: Guarded) -> None:
    job_id = guarded.generate("ann").json["job_id"]
    of_a_job: list[Callable[[str, str], TestResponse]] = [
        lambda who, job: guarded.ask(who, "GET", f"/slm/jobs/{job}"),
        lambda who, job: guarded.ask(who, "GET", f"/slm/jobs/{job}/stream"),
        lambda who, job: guarded.ask(who, "GET", f"/slm/jobs/{job}/stream", headers={"Last-Event-ID": "0"}),
        lambda who, job: guarded.ask(who, "DELETE", f"/slm/jobs/{job}"),
    ]
    for touch in of_a_job:
        foreign, unknown = touch("bob", job_id), touch("bob", UNKNOWN)
        assert foreign.status_code == unknown.status_code == 404
        known = {"request_id", "error"}
        assert {k: v for k, v in foreign.json.items() if k not in known} == {
            k: v for k, v in unknown.json.items() if k not in known
        }
        assert foreign.json["error"] == unknown.json["error"].replace(UNKNOWN, job_id)
    for who in ("ann", "root"):
        for touch in of_a_job:
            assert touch(who, job_id).status_code == 200


def test_lists_and_usage_belong_to_the_caller(guarded: Guarded) -> None:
    jobs = {who: guarded.generate(who).json["job_id"] for who in ("ann", "bob", "root")}
    listed = {who: {job["job_id"] for job in guarded.ask(who, "GET", "/slm/jobs").json["jobs"]} for who in jobs}
    assert listed == {"ann": {jobs["ann"]}, "bob": {jobs["bob"]}, "root": set(jobs.values())}
    used = guarded.ask("ann", "GET", "/slm/usage").json
    assert (used["owner"], used["role"], used["jobs"]) == ("ann", "user", 1)
    assert guarded.ask("root", "GET", "/slm/usage").json["role"] == "admin"


def test_only_the_owner_finds_a_job_by_its_prompt(guarded: Guarded) -> None:
    for who in ("ann", "root"):
        guarded.ask(who, "POST", "/slm/generate", json={"prompt": f"the secret of {who}"})

    def found(who: str, text: str) -> int:
        return len(guarded.ask(who, "GET", f"/slm/jobs?q={text}").json["jobs"])

    assert (found("ann", "secret"), found("bob", "secret"), found("root", "secret")) == (1, 0, 1)
    assert (found("root", "ann"), found("bob", "ann")) == (1, 0)  # admins find others' jobs by their owners


def test_an_idempotency_key_belongs_to_its_owner(guarded: Guarded) -> None:
    headers = {"Idempotency-Key": "same"}
    jobs = [
        guarded.ask(who, "POST", "/slm/generate", json={"prompt": "Hi"}, headers=headers).json["job_id"]
        for who in ("ann", "ann", "bob")
    ]
    assert jobs[0] == jobs[1] != jobs[2]


# -- limits ------------------------------------------------------------------------------------------------------------


def limit(guarded: Guarded, **limits: int) -> None:
    guarded.keys.change("ann", limits)


def test_requests_over_the_rate_are_refused_and_say_when_to_try_again(guarded: Guarded) -> None:
    limit(guarded, requests_per_minute=2)
    first, second, third = (guarded.generate("ann") for _ in range(3))
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert third.json["code"] == "rate_limit_exceeded"
    assert 1 <= int(third.headers["Retry-After"]) <= 60
    for answer, remaining in [(first, "1"), (second, "0"), (third, "0")]:
        assert answer.headers["X-RateLimit-Limit"] == "2"
        assert answer.headers["X-RateLimit-Remaining"] == remaining
        assert abs(int(answer.headers["X-RateLimit-Reset"]) - time.time()) <= 62
    assert guarded.ask("ann", "GET", "/slm/jobs").status_code == 200  # reading is free
    assert guarded.generate("bob").status_code == 200
    assert "X-RateLimit-Limit" not in guarded.generate("bob").headers


def test_jobs_over_the_limit_are_refused_until_one_ends(waiting: Guarded) -> None:
    limit(waiting, concurrent_jobs=2)
    job_id, _ = waiting.submit("ann"), waiting.submit("ann")
    refused = waiting.generate("ann", **{"async": True})
    assert (refused.status_code, refused.json["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.headers["Retry-After"]) >= 1
    assert (refused.headers["X-RateLimit-Limit"], refused.headers["X-RateLimit-Remaining"]) == ("2", "0")
    assert waiting.submit("bob")
    waiting.ask("ann", "DELETE", f"/slm/jobs/{job_id}")
    waiting.ask("ann", "GET", f"/slm/jobs/{job_id}/stream").get_data()
    assert waiting.submit("ann")


def test_tokens_over_the_days_limit_are_refused(guarded: Guarded) -> None:
    limit(guarded, tokens_per_day=200)
    while (answer := guarded.generate("ann", max_new_tokens=10)).status_code == 200:  # four tokens each time
        pass
    assert (answer.status_code, answer.headers["X-RateLimit-Limit"]) == (429, "200")
    assert "ask for fewer" in answer.json["error"]
    assert 0 < int(answer.headers["Retry-After"]) <= 24 * 3600
    used = guarded.ask("ann", "GET", "/slm/usage").json["total_tokens"]
    assert 0 < used <= 200
    assert guarded.generate("bob").status_code == 200


def test_concurrent_requests_cannot_exceed_the_days_limit(waiting: Guarded) -> None:
    most = 100
    limit(waiting, tokens_per_day=1000)

    def enter(_: int) -> int:
        headers = {"X-API-Key": waiting.secrets["ann"]}
        body = {"prompt": "Hi", "max_new_tokens": most, "async": True}
        client = waiting.api.client.application.test_client()
        return client.post("/slm/generate", json=body, headers=headers).status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(enter, range(100)))
    assert set(statuses) == {202, 429}
    assert statuses[202] * most <= 1000


def test_a_revoked_key_submits_no_job_although_a_process_still_caches_it(guarded: Guarded) -> None:
    assert guarded.generate("ann").status_code == 200
    guarded.keys.revoke("ann")
    refused = guarded.generate("ann", **{"async": True})
    assert (refused.status_code, refused.json["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("change", ["revoke", "demote", "replace"])
def test_an_admin_who_is_none_any_more_changes_nothing_although_a_process_still_caches_it(
    guarded: Guarded, change: str
) -> None:
    assert guarded.ask("root", "GET", "/slm/keys").status_code == 200
    if change == "demote":
        guarded.keys.change("root", {"role": Role.USER})
    else:
        guarded.keys.revoke("root")
    if change == "replace":
        guarded.keys.create("root", Role.ADMIN)
    refused = guarded.ask("root", "POST", "/slm/keys", json={"name": "eve", "role": "admin"})
    assert refused.status_code == (403 if change == "demote" else 401)
    assert "eve" not in [key.name for key in guarded.keys.all()]


@pytest.mark.parametrize("change", ["revoke", "demote"])
def test_a_stream_ends_with_an_error_frame_when_its_reader_may_no_longer_see_the_job(
    start_api: StartApi, redis: Redis, change: str
) -> None:
    def script(play: Play) -> None:
        play.say("so far")
        play.run_until_cancelled()

    guarded = Guarded(start_api(script), ApiKeyStore(redis))
    job_id = guarded.submit("ann")
    services = guarded.api.client.application.extensions[EXTENSION]
    opened = {who: guarded.ask(who, "GET", f"/slm/jobs/{job_id}/stream", buffered=False) for who in ("root", "ann")}
    streams = {who: iter(answer.response) for who, answer in opened.items()}
    for stream in streams.values():
        assert any(b"so far" in part for part in stream)
    if change == "revoke":
        guarded.keys.revoke("root")
    else:
        guarded.keys.change("root", {"role": Role.USER})
    time.sleep(CACHE_S)
    services.jobs.end_revoked(services.keyring.now)
    last = [part for part in streams["root"] if part.startswith(b"data: ")][-1]
    assert b'"invalid_api_key"' in last
    guarded.ask("ann", "DELETE", f"/slm/jobs/{job_id}")
    assert b'"Cancelled"' in list(streams["ann"])[-1]
    for answer in opened.values():
        answer.close()


def test_a_stream_over_the_limit_is_refused_with_a_plain_answer(waiting: Guarded) -> None:
    limit(waiting, concurrent_jobs=1)
    waiting.submit("ann")
    refused = waiting.ask("ann", "POST", "/slm/stream", json={"prompt": "Hi"})
    assert (refused.status_code, refused.mimetype) == (429, "application/json")


def test_reads_over_the_rate_are_refused_and_work_is_not(guarded: Guarded) -> None:
    limit(guarded, reads_per_minute=2)
    answers = [guarded.ask("ann", method, "/slm/jobs") for method in ("GET", "HEAD", "GET")]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json["code"] == "rate_limit_exceeded"
    assert answers[2].headers["X-RateLimit-Limit"] == "2"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert guarded.generate("ann").status_code == 200
    assert guarded.ask("bob", "GET", "/slm/jobs").status_code == 200


STREAMS = {
    "/slm/stream": {"prompt": "Hi"},
    "/v1/chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True},
    "/v1/completions": {"model": MODEL, "prompt": "Hi", "stream": True},
    "/v1/responses": {"model": MODEL, "input": "Hi", "stream": True},
}


@pytest.mark.parametrize("path", STREAMS)
def test_streams_over_the_limit_are_refused_until_one_ends(start_api: StartApi, redis: Redis, path: str) -> None:
    def script(play: Play) -> None:
        play.say("a ")
        play.run_until_cancelled()

    waiting = Guarded(start_api(script), ApiKeyStore(redis))
    limit(waiting, open_streams=1)
    first = waiting.ask("ann", "POST", path, json=STREAMS[path])
    job = f"/slm/jobs/{first.headers['X-Job-Id']}"
    for refused in (
        waiting.ask("ann", "POST", path, json=STREAMS[path]),
        waiting.ask("ann", "GET", f"{job}/stream"),
    ):
        assert (refused.status_code, refused.headers["X-RateLimit-Limit"]) == (429, "1")
    assert len(waiting.ask("ann", "GET", "/slm/jobs").json["jobs"]) == 1
    waiting.ask("bob", "POST", path, json=STREAMS[path]).close()
    first.close()
    again = waiting.ask("ann", "GET", f"{job}/stream")
    assert again.status_code == 200
    again.close()


def test_a_request_that_does_not_become_a_stream_is_not_counted(guarded: Guarded) -> None:
    limit(guarded, open_streams=1)
    for _ in range(3):
        assert guarded.ask("ann", "GET", f"/slm/jobs/{UNKNOWN}/stream").status_code == 404
        assert guarded.ask("ann", "POST", "/slm/stream", json={"prompt": ""}).status_code == 400
        assert guarded.generate("ann").status_code == 200
    job_id = guarded.submit("ann")
    for _ in range(3):
        guarded.ask("ann", "HEAD", f"/slm/jobs/{job_id}/stream").close()
        guarded.ask("ann", "GET", f"/slm/jobs/{job_id}/stream").get_data()


def test_no_answer_and_no_log_line_contains_a_key(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    answers = [guarded.generate("ann"), guarded.ask("ann", "GET", "/slm/quarantine"), guarded.ask("ann", "GET", "/no")]
    for text in [caplog.text, *(answer.text + str(answer.headers) for answer in answers)]:
        assert guarded.secrets["ann"] not in text
