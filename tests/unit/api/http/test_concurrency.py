"""One owner's requests wait for each other, and no other owner waits for them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
from redis import Redis

from api.current import EXTENSION
from api.http.concurrency import MAX_CONCURRENT, PAUSE, PAUSE_ALONE, ConcurrencyLimiter, Presence
from common.errors import RateLimitExceeded
from common.owners.api_keys import ApiKeyStore, Role
from tests.api_in_process import MODEL, Api
from tests.processes import wait_for
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi

TIMEOUT_S = 60


@contextmanager
def taken(limiter: ConcurrencyLimiter, owner: str, count: int = MAX_CONCURRENT) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(limiter.acquire(owner, patience_s=TIMEOUT_S))
        yield


def test_a_limited_number_of_an_owners_requests_work_at_once() -> None:
    limiter = ConcurrencyLimiter(Presence())
    with taken(limiter, "ann"), pytest.raises(RateLimitExceeded) as refused, limiter.acquire("ann", patience_s=0.01):
        pass
    assert refused.value.retry_after_s == 1
    with taken(limiter, "ann"):
        pass


def test_another_owner_does_not_wait() -> None:
    limiter = ConcurrencyLimiter(Presence())
    with taken(limiter, "ann"), taken(limiter, "bob"):
        pass


def test_a_waiting_request_starts_when_another_ends() -> None:
    limiter, done = ConcurrencyLimiter(Presence()), threading.Event()

    def wait() -> None:
        with limiter.acquire("ann", patience_s=TIMEOUT_S):
            done.set()

    with taken(limiter, "ann"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not done.wait(0.05)
    assert done.wait(TIMEOUT_S)
    waiting.join(TIMEOUT_S)


@pytest.mark.parametrize(("others", "pause"), [([], PAUSE_ALONE), (["bob"], PAUSE)])
def test_an_owner_over_its_share_pauses(monkeypatch: pytest.MonkeyPatch, others: list[str], pause: int) -> None:
    """Longer beside other owners, whatever these request."""
    pauses: list[float] = []
    clock = itertools.count(step=0.01)
    monkeypatch.setattr(
        "api.http.concurrency.time", SimpleNamespace(monotonic=lambda: next(clock), sleep=pauses.append)
    )
    presence = Presence()
    limiter = ConcurrencyLimiter(presence)
    for other in others:
        presence.is_alone(other)
    with limiter.acquire("ann"):
        pass
    assert pauses == []

    def wait() -> None:
        with limiter.acquire("ann"):
            pass

    waiting = threading.Thread(target=wait)
    with taken(limiter, "ann"):
        waiting.start()
        wait_for("the third", lambda: limiter._queues["ann"].count == MAX_CONCURRENT + 1, TIMEOUT_S)
    waiting.join(TIMEOUT_S)
    assert pauses == [pytest.approx(pause * 0.02)]  # the clock was read twice since then, once for the third


def test_short_requests_of_a_lone_owner_do_not_wait() -> None:
    limiter = ConcurrencyLimiter(Presence(), only_beside_others=True)
    with taken(limiter, "ann", 10 * MAX_CONCURRENT):
        pass


def test_short_requests_beside_another_owners_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = ConcurrencyLimiter(Presence(), only_beside_others=True)
    with limiter.acquire("bob"):
        pass
    with taken(limiter, "ann"), pytest.raises(RateLimitExceeded), limiter.acquire("ann", patience_s=0.01):
        pass
    monkeypatch.setattr("api.http.concurrency.ALONE_S", -1.0)
    with taken(limiter, "ann", 10 * MAX_CONCURRENT):
        pass


def test_nothing_remains_of_an_owner_without_requests() -> None:
    limiter = ConcurrencyLimiter(Presence())
    with taken(limiter, "ann"):
        pass
    assert limiter._queues == {}


def test_requests_that_wait_for_their_jobs_delay_nobody(start_api: StartApi) -> None:
    """Generations, streams and slow clients: only the API's own work counts."""
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("a ")
        assert go_on.wait(TIMEOUT_S)
        play.end("b")

    api = start_api(script, max_body_bytes=200_000)
    someone_else(api)
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 100_000}]}
    posts = {
        "/slm/generate": {"prompt": "x" * 100_000},
        "/slm/stream": {"prompt": "Hi"},
        "/v1/chat/completions": chat,
        "/v1/completions": {"model": MODEL, "prompt": "Hi", "stream": True},
        "/v1/responses": {"model": MODEL, "input": "Hi"},
    }
    waiting = [
        threading.Thread(target=lambda path=path, body=body: api.client.post(path, json=body).get_data())
        for path, body in posts.items()
        for _ in range(MAX_CONCURRENT)
    ]
    for one in waiting:
        one.start()
    wait_for("all jobs", lambda: len(api.client.get("/slm/jobs").json["jobs"]) == len(waiting), TIMEOUT_S)
    began = time.monotonic()
    assert api.submit()
    assert api.client.get("/slm/info").status_code == 200
    assert time.monotonic() - began < TIMEOUT_S / 2
    go_on.set()
    for one in waiting:
        one.join(TIMEOUT_S)
        assert not one.is_alive()


def someone_else(api: Api) -> None:
    """Makes the short requests wait for each other too."""
    limiter = api.client.application.extensions["slm"].short_limiter
    with limiter.acquire("someone else"):
        pass


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/healthz", None),
        ("/", None),
        ("/openapi.json", None),
        ("/there/is/nothing", None),
        ("/slm/info", None),
        ("/slm/info", "wrong"),
        ("/slm/quarantine", "ann"),
    ],
)
def test_public_and_refused_requests_share_the_time_too(
    start_api: StartApi, redis: Redis, monkeypatch: pytest.MonkeyPatch, path: str, key: str | None
) -> None:
    """The requests of an address, while their owner is not known."""
    client, keys = start_api().client, ApiKeyStore(redis)
    secrets = {"ann": keys.create("ann", Role.USER), "wrong": "slm_wrong", None: ""}
    services = client.application.extensions[EXTENSION]
    monkeypatch.setattr("api.current.PATIENCE_S", 0.01)
    limiter, owner = (services.read_limiter, "ann") if key == "ann" else (services.address_limiter, "127.0.0.1")

    with taken(limiter, owner), client.get(path, headers={"X-API-Key": secrets[key]}) as refused:
        assert refused.status_code == 429

    with client.get(path, headers={"X-API-Key": secrets[key]}) as answer:
        assert answer.status_code != 429


def test_requests_without_a_key_leave_half_of_the_time_to_others() -> None:
    """And a lone owner does not have to make room for them."""
    limiter = ConcurrencyLimiter(None, only_beside_others=True)
    with taken(limiter, "127.0.0.1"), pytest.raises(RateLimitExceeded), limiter.acquire("127.0.0.1", patience_s=0.01):
        pass
