"""GET /metrics: the metrics of the API, the queue and every worker."""

from __future__ import annotations

import threading

import pytest
from fakeredis import FakeRedis, FakeServer
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from werkzeug.test import TestResponse

from api.app import create_app
from common.errors import InternalError
from common.observation.metrics_store import Family, MetricsStore, Sample, to_wire
from common.owners.api_keys import ApiKeyStore, Role
from common.redis.subscriber import Subscriber
from tests.api_in_process import REPORT, Api
from tests.processes import wait_for
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi


def series(answer: TestResponse) -> dict[str, float]:
    """Every series except buckets, as `name{a="b"}`, labels in order."""
    found = {}
    for family in text_string_to_metric_families(answer.get_data(as_text=True)):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            if not sample.name.endswith(("_bucket", "_created")):
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def scrape(api: Api) -> dict[str, float]:
    with api.client.get("/metrics") as answer:
        assert answer.status_code == 200
        return series(answer)


def test_requests_are_counted_by_route_and_not_by_path(api: Api) -> None:
    for path in ("/slm/info", "/slm/jobs/1", "/slm/jobs/2", "/nothing/at/all"):
        api.client.get(path, buffered=True)
    api.client.open("/slm/info", method="WHATEVER", buffered=True)
    found = scrape(api)
    assert found['slm_http_requests_total{method="GET",route="/slm/info",status="200"}'] == 1
    assert found['slm_http_requests_total{method="GET",route="/slm/jobs/<job_id>",status="404"}'] == 2
    assert found['slm_http_requests_total{method="GET",route="",status="404"}'] == 1
    assert found['slm_http_requests_total{method="other",route="",status="405"}'] == 1
    assert found['slm_http_request_duration_seconds_count{method="GET",route="/slm/info"}'] == 1
    assert found["slm_http_requests_in_progress"] == 1, "the scrape itself"


def test_an_open_stream_is_in_progress(start_api: StartApi) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("first")
        assert go_on.wait(60)
        play.end("last")

    api = start_api(script)
    with api.stream() as answer:
        next(iter(answer.response))
        assert scrape(api)["slm_http_requests_in_progress"] == 2
        go_on.set()
    assert scrape(api)["slm_http_requests_in_progress"] == 1


def test_ended_jobs_are_counted_by_kind_and_state(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        if play.prompt == "fail":
            play.fail(InternalError("no"))
        else:
            play.end("done")

    api = start_api(script)
    for prompt in ("a", "b", "fail"):
        api.client.post("/slm/generate", json={"prompt": prompt}, buffered=True)
    api.client.post("/slm/load", buffered=True)
    found = scrape(api)
    assert found['slm_jobs_total{kind="generate",state="succeeded"}'] == 2
    assert found['slm_jobs_total{kind="generate",state="failed"}'] == 1
    assert found['slm_jobs_total{kind="load",state="succeeded"}'] == 1


def test_the_queue_and_the_workers_are_shown(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    for _ in range(REPORT.slots + 3):
        api.submit()

    def all_there() -> dict[str, float] | None:
        found = scrape(api)  # a job whose wake-up message has been dispatched neither waits nor runs, for a moment
        here = found['slm_jobs_running{lane="generate"}'] + found['slm_num_requests_waiting{lane="generate"}']
        return found if here >= 4 else None

    found = wait_for("all jobs in the metrics", all_there)
    assert found['slm_num_requests_waiting{lane="control"}'] == 0
    assert found['slm_workers{state="ready"}'] == 1
    assert found['slm_workers{state="failed"}'] == 0
    assert found[f'slm_worker_slots{{worker="{REPORT.id}"}}'] == REPORT.slots
    assert found["slm_redis_up"] == 1


def test_failovers_crashes_and_dead_letters_are_counted(api: Api, redis: Redis) -> None:
    store = api.worker.store
    api.worker.stop_looking()
    job_id = api.submit()
    for _ in range(3):
        claim = store.claim(job_id, "w", lease_s=60)
        assert claim is not None
        redis.zadd("slm:lane:generate:leases", {job_id: 1})  # its lease has run out
        store.reap()
    found = scrape(api)
    assert found["slm_failovers_total"] == 2
    assert found["slm_job_crashes_total"] == 3
    assert found["slm_jobs_quarantined_total"] == found["slm_quarantine_size"] == 1


def test_workers_metrics_are_labelled_with_the_workers_name(api: Api, redis: Redis) -> None:
    def figures(tokens: int) -> str:
        sample = Sample("slm_generation_tokens_total", {"adapter": "base"}, tokens)
        return to_wire([Family("slm_generation_tokens", "counter", "Tokens generated.", [sample])])

    metrics_store = MetricsStore(redis)
    metrics_store.put(REPORT.id, figures(7), ttl_s=60)
    metrics_store.put("a worker that has gone", figures(9), ttl_s=60)
    found = {name: value for name, value in scrape(api).items() if "generation_tokens" in name}
    assert found == {f'slm_generation_tokens_total{{adapter="base",worker="{REPORT.id}"}}': 7}


def test_without_redis_the_api_still_reports_its_own_metrics(api: Api) -> None:
    server = FakeServer()
    server.connected = False
    away = FakeRedis(server=server, decode_responses=True)
    client = create_app(
        api.settings, redis=away, dispatch=api.worker.dispatch, subscriber=Subscriber(away)
    ).test_client()
    client.get("/healthz", buffered=True)
    found = series(client.get("/metrics", buffered=True))
    assert found["slm_redis_up"] == 0
    assert found['slm_http_requests_total{method="GET",route="/healthz",status="200"}'] == 1


def test_with_keys_only_admins_see_the_metrics(start_api: StartApi, redis: Redis) -> None:
    api, store = start_api(), ApiKeyStore(redis)
    user, admin = (store.create(role.value, role) for role in (Role.USER, Role.ADMIN))
    assert api.client.get("/metrics").status_code == 401
    assert api.client.get("/metrics", headers={"X-API-Key": user}).status_code == 403
    assert api.client.get("/metrics", headers={"Authorization": f"Bearer {admin}"}).status_code == 200


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("", "text/plain"), ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text")],
)
def test_a_scraper_gets_the_format_it_asks_for(api: Api, accept: str, content_type: str) -> None:
    answer = api.client.get("/metrics", headers={"Accept": accept}, buffered=True)
    assert answer.headers["Content-Type"].startswith(content_type)
    assert answer.get_data(as_text=True).count("# EOF") == (content_type != "text/plain")
