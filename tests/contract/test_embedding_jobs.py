"""The lane of embeddings, on the emulated and on the real Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from common.embedding.embedders import PLACES, EmbedderReport, Embedders
from common.embedding.task import EmbedParams, EmbedResult
from common.errors import NoWorker
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.job import JobKind, JobState, Lane
from common.jobs.store import MAX_CRASHES, Claim, JobOptions, JobStore, WakeUp
from common.queue import EMBED_QUEUE
from common.redis import keys

LEASE_S = 600.0
MODEL = "minilm"
REPORT = EmbedderReport("e", "h", 1, "cpu", MODEL, "0" * 64, 384, 256, 1, 1)
PARAMS = EmbedParams(("a",)).to_dict()


class Station:
    """A store whose wake-up messages are recorded, one worker, and an embedder."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.wake_ups: list[WakeUp] = []
        self.store = JobStore(redis, self.wake_ups.extend, job_ttl_s=600)
        self.embedders = Embedders(redis)
        Fleet(redis).beat(WorkerReport("w", "h", 1, WorkerState.READY, slots=2, base_model="gpt2"), ttl_s=600)
        self.embedders.beat(REPORT, ttl_s=600)

    def submit(self, job_id: str, owner: str = "ann") -> int:
        options = JobOptions(model=MODEL)
        return self.store.submit(job_id, JobKind.EMBED, PARAMS, owner=owner, max_queue=100, options=options).position

    def claim(self, job_id: str) -> Claim:
        claim = self.store.claim(job_id, "e", lease_s=LEASE_S)
        assert claim is not None
        return claim

    @property
    def dispatched(self) -> list[str]:
        return [one.job_id for one in self.wake_ups]


@pytest.fixture
def station(redis: Redis) -> Station:
    return Station(redis)


def test_a_job_goes_to_the_embedders_with_the_name_that_it_was_given(station: Station) -> None:
    station.submit("a")
    assert station.wake_ups == [WakeUp("a", JobKind.EMBED, MODEL, "", EMBED_QUEUE)]
    claim = station.claim("a")
    assert (claim.job.model, claim.job.base, claim.job.lane) == (MODEL, "", Lane.EMBED)


def test_it_is_refused_without_an_embedder(station: Station) -> None:
    station.embedders.leave(REPORT.id)
    with pytest.raises(NoWorker, match="SLM_EMBED_MODEL"):
        station.submit("a")
    assert station.embedders.live() == []


def test_one_owner_cannot_take_all_places(station: Station) -> None:
    positions = [station.submit(f"a{number}") for number in range(PLACES + 1)]
    assert positions == [0] * (PLACES - 1) + [1, 2]
    assert station.submit("b", owner="bob") == 0
    assert len(station.dispatched) == PLACES


def test_an_ended_job_makes_room_and_is_charged(station: Station) -> None:
    for number in range(PLACES):
        station.submit(f"a{number}")
    claim = station.claim("a0")
    result = EmbedResult(b"\0" * 8, 2, 7)
    end = events.finished(claim.next_seq, JobState.SUCCEEDED, None)
    station.store.succeed("a0", claim.attempt, result.to_dict(), [end])
    assert station.dispatched[-1] == f"a{PLACES - 1}"
    assert EmbedResult.from_dict(station.store.get("a0").result or {}) == result
    assert station.store.usage("ann")["prompt_tokens"] == 7


def test_the_job_of_a_dead_embedder_is_run_again_and_set_aside_at_last(station: Station, redis: Redis) -> None:
    station.submit("a")
    for crash in range(1, MAX_CRASHES + 1):
        station.claim("a")
        redis.zadd(keys.leases(Lane.EMBED), {"a": 0})
        station.store.reap()
        assert station.store.get("a").crashes == crash
    assert [one.id for one in station.store.dead_letters()] == ["a"]
    station.store.retry("a", "b", max_queue=9)
    assert station.claim("b").job.model == MODEL


def test_a_draining_embedder_gets_no_more_jobs(station: Station) -> None:
    station.embedders.beat(EmbedderReport.from_json(REPORT.to_json().replace("true", "false")), ttl_s=600)
    with pytest.raises(NoWorker):
        station.submit("a")
