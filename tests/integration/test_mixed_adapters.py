"""Real workers with a small model and several adapters in one batch, one of which is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.jobs.job import JobState
from common.jobs.store import JobOptions
from tests.integration.test_retraining import train
from tests.processes import Cluster, Reader, running_cluster, wait_for
from tests.redis_server import RedisServer
from tests.unit.worker.engine.tiny_models import save_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

NAMES = ["one", "two", "three"]
MODELS = [*NAMES, "tiny-llama"]
TOKENS = 150


@pytest.fixture
def cluster(redis_server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    base = save_model(tmp_path / "tiny-llama")
    for seed, name in enumerate(NAMES):
        train(tmp_path / "adapters" / name, base, seed)
    env = {"SLM_BASE_MODEL": str(base), "SLM_ADAPTERS_DIR": str(tmp_path / "adapters"), "SLM_DTYPE": "float32"}
    env |= {"SLM_MAX_NUM_SEQS": "8", "SLM_LEASE_S": "2", "SLM_THREADS": "1"}
    with running_cluster(redis_server.url, tmp_path, **env) as cluster:
        yield cluster


def ask(cluster: Cluster, model: str, prompt: str) -> tuple[str, Reader]:
    options = JobOptions(model=model)
    return cluster.stream(prompt, options, temperature=0.0, max_new_tokens=TOKENS, ignore_eos=True)


def test_answers_in_mixed_batches_equal_those_given_alone_although_a_worker_is_killed(cluster: Cluster) -> None:
    cluster.start_worker("a", "worker.app")
    cluster.wait_until_taking_jobs("a")
    prompts = ["Hi", "a longer question"]
    alone: dict[tuple[str, str], str] = {}
    for model in MODELS:
        for prompt in prompts:
            _, reader = ask(cluster, model, prompt)
            reader.to_end()
            alone[model, prompt] = reader.text
    assert len(set(alone.values())) == len(alone), "every adapter answers differently"

    cluster.start_worker("b", "worker.app")
    cluster.wait_until_taking_jobs("b")
    streams = [(case, *ask(cluster, *case)) for case in list(alone) * 2]
    wait_for("some tokens", lambda: sum(len(reader.text) > 5 for *_, reader in streams) > 5)
    cluster.processes("a")[0].kill()

    for case, job_id, reader in streams:
        reader.to_end()
        assert cluster.store.get(job_id).state is JobState.SUCCEEDED
        assert reader.text == alone[case]
    assert {cluster.store.get(job_id).attempt for _, job_id, _ in streams} == {1, 2}
