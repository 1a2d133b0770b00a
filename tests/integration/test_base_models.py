"""Two base models, tiny and random, on one Redis: real workers and the real API."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from tests.free_port import free_port
from tests.processes import Cluster, Process, running_cluster, wait_for
from tests.redis_server import RedisServer
from tests.sliminit_models import gpt2, llama, save

APP = "worker.app"
SAMPLING = {"max_new_tokens": 24, "do_sample": False}

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@dataclass(frozen=True)
class Bases:
    cluster: Cluster
    url: str
    workers: dict[str, Process]

    def post(self, path: str, **body: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=180)

    def generate(self, model: str, prompt: str = "hello") -> dict[str, Any]:
        answer = self.post("/slm/generate", prompt=prompt, model=model, **SAMPLING)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def states(self, base: str) -> set[str]:
        return {str(one.state) for one in self.cluster.fleet.workers() if one.base == base}


def _start(redis_server: RedisServer, folder: Path, **env: str) -> Iterator[Bases]:
    torch.manual_seed(7)
    first, second = save(llama(hidden=64), folder / "first"), save(gpt2(), folder / "second")
    env |= {
        "SLM_MODELS": f"first={first},dtype=float32; second={second},dtype=float32",
        "SLM_THREADS": "1",
        "SLM_MAX_NUM_SEQS": "4",
        "SLM_CONTEXT": "256",
    }
    with running_cluster(redis_server.url, folder, **env) as cluster:
        workers = {
            name: cluster.start_worker(name, APP, SLM_WORKER_BASE=base)
            for name, base in {"a1": "first", "b1": "second", "b2": "second"}.items()
        }
        port = free_port()
        cluster.start_api(port)
        cluster.wait_until_taking_jobs(*workers)
        bases = Bases(cluster, f"http://127.0.0.1:{port}", workers)
        wait_for("the API", lambda: _is_up(bases.url))
        yield bases


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def bases(redis_server: RedisServer, tmp_path: Path) -> Iterator[Bases]:
    yield from _start(redis_server, tmp_path)


def test_two_bases_answer_by_name_side_by_side_and_one_outlives_a_killed_worker(bases: Bases) -> None:
    alone = {model: bases.generate(model)["response"] for model in ("first", "second")}
    assert alone["first"] != alone["second"]
    assert bases.generate("default")["model"] == "first"

    with ThreadPoolExecutor(16) as pool:
        asked = ["first", "second"] * 12
        answers = [pool.submit(bases.generate, model) for model in asked]
        wait_for("the first answers", lambda: sum(one.done() for one in answers) >= 4)
        bases.workers["b1"].kill()
        for model, answer in zip(asked, answers, strict=True):
            found = answer.result()
            assert (found["response"], found["base"]) == (alone[model], model)

    bases.workers["b2"].kill()
    wait_for("the second base to have no worker", lambda: bases.states("second") == set())
    refused = bases.post("/slm/generate", prompt="x", model="second")
    assert (refused.status_code, refused.json()["code"]) == (503, "no_worker")
    assert int(refused.headers["Retry-After"]) > 0
    assert bases.generate("first")["response"] == alone["first"]


def test_load_and_unload_concern_one_base(bases: Bases) -> None:
    unloaded = bases.post("/slm/unload", model="second")
    assert unloaded.status_code == 200, unloaded.text
    assert len(unloaded.json()["workers"]) == 2
    assert (bases.states("first"), bases.states("second")) == ({"ready"}, {"unloaded"})
    loaded = bases.post("/slm/load")
    assert len(loaded.json()["workers"]) == 1, "without a name, the default base"
    info = httpx.get(f"{bases.url}/slm/info").json()
    assert {one["name"]: one["model_loaded"] for one in info["bases"]} == {"first": True, "second": False}
    assert bases.post("/slm/load", model="nope").json()["code"] == "model_not_found"
    bases.generate("second")
    wait_for("both workers of the base", lambda: bases.states("second") == {"ready"})


def test_an_adapter_is_published_for_the_base_that_it_names_or_fits(bases: Bases, tmp_path: Path) -> None:
    torch.manual_seed(7)
    for name, model, targets, said in (
        ("named", gpt2(), ["c_attn"], "second"),
        ("fits", gpt2(), ["c_attn"], ""),
        ("other", llama(hidden=64), ["q_proj"], ""),
    ):
        archive = _adapter(model, targets, said, tmp_path / name)
        answer = httpx.post(f"{bases.url}/slm/adapters?name={name}", content=archive, timeout=180)
        assert answer.status_code == 201, answer.text
        assert answer.json()["base"] == ("first" if name == "other" else "second")
        assert bases.generate(name)["base"] == answer.json()["base"]
    wrong = httpx.post(
        f"{bases.url}/slm/adapters?name=wrong&base=first",
        content=_adapter(gpt2(), ["c_attn"], "", tmp_path / "wrong"),
        timeout=180,
    )
    assert (wrong.status_code, wrong.json()["param"]) == (400, "file")
    unknown = httpx.post(f"{bases.url}/slm/adapters?name=wrong&base=nope", content=b"x", timeout=180)
    assert (unknown.status_code, unknown.json()["param"]) == (404, "base")


def _adapter(model: PreTrainedModel, targets: list[str], base: str, folder: Path) -> bytes:
    """Return the archive of a random adapter whose config names that base."""
    config = LoraConfig(r=2, target_modules=targets, init_lora_weights="gaussian", fan_in_fan_out=targets == ["c_attn"])
    get_peft_model(model, config).save_pretrained(str(folder))
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base or None}))
    with io.BytesIO() as packed:
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                archive.add(folder / name, name)
        return packed.getvalue()


@pytest.fixture
def idle_bases(redis_server: RedisServer, tmp_path: Path) -> Iterator[Bases]:
    yield from _start(redis_server, tmp_path, SLM_KEEP_ALIVE_S="4")


def test_an_idle_base_is_unloaded_and_comes_back_with_the_next_request(idle_bases: Bases) -> None:
    bases = idle_bases
    answer = bases.generate("second")["response"]
    wait_for("the base to be unloaded", lambda: bases.states("second") == {"unloaded"})
    wait_for("the other base too", lambda: bases.states("first") == {"unloaded"})
    assert httpx.get(f"{bases.url}/readyz").status_code == 200
    body = {"prompt": "hello", "model": "second", **SAMPLING}
    with httpx.stream("POST", f"{bases.url}/slm/stream", json=body, timeout=180) as response:
        frames = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    assert [one["status"] for one in frames if "status" in one] == [
        "Loading SLM model...",
        "Model loaded on cpu",
        "Generating response...",
        "Response complete!",
    ]
    assert frames[-2]["full_text"].strip() == answer
    assert bases.states("first") == {"unloaded"}, "only the base that was asked for"
