"""Webhooks are delivered at least once and retried a few times, and their state can be read."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis
from standardwebhooks import Webhook

from api.service import JobView
from api.webhooks.deliverer import LEASE_S, RETRY_AFTER_S, SHARES, Deliverer
from api.webhooks.sender import DeliveryFailed
from common.jobs.job import GenerateParams, JobKind, JobState
from common.jobs.sampling import SamplingParams
from common.jobs.store import JobOptions, JobStore
from common.jobs.webhook_queue import Shares, WebhookQueue
from common.redis import keys
from tests.api_in_process import Api
from tests.unit.api.conftest import SECRET, StartApi

URL = "https://example.org/hook"
DUE = "slm:webhooks:due:anonymous"
TTL_S = 60
PATIENCE_S = 60
PARAMS = GenerateParams("Hi", SamplingParams(seed=1)).to_dict()


class Mailbox:
    """Replaces a sender: keeps the messages, and fails the given number of times."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Mapping[str, str], bytes]] = []
        self.failures: list[Exception] = []

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        self.posted.append((url, headers, body))
        if self.failures:
            raise self.failures.pop(0)


class Site:
    """An API and its deliverer."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.mailbox = Mailbox()
        self.deliverer = self.new_deliverer()

    def new_deliverer(self, key: bytes | None = b"k" * 24) -> Deliverer:
        """A deliverer of another process."""
        return Deliverer(WebhookQueue(self.api.redis, job_ttl_s=TTL_S), self.view, self.mailbox, key=key)  # type: ignore[arg-type]

    def deliver(self, deliverer: Deliverer | None = None) -> int:
        """Make all attempts that are due; returns how many there were."""
        attempts = (deliverer or self.deliverer).start_due()
        for attempt in attempts:
            attempt.join(PATIENCE_S)
        return len(attempts)

    def view(self, job_id: str) -> JobView:
        found: JobView = self.api.client.application.extensions["slm"].jobs.view(job_id)
        return found

    def ended_job(self) -> str:
        return str(self.api.generate(webhook_url=URL).json["job_id"])

    def webhook(self, job_id: str) -> dict[str, Any]:
        return dict(self.api.job(job_id)["webhook"])

    def seconds_to_next(self, job_id: str) -> float:
        seconds, micros = self.api.redis.time()
        return float(self.api.redis.zscore(DUE, job_id) or 0) / 1000 - (seconds + micros / 1e6)

    def make_due(self, job_id: str) -> None:
        self.api.redis.zadd(DUE, {job_id: 0})


@pytest.fixture
def site(start_api: StartApi) -> Site:
    return Site(start_api(webhook_secret=SECRET))


def test_an_ended_job_is_delivered_once(site: Site) -> None:
    job_id = site.ended_job()
    assert site.webhook(job_id) == {"state": "pending", "attempts": 0, "last_error": None}
    assert site.deliver() == 1
    assert site.deliver() == 0
    [(url, headers, body)] = site.mailbox.posted
    assert url == URL
    assert json.loads(body)["data"]["job_id"] == job_id
    assert headers["webhook-id"] == f"msg_{job_id}"
    Webhook(b"k" * 24).verify(body, dict(headers))
    assert site.webhook(job_id) == {"state": "delivered", "attempts": 1, "last_error": None}


def test_a_job_without_a_url_delivers_nothing(site: Site) -> None:
    site.api.generate()
    assert site.deliver() == 0


def test_a_failed_delivery_is_retried_with_growing_pauses_and_then_given_up(site: Site) -> None:
    job_id = site.ended_job()
    for number, delay_s in enumerate(RETRY_AFTER_S, start=1):
        site.mailbox.failures = [DeliveryFailed(f"failure {number}")]
        assert site.deliver() == 1
        assert delay_s - 5 < site.seconds_to_next(job_id) <= delay_s
        assert site.webhook(job_id) == {"state": "pending", "attempts": number, "last_error": f"failure {number}"}
        assert site.deliver() == 0
        site.make_due(job_id)
    site.mailbox.failures = [DeliveryFailed("the last")]
    assert site.deliver() == 1
    assert site.webhook(job_id) == {"state": "failed", "attempts": 6, "last_error": "the last"}
    assert not site.api.redis.exists(DUE)
    ids = {headers["webhook-id"] for _, headers, _ in site.mailbox.posted}
    assert ids == {f"msg_{job_id}"}


def test_a_delivery_after_a_failure_forgets_the_failure(site: Site) -> None:
    job_id = site.ended_job()
    site.mailbox.failures = [DeliveryFailed("x")]
    for _ in range(2):
        site.deliver()
        if site.api.redis.exists(DUE):
            site.make_due(job_id)
    assert site.webhook(job_id) == {"state": "delivered", "attempts": 2, "last_error": None}


def test_a_permanent_failure_is_not_retried(site: Site) -> None:
    job_id = site.ended_job()
    site.mailbox.failures = [DeliveryFailed("a private address", is_final=True)]
    site.deliver()
    assert site.webhook(job_id) == {"state": "failed", "attempts": 1, "last_error": "a private address"}


def test_a_bug_in_one_delivery_does_not_stop_the_others(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    jobs = [site.ended_job() for _ in range(3)]
    site.mailbox.failures = [ZeroDivisionError()]
    assert site.deliver() == 3
    states = sorted(site.webhook(job_id)["state"] for job_id in jobs)
    assert states == ["delivered", "delivered", "pending"]
    assert "ZeroDivisionError" in caplog.text


def test_deliveries_taken_by_a_process_that_died_become_due_again(site: Site) -> None:
    job_id = site.ended_job()
    [leased] = WebhookQueue(site.api.redis, job_ttl_s=TTL_S).take(SHARES, lease_s=LEASE_S)  # and it dies
    assert site.deliver() == 0
    assert 0 < site.seconds_to_next(job_id) <= LEASE_S
    site.make_due(job_id)
    site.mailbox.failures = [DeliveryFailed("x")]
    assert site.deliver() == 1
    WebhookQueue(site.api.redis, job_ttl_s=TTL_S).note_delivered(leased)  # it was not dead, only slow
    assert site.webhook(job_id) == {"state": "pending", "attempts": 2, "last_error": "x"}


def test_processes_share_the_work(site: Site) -> None:
    for _ in range(12):
        site.ended_job()
    assert [site.deliver(one) for one in (site.deliverer, site.new_deliverer(), site.deliverer)] == [8, 4, 0]
    assert len({headers["webhook-id"] for _, headers, _ in site.mailbox.posted}) == 12


def test_a_server_that_has_lost_its_secret_says_so(site: Site) -> None:
    job_id = site.ended_job()
    site.deliver(site.new_deliverer(key=None))
    assert site.webhook(job_id)["state"] == "failed"
    assert "SLM_WEBHOOK_SECRET" in site.webhook(job_id)["last_error"]
    assert site.mailbox.posted == []


def test_a_job_stays_until_its_webhook_is_done_and_expires_then(site: Site) -> None:
    job_id = site.ended_job()
    redis: Redis = site.api.redis
    assert redis.ttl(keys.job(job_id)) == redis.ttl(keys.log(job_id)) == -1
    site.mailbox.failures = [DeliveryFailed("x")]
    site.deliver()
    assert redis.ttl(keys.job(job_id)) == -1
    site.make_due(job_id)
    site.deliver()
    assert 0 < redis.ttl(keys.job(job_id)) <= TTL_S
    assert 0 < redis.ttl(keys.log(job_id)) <= TTL_S


def test_the_webhook_of_an_expired_job_is_forgotten(site: Site) -> None:
    job_id = site.ended_job()
    site.api.redis.delete(keys.job(job_id))
    assert site.deliver() == 0
    assert not site.api.redis.exists(DUE, keys.job(job_id))


def test_a_long_error_is_cut(site: Site) -> None:
    job_id = site.ended_job()
    site.mailbox.failures = [DeliveryFailed("x" * 5000)]
    site.deliver()
    assert len(site.webhook(job_id)["last_error"]) == 200


class Hanging:
    """Replaces a sender: a message to one of the hosts waits until the test releases it."""

    def __init__(self, *hosts: str) -> None:
        self.posted: list[str] = []
        self._hosts = hosts
        self._go_on = threading.Event()

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        self.posted.append(url)
        if url.split("/")[2] in self._hosts:
            assert self._go_on.wait(PATIENCE_S)

    def let_go(self, attempts: list[threading.Thread]) -> None:
        self._go_on.set()
        for attempt in attempts:
            attempt.join(PATIENCE_S)


FEW = Shares(total=8, owner=4, receiver=2)


@pytest.fixture
def hanging(site: Site, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    monkeypatch.setattr("api.webhooks.deliverer.SHARES", FEW)
    site.mailbox = Hanging("hangs.example.org", *(f"{number}.example.org" for number in range(20)))  # type: ignore[assignment]
    site.deliverer = site.new_deliverer()
    return site.mailbox  # type: ignore[return-value]


def end_many(site: Site, count: int, url: str, owner: str = "anonymous") -> None:
    """Create ended jobs of an owner; `{}` in the URL is their number."""
    store = JobStore(site.api.redis, lambda _: None, job_ttl_s=TTL_S)
    for number in range(count):
        options = JobOptions(webhook_url=url.format(number))
        job_id = str(uuid.uuid4())
        store.submit(job_id, JobKind.GENERATE, PARAMS, owner=owner, max_queue=10_000, options=options)
        if store.cancel(job_id) is JobState.RUNNING:  # the worker was quicker
            site.api.finish(job_id)


def test_a_receiver_that_hangs_does_not_delay_the_others(site: Site, hanging: Hanging) -> None:
    end_many(site, 60, "https://hangs.example.org/")
    stuck = site.deliverer.start_due()
    assert len(stuck) == FEW.receiver
    site.ended_job()
    [attempt] = site.deliverer.start_due()
    attempt.join(PATIENCE_S)
    assert hanging.posted == ["https://hangs.example.org/"] * FEW.receiver + [URL]
    hanging.let_go(stuck)


def test_an_owner_with_hanging_receivers_does_not_delay_the_others(site: Site, hanging: Hanging) -> None:
    end_many(site, 20, "https://{}.example.org/", owner="ann")
    stuck = site.deliverer.start_due()
    assert len(stuck) == FEW.owner
    end_many(site, 1, URL, owner="bob")
    [attempt] = site.deliverer.start_due()
    attempt.join(PATIENCE_S)
    assert hanging.posted[-1] == URL
    hanging.let_go(stuck)


def test_the_owner_with_the_fewest_attempts_comes_next(site: Site, hanging: Hanging) -> None:
    for owner in ("ann", "bob"):
        end_many(site, 20, "https://{}.example.org/", owner=owner)
    stuck = site.deliverer.start_due()
    assert len(stuck) == FEW.total
    end_many(site, 1, URL, owner="zoe")
    assert site.deliverer.start_due() == []
    with_one_free = replace(FEW, total=FEW.total + 1)
    [leased] = WebhookQueue(site.api.redis, job_ttl_s=TTL_S).take(
        with_one_free, site.deliverer._in_flight.copy(), lease_s=LEASE_S
    )
    assert leased.owner == "owner:zoe"
    hanging.let_go(stuck)


def test_the_end_of_an_attempt_makes_room_immediately(site: Site) -> None:
    """Not only with the next check, a second later: a hundred messages to one receiver go eight at a time."""
    end_many(site, 2 * SHARES.receiver, URL)
    assert site.deliver() == SHARES.receiver
    assert site.deliverer._has_room.is_set()
    assert site.deliver() == SHARES.receiver


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_without_a_secret_a_url_is_refused(start_api: StartApi) -> None:
    answer = start_api().generate(webhook_url=URL)
    assert (answer.status_code, answer.json["param"]) == (400, "webhook_url")
    assert "SLM_WEBHOOK_SECRET" in answer.json["error"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "[::1]", "10.1.2.3", "169.254.169.254"])
def test_a_private_address_is_refused_unless_allowed(start_api: StartApi, host: str) -> None:
    answer = start_api(webhook_secret=SECRET).generate(webhook_url=f"http://{host}:8080/x")
    assert (answer.status_code, answer.json["param"]) == (400, "webhook_url")
    assert answer.json["error"].startswith("webhook_url must lead to a public address; got ")
    allowed = start_api(webhook_secret=SECRET, webhook_allow_private=True)
    assert allowed.generate(webhook_url=f"http://{host}:8080/x").status_code == 200
