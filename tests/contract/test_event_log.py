"""Following a job's events: each once, in order, whatever pub/sub loses. On the emulated and on the real Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import pytest
from redis import Redis

from common.errors import JobLost
from common.jobs import events
from common.jobs.event_log import PAUSE, READ_CHUNK, EventLog, Follower
from common.jobs.events import Event
from common.jobs.job import JobState
from common.redis import keys
from common.redis.subscriber import MAILBOX_SIZE, Subscriber

PULSE_S = 5.0


@pytest.fixture
def subscriber(redis: Redis) -> Iterator[Subscriber]:
    subscriber = Subscriber(redis)
    subscriber.start()
    yield subscriber
    subscriber.stop()


@pytest.fixture
def log(redis: Redis, subscriber: Subscriber) -> EventLog:
    return EventLog(redis, subscriber)


def wire(event: Event) -> str:
    import json

    return json.dumps({"data": event.data, "type": event.type, "id": str(event.seq)})


def write(redis: Redis, *batch: Event, publish: bool = True) -> None:
    for event in batch:
        redis.rpush(keys.log("a"), wire(event))
        if publish:
            redis.publish(keys.channel("a"), wire(event))


def token(seq: int) -> Event:
    return events.token(seq, f"t{seq} ", [seq])


def end(seq: int) -> Event:
    return events.finished(seq, JobState.SUCCEEDED, "stop", "cpu")


def seqs(follower: Follower, after: int = -1) -> list[int]:
    return [event.seq for event in follower.events(after=after, pulse_s=PULSE_S) if event is not None]


def test_earlier_events_are_replayed(redis: Redis, log: EventLog) -> None:
    write(redis, token(0), token(1), end(2))
    with log.follow("a") as follower:
        assert seqs(follower) == [0, 1, 2]


def test_later_events_are_passed_on(redis: Redis, log: EventLog) -> None:
    with log.follow("a") as follower:
        stream = follower.events(pulse_s=PULSE_S)
        write(redis, token(0))
        assert next(stream) == token(0)
        write(redis, token(1), end(2))
        assert list(stream) == [token(1), end(2)]


def test_the_log_of_a_new_job_is_read_only_for_events_that_an_earlier_reading_took(redis: Redis, log: EventLog) -> None:
    with log.follow("a", is_new=True) as follower:
        write(redis, token(0), publish=False)
        write(redis, token(1))
        first = follower.events(pulse_s=60)
        assert next(first) == token(0)  # the message of event 1 shows that event 0 was missed
        write(redis, end(2))
        assert seqs(follower) == [0, 1, 2]


def test_a_pause_comes_before_waiting_even_if_the_last_chunk_of_the_log_was_full(redis: Redis, log: EventLog) -> None:
    write(redis, *(token(seq) for seq in range(READ_CHUNK)), publish=False)
    with log.follow("a") as follower:
        found = list(islice(follower.events_and_pauses(pulse_s=0.02), READ_CHUNK + 2))
    assert found == [*(token(seq) for seq in range(READ_CHUNK)), PAUSE, None]


def test_a_reader_can_begin_in_the_middle(redis: Redis, log: EventLog) -> None:
    write(redis, token(0), token(1), token(2), end(3))
    with log.follow("a") as follower:
        assert seqs(follower, after=1) == [2, 3]


def test_events_lost_by_pubsub_are_read_from_the_log(redis: Redis, log: EventLog) -> None:
    with log.follow("a") as follower:
        stream = follower.events(pulse_s=PULSE_S)
        write(redis, token(0))
        assert next(stream) == token(0)
        write(redis, token(1), token(2), publish=False)
        write(redis, end(3))
        assert [event.seq for event in stream if event] == [1, 2, 3]


def test_a_lost_end_is_found_at_the_next_pulse(redis: Redis, log: EventLog) -> None:
    redis.hset(keys.job("a"), "id", "a")
    with log.follow("a") as follower:
        stream = follower.events(pulse_s=0.05)
        write(redis, token(0))
        assert next(stream) == token(0)
        write(redis, end(1), publish=False)
        assert [event for event in stream if event] == [end(1)]


def test_events_published_twice_are_passed_on_once(redis: Redis, log: EventLog) -> None:
    with log.follow("a") as follower:
        write(redis, token(0))
        redis.publish(keys.channel("a"), wire(token(0)))
        write(redis, end(1))
        assert seqs(follower) == [0, 1]


def test_a_slow_reader_of_thousands_of_tokens_gets_each_once(redis: Redis, log: EventLog) -> None:
    count = 12 * MAILBOX_SIZE
    with log.follow("a") as follower:
        stream = follower.events(pulse_s=PULSE_S)
        writer = threading.Thread(target=write, args=(redis, *(token(seq) for seq in range(count)), end(count)))
        writer.start()
        read = [next(stream)]
        writer.join()  # the reader reads nothing until everything is written, which is far more than its mailbox holds
        read += stream
    assert read == [*(token(seq) for seq in range(count)), end(count)]


def test_a_quiet_stream_pulses(redis: Redis, log: EventLog) -> None:
    redis.hset(keys.job("a"), "id", "a")
    with log.follow("a") as follower:
        assert list(islice(follower.events(pulse_s=0.02), 3)) == [None, None, None]


def test_a_nudged_reader_checks_the_log_and_continues(redis: Redis, log: EventLog) -> None:
    redis.hset(keys.job("a"), "id", "a")
    with log.follow("a") as follower:
        stream = follower.events(pulse_s=3600)
        write(redis, token(0))
        assert next(stream) == token(0)
        # Again and again: one nudge may coincide with the message of the event that was read from the log already.
        stop = threading.Event()
        nudger = threading.Thread(target=lambda: [follower.nudge() for _ in iter(lambda: stop.wait(0.05), True)])
        nudger.start()
        assert next(stream) is None
        stop.set()
        nudger.join()
        write(redis, token(0))  # a message and a nudge at once: neither is lost
        follower.nudge()
        assert next(stream) is None
        write(redis, token(1), end(2))
        assert [event.seq for event in stream if event] == [1, 2]


def test_a_lost_job_ends_its_stream_with_an_error(redis: Redis, log: EventLog) -> None:
    redis.hset(keys.job("a"), "id", "a")
    with log.follow("a") as follower:
        stream = follower.events(pulse_s=0.02)
        write(redis, token(0))
        assert next(stream) == token(0)
        redis.flushall()
        with pytest.raises(JobLost):
            list(stream)


def test_a_reader_ahead_of_the_log_waits_for_new_events(redis: Redis, log: EventLog) -> None:
    redis.hset(keys.job("a"), "id", "a")
    write(redis, token(0))
    with log.follow("a") as follower:
        stream = follower.events(after=2, pulse_s=0.02)
        assert next(stream) is None
        write(redis, token(1), token(2), token(3))
        assert [event for event in islice(stream, 50) if event] == [token(3)]


@pytest.mark.parametrize("is_over", [True, False], ids=["before the reader arrives", "while the reader reads"])
def test_a_reader_ahead_of_the_whole_answer_gets_its_end(redis: Redis, log: EventLog, is_over: bool) -> None:
    """The recomputed events are fewer than the lost ones."""
    redis.hset(keys.job("a"), "id", "a")
    write(redis, token(0), *([end(1)] if is_over else []))
    with log.follow("a") as follower:
        stream = follower.events(after=7, pulse_s=0.02)
        if not is_over:
            assert next(stream) is None
            write(redis, end(1))
        assert [event for event in stream if event] == [end(1)]


def test_closing_releases_the_waiting_reader(redis: Redis, log: EventLog) -> None:
    redis.hset(keys.job("a"), "id", "a")
    with log.follow("a") as follower:
        threading.Timer(0.1, follower.close).start()
        assert seqs(follower) == []


def test_a_job_without_readers_is_unsubscribed(redis: Redis, subscriber: Subscriber, log: EventLog) -> None:
    with log.follow("a"), log.follow("a"):
        assert redis.pubsub_numsub(keys.channel("a")) == [(keys.channel("a"), 1)]
    with log.follow("b"):  # the next change makes the reader look at all of them
        pass
    assert redis.pubsub_numsub(keys.channel("a")) == [(keys.channel("a"), 0)]


def test_many_readers_of_one_job_all_get_everything(redis: Redis, log: EventLog) -> None:
    followers = [log.follow("a") for _ in range(5)]
    write(redis, token(0), end(1))
    for follower in followers:
        with follower:
            assert seqs(follower) == [0, 1]
