"""The guarantees of the job store, on the emulated and on the real Redis."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from common.errors import (
    Conflict,
    IdempotencyMismatch,
    JobExpired,
    JobNotFound,
    NoWorker,
    QueueFull,
    QuotaExceeded,
    RateLimitExceeded,
    WorkerLost,
)
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.events import Event, EventType
from common.jobs.fair_share import BULK_DELAY
from common.jobs.job import JobKind, JobState
from common.jobs.store import (
    EVENTS_PER_CALL,
    MAX_CRASHES,
    Claim,
    Fenced,
    JobOptions,
    JobStore,
    LogGap,
    QueuePosition,
    Submitted,
    WakeUp,
)
from common.jobs.webhook_queue import Shares, WebhookQueue
from common.owners.api_keys import Limits
from common.queue import CONTROL_QUEUE, QUEUE
from common.redis import keys

LEASE_S = 60.0  # more than any test takes, and less than the absences in some
TTL_S = 600


class Station:
    """A store whose dispatches are recorded, and a worker that runs `slots` sequences at once."""

    def __init__(self, redis: Redis, slots: int = 2) -> None:
        self.redis = redis
        self.wake_ups: list[WakeUp] = []
        self.store = JobStore(redis, self.wake_ups.extend, job_ttl_s=TTL_S)
        self.fleet = Fleet(redis)
        self.with_capacity(slots)

    def with_capacity(self, slots: int) -> None:
        report = WorkerReport(id="w1", host="h", pid=1, state=WorkerState.READY, slots=slots)
        self.fleet.beat(report, ttl_s=LEASE_S)

    def submit(
        self,
        job_id: str,
        kind: JobKind = JobKind.GENERATE,
        max_queue: int = 100,
        owner: str = "me",
        **options: object,
    ) -> int:
        return self.enter(job_id, kind, max_queue, owner, **options).position

    def enter(
        self,
        job_id: str,
        kind: JobKind = JobKind.GENERATE,
        max_queue: int = 100,
        owner: str = "me",
        **options: object,
    ) -> Submitted:
        wanted = JobOptions(**options)  # type: ignore[arg-type]
        return self.store.submit(job_id, kind, {"prompt": job_id}, owner=owner, max_queue=max_queue, options=wanted)

    def claim(self, job_id: str, worker: str = "w1") -> Claim:
        claim = self.store.claim(job_id, worker, lease_s=LEASE_S)
        assert claim is not None
        return claim

    def dispatched(self) -> list[str]:
        dispatched, self.wake_ups[:] = [wake_up.job_id for wake_up in self.wake_ups], []
        return dispatched

    def expire_leases(self) -> None:
        for job_id in self.redis.zrange(keys.leases("generate"), 0, -1):
            self.redis.zadd(keys.leases("generate"), {job_id: 0})

    def log(self, job_id: str) -> list[Event]:
        return [Event.from_wire(text) for text in self.redis.lrange(keys.log(job_id), 0, -1)]

    def succeed(self, claim: Claim) -> None:
        end = events.finished(claim.next_seq, JobState.SUCCEEDED, "stop", "cpu")
        self.store.succeed(claim.job.id, claim.attempt, {"response": "x"}, [end])


def now_ms(redis: Redis) -> int:
    seconds, micros = redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


@pytest.fixture
def station(redis: Redis) -> Station:
    return Station(redis)


def test_a_job_that_can_start_is_dispatched_at_once(station: Station) -> None:
    assert station.submit("a") == 0
    assert station.wake_ups == [WakeUp("a", JobKind.GENERATE)]
    assert station.store.get("a").state is JobState.QUEUED


def test_dispatches_are_limited_by_free_capacity_and_follow_the_order_of_arrival(station: Station) -> None:
    positions = [station.submit(name) for name in "abcde"]
    assert positions == [0, 0, 0, 1, 2]  # two run, and one wake-up message is ahead
    assert station.dispatched() == ["a", "b", "c"]
    station.succeed(station.claim("a"))
    assert station.dispatched() == ["d"]
    assert station.store.queue_positions(["e", "d", "nope"]) == {"e": QueuePosition(1)}


def test_a_waiting_jobs_first_event_is_its_queue_position(station: Station) -> None:
    for name in "abcd":
        station.submit(name)
    assert station.log("d") == [Event(0, EventType.QUEUED, {"position": 1})]
    assert station.log("a") == []


def test_load_and_unload_do_not_wait_for_generations(station: Station) -> None:
    for name in "abcdef":
        station.submit(name)
    station.dispatched()
    assert station.submit("load", JobKind.LOAD) == 0
    assert station.wake_ups == [WakeUp("load", JobKind.LOAD, queue=CONTROL_QUEUE)]


def test_more_capacity_dispatches_more_jobs(station: Station) -> None:
    for name in "abcdef":
        station.submit(name)
    station.dispatched()
    station.with_capacity(4)
    station.store.dispatch_due()
    assert station.dispatched() == ["d", "e"]


def test_without_a_live_worker_a_job_is_refused_and_not_stored(redis: Redis) -> None:
    station = Station(redis)
    station.fleet.leave("w1")
    with pytest.raises(NoWorker) as refused:
        station.submit("a")
    assert refused.value.retry_after_s
    with pytest.raises(JobNotFound):
        station.store.get("a")


def test_a_full_queue_refuses(station: Station) -> None:
    for name in "abcd":
        station.submit(name, max_queue=1)
    with pytest.raises(QueueFull):
        station.submit("e", max_queue=1)


def test_a_submit_that_is_sent_twice_makes_one_job(station: Station) -> None:
    for _ in range(2):
        station.submit("a")
    assert station.dispatched() == ["a"]
    assert [job.id for job in station.store.newest(10)] == ["a"]


def test_a_job_is_claimed_once(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    assert (claim.attempt, claim.next_seq) == (1, 0)
    assert claim.job.params == {"prompt": "a"}
    assert station.store.claim("a", "w2", lease_s=LEASE_S) is None
    assert station.store.claim("unknown", "w2", lease_s=LEASE_S) is None


def test_one_call_appends_the_events_of_many_jobs_and_refuses_only_those_of_lost_attempts(station: Station) -> None:
    for name in ("a", "b", "c"):
        station.submit(name)
        station.claim(name)
    many = [events.token(seq, "x", [seq]) for seq in range(EVENTS_PER_CALL)]
    fenced, gap = [events.token(0, "y", [1])], [events.token(5, "y", [1])]
    assert station.store.emit([("a", 1, many), ("b", 0, fenced), ("c", 1, gap), ("b", 1, fenced)]) == [
        EVENTS_PER_CALL,
        -1,
        -2,
        1,
    ]
    assert station.log("a") == many
    assert (station.log("b"), station.log("c")) == (fenced, [])


def test_events_are_numbered_by_their_index_in_the_log_and_published_as_stored(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    with station.redis.pubsub() as pubsub:
        pubsub.subscribe(keys.channel("a"))
        assert pubsub.get_message(timeout=60)["type"] == "subscribe"
        batch = [events.status(0, "Generating response..."), events.token(1, 'H"i\n\u2028', [7, 8])]
        assert station.store.emit([("a", 1, batch)]) == [2]
        published = pubsub.get_message(timeout=60)["data"].split("\n")
    assert station.redis.lrange(keys.log("a"), 0, -1) == published
    assert station.log("a") == batch
    assert claim.next_seq == 0


def test_events_that_are_sent_twice_are_stored_once(station: Station) -> None:
    station.submit("a")
    station.claim("a")
    first, second, third = (events.token(seq, str(seq), [seq]) for seq in range(3))
    station.store.emit([("a", 1, [first, second])])
    assert station.store.emit([("a", 1, [first, second, third])]) == [3]
    assert [event.seq for event in station.log("a")] == [0, 1, 2]


def test_an_older_attempt_is_fenced_off(station: Station) -> None:
    """A worker that was paused for longer than its lease wakes up and continues to write."""
    station.submit("a")
    old = station.claim("a", "w1")
    station.store.emit([("a", old.attempt, [events.token(0, "one", [1])])])
    station.expire_leases()
    station.store.reap()
    new = station.claim("a", "w2")
    assert (new.attempt, new.next_seq) == (2, 1)

    assert station.store.emit([("a", old.attempt, [events.token(1, "stale", [9])])]) == [-1]
    with pytest.raises(Fenced):
        station.store.succeed("a", old.attempt, {}, [events.finished(1, JobState.SUCCEEDED)])
    with pytest.raises(Fenced):
        station.store.release("a", old.attempt)
    assert station.store.renew([("a", old.attempt), ("a", new.attempt)], lease_s=LEASE_S) == ({("a", 1)}, set())
    assert [event.data["text"] for event in station.log("a")] == ["one"]


def test_events_missing_before_a_batch_are_noticed(station: Station) -> None:
    """Redis came back from a crash without its last second."""
    station.submit("a")
    station.claim("a")
    assert station.store.emit([("a", 1, [events.token(5, "x", [1])])]) == [-2]
    with pytest.raises(LogGap):
        station.store.succeed("a", 1, {}, [events.finished(5, JobState.SUCCEEDED)])
    assert station.store.get("a").state is JobState.RUNNING


def test_the_state_is_terminal_before_the_terminal_event_is_seen(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    with station.redis.pubsub() as pubsub:
        pubsub.subscribe(keys.channel("a"))
        pubsub.get_message(timeout=60)
        station.succeed(claim)
        assert Event.from_wire(pubsub.get_message(timeout=60)["data"]).type is EventType.FINISHED
        assert station.store.get("a").state is JobState.SUCCEEDED


def test_a_job_ends_once(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    station.succeed(claim)
    station.succeed(claim)  # sent twice
    assert len(station.log("a")) == 1
    with pytest.raises(Fenced):
        station.store.fail("a", claim.attempt, [events.error(1, WorkerLost("late"))])
    record = station.store.get("a")
    assert record.result == {"response": "x"}
    assert record.error is None
    assert record.finished_ms is not None


def test_an_ended_job_expires_with_its_log(station: Station) -> None:
    station.submit("a")
    station.succeed(station.claim("a"))
    assert 0 < station.redis.ttl(keys.job("a")) <= TTL_S
    assert 0 < station.redis.ttl(keys.log("a")) <= TTL_S
    station.redis.zadd("slm:jobs:expiry", {"a": 0})
    station.redis.delete(keys.job("a"), keys.log("a"))
    station.store.reap()
    assert station.store.newest(10) == []
    assert station.redis.zcard(keys.JOB_INDEX) == 0


def test_only_an_ended_job_can_be_forgotten_and_leaves_nothing(station: Station) -> None:
    station.submit("a")
    assert not station.store.forget("a")
    claim = station.claim("a")
    assert not station.store.forget("a")
    station.succeed(claim)
    assert station.store.forget("a")
    assert not station.store.forget("a")
    assert station.redis.exists(keys.job("a"), keys.log("a")) == 0
    assert station.store.newest(10) == []
    station.store.reap()


def test_a_failed_job_keeps_its_error(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    station.store.fail("a", claim.attempt, [events.error(0, WorkerLost("gone"))])
    record = station.store.get("a")
    assert record.state is JobState.FAILED
    assert isinstance(record.error, WorkerLost)
    assert record.error.message == "gone"


def test_a_queued_job_is_cancelled_at_once(station: Station) -> None:
    for name in "abcd":
        station.submit(name)
    for name in "ad":  # dispatched and pending
        assert station.store.cancel(name) is JobState.CANCELLED
        assert station.log(name)[-1].type is EventType.FINISHED
        assert station.store.claim(name, "w1", lease_s=LEASE_S) is None
    assert station.store.cancel("a") is JobState.CANCELLED  # again: nothing more happens
    assert len(station.log("a")) == 1


def test_cancelling_a_dispatched_job_dispatches_the_next(station: Station) -> None:
    for name in "abcd":
        station.submit(name)
    station.dispatched()
    station.store.cancel("b")
    assert station.dispatched() == ["d"]


def test_cancelling_a_running_job_sets_a_flag_and_notifies_its_worker(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    with station.redis.pubsub() as pubsub:
        pubsub.subscribe(keys.CONTROL_CHANNEL)
        pubsub.get_message(timeout=60)
        assert station.store.cancel("a") is JobState.RUNNING
        assert pubsub.get_message(timeout=60)["data"] == '{"cancel":"a"}'
    assert station.store.renew([("a", claim.attempt)], lease_s=LEASE_S) == (set(), {"a"})
    station.store.end_cancelled("a", claim.attempt, None, [events.finished(0, JobState.CANCELLED, "cancelled")])
    record = station.store.get("a")
    assert (record.state, record.result) == (JobState.CANCELLED, None)


def test_cancelling_an_unknown_job_is_reported(station: Station) -> None:
    with pytest.raises(JobNotFound, match="nope"):
        station.store.cancel("nope")


def test_a_dead_workers_job_returns_to_its_queue_position(station: Station) -> None:
    for name in "abcde":
        station.submit(name)
    station.claim("a")
    station.dispatched()
    station.expire_leases()
    station.store.reap()
    assert station.dispatched() == ["a"]  # before d and e, which came later
    assert station.store.get("a").state is JobState.QUEUED
    assert station.claim("a", "w2").attempt == 2


def test_a_job_whose_workers_died_too_often_fails(station: Station) -> None:
    station.submit("a")
    for _ in range(MAX_CRASHES):
        station.claim("a")
        station.expire_leases()
        station.store.reap()
    record = station.store.get("a")
    assert record.state is JobState.FAILED
    assert isinstance(record.error, WorkerLost)
    assert station.log("a")[-1].type is EventType.ERROR


def test_a_lease_that_expired_while_the_server_was_away_is_not_a_crash(station: Station) -> None:
    """Its worker could not renew it. It gets the time of one lease for that when the server is back."""
    station.submit("a")
    claim = station.claim("a")
    station.expire_leases()
    long_ago = now_ms(station.redis) - 120_000
    station.redis.hset("slm:awake", "worker:last", long_ago)  # and there was no heartbeat until now
    station.store.reap()
    station.with_capacity(2)  # a heartbeat
    station.store.reap()
    assert station.store.get("a").state is JobState.RUNNING
    assert station.store.renew([("a", claim.attempt)], lease_s=LEASE_S) == (set(), set())
    station.expire_leases()
    station.redis.hset("slm:awake", "worker:since", long_ago)  # a lease later
    station.store.reap()
    assert station.store.get("a").crashes == 1


def test_crashes_are_counted_from_the_last_attempt_that_brought_a_token(station: Station) -> None:
    station.submit("a")

    def crash(*batch: Event) -> int:
        claim = station.claim("a")
        if batch:
            station.store.emit([("a", claim.attempt, batch)])
        station.expire_leases()
        station.store.reap()
        return station.store.get("a").crashes

    assert crash(events.status(0, "Generating response...")) == 1
    assert crash() == 2
    assert crash(events.token(1, "x", [7])) == 1
    assert crash() == 2
    assert crash() == MAX_CRASHES
    assert station.store.get("a").state is JobState.FAILED


def test_a_released_job_is_dispatched_again_without_counting_a_crash(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    station.dispatched()
    station.store.release("a", claim.attempt)
    assert station.dispatched() == ["a"]
    again = station.claim("a", "w2")
    assert (again.attempt, again.job.crashes) == (2, 0)


def test_messages_that_were_left_in_redis_hide_no_lost_message_of_rabbitmq(station: Station) -> None:
    station.redis.lpush(QUEUE, "sent before SLM_BROKER_URL was set")
    station.submit("a")
    station.redis.zadd(keys.dispatched("generate"), {"a": 0})
    JobStore(station.redis, station.wake_ups.extend, job_ttl_s=TTL_S, has_queues=False).reap()
    assert [wake_up.job_id for wake_up in station.wake_ups] == ["a", "a"]


def test_a_lost_wake_up_is_dispatched_again_when_the_queue_is_empty(station: Station) -> None:
    """Redis sent the message to the socket of a worker that was already dead."""
    station.submit("a")
    station.dispatched()
    station.redis.zadd(keys.dispatched("generate"), {"a": 0})
    station.redis.lpush(QUEUE, "a message that nobody took yet")
    station.store.reap()
    assert station.dispatched() == []
    station.redis.delete(QUEUE)
    station.store.reap()
    assert station.dispatched() == ["a"]


def test_the_newest_jobs_come_first(station: Station) -> None:
    for name in "abc":
        station.submit(name)
        station.redis.zadd(keys.JOB_INDEX, {name: ord(name)})
    assert [job.id for job in station.store.newest(2)] == ["c", "b"]


def test_an_owner_only_sees_their_own_jobs(station: Station) -> None:
    for name, owner in [("a", "ann"), ("b", "bob"), ("c", "ann")]:
        station.submit(name, owner=owner)
    assert {job.id for job in station.store.newest(10, owner="ann")} == {"a", "c"}
    assert [job.id for job in station.store.newest(10, owner="bob")] == ["b"]
    assert station.store.newest(10, owner="nobody") == []


def test_an_expired_job_leaves_its_owners_listing(station: Station) -> None:
    for name in "ab":
        station.submit(name, owner="ann")
        station.succeed(station.claim(name))
    station.redis.zadd("slm:jobs:expiry", {"a": 0})
    station.redis.delete(keys.job("a"), keys.log("a"))
    station.store.reap()
    assert station.redis.zrange(keys.owner_index("ann"), 0, -1) == ["b"]
    assert station.redis.hgetall("slm:jobs:owners") == {"b": "ann"}


def test_scripts_are_registered_again_after_a_restart_of_redis(station: Station) -> None:
    station.submit("a")
    station.redis.script_flush()
    station.submit("b")
    station.claim("a")
    station.redis.script_flush()
    assert station.store.emit([("a", 1, [events.status(0, "x")])]) == [1]


def test_bulk_jobs_wait_for_interactive_ones_but_never_starve(station: Station) -> None:
    for name in ("a", "b", "c"):
        station.submit(name)
    station.submit("bulk", bulk=True)
    station.submit("d")
    assert station.redis.zrange(keys.pending("generate"), 0, -1) == ["d", "bulk"]
    pending = dict(station.redis.zrange(keys.pending("generate"), 0, -1, withscores=True))
    assert pending["bulk"] - pending["d"] < BULK_DELAY + 1  # an owner with more than that in the queue comes after it


def test_jobs_of_the_same_millisecond_keep_their_order(station: Station) -> None:
    names = [f"{n:02}" for n in range(40)]
    for name in names:
        station.submit(name)
    assert station.dispatched() + station.redis.zrange(keys.pending("generate"), 0, -1) == names


def test_a_repeated_idempotency_key_finds_the_first_job(station: Station) -> None:
    first = station.enter("a", idempotency_key="k", fingerprint="f")
    again = station.enter("b", idempotency_key="k", fingerprint="f")
    assert (first, again) == (Submitted("a", 0, repeated=False), Submitted("a", 0, repeated=True))
    assert station.dispatched() == ["a"]
    station.succeed(station.claim("a"))
    assert station.enter("c", idempotency_key="k", fingerprint="f").job_id == "a"  # even after it has ended
    assert station.redis.ttl(keys.idempotency("me", "k")) > 0
    assert station.enter("d", idempotency_key="other", fingerprint="f").job_id == "d"


def test_an_idempotency_key_with_another_request_is_refused(station: Station) -> None:
    station.enter("a", idempotency_key="k", fingerprint="f")
    with pytest.raises(IdempotencyMismatch):
        station.enter("b", idempotency_key="k", fingerprint="g")


def test_a_job_that_waited_too_long_expires(station: Station) -> None:
    for name in "abcd":
        station.submit(name, ttl_s=60)
    station.redis.zadd(keys.PREFIX + "lane:generate:deadlines", {"c": 0, "d": 0})
    station.store.reap()
    for name in "cd":  # dispatched and pending
        assert isinstance(station.store.get(name).error, JobExpired)
        assert station.store.claim(name, "w1", lease_s=LEASE_S) is None
    station.claim("a")
    station.redis.zadd(keys.PREFIX + "lane:generate:deadlines", {"b": 0})
    station.store.reap()
    assert station.store.get("a").state is JobState.RUNNING  # it does not wait any more


def test_a_job_whose_reader_left_is_not_started(station: Station) -> None:
    station.submit("a", reader_grace_s=30)
    station.redis.delete(keys.reader("a"))
    assert station.store.claim("a", "w1", lease_s=LEASE_S) is None
    assert station.store.get("a").state is JobState.CANCELLED
    assert station.log("a")[-1].data["state"] == "cancelled"


def test_a_running_job_whose_reader_left_is_to_be_cancelled(station: Station) -> None:
    for name in "ab":
        station.submit(name, reader_grace_s=30)
    attempts = [(name, station.claim(name).attempt) for name in "ab"]
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), set())
    for name in "ab":
        station.redis.delete(keys.reader(name))
    station.store.note_readers({"b": True}, 30)
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), {"a"})
    station.store.keep_unread("a")
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), set())


class Yields:
    """Receives the jobs that are asked to make room."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._pubsub = redis.pubsub()
        self._pubsub.subscribe(keys.CONTROL_CHANNEL)
        self._pubsub.get_message(timeout=60)

    def take(self) -> list[str]:
        self._redis.publish(keys.CONTROL_CHANNEL, "that was all")
        messages = iter(lambda: self._pubsub.get_message(timeout=60)["data"], "that was all")
        found = [json.loads(message) for message in messages]
        return [one["yield"] for one in found if "yield" in one]


@pytest.fixture
def yields(redis: Redis) -> Yields:
    return Yields(redis)


def leave(station: Station, *job_ids: str) -> None:
    station.store.note_readers(dict.fromkeys(job_ids, False), 30)


def test_an_unread_job_gives_its_capacity_to_a_waiting_one(station: Station, yields: Yields) -> None:
    for name in "ab":
        station.submit(name, owner="ann", reader_grace_s=30)
    attempts = {name: station.claim(name).attempt for name in "ab"}
    leave(station, "a", "b")
    assert yields.take() == [], "nobody waits"
    station.submit("c", owner="bob", reader_grace_s=30)  # dispatched ahead, it waits inside the worker
    (first,) = yields.take()
    station.submit("d", owner="bob", reader_grace_s=30)  # waits in the queue
    (second,) = yields.take()
    assert {first, second} == {"a", "b"}
    station.submit("e", owner="bob", reader_grace_s=30)
    assert yields.take() == [], "there is nobody left to ask"
    station.dispatched()
    station.store.release(first, attempts[first])
    assert station.dispatched() == ["d"]
    station.store.release(second, attempts[second])
    assert station.dispatched() == ["e"]
    assert set(station.store.queue_positions([first, second])) == {first, second}
    for name in "cde":
        station.succeed(station.claim(name))
    assert set(station.dispatched()) == {first, second}


def test_a_job_that_was_asked_to_yield_is_not_asked_twice_if_a_reader_comes_and_goes(station: Station) -> None:
    for name in "abc":
        station.submit(name, reader_grace_s=60.0)
        station.claim(name)
    for is_read in (False, True, False):
        station.store.note_readers({"b": is_read}, 60.0)
    assert station.redis.zrange("slm:lane:generate:yielding", 0, -1) == ["b"]
    assert not station.redis.exists("slm:lane:generate:abandoned")


def test_a_job_that_is_read_again_keeps_its_capacity_and_its_position(station: Station, yields: Yields) -> None:
    for name in "abcdef":
        station.submit(name, reader_grace_s=30)
    for name in "ab":
        station.claim(name)
    leave(station, "d")
    assert [station.store.queue_positions([name])[name].position for name in "def"] == [3, 1, 2]
    station.store.note_readers({"d": True}, 30)
    assert [station.store.queue_positions([name])[name].position for name in "def"] == [1, 2, 3]
    leave(station, "a")
    assert yields.take() == ["a"]
    leave(station, "b")
    assert yields.take() == ["b"]
    station.store.note_readers({"b": True}, 30)
    station.redis.zadd("slm:lane:generate:yielding", {"a": 0, "b": 0})  # both messages were lost
    station.store.note_readers({"b": True}, 30)
    assert yields.take() == ["a"]


def test_an_unread_job_does_not_make_room_for_another_unread_one(station: Station, yields: Yields) -> None:
    for name in "abcd":
        station.submit(name, reader_grace_s=30)
    attempts = {name: station.claim(name).attempt for name in "abc"}
    station.dispatched()
    leave(station, *"abcd")
    (asked,) = yields.take()  # one cannot run, and nobody knows which
    station.store.release(asked, attempts[asked])
    station.store.reap()
    assert (yields.take(), station.dispatched()) == ([], [])


def test_a_waiting_job_unread_for_its_grace_is_cancelled_before_it_starts(station: Station) -> None:
    for name in "abcd":
        station.submit(name, reader_grace_s=30)
    leave(station, "d")
    station.store.reap()
    assert station.store.get("d").state is JobState.QUEUED
    station.redis.delete(keys.reader("d"))
    station.store.reap()
    assert station.store.get("d").state is JobState.CANCELLED
    assert not list(station.redis.scan_iter("slm:lane:generate:unread"))


def test_a_server_that_was_away_gives_every_reader_a_new_grace(station: Station) -> None:
    """Its clock continued, and nobody could report the remaining readers."""
    for name in "ab":
        station.submit(name, reader_grace_s=30)
    running = station.claim("a")
    long_ago = now_ms(station.redis) - 60_000
    station.redis.hset(
        "slm:awake", mapping={"worker:since": 0, "worker:last": long_ago}
    )  # and there was no heartbeat until now
    for name in "ab":
        station.redis.delete(keys.reader(name))
    assert station.store.claim("b", "w1", lease_s=LEASE_S) is not None
    attempts = [("a", running.attempt)]
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), set())
    station.with_capacity(2)  # a heartbeat
    assert int(station.redis.hget("slm:awake", "worker:since") or 0) > long_ago
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), set())
    station.redis.hset("slm:awake", "worker:since", long_ago)  # the grace is over
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), {"a"})


def test_an_api_that_was_away_gives_every_reader_a_new_grace(station: Station) -> None:
    """The workers were there all the time, but nobody could read."""
    station.submit("a", reader_grace_s=30)
    attempts = [("a", station.claim("a").attempt)]
    station.redis.delete(keys.reader("a"))
    station.store.note_api()
    long_ago = now_ms(station.redis) - 60_000
    station.redis.hset("slm:awake", mapping={"api:since": 0, "api:last": long_ago})
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), set()), "it is away"
    station.store.note_api()
    assert int(station.redis.hget("slm:awake", "api:since") or 0) > long_ago
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), set()), "it is back"
    station.redis.hset("slm:awake", "api:since", long_ago)  # the grace is over
    assert station.store.renew(attempts, lease_s=LEASE_S) == (set(), {"a"})


def test_the_wait_is_estimated_from_the_latest_starts(station: Station) -> None:
    for name in "abcdef":
        station.submit(name)
    assert station.store.queue_positions(["f"]) == {"f": QueuePosition(3, None)}
    seconds, _ = station.redis.time()
    for ago in (40, 30, 20, 10):
        station.redis.lpush(keys.starts("generate"), (seconds - ago) * 1000)
    for place in (station.store.queue_positions(["f"])["f"], station.store.position_at(3)):
        assert place.position == 3
        assert place.estimated_wait_s is not None
        assert 29 <= place.estimated_wait_s <= 32  # four starts in forty seconds: one every ten
    assert station.store.position_at(0) == QueuePosition(0, None)


def test_a_full_queue_says_when_to_try_again(station: Station) -> None:
    seconds, _ = station.redis.time()
    for ago in (40, 20):
        station.redis.lpush(keys.starts("generate"), (seconds - ago) * 1000)
    for name in "abcd":
        station.submit(name, max_queue=1)
    with pytest.raises(QueueFull) as refused:
        station.submit("e", max_queue=1)
    assert 19 <= (refused.value.retry_after_s or 0) <= 21


def test_a_poisonous_job_is_set_aside_until_an_operator_drops_it(station: Station) -> None:
    station.submit("a")
    for _ in range(MAX_CRASHES):
        station.claim("a")
        station.expire_leases()
        station.store.reap()
    assert [job.id for job in station.store.dead_letters()] == ["a"]
    assert station.redis.ttl(keys.job("a")) == -1  # it stays
    station.store.drop("a")
    assert station.store.dead_letters() == []
    assert station.redis.ttl(keys.job("a")) > 0
    with pytest.raises(JobNotFound):
        station.store.drop("a")


def test_a_retried_job_leaves_the_dead_letters_as_the_new_one_enters(station: Station) -> None:
    station.submit("a", timeout_s=10)
    with pytest.raises(Conflict):
        station.store.retry("a", "b", max_queue=10)
    for _ in range(MAX_CRASHES):
        station.claim("a")
        station.expire_leases()
        station.store.reap()
    station.dispatched()
    assert station.store.retry("a", "b", max_queue=10) == Submitted("b", 0, repeated=False)
    assert station.dispatched() == ["b"]
    assert station.store.dead_letters() == []
    assert station.redis.ttl(keys.job("a")) > 0
    assert (station.claim("b").job.owner, station.store.get("b").timeout_ms) == ("me", 10_000)
    with pytest.raises(JobNotFound):
        station.store.retry("nope", "c", max_queue=10)


def test_tokens_are_counted_once_whatever_happens_to_the_job(station: Station) -> None:
    station.submit("a")
    old = station.claim("a")
    station.store.emit([("a", old.attempt, [events.token(0, "one two", [1, 2])])])
    station.expire_leases()
    station.store.reap()
    new = station.claim("a", "w2")
    result = {"prompt_tokens": 5, "completion_tokens": 3}
    last = [events.token(1, "three", [3], is_last=True), events.finished(2, JobState.SUCCEEDED, "stop", "cpu")]
    for _ in range(2):
        station.store.succeed("a", new.attempt, result, last)
    with pytest.raises(Fenced):
        station.store.succeed("a", old.attempt, result, last)
    assert station.store.usage("me") == {"jobs": 1, "prompt_tokens": 5, "completion_tokens": 3}

    station.submit("b")
    failed = station.claim("b")
    station.store.emit([("b", failed.attempt, [events.token(0, "x", [1, 2, 3, 4])])])
    station.store.fail("b", failed.attempt, [events.error(1, WorkerLost("gone"))])
    assert station.store.usage("me") == {"jobs": 2, "prompt_tokens": 5, "completion_tokens": 7}


def test_the_time_a_job_may_run_counts_over_all_attempts(station: Station) -> None:
    station.submit("a", timeout_s=10)
    first = station.claim("a")
    assert first.time_left_s is not None
    assert 9 < first.time_left_s <= 10
    station.redis.hincrby(keys.job("a"), "started_ms", -4000)
    station.store.release("a", first.attempt)
    second = station.claim("a", "w2")
    assert second.time_left_s is not None
    assert 5 < second.time_left_s <= 6
    station.submit("b")
    assert station.claim("b").time_left_s is None


DUE = "slm:webhooks:due:me"


def test_however_a_job_ends_its_webhook_is_due(station: Station) -> None:
    station.with_capacity(20)
    for name in ("done", "failed", "stopped", "queued", "expired", "poison", "unread", "silent"):
        options = {"ttl_s": 60} if name == "expired" else {"reader_grace_s": 30} if name == "unread" else {}
        station.submit(name, webhook_url=None if name == "silent" else "https://example.org", **options)
    assert not station.redis.exists(DUE)
    station.succeed(station.claim("done"))
    station.succeed(station.claim("silent"))
    station.store.fail("failed", station.claim("failed").attempt, [events.error(0, WorkerLost("x"))])
    stopped = station.claim("stopped")
    last = [events.finished(0, JobState.CANCELLED, "cancelled")]
    station.store.end_cancelled("stopped", stopped.attempt, None, last)
    station.store.cancel("queued")
    station.redis.delete(keys.reader("unread"))
    assert station.store.claim("unread", "w1", lease_s=LEASE_S) is None
    station.redis.zadd(keys.PREFIX + "lane:generate:deadlines", {"expired": 0})
    for _ in range(MAX_CRASHES):
        station.claim("poison")
        station.expire_leases()
        station.store.reap()
    due = {"done", "failed", "stopped", "queued", "expired", "poison", "unread"}
    assert set(station.redis.zrange(DUE, 0, -1)) == due
    assert {name for name in due if station.redis.ttl(keys.job(name)) != -1} == set()
    assert station.redis.ttl(keys.job("silent")) > 0


def test_a_record_expires_when_nothing_needs_it_any_more(station: Station) -> None:
    """Its webhook and the operator, in either order."""
    queue = WebhookQueue(station.redis, job_ttl_s=TTL_S)
    for name in ("a", "b"):
        station.submit(name, webhook_url="https://example.org")
        for _ in range(MAX_CRASHES):
            station.claim(name)
            station.expire_leases()
            station.store.reap()
    leased = {one.job_id: one for one in queue.take(Shares(8, 8, 8), lease_s=600)}
    queue.note_failed(leased["a"], "x")
    station.store.drop("b")
    assert [station.redis.ttl(keys.job(name)) for name in ("a", "b")] == [-1, -1]
    station.store.drop("a")
    queue.note_delivered(leased["b"])
    assert all(0 < station.redis.ttl(keys.job(name)) <= TTL_S for name in ("a", "b"))


def test_the_number_of_an_owners_jobs_is_limited(station: Station) -> None:
    def enter(job_id: str, owner: str = "ann") -> None:
        limits = Limits(concurrent_jobs=2)
        station.store.submit(job_id, JobKind.GENERATE, {}, owner=owner, max_queue=100, limits=limits)

    for name in "ab":
        enter(name)
    with pytest.raises(RateLimitExceeded, match="limit of 2 waiting or running jobs") as refused:
        enter("c")
    assert refused.value.retry_after_s
    enter("d", owner="bob")
    with pytest.raises(JobNotFound):
        station.store.get("c")
    station.store.cancel("a")
    enter("c")
    station.succeed(station.claim("b"))
    enter("e")


def test_a_repeated_request_does_not_count_as_another_job(station: Station) -> None:
    for name in ("a", "b"):
        options = JobOptions(idempotency_key="k", fingerprint="f")
        found = station.store.submit(
            name, JobKind.GENERATE, {}, owner="me", max_queue=9, options=options, limits=Limits(concurrent_jobs=1)
        )
    assert found == Submitted("a", 0, repeated=True)


def test_the_jobs_of_an_owner_are_counted_however_they_end(station: Station) -> None:
    station.with_capacity(20)
    open_jobs = "slm:jobs:open:me"
    for name in ("done", "handed", "expired", "poison"):
        station.submit(name, ttl_s=60 if name == "expired" else None)
    station.succeed(station.claim("done"))
    station.store.release("handed", station.claim("handed").attempt)
    station.redis.zadd(keys.PREFIX + "lane:generate:deadlines", {"expired": 0})
    for _ in range(MAX_CRASHES):
        station.claim("poison")
        station.expire_leases()
        station.store.reap()
    assert station.redis.smembers(open_jobs) == {"handed"}


def test_the_tokens_of_an_owner_are_limited_per_day(station: Station) -> None:
    limits = Limits(tokens_per_day=8)
    for name in "ab":
        station.store.submit(name, JobKind.GENERATE, {}, owner="ann", max_queue=9, limits=limits)
    claim = station.claim("a")
    end = events.finished(claim.next_seq, JobState.SUCCEEDED, "stop", "cpu")
    station.store.succeed("a", claim.attempt, {"prompt_tokens": 5, "completion_tokens": 3}, [end])
    with pytest.raises(RateLimitExceeded, match="8 tokens for today are used up") as refused:
        station.store.submit("c", JobKind.GENERATE, {}, owner="ann", max_queue=9, limits=limits)
    assert 0 < (refused.value.retry_after_s or 0) <= 24 * 3600
    station.store.submit("d", JobKind.GENERATE, {}, owner="bob", max_queue=9, limits=limits)
    today = now_ms(station.redis) // 86_400_000
    assert 0 < station.redis.ttl(f"slm:tokens:ann:{today}") <= 24 * 3600
    station.redis.rename(f"slm:tokens:ann:{today}", f"slm:tokens:ann:{today - 1}")  # the next day
    station.store.submit("c", JobKind.GENERATE, {}, owner="ann", max_queue=9, limits=limits)


def test_the_tokens_that_a_job_may_need_are_reserved_until_it_ends(station: Station) -> None:
    """Together, concurrent jobs cannot use more than the limit."""
    station.with_capacity(20)

    def enter(name: str, max_new_tokens: int = 30) -> None:
        params = {"sampling": {"max_new_tokens": max_new_tokens}}
        limits = Limits(tokens_per_day=100)
        station.store.submit(name, JobKind.GENERATE, params, owner="ann", max_queue=99, limits=limits)

    for name in "ab":
        enter(name)  # about 39 tokens each
    for name in "cdef":
        with pytest.raises(RateLimitExceeded, match="your waiting and running jobs reserve 78") as refused:
            enter(name)
        assert refused.value.retry_after_s == 2, "they will not need it all"
    claim = station.claim("a")
    end = events.finished(claim.next_seq, JobState.SUCCEEDED, "stop", "cpu")
    station.store.succeed("a", claim.attempt, {"prompt_tokens": 5, "completion_tokens": 3}, [end])
    enter("k")
    station.store.cancel("b")
    enter("l")
    with pytest.raises(RateLimitExceeded, match="92 are left; ask for fewer") as refused:
        enter("m", max_new_tokens=95)
    assert (refused.value.retry_after_s or 0) > 2
    for name in "kl":
        station.store.cancel(name)
    assert not station.redis.exists("slm:tokens:ann:reserved")


@pytest.mark.parametrize("end", ["cancelled", "failed", "expired", "unread", "poison"])
def test_however_a_job_ends_its_reservation_is_released(station: Station, end: str) -> None:
    station.submit("a", ttl_s=60, reader_grace_s=30)
    assert station.redis.exists("slm:tokens:me:reserved")
    match end:
        case "cancelled":
            station.store.cancel("a")
        case "failed":
            station.store.fail("a", station.claim("a").attempt, [events.error(0, WorkerLost("x"))])
        case "expired":
            station.redis.zadd(keys.PREFIX + "lane:generate:deadlines", {"a": 0})
            station.store.reap()
        case "unread":
            station.redis.delete(keys.reader("a"))
            assert station.store.claim("a", "w1", lease_s=LEASE_S) is None
        case "poison":
            for _ in range(MAX_CRASHES):
                station.claim("a")
                station.expire_leases()
                station.store.reap()
    assert not station.redis.exists("slm:tokens:me:reserved")


def test_an_answer_without_a_limit_reserves_at_most_the_context(redis: Redis) -> None:
    station = Station(redis)
    store = JobStore(redis, station.wake_ups.extend, job_ttl_s=TTL_S, context=2048)
    params = {"sampling": {"max_new_tokens": 1_048_576}}
    store.submit("a", JobKind.GENERATE, params, owner="ann", max_queue=9, limits=Limits(tokens_per_day=2048))
    assert redis.get("slm:tokens:ann:reserved") == "2048"


# -- stored bytes of jobs ----------------------------------------------------------------------------------------------


def kept(station: Station, owner: str = "me") -> int:
    return int(station.redis.hget("slm:owners:bytes", owner) or 0)


def make_old(station: Station) -> None:
    """Delete the records of all ended jobs, as if they had expired."""
    for name in station.redis.zrange("slm:jobs:expiry", 0, -1):
        station.redis.delete(keys.job(name), keys.log(name))
        station.redis.zadd("slm:jobs:expiry", {name: 0})
    station.store.reap()


def test_a_job_without_output_does_not_keep_its_request(station: Station) -> None:
    station.with_capacity(20)
    names = ("failed", "stopped", "queued", "expired", "unread")
    for name in names:
        options = {"ttl_s": 60} if name == "expired" else {"reader_grace_s": 30} if name == "unread" else {}
        station.submit(name, **options)
    station.store.fail("failed", station.claim("failed").attempt, [events.error(0, WorkerLost("x"))])
    last = [events.finished(0, JobState.CANCELLED, "cancelled")]
    station.store.end_cancelled("stopped", station.claim("stopped").attempt, None, last)
    station.store.cancel("queued")
    station.redis.delete(keys.reader("unread"))
    assert station.store.claim("unread", "w1", lease_s=LEASE_S) is None
    station.redis.zadd(keys.PREFIX + "lane:generate:deadlines", {"expired": 0})
    station.store.reap()
    for name in names:
        assert station.store.get(name).state.is_terminal
        assert station.redis.hget(keys.job(name), "params") is None
        assert station.store.get(name).params == {}


def test_a_job_with_output_keeps_its_request(station: Station) -> None:
    station.submit("a")
    station.succeed(station.claim("a"))
    assert station.store.get("a").params == {"prompt": "a"}


def test_a_dead_letter_keeps_its_request_until_it_is_dropped(station: Station) -> None:
    station.submit("a")
    for _ in range(MAX_CRASHES):
        station.claim("a")
        station.expire_leases()
        station.store.reap()
    assert station.store.get("a").params == {"prompt": "a"}
    station.store.drop("a")
    assert station.store.get("a").params == {}


def test_notes_stay_with_the_record_however_the_job_ends(station: Station) -> None:
    params = {"prompt": "x", "notes": {"response": {"metadata": {}, "tools": []}}}
    station.store.submit("a", JobKind.GENERATE, params, owner="me", max_queue=9)
    assert station.store.get("a").params == params
    station.store.cancel("a")
    assert station.store.get("a").params == {"notes": params["notes"]}


def test_the_size_of_an_owners_open_jobs_is_limited(station: Station) -> None:
    def enter(job_id: str, owner: str = "me", size: int = 400) -> None:
        params, limits = {"prompt": "x" * size}, Limits(job_bytes=1000)
        station.store.submit(job_id, JobKind.GENERATE, params, owner=owner, max_queue=99, limits=limits)

    enter("a")
    enter("b")
    with pytest.raises(QuotaExceeded, match="1000 bytes") as refused:
        enter("c")
    assert (refused.value.limit, refused.value.retryable) == (1000, False)
    assert refused.value.retry_after_s
    enter("d", owner="ann")
    with pytest.raises(QuotaExceeded):
        enter("e", owner="bob", size=1000)
    station.store.cancel("a")  # no output: it keeps nothing
    enter("c")
    with pytest.raises(QuotaExceeded):
        enter("e")


def test_the_oldest_ended_jobs_make_room_for_new_ones(station: Station) -> None:
    """An owner who sends jobs all day is not refused because of results from hours ago."""
    station.with_capacity(20)
    limits = Limits(job_bytes=2000)

    def run(job_id: str) -> None:
        station.store.submit(job_id, JobKind.GENERATE, {"prompt": "x" * 400}, owner="me", max_queue=99, limits=limits)
        station.succeed(station.claim(job_id))

    station.submit("open")
    for number in range(10):
        run(f"done-{number}")
        assert kept(station) <= 2000 + 1000
    known = [f"done-{number}" for number in range(10) if station.redis.exists(keys.job(f"done-{number}"))]
    assert known == [f"done-{number}" for number in range(10 - len(known), 10)]
    assert 2 <= len(known) <= 4
    assert station.store.get("open").state is JobState.QUEUED
    assert {job.id for job in station.store.newest(99)} == {*known, "open"}


def test_jobs_that_a_webhook_or_an_operator_needs_are_not_deleted_for_room(station: Station) -> None:
    limits = Limits(job_bytes=1000)
    options = JobOptions(webhook_url="https://example.org")
    params = {"prompt": "x" * 600}
    station.store.submit("a", JobKind.GENERATE, params, owner="me", max_queue=99, limits=limits, options=options)
    station.succeed(station.claim("a"))
    with pytest.raises(QuotaExceeded):
        station.store.submit("b", JobKind.GENERATE, params, owner="me", max_queue=99, limits=limits)
    assert station.store.get("a").result


def test_every_counted_byte_is_subtracted_in_the_end(station: Station) -> None:
    station.with_capacity(20)
    for name in ("done", "failed", "queued", "poison"):
        station.submit(name)
    assert kept(station) == sum(len(json.dumps({"prompt": name})) for name in ("done", "failed", "queued", "poison"))
    station.succeed(station.claim("done"))
    station.store.fail("failed", station.claim("failed").attempt, [events.error(0, WorkerLost("x"))])
    station.store.cancel("queued")
    for _ in range(MAX_CRASHES):
        station.claim("poison")
        station.expire_leases()
        station.store.reap()
    station.store.drop("poison")
    assert kept(station) > 0
    make_old(station)
    assert kept(station) == 0
    assert station.redis.hlen("slm:jobs:bytes") == 0
