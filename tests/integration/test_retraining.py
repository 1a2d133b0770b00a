"""A real worker with a small model whose adapter is trained again while it serves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from common.jobs.job import JobKind, JobRecord, JobState
from tests.processes import Cluster, running_cluster
from tests.redis_server import RedisServer
from tests.unit.worker.engine.tiny_models import make_tokenizer, save_model
from worker.engine.prompts.prompt import PromptRenderer

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]


def train(folder: Path, base: Path, seed: int) -> None:
    """Save an adapter in the folder over the existing one, as a training does."""
    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)


def expected(folder: Path, base: Path) -> str:
    """The answer of transformers and peft."""
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    tokenizer = make_tokenizer()
    prompt_ids = PromptRenderer(tokenizer).render("Hi").token_ids
    found = model.generate(input_ids=torch.tensor([prompt_ids]), max_new_tokens=20, do_sample=False, pad_token_id=0)
    return str(tokenizer.decode(found[0, len(prompt_ids) :], skip_special_tokens=True)).strip()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(tmp_path / "tiny-llama")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    train(tmp_path / "mine", base, seed=1)
    return tmp_path / "mine"


@pytest.fixture
def cluster(redis_server: RedisServer, tmp_path: Path, base: Path, adapter: Path) -> Iterator[Cluster]:
    env = {"SLM_BASE_MODEL": str(base), "SLM_LORA_PATH": str(adapter), "SLM_DTYPE": "float32", "SLM_MAX_NUM_SEQS": "2"}
    with running_cluster(redis_server.url, tmp_path, **env) as cluster:
        yield cluster


def answered(cluster: Cluster) -> str:
    job_id, reader = cluster.submit(JobKind.GENERATE, "Hi", max_new_tokens=20, temperature=0.0)
    reader.to_end()
    result = cluster.store.get(job_id).result
    assert result is not None
    return str(result["response"])


def load(cluster: Cluster) -> JobRecord:
    return cluster.finish(JobKind.LOAD)


def test_a_load_after_a_training_serves_the_new_adapter_and_reports_a_damaged_one(
    cluster: Cluster, adapter: Path, base: Path
) -> None:
    cluster.start_worker("a", "worker.app")
    cluster.wait_until_taking_jobs("a")
    first = expected(adapter, base)
    assert answered(cluster) == first
    ids = [cluster.worker("a")]

    train(adapter, base, seed=2)
    result = load(cluster).result
    assert result is not None
    assert result["changed"] == ["adapter"]
    second = expected(adapter, base)
    assert second != first
    assert answered(cluster) == second
    ids.append(cluster.worker("a"))
    assert len({one and one.adapter_id for one in ids}) == 2
    assert len({one and one.base_id for one in ids}) == 1

    (adapter / "adapter_model.safetensors").write_bytes(b"half a file")
    failed = load(cluster)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert "adapter_model.safetensors cannot be read" in failed.error.message
    assert answered(cluster) == second  # what is in memory is still served

    train(adapter, base, seed=1)
    assert load(cluster).state is JobState.SUCCEEDED
    assert answered(cluster) == first
