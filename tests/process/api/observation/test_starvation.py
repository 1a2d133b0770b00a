"""A process without enough CPU time reports that, instead of blaming Redis."""

from __future__ import annotations

import pytest

from api.current import EXTENSION
from api.observation.starvation import STARVED_S, STEP_S, WINDOW_S, Starvation
from common.fleet import Fleet
from common.redis.client import connect
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def starvation(clock: Clock) -> Starvation:
    return Starvation(clock)


def sleep(starvation: Starvation, clock: Clock, late_s: float = 0.0) -> None:
    starvation.fall_asleep()
    clock.now += STEP_S + late_s
    starvation.wake()


def test_a_process_that_wakes_up_in_time_is_not_starved(starvation: Starvation, clock: Clock) -> None:
    assert not starvation.is_starved
    for _ in range(1000):
        sleep(starvation, clock, late_s=0.01)
    assert not starvation.is_starved


def test_many_small_delays_add_up_to_a_large_one(starvation: Starvation, clock: Clock) -> None:
    for _ in range(10):
        sleep(starvation, clock, late_s=STARVED_S / 9)
    assert starvation.is_starved


def test_a_delay_counts_before_it_is_over(starvation: Starvation, clock: Clock) -> None:
    starvation.fall_asleep()
    clock.now += STEP_S + STARVED_S
    assert starvation.is_starved


def test_old_delays_are_forgotten(starvation: Starvation, clock: Clock) -> None:
    sleep(starvation, clock, late_s=2 * STARVED_S)
    assert starvation.is_starved
    clock.now += WINDOW_S + 1
    assert not starvation.is_starved
    sleep(starvation, clock)
    assert not starvation.is_starved


def test_a_starved_process_does_not_blame_redis(start_api: StartApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api: Api = start_api()
    away = connect("redis://127.0.0.1:9/0", retries=0)
    services = api.client.application.extensions[EXTENSION]
    monkeypatch.setattr(services.overview, "_fleet", Fleet(away))
    assert api.client.get("/slm/info").json["code"] == "redis_unavailable"
    services.starvation.fall_asleep()
    monkeypatch.setattr("api.observation.starvation.STARVED_S", 0.0)
    answer = api.client.get("/slm/info")
    assert (answer.status_code, answer.json["code"]) == (503, "overloaded")
    assert answer.headers["Retry-After"]
