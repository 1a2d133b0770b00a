"""A reader keeps a job alive; a job without readers is cancelled after the grace."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from api.jobs.readers import Readers
from common.redis import keys
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi, wait_until

LONG_S = 3600.0


class Redis:
    """Records the reports."""

    def __init__(self) -> None:
        self.reports: list[dict[str, bool]] = []
        self.is_away = False
        self.failures = 0

    def note(self, is_read: Mapping[str, bool]) -> None:
        if self.is_away:
            self.failures += 1
            raise RedisConnectionError
        self.reports.append(dict(is_read))

    def of(self, job_id: str) -> list[bool]:
        """Return the reports about a job, one by one."""
        return [batch[job_id] for batch in self.reports if job_id in batch]


@pytest.fixture
def redis_of_readers() -> Redis:
    return Redis()


def test_a_job_is_reported_repeatedly_while_somebody_reads_it(redis_of_readers: Redis) -> None:
    readers = Readers(redis_of_readers.note, 0.03)
    reading = readers.enter("a")
    wait_until(lambda: len(redis_of_readers.of("a")) >= 4)
    reading.leave(is_over=True)
    wait_until(lambda: not readers._is_running)


def test_many_readers_of_a_job_are_reported_once(redis_of_readers: Redis) -> None:
    readers = Readers(redis_of_readers.note, LONG_S)
    readings = [readers.enter("a") for _ in range(50)]
    for _ in range(50):
        readers.touch("a")
    wait_until(lambda: redis_of_readers.of("a") == [True])
    for reading in readings[1:]:
        reading.leave(is_over=False)
    assert redis_of_readers.of("a") == [True], "one still reads"
    readings[0].leave(is_over=False)
    wait_until(lambda: redis_of_readers.of("a") == [True, False])


def test_the_grace_begins_when_the_last_one_leaves(redis_of_readers: Redis) -> None:
    readers = Readers(redis_of_readers.note, LONG_S)
    first, second = readers.enter("a", is_known=True), readers.enter("a")
    first.leave(is_over=False)
    first.leave(is_over=False)
    assert redis_of_readers.reports == []  # it was reported on its submission, a moment ago
    second.leave(is_over=False)
    wait_until(lambda: redis_of_readers.of("a") == [False])
    readers.touch("a")
    wait_until(lambda: redis_of_readers.of("a") == [False, True])
    readers.touch("a")
    wait_until(lambda: not readers._is_running)
    assert redis_of_readers.of("a") == [False, True]


def test_an_ended_job_is_not_reported(redis_of_readers: Redis) -> None:
    readers = Readers(redis_of_readers.note, LONG_S)
    reading = readers.enter("a")
    wait_until(lambda: redis_of_readers.of("a") == [True])
    reading.leave(is_over=True)
    wait_until(lambda: not readers._is_running)
    assert redis_of_readers.of("a") == [True]


def test_reports_that_redis_missed_are_repeated_when_it_is_back(
    redis_of_readers: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.jobs.readers.RETRY_S", 0.01)
    redis_of_readers.is_away = True
    readers = Readers(redis_of_readers.note, LONG_S)
    readers.enter("a").leave(is_over=False)
    readers.touch("b")
    wait_until(lambda: redis_of_readers.failures > 2)
    redis_of_readers.is_away = False
    wait_until(lambda: (redis_of_readers.of("a"), redis_of_readers.of("b")) == ([False], [True]))


# -- through the API ---------------------------------------------------------------------------------------------------


def grace_left(api: Api, job_id: str) -> int:
    return int(api.redis.pttl(keys.reader(job_id)))


def test_a_streamed_job_needs_a_reader_and_has_one(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled, reader_grace_s=100)
    answer = api.stream()
    job_id = answer.headers["X-Job-Id"]
    assert api.worker.store.get(job_id).reader_ms == 100_000
    api.redis.pexpire(keys.reader(job_id), 5000)
    answer.close()
    wait_until(lambda: grace_left(api, job_id) > 90_000)


@pytest.mark.parametrize("look", ["{}", "{}/stream"])
def test_attaching_and_polling_count_as_reading(start_api: StartApi, look: str) -> None:
    api = start_api(Play.run_until_cancelled, reader_grace_s=100)
    stream = api.stream()
    other = start_api(Play.run_until_cancelled, reader_grace_s=100)  # as in another process
    url = stream.headers["Location"]
    api.redis.pexpire(keys.reader(stream.headers["X-Job-Id"]), 5000)
    with other.client.get(look.format(url)):
        wait_until(lambda: grace_left(api, stream.headers["X-Job-Id"]) > 90_000)
    stream.close()


def test_an_abandoned_stream_ends_as_cancelled(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled, reader_grace_s=0.05)
    answer = api.stream()
    answer.close()
    job_id = answer.headers["X-Job-Id"]
    wait_until(lambda: api.worker.store.get(job_id).state == "cancelled")


@pytest.mark.parametrize(("path", "extra"), [("/slm/stream", {"on_disconnect": "continue"}), ("/slm/load", {})])
def test_a_job_that_should_continue_needs_no_reader(start_api: StartApi, path: str, extra: dict[str, str]) -> None:
    api = start_api(Play.run_until_cancelled)
    body = extra and {"prompt": "Hi"} | extra
    with api.client.post(path, json=body) as answer:
        job_id = answer.headers["X-Job-Id"]
        assert api.worker.store.get(job_id).reader_ms is None
        assert not api.redis.exists(keys.reader(job_id))
        api.client.delete(f"/slm/jobs/{job_id}")


def test_an_asynchronous_job_needs_no_reader(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled, sync_timeout_s=0.05)
    answer = api.generate(on_disconnect="cancel")
    assert answer.status_code == 202
    assert not api.worker.store.get(answer.json["job_id"]).needs_reader


def test_a_client_that_does_not_wait_cannot_abandon_its_job(api: Api) -> None:
    plain = {"prompt": "Hi", "on_disconnect": "cancel"}
    for body, headers in ((plain | {"async": True}, {}), (plain, {"Prefer": "respond-async"})):
        answer = api.client.post("/slm/generate", json=body, headers=headers)
        assert (answer.status_code, answer.json["param"]) == (400, "on_disconnect")
        assert answer.json["error"].startswith('on_disconnect must be "continue"')
    job_id = api.submit(on_disconnect="continue")
    assert api.worker.store.get(job_id).reader_ms is None
