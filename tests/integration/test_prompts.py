"""Every form of a prompt through a real worker process, with a fake model that answers with the prompt."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.jobs import prompts
from common.jobs.job import GenerateParams, GenerateResult, JobKind, JobRecord, JobState, TokenizeResult
from common.jobs.prompts import Conversation, Prompt, RawText, TokenIds
from common.jobs.sampling import SamplingParams
from tests.processes import Cluster, Reader, running_cluster
from tests.redis_server import RedisServer

FORMS: list[Prompt] = [
    "Hi",
    Conversation(({"role": "system", "content": "x"}, {"role": "user", "content": "Hi"})),
    RawText("Hi"),
    TokenIds((72, 105)),
]


@pytest.fixture(scope="module")
def cluster(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(redis_server.url, Path(tmp_path_factory.mktemp("cluster"))) as cluster:
        cluster.start_worker("w1")
        cluster.wait_until_taking_jobs("w1")
        yield cluster


def finish(cluster: Cluster, kind: JobKind, params: dict[str, object]) -> JobRecord:
    job_id = str(uuid.uuid4())
    reader = Reader(cluster.log, job_id)
    cluster.store.submit(job_id, kind, params, owner="test", max_queue=100)
    reader.start()
    reader.to_end()
    return cluster.store.get(job_id)


@pytest.mark.parametrize("prompt", FORMS, ids=lambda prompt: type(prompt).__name__)
def test_a_generation_continues_from_it(cluster: Cluster, prompt: Prompt) -> None:
    record = finish(cluster, JobKind.GENERATE, GenerateParams(prompt, SamplingParams(seed=1)).to_dict())
    assert record.state is JobState.SUCCEEDED
    result = GenerateResult.from_dict(record.result or {})
    assert (result.response, result.full_response) == ("Hi", "HiHi")


@pytest.mark.parametrize("prompt", FORMS, ids=lambda prompt: type(prompt).__name__)
def test_its_tokens_are_returned(cluster: Cluster, prompt: Prompt) -> None:
    record = finish(cluster, JobKind.TOKENIZE, prompts.to_wire(prompt))
    assert record.state is JobState.SUCCEEDED
    result = TokenizeResult.from_dict(record.result or {})
    assert (result.text, result.tokens[:2], result.ids[:2]) == ("Hi", ["H", "i"], [72, 105])
    assert result.context_length > 0


def test_a_dataset_is_checked(cluster: Cluster) -> None:
    content = '{"prompt": "Hi", "completion": "Ho"}\n' * 3
    params = {"content": content, "options": {"epochs": 2.0}, "seed": 0, "tokens_per_s": None}
    record = finish(cluster, JobKind.CHECK_DATASET, params)
    assert record.state is JobState.SUCCEEDED
    assert record.result is not None
    assert (record.result["format"], record.result["duplicates"]["count"]) == ("prompt_completion", 2)


def test_a_job_that_waits_for_the_model_loads_it(cluster: Cluster) -> None:
    assert finish(cluster, JobKind.UNLOAD, {}).state is JobState.SUCCEEDED
    assert finish(cluster, JobKind.TOKENIZE, prompts.to_wire("Hi")).state is JobState.SUCCEEDED
