"""Random histories of jobs on a real Redis: whatever happens in whatever order, the invariants of a job hold.

The machine below is the outside world: clients that submit and cancel, workers that claim, write, end, release, die
and wake up again. After every step each log is dense, one attempt writes, nothing follows a terminal event, and the
lanes and the records agree.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from common.errors import WorkerLost
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.events import Event, EventType
from common.jobs.job import JobKind, JobRecord, JobState
from common.jobs.store import MAX_CRASHES, Claim, Fenced, JobOptions, JobStore, LogGap, WakeUp
from common.redis import keys

SLOTS = 2
LANE = "generate"


class JobHistories(RuleBasedStateMachine):
    """Jobs by name; `claims` has every claim ever made, including those of ended attempts."""

    redis: Redis  # set by the test
    jobs = Bundle("jobs")
    claims = Bundle("claims")

    @initialize()
    def begin(self) -> None:
        self.redis.flushall()
        self.wake_ups: list[WakeUp] = []
        self.store = JobStore(self.redis, self.wake_ups.extend, job_ttl_s=600)
        Fleet(self.redis).beat(WorkerReport("w", "h", 1, WorkerState.READY, slots=SLOTS), ttl_s=600)
        self.names = (f"job{number}" for number in itertools.count())
        self.next_seq: dict[tuple[str, int], int] = {}  # as each attempt believes
        self.written: dict[str, list[str]] = {}  # the accepted events, in order
        self.ends: dict[str, JobState] = {}
        self.unread: set[str] = set()
        self.flows: dict[str, list[str]] = {}  # the jobs of an owner and a priority, in order of arrival

    @rule(target=jobs, owner=st.sampled_from(["ann", "bob"]), tokens=st.integers(0, 500), bulk=st.booleans())
    def submit(self, owner: str, tokens: int, bulk: bool) -> str:
        name = next(self.names)
        params = {"sampling": {"max_new_tokens": tokens}}
        options = JobOptions(bulk=bulk, reader_grace_s=600)
        self.store.submit(name, JobKind.GENERATE, params, owner=owner, max_queue=1000, options=options)
        self.flows.setdefault(f"{owner}:{'bulk' if bulk else 'interactive'}", []).append(name)
        self.written[name] = [f"queued {one.data['position']}" for one in self.log(name)]
        return name

    @rule(target=claims, name=jobs)
    def claim(self, name: str) -> Claim:
        state = self.store.get(name).state
        claim = self.store.claim(name, "w", lease_s=600)
        assert (claim is not None) == (state is JobState.QUEUED), "a queued job, and only that, can be claimed"
        if claim is None:
            return multiple()
        self.next_seq[name, claim.attempt] = claim.next_seq
        return claim

    @rule(claim=claims, count=st.integers(1, 4), repeat=st.booleans())
    def emit(self, claim: Claim, count: int, repeat: bool) -> None:
        name, attempt = claim.job.id, claim.attempt
        first = self.next_seq[name, attempt]
        batch = [events.token(seq, f"{attempt}:{seq}", [seq]) for seq in range(first, first + count)]
        is_owner = self.owns(claim)
        for _ in range(1 + repeat):
            (answer,) = self.store.emit([(name, attempt, batch)])
            assert answer == (first + count if is_owner else -1)
        if is_owner:
            self.next_seq[name, attempt] += count
            self.written[name] += [event.data["text"] for event in batch]

    @rule(claim=claims, how=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]))
    def end(self, claim: Claim, how: JobState) -> None:
        name, attempt, seq = claim.job.id, claim.attempt, self.next_seq[claim.job.id, claim.attempt]
        is_owner = self.owns(claim)
        try:
            if how is JobState.SUCCEEDED:
                self.store.succeed(name, attempt, {}, [events.finished(seq, how)])
            elif how is JobState.FAILED:
                self.store.fail(name, attempt, [events.error(seq, WorkerLost("x"))])
            else:
                self.store.end_cancelled(name, attempt, None, [events.finished(seq, how)])
        except (Fenced, LogGap):
            assert not is_owner
            return
        if is_owner:
            self.note_end(name, how)

    @rule(claim=claims)
    def hand_over(self, claim: Claim) -> None:
        is_owner = self.owns(claim)
        try:
            self.store.release(claim.job.id, claim.attempt)
        except Fenced:
            assert not is_owner
        else:
            assert is_owner

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        is_owner = self.owns(claim)
        lost, _ = self.store.renew([(claim.job.id, claim.attempt)], lease_s=600)
        assert (not lost) == is_owner

    @rule(name=jobs)
    def worker_dies(self, name: str) -> None:
        """Let the lease of the job expire, if there is one."""
        before = self.store.get(name)
        if before.state is not JobState.RUNNING:
            return
        self.redis.zadd(keys.leases(LANE), {name: 0})
        self.store.reap()
        crashes = 0 if self.has_progress(before) else before.crashes
        if crashes + 1 >= MAX_CRASHES:
            self.note_end(name, JobState.FAILED)

    def has_progress(self, job: JobRecord) -> bool:
        """Whether its present attempt has generated a token."""
        return any(text.startswith(f"{job.attempt}:") for text in self.written[job.id])

    @rule(name=jobs)
    def expire(self, name: str) -> None:
        waits = self.store.get(name).state is JobState.QUEUED
        if waits:
            self.redis.zadd(f"slm:lane:{LANE}:deadlines", {name: 0})
            self.note_end(name, JobState.FAILED)
        self.store.reap()

    @rule(name=jobs)
    def cancel(self, name: str) -> None:
        before = self.store.get(name).state
        after = self.store.cancel(name)
        if before is JobState.QUEUED:
            assert after is JobState.CANCELLED
            self.note_end(name, JobState.CANCELLED)
        else:
            assert after is before

    @rule(name=jobs, is_read=st.booleans())
    def readers_come_or_go(self, name: str, is_read: bool) -> None:
        self.store.note_readers({name: is_read}, 600)
        (self.unread.discard if is_read else self.unread.add)(name)

    @rule()
    def message_is_lost(self) -> None:
        for name in self.redis.zrange(keys.dispatched(LANE), 0, -1):
            self.redis.zadd(keys.dispatched(LANE), {name: 0})
        self.store.reap()

    @rule()
    def redis_forgets_the_scripts(self) -> None:
        self.redis.script_flush()

    @invariant()
    def every_job_holds_its_promises(self) -> None:
        if not hasattr(self, "written"):
            return
        lanes = self.lanes()
        for name, (record, log) in self.records_and_logs().items():
            assert [event.seq for event in log] == list(range(len(log))), "seq is dense from 0"
            shown = [one for one in map(_shown, log) if one is not None]
            assert shown == self.written[name], "exactly the accepted events, once and in order"
            ends = [event for event in log if event.type.is_terminal]
            assert len(ends) == record.state.is_terminal, "one end, exactly when the state is terminal"
            assert not ends or log[-1] is ends[0], "nothing follows the end"
            assert record.state == self.ends.get(name, record.state)
            assert {place for place, names in lanes.items() if name in names} in _allowed_places(record)

    @invariant()
    def who_came_first_of_an_owner_is_served_first(self) -> None:
        """A job that was put back comes before all later ones. Unread jobs come after all others."""
        waiting = self.redis.zrange(keys.pending(LANE), 0, -1)
        flows = getattr(self, "flows", {})
        for flow, names in flows.items():
            line = [name for name in waiting if name in names]
            assert line == sorted((name for name in names if name in line), key=self.unread.__contains__)
            line = [name for name in names if name in line]
            assert line == self.redis.zrange(f"slm:lane:{LANE}:flow:{flow}", 0, -1), "flows and queue agree"
            assert bool(line) == self.redis.sismember(f"slm:lane:{LANE}:flows", flow)

    @invariant()
    def bells_are_bounded(self) -> None:
        if hasattr(self, "redis") and hasattr(self, "store"):
            waiting = self.redis.zrange(keys.pending(LANE), 0, 0)
            out = self.redis.zcard(keys.dispatched(LANE)) + self.redis.zcard(keys.leases(LANE))
            ahead = 1 if set(waiting) - self.unread else 0
            assert not waiting or out >= SLOTS + ahead, "nobody waits while there is free capacity"

    @invariant()
    def sums_of_running_jobs_are_right(self) -> None:
        if hasattr(self, "redis") and hasattr(self, "store"):
            lane = f"slm:lane:{LANE}"
            numbers, costs = Counter[str](), Counter[str]()
            for name in self.redis.zrange(f"{lane}:dispatched", 0, -1) + self.redis.zrange(f"{lane}:leases", 0, -1):
                owner, bulk, cost = self.redis.hmget(keys.job(name), "owner", "bulk", "cost")
                flow = f"{owner}:{'bulk' if bulk else 'interactive'}"
                numbers[flow] += 1
                costs[flow] += int(cost)
            counted = {flow: int(number) for flow, number in self.redis.hgetall(f"{lane}:running").items()}
            cost = {flow: float(sum_) for flow, sum_ in self.redis.hgetall(f"{lane}:running_cost").items()}
            assert (counted, cost) == (numbers, costs)

    @invariant()
    def only_what_runs_and_nobody_reads_makes_room(self) -> None:
        if hasattr(self, "redis") and hasattr(self, "store"):
            lane = f"slm:lane:{LANE}"
            running = set(self.redis.zrange(keys.leases(LANE), 0, -1))
            abandoned, asked = (
                self.redis.smembers(f"{lane}:abandoned"),
                set(self.redis.zrange(f"{lane}:yielding", 0, -1)),
            )
            assert abandoned <= running & self.unread
            assert asked <= running
            assert not abandoned & asked
            is_open = {name for name, (record, _) in self.records_and_logs().items() if not record.state.is_terminal}
            assert self.redis.smembers(f"{lane}:unread") == self.unread & is_open

    def owns(self, claim: Claim) -> bool:
        record = self.store.get(claim.job.id)
        return record.state is JobState.RUNNING and record.attempt == claim.attempt

    def note_end(self, name: str, how: JobState) -> None:
        assert name not in self.ends, "a job ends once"
        self.ends[name] = how

    def log(self, name: str) -> list[Event]:
        return [Event.from_wire(text) for text in self.redis.lrange(keys.log(name), 0, -1)]

    def records_and_logs(self) -> dict[str, tuple[JobRecord, list[Event]]]:
        """Read all jobs at once: this is done after each step."""
        with self.redis.pipeline(transaction=False) as pipe:
            for name in self.written:
                pipe.hgetall(keys.job(name))
                pipe.lrange(keys.log(name), 0, -1)
            found = pipe.execute()
        records, logs = map(JobRecord.from_hash, found[::2]), (list(map(Event.from_wire, one)) for one in found[1::2])
        return dict(zip(self.written, zip(records, logs, strict=True), strict=True))

    def lanes(self) -> dict[str, list[str]]:
        lanes = {"pending": keys.pending(LANE), "dispatched": keys.dispatched(LANE), "leases": keys.leases(LANE)}
        return {place: self.redis.zrange(key, 0, -1) for place, key in lanes.items()}


def _shown(event: Event) -> str | None:
    if event.type is EventType.QUEUED:
        return f"queued {event.data['position']}"
    return event.data["text"] if event.type is EventType.TOKEN else None


def _allowed_places(record: JobRecord) -> list[set[str]]:
    """The keys of its lane in which a job in that state may be."""
    if record.state is JobState.QUEUED:
        return [{"pending"}, {"dispatched"}]
    return [{"leases"}] if record.state is JobState.RUNNING else [set()]


@pytest.fixture
def histories(real_redis: Redis) -> Iterator[type[JobHistories]]:
    JobHistories.redis = real_redis
    yield JobHistories
    del JobHistories.redis


def test_no_sequence_of_events_breaks_a_jobs_guarantees(histories: type[JobHistories]) -> None:
    run_state_machine_as_test(
        histories,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
