"""A job is accepted when replicas of Redis have it (SLM_REDIS_REPLICAS), and refused without a trace otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from common.conversations.conversation import AnswerPlace, NewMessage, Quota, Written
from common.conversations.store import About, ConversationStore
from common.errors import RedisUnavailable
from common.fleet import Fleet, WorkerReport
from common.jobs import store as job_store
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobOptions, JobStore, Submitted, WakeUp
from common.redis import keys
from common.redis.client import connect
from tests.processes import wait_for
from tests.redis_server import RedisServer, running_server

PARTS = ("tree", "messages", "answers")
PLAIN = JobOptions()
LEFT_BEHIND = {  # what the queue's fairness knows of lanes and owners, without the job
    "slm:lanes",
    "slm:owners:bytes",
    "slm:lane:generate:virtual",
    "slm:lane:generate:flow_ends",
    "slm:lane:generate:service",
    "slm:lane:control:service",
}
FOLLOWS = ("--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1")


class Pair:
    """A store that needs one replica, and the replica."""

    def __init__(self, primary: RedisServer, replica: RedisServer) -> None:
        self._url, self.replica = primary.url, replica
        self.redis = connect(primary.url)
        self.wake_ups: list[WakeUp] = []
        self.store = JobStore(self.redis, self.wake_ups.extend, job_ttl_s=600, replicas=1)

    def another_api(self) -> JobStore:
        """Another API process, with connections that have written nothing yet."""
        return JobStore(connect(self._url), self.wake_ups.extend, job_ttl_s=600, replicas=1)

    def beat(self, slots: int) -> None:
        Fleet(self.redis).beat(WorkerReport("w", "h", 1, slots=slots), ttl_s=600)

    def submit(self, job_id: str, options: JobOptions = PLAIN, store: JobStore | None = None) -> Submitted:
        return (store or self.store).submit(job_id, JobKind.GENERATE, {}, owner="o", max_queue=9, options=options)

    def refuse(self, job_id: str, options: JobOptions = PLAIN, store: JobStore | None = None) -> None:
        with pytest.raises(RedisUnavailable, match="Only 0 of the 1 replicas") as refused:
            self.submit(job_id, options, store)
        assert refused.value.retry_after_s == 1

    def content(self) -> dict[str, bytes | None]:
        """All keys with their values, without those that only record heartbeats and arrivals."""
        found = [key for key in self.redis.scan_iter() if key not in ("slm:jobs:order", "slm:awake")]
        with Redis.from_url(self._url) as raw:
            return {key: raw.dump(key) for key in found}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[RedisServer]]:
    first, second = tmp_path_factory.mktemp("primary"), tmp_path_factory.mktemp("replica")
    with (
        running_server(first, options=FOLLOWS[:2]) as primary,
        running_server(second, options=(*FOLLOWS, str(primary.port))) as replica,
    ):
        yield primary, replica


@pytest.fixture
def pair(servers: Sequence[RedisServer]) -> Iterator[Pair]:
    made = Pair(*servers)
    made.redis.flushall()
    wait_for("the replica", lambda: bool(made.redis.wait(1, 100)))
    made.beat(slots=2)
    yield made
    made.replica.resume()


@pytest.fixture
def cut_off(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The same, but the replica confirms nothing."""
    monkeypatch.setattr(job_store, "REPLICAS_WAIT_S", 0.2)
    pair.replica.pause()
    return pair


def test_a_replica_has_an_accepted_job(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_store, "REPLICAS_WAIT_S", 4.0)  # a busy machine
    pair.submit("a")
    with connect(pair.replica.url) as replica:
        assert replica.hget(keys.job("a"), "state") == "queued"


def test_nothing_remains_of_a_refused_job(cut_off: Pair) -> None:
    before = cut_off.content()
    cut_off.refuse("a", JobOptions(ttl_s=60, reader_grace_s=60, webhook_url="http://127.0.0.1/"))
    after = cut_off.content()
    assert {key for key in after if after[key] != before.get(key)} <= LEFT_BEHIND
    assert cut_off.redis.hgetall("slm:owners:bytes") == {"o": "0"}
    assert cut_off.redis.smembers(keys.open_jobs("o")) == set()


def test_a_refused_job_leaves_its_place_to_others(cut_off: Pair) -> None:
    cut_off.beat(slots=1)
    for name in ("a", "b", "c", "d"):
        cut_off.refuse(name)
    assert cut_off.redis.zcard(keys.dispatched("generate")) == cut_off.redis.zcard(keys.pending("generate")) == 0


def test_a_refused_job_leaves_its_conversation_as_it_was(cut_off: Pair) -> None:
    conversations = ConversationStore(cut_off.redis, quota=Quota(9, 9, 10**6), ttl_s=0)
    first = NewMessage("msg_first", Written("user", "Hi"), None)
    conversation = conversations.create("o", About(title="A"), [first])
    before = [cut_off.redis.hgetall(keys.conversation_part(conversation, part)) for part in PARTS]
    size = cut_off.redis.hget("slm:conversations:bytes", "o")
    more = [NewMessage("msg_second", Written("user", "And?"), None)]
    for given in ((), more):
        cut_off.refuse("a", JobOptions(place=AnswerPlace(conversation, first.id, 100, 10**6, given)))
        assert [cut_off.redis.hgetall(keys.conversation_part(conversation, part)) for part in PARTS] == before
        assert cut_off.redis.hget("slm:conversations:bytes", "o") == size
        assert cut_off.redis.hget(keys.conversation(conversation), "leaf") == first.id


def test_a_refused_second_answer_leaves_the_first_one_shown(cut_off: Pair) -> None:
    conversations = ConversationStore(cut_off.redis, quota=Quota(9, 9, 10**6), ttl_s=0)
    asked = NewMessage("msg_asked", Written("user", "Hi"), None)
    answered = NewMessage("msg_answered", Written("assistant", "Hello"), asked.id)
    conversation = conversations.create("o", About(title="A"), [asked, answered])
    cut_off.refuse("a", JobOptions(place=AnswerPlace(conversation, asked.id, 100, 10**6)))
    assert cut_off.redis.hget(keys.conversation(conversation), "leaf") == answered.id


def test_requests_that_wait_for_replicas_leave_connections_to_others(
    cut_off: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "MAX_CONFIRMING", 2)
    store = cut_off.another_api()
    with ThreadPoolExecutor(6) as pool:
        refused = [pool.submit(cut_off.refuse, name, PLAIN, store) for name in "abcdef"]
        blocked = [0]
        while not all(one.done() for one in refused):
            blocked.append(cut_off.redis.info("clients")["blocked_clients"])
    for one in refused:
        one.result()
    assert 1 <= max(blocked) <= 2
    assert cut_off.redis.smembers(keys.open_jobs("o")) == set()


def test_a_job_that_a_worker_has_claimed_is_cancelled_when_it_is_refused(cut_off: Pair) -> None:
    def claim() -> bool:
        return cut_off.another_api().claim("a", "w", lease_s=600) is not None

    with ThreadPoolExecutor() as pool:
        refused = pool.submit(cut_off.refuse, "a")
        wait_for("the job", claim)
        refused.result()
    assert cut_off.redis.hget(keys.job("a"), "cancel") == "1"


def test_a_repeat_finds_the_refused_job_when_the_replica_is_back(
    cut_off: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = JobOptions(idempotency_key="k", fingerprint="f")
    cut_off.refuse("a", options)
    cut_off.refuse("b", options, cut_off.another_api())
    cut_off.replica.resume()
    monkeypatch.setattr(job_store, "REPLICAS_WAIT_S", 4.0)
    found = cut_off.submit("c", options, cut_off.another_api())
    assert (found.job_id, found.repeated) == ("a", True)
    assert [one.job_id for one in cut_off.wake_ups] == ["a"]
    assert cut_off.store.get("a").state is JobState.QUEUED
