"""How one owner leaves places of the fleet free for others, on the emulated and on the real Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobOptions, JobStore
from common.redis import keys

LANE = "generate"
AHEAD = 1  # wake-up messages beyond the capacity
PLACES_PER_RESERVED = 32
GRACE_S = 600


class Station:
    """A store whose dispatched jobs start at once, and workers."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.store = JobStore(redis, self._start, job_ttl_s=600)
        self.attempts: dict[str, int] = {}
        redis.hset(keys.API_KEYS, mapping={"ann": "{}", "bob": "{}"})

    def _start(self, wake_ups: object) -> None:
        for wake_up in wake_ups:  # type: ignore[attr-defined]
            claim = self.store.claim(wake_up.job_id, "w", lease_s=600)
            assert claim is not None
            self.attempts[claim.job.id] = claim.attempt

    def add_worker(self, name: str, places: int) -> None:
        Fleet(self.redis).beat(WorkerReport(name, "h", 1, WorkerState.READY, slots=places), ttl_s=600)

    def enter(self, name: str, owner: str) -> str:
        options = JobOptions(reader_grace_s=GRACE_S)
        params = {"sampling": {"max_new_tokens": 100}}
        self.store.submit(name, JobKind.GENERATE, params, owner=owner, max_queue=1000, options=options)
        return name

    def enter_many(self, count: int, owner: str) -> list[str]:
        return [self.enter(f"{owner}{number}", owner) for number in range(count)]

    def running(self, owner: str = "") -> list[str]:
        return [name for name in self.redis.zrange(keys.leases(LANE), 0, -1) if name.startswith(owner)]

    def end(self, name: str) -> None:
        attempt = self.attempts[name]
        seq = self.redis.llen(keys.log(name))
        self.store.succeed(name, attempt, {}, [events.finished(seq, JobState.SUCCEEDED)])

    def asked_to_yield(self) -> set[str]:
        return set(self.redis.zrange(f"slm:lane:{LANE}:yielding", 0, -1))


@pytest.fixture
def station(redis: Redis) -> Station:
    return Station(redis)


def test_a_server_with_a_single_owner_keeps_no_place_free(station: Station) -> None:
    station.redis.hdel(keys.API_KEYS, "bob")
    station.add_worker("w", PLACES_PER_RESERVED)
    station.enter_many(60, "ann")
    assert len(station.running()) > PLACES_PER_RESERVED - 1


def test_an_owner_with_many_jobs_leaves_a_place_that_another_gets_at_once(station: Station) -> None:
    station.add_worker("w", PLACES_PER_RESERVED)
    station.enter_many(60, "ann")
    assert len(station.running()) == PLACES_PER_RESERVED - 1

    for number in range(3):
        name = station.enter(f"bob{number}", "bob")
        assert name in station.running()
        station.end(name)

    assert len(station.running("ann")) == PLACES_PER_RESERVED - 1


def test_the_owners_next_job_starts_when_one_ends(station: Station) -> None:
    station.add_worker("w", PLACES_PER_RESERVED)
    names = station.enter_many(40, "ann")
    for name in names[:5]:
        station.end(name)

    assert set(station.running()) == set(names[5 : PLACES_PER_RESERVED + 4])


def test_two_owners_use_all_places_and_take_turns(station: Station) -> None:
    station.add_worker("w", PLACES_PER_RESERVED)
    station.enter_many(60, "ann")
    station.enter_many(60, "bob")
    for _ in range(40):
        station.end(station.running("ann")[0])

    assert len(station.running()) == PLACES_PER_RESERVED + AHEAD
    assert len(station.running("bob")) > 10


@pytest.mark.parametrize("places", [1, 2, PLACES_PER_RESERVED - 1])
def test_a_small_fleet_reserves_nothing(station: Station, places: int) -> None:
    station.add_worker("w", places)
    station.enter_many(60, "ann")

    assert len(station.running()) == places + AHEAD


def test_the_places_of_all_workers_count_together(station: Station) -> None:
    for number in range(4):
        station.add_worker(f"w{number}", PLACES_PER_RESERVED // 2)
    station.enter_many(100, "ann")

    assert len(station.running()) == 2 * (PLACES_PER_RESERVED - 1)


def test_an_unread_job_that_yielded_does_not_start_again_before_the_jobs_that_are_read(station: Station) -> None:
    """Neither may start: the one waits for readers, and the others have all the places that they may have."""
    station.add_worker("w", PLACES_PER_RESERVED)
    station.enter_many(60, "ann")
    station.enter("bob", "bob")
    station.store.note_readers({"bob": False}, GRACE_S)
    assert station.asked_to_yield() == {"bob"}
    station.store.release("bob", station.attempts["bob"])

    for _ in range(3):
        station.store.reap()
    assert station.attempts["bob"] == 1

    station.store.note_readers({"bob": True}, GRACE_S)
    assert station.attempts["bob"] == 2


def test_an_unread_job_uses_a_reserved_place_if_nobody_waits(station: Station) -> None:
    station.add_worker("w", PLACES_PER_RESERVED)
    station.enter_many(PLACES_PER_RESERVED - 1, "ann")
    for name in ("bob0", "bob1"):
        station.enter(name, "bob")
    station.store.note_readers({"bob0": False}, GRACE_S)
    station.store.release("bob0", station.attempts["bob0"])

    station.end("bob1")

    assert "bob0" in station.running()


def test_a_read_job_passes_its_owners_unread_ones(station: Station) -> None:
    station.add_worker("w", PLACES_PER_RESERVED)
    station.enter_many(60, "ann")
    station.enter_many(4, "bob")  # two run
    station.store.note_readers({"bob2": False}, GRACE_S)
    station.end("bob0")
    station.end("bob1")

    assert station.running("bob") == ["bob3"]


def test_lua_has_this_number_of_places() -> None:
    from common.redis.scripts import _source

    assert f"local PLACES_PER_RESERVED = {PLACES_PER_RESERVED} " in _source("prelude")
