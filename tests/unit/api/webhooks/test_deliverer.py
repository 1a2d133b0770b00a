"""Webhooks are delivered at least once, tried again a few times, and what becomes of them can be seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from redis import Redis

from api.service import JobView
from api.webhooks.deliverer import LEASE_S, RETRY_AFTER_S, Deliverer
from api.webhooks.message import sign
from api.webhooks.sender import DeliveryFailed
from common import keys
from common.webhook_queue import WebhookQueue
from tests.api_in_process import Api
from tests.unit.api.conftest import SECRET, StartApi

URL = "https://example.org/hook"
DUE = "slm:webhooks:due"
TTL_S = 60


class Mailbox:
    """In place of a sender: keeps what was posted, and fails as often as it was told to."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Mapping[str, str], bytes]] = []
        self.failures: list[Exception] = []

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        self.posted.append((url, headers, body))
        if self.failures:
            raise self.failures.pop(0)


class Site:
    """An API, and what delivers for it."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.mailbox = Mailbox()
        self.deliverer = self.new_deliverer()

    def new_deliverer(self, key: bytes | None = b"k" * 24) -> Deliverer:
        """As another process has one."""
        return Deliverer(WebhookQueue(self.api.redis, job_ttl_s=TTL_S), self.view, self.mailbox, key=key)  # type: ignore[arg-type]

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


def test_an_ended_job_is_told_of_once(site: Site) -> None:
    job_id = site.ended_job()
    assert site.webhook(job_id) == {"state": "pending", "attempts": 0, "last_error": None}
    assert site.deliverer.deliver_due() == 1
    assert site.deliverer.deliver_due() == 0
    [(url, headers, body)] = site.mailbox.posted
    assert url == URL
    assert json.loads(body)["data"]["job_id"] == job_id
    stamp = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == sign(b"k" * 24, f"msg_{job_id}", stamp, body)
    assert site.webhook(job_id) == {"state": "delivered", "attempts": 1, "last_error": None}


def test_a_job_without_a_url_tells_nobody(site: Site) -> None:
    site.api.generate()
    assert site.deliverer.deliver_due() == 0


def test_what_failed_is_tried_again_later_and_later_and_then_no_more(site: Site) -> None:
    job_id = site.ended_job()
    for number, delay_s in enumerate(RETRY_AFTER_S, start=1):
        site.mailbox.failures = [DeliveryFailed(f"failure {number}")]
        assert site.deliverer.deliver_due() == 1
        assert delay_s - 5 < site.seconds_to_next(job_id) <= delay_s
        assert site.webhook(job_id) == {"state": "pending", "attempts": number, "last_error": f"failure {number}"}
        assert site.deliverer.deliver_due() == 0
        site.make_due(job_id)
    site.mailbox.failures = [DeliveryFailed("the last")]
    assert site.deliverer.deliver_due() == 1
    assert site.webhook(job_id) == {"state": "failed", "attempts": 6, "last_error": "the last"}
    assert not site.api.redis.exists(DUE)
    ids = {headers["webhook-id"] for _, headers, _ in site.mailbox.posted}
    assert ids == {f"msg_{job_id}"}


def test_a_delivery_after_a_failure_forgets_the_failure(site: Site) -> None:
    job_id = site.ended_job()
    site.mailbox.failures = [DeliveryFailed("x")]
    for _ in range(2):
        site.deliverer.deliver_due()
        if site.api.redis.exists(DUE):
            site.make_due(job_id)
    assert site.webhook(job_id) == {"state": "delivered", "attempts": 2, "last_error": None}


def test_a_final_failure_is_not_tried_again(site: Site) -> None:
    job_id = site.ended_job()
    site.mailbox.failures = [DeliveryFailed("a private address", is_final=True)]
    site.deliverer.deliver_due()
    assert site.webhook(job_id) == {"state": "failed", "attempts": 1, "last_error": "a private address"}


def test_a_bug_in_one_delivery_stops_no_other(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    jobs = [site.ended_job() for _ in range(3)]
    site.mailbox.failures = [ZeroDivisionError()]
    assert site.deliverer.deliver_due() == 3
    states = sorted(site.webhook(job_id)["state"] for job_id in jobs)
    assert states == ["delivered", "delivered", "pending"]
    assert "ZeroDivisionError" in caplog.text


def test_what_a_process_had_taken_when_it_died_comes_back(site: Site) -> None:
    job_id = site.ended_job()
    [lent] = WebhookQueue(site.api.redis, job_ttl_s=TTL_S).take(8, lease_s=LEASE_S)  # and it dies
    assert site.deliverer.deliver_due() == 0
    assert 0 < site.seconds_to_next(job_id) <= LEASE_S
    site.make_due(job_id)
    site.mailbox.failures = [DeliveryFailed("x")]
    assert site.deliverer.deliver_due() == 1
    WebhookQueue(site.api.redis, job_ttl_s=TTL_S).note_delivered(lent)  # it was not dead, only slow
    assert site.webhook(job_id) == {"state": "pending", "attempts": 2, "last_error": "x"}


def test_processes_share_the_work(site: Site) -> None:
    for _ in range(12):
        site.ended_job()
    assert [one.deliver_due() for one in (site.deliverer, site.new_deliverer(), site.deliverer)] == [8, 4, 0]
    assert len({headers["webhook-id"] for _, headers, _ in site.mailbox.posted}) == 12


def test_a_server_that_has_lost_its_secret_says_so(site: Site) -> None:
    job_id = site.ended_job()
    site.new_deliverer(key=None).deliver_due()
    assert site.webhook(job_id)["state"] == "failed"
    assert "SLM_WEBHOOK_SECRET" in site.webhook(job_id)["last_error"]
    assert site.mailbox.posted == []


def test_a_job_stays_until_its_webhook_is_done_and_expires_then(site: Site) -> None:
    job_id = site.ended_job()
    redis: Redis = site.api.redis
    assert redis.ttl(keys.job(job_id)) == redis.ttl(keys.log(job_id)) == -1
    site.mailbox.failures = [DeliveryFailed("x")]
    site.deliverer.deliver_due()
    assert redis.ttl(keys.job(job_id)) == -1
    site.make_due(job_id)
    site.deliverer.deliver_due()
    assert 0 < redis.ttl(keys.job(job_id)) <= TTL_S
    assert 0 < redis.ttl(keys.log(job_id)) <= TTL_S


def test_a_job_that_is_gone_is_forgotten(site: Site) -> None:
    job_id = site.ended_job()
    site.api.redis.delete(keys.job(job_id))
    assert site.deliverer.deliver_due() == 0
    assert not site.api.redis.exists(DUE, keys.job(job_id))


def test_a_long_error_is_cut(site: Site) -> None:
    job_id = site.ended_job()
    site.mailbox.failures = [DeliveryFailed("x" * 5000)]
    site.deliverer.deliver_due()
    assert len(site.webhook(job_id)["last_error"]) == 200


# -- what is refused at once -------------------------------------------------------------------------------------------


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
