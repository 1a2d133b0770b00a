"""`embed` jobs in their worker: limits, other models, and jobs that are given up."""

from __future__ import annotations

from typing import Any

import pytest

from common.embedding.embedders import EmbedderReport, Embedders
from common.embedding.task import EmbedParams, EmbedResult
from common.errors import Cancelled, InvalidRequest, ModelNotFound
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobOptions, JobStore
from models.encoder import read_encoder
from tests.fake_redis import fake_redis
from tests.tiny_encoder import WIDTH, save_encoder
from worker.embedding import jobs as module
from worker.embedding.jobs import EmbedJobs
from worker.embedding.metrics import EmbedderMetrics
from worker.engine.embedding.encoder import Encoder
from worker.engine.embedding.engine import EmbeddingEngine
from worker.helper.given_up import GivenUp
from worker.jobs.active import ActiveJob

MODEL = "tiny"


class Site:
    """A store, and the jobs of an embedder, whose engine a test starts."""

    def __init__(self, encoder: Encoder) -> None:
        redis = fake_redis()
        self.store = JobStore(redis, lambda _: None, job_ttl_s=60)
        Embedders(redis).beat(EmbedderReport("e", "h", 1, "cpu", MODEL, "", WIDTH, 32, 1, 1), ttl_s=600)
        self.engine = EmbeddingEngine(encoder, batch_tokens=64)
        self.jobs = EmbedJobs(self.store, MODEL, encoder, self.engine, EmbedderMetrics(lambda: 0))

    def claim(self, *inputs: str, model: str = MODEL, **more: Any) -> ActiveJob:
        params, options = EmbedParams(inputs, **more).to_dict(), JobOptions(model=model)
        self.store.submit("j", JobKind.EMBED, params, owner="ann", max_queue=9, options=options)
        claim = self.store.claim("j", "e", lease_s=60)
        assert claim is not None
        return ActiveJob(claim, self.store)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(read_encoder(save_encoder(tmp_path_factory.mktemp("encoder"))), "cpu")


@pytest.fixture
def site(encoder: Encoder) -> Site:
    return Site(encoder)


def test_the_result_has_a_vector_for_each_input(site: Site) -> None:
    site.engine.start()
    site.jobs.run(site.claim("a", "bcd", dimensions=4))
    site.engine.stop()
    record = site.store.get("j")
    result = EmbedResult.from_dict(record.result or {})
    assert record.state is JobState.SUCCEEDED
    assert (result.dimensions, result.prompt_tokens, [len(row) for row in result.rows()]) == (4, 8, [16, 16])


def test_more_vectors_than_redis_should_hold_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VECTOR_BYTES", 2 * 4 * WIDTH)
    with pytest.raises(InvalidRequest, match=rf"at most 2 items .* {WIDTH} numbers; got 3") as refused:
        site.jobs.run(site.claim("a", "b", "c"))
    assert refused.value.param == "input"


def test_more_dimensions_than_the_model_has_are_refused(site: Site) -> None:
    with pytest.raises(InvalidRequest, match=f"from 1 to {WIDTH}") as refused:
        site.jobs.run(site.claim("a", dimensions=WIDTH + 1))
    assert refused.value.param == "dimensions"


def test_the_job_of_a_model_that_was_replaced_fails(site: Site) -> None:
    with pytest.raises(ModelNotFound, match="'old'"):
        site.jobs.run(site.claim("a", model="old"))


def test_a_cancelled_job_leaves_the_engine(site: Site) -> None:
    job = site.claim("a")
    job.request_end(Cancelled("gone"))
    with pytest.raises(GivenUp):
        site.jobs.run(job)
    assert site.store.get("j").state is JobState.RUNNING  # its runner records the end
