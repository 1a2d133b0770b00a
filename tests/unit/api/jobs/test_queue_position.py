"""Clients that wait in the queue get each change of their position, with an estimated wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from werkzeug.test import TestResponse

from api.jobs.queue_position import PositionWatch, QueueWatcher
from common.jobs.store import QueuePosition
from common.redis import keys
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import PATIENCE_S, StartApi, frames, wait_until

BUSY = 3  # max_num_seqs of two, and one job dispatched ahead


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.jobs.queue_position.LOOK_UP_S", 0.01)


class FakeLookUp:
    """Returns the positions that Redis would have."""

    def __init__(self) -> None:
        self.positions: dict[str, QueuePosition] = {}
        self.asked: list[set[str]] = []
        self.is_away = False

    def __call__(self, job_ids: Collection[str]) -> dict[str, QueuePosition]:
        self.asked.append(set(job_ids))
        if self.is_away:
            raise RedisConnectionError
        return {job_id: self.positions[job_id] for job_id in job_ids if job_id in self.positions}


class Client:
    """A client that records the reported positions."""

    def __init__(self, watcher: QueueWatcher, job_id: str) -> None:
        self.reported: list[QueuePosition | None] = []
        self.watch = PositionWatch(watcher, job_id, self.look)

    def look(self) -> None:
        self.reported.append(self.watch.take())


def test_each_move_is_reported_once() -> None:
    look_up = FakeLookUp()
    client = Client(QueueWatcher(look_up), "a")
    look_up.positions["a"] = QueuePosition(3, 4.5)
    client.watch.begin(known=3)
    wait_until(lambda: len(look_up.asked) > 3)
    assert client.reported == []
    look_up.positions["a"] = QueuePosition(2, 3.0)
    wait_until(lambda: client.reported == [QueuePosition(2, 3.0)])
    del look_up.positions["a"]
    wait_until(lambda: client.reported == [QueuePosition(2, 3.0), QueuePosition(0, None)])
    client.watch.end()


def test_one_lookup_serves_all_clients_and_finds_each_job_once() -> None:
    look_up = FakeLookUp()
    look_up.positions = {"a": QueuePosition(1), "b": QueuePosition(2)}
    watcher = QueueWatcher(look_up)
    clients = [Client(watcher, job_id) for job_id in "abab"]
    for client in clients:
        client.watch.begin()
    wait_until(lambda: all(client.reported for client in clients))
    assert [client.reported for client in clients] == [[QueuePosition(1)], [QueuePosition(2)]] * 2
    assert look_up.asked[-1] == {"a", "b"}
    for client in clients:
        client.watch.end()
    wait_until(lambda: not watcher._is_running)


def test_the_position_of_a_client_that_left_is_not_looked_up() -> None:
    look_up = FakeLookUp()
    watcher = QueueWatcher(look_up)
    client = Client(watcher, "a")
    client.watch.begin()
    client.watch.end()
    wait_until(lambda: not watcher._is_running)
    assert client.watch.take() is None
    client.watch.begin(known=0)
    wait_until(lambda: watcher._is_running)
    client.watch.end()


def test_while_redis_is_away_no_position_is_reported() -> None:
    look_up = FakeLookUp()
    look_up.is_away = True
    client = Client(QueueWatcher(look_up), "a")
    client.watch.begin(known=2)
    wait_until(lambda: len(look_up.asked) > 2)
    assert client.reported == []
    look_up.is_away = False
    wait_until(lambda: client.reported == [QueuePosition(0)])
    client.watch.end()


# -- through the API ---------------------------------------------------------------------------------------------------


def position_of(chunk: bytes) -> dict[str, Any]:
    assert chunk.startswith(b"data: ")
    return dict(json.loads(chunk.removeprefix(b"data: ")))


def chunks(stream: TestResponse) -> Iterator[bytes]:
    """Without heartbeats."""
    return (chunk for chunk in stream.response if not chunk.startswith(b":"))  # type: ignore[union-attr]


def cancel(api: Api, *job_ids: str) -> None:
    for job_id in job_ids:
        api.client.delete(f"/slm/jobs/{job_id}")


def test_a_queued_stream_reports_its_positions_without_event_numbers(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    running = [api.submit() for _ in range(BUSY)]
    ahead = [api.submit() for _ in range(2)]
    stream = api.stream()
    found = chunks(stream)
    assert next(found) == b'id: 0\ndata: {"status": "Queued", "position": 3}\n\n'
    cancel(api, ahead[0])
    for position, gone in ((2, ahead[1]), (1, stream.headers["X-Job-Id"])):
        place = position_of(next(found))
        assert list(place) == ["status", "position", "estimated_wait_s"]
        assert (place["status"], place["position"]) == ("Queued", position)
        cancel(api, gone)
    rest = b"".join(stream.response).decode()  # type: ignore[arg-type]
    assert frames(rest) == [(1, {"status": "Cancelled", "device_used": None})]
    cancel(api, *running)


def test_a_client_that_resumes_a_queued_job_gets_its_position(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    running = [api.submit() for _ in range(BUSY)]
    waiting = [api.submit() for _ in range(2)]
    with api.client.get(f"/slm/jobs/{waiting[1]}/stream", headers={"Last-Event-ID": "0"}) as stream:
        found = chunks(stream)
        assert position_of(next(found))["position"] == 2
        cancel(api, waiting[0])
        assert position_of(next(found))["position"] == 1
    cancel(api, waiting[1], *running)


def test_a_running_job_has_no_position(start_api: StartApi) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("a ")
        assert go_on.wait(PATIENCE_S)
        play.end("b")

    api = start_api(script, heartbeat_s=0.02)
    stream = api.stream()
    found = iter(stream.response)
    next(found)
    assert [next(found) for _ in range(5)] == [b": heartbeat\n\n"] * 5
    go_on.set()
    stream.close()


def test_polling_and_the_202_answer_have_the_estimate_too(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    running = [api.submit() for _ in range(BUSY)]
    wait_until(lambda: api.redis.zcard(keys.leases("generate")) == BUSY)
    api.redis.delete(keys.starts("generate"))
    unknown = api.generate(**{"async": True}).json
    assert (unknown["position"], unknown["estimated_wait_s"]) == (1, None)
    seconds, _ = api.redis.time()
    for ago in (40, 30, 20, 10):  # four starts in forty seconds
        api.redis.lpush(keys.starts("generate"), (seconds - ago) * 1000)
    accepted = api.generate(**{"async": True}).json
    polled = api.job(accepted["job_id"])
    for answer in (accepted, polled):
        assert answer["position"] == 2
        assert 18 <= answer["estimated_wait_s"] <= 25
    cancel(api, accepted["job_id"], unknown["job_id"], *running)
    ended = api.finish(accepted["job_id"])
    assert (ended["position"], ended["estimated_wait_s"]) == (None, None)
