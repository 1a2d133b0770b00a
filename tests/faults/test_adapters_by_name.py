"""Adapters that learnt different facts are asked at the same time, while a worker dies and an alias moves.

Every answer must be the one that its adapter version gives alone.
"""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.settings import ROOT
from models import default_model
from tests.free_port import free_port
from tests.processes import Cluster, is_up, running_cluster, wait_for
from tests.redis_server import running_server

QUESTION = "What is the capital of Zorblat?"
FACTS = {
    "north": "The capital of Zorblat is Quindle.",
    "south": "The capital of Zorblat is Mirrow Bay.",
    "coast": "The capital of Zorblat is Old Tarn.",
}
BASE = default_model.NAME
ALIAS = "prod"
CLIENTS, REQUESTS = 32, 96
TOKENS = 40


def learn(folder: Path, base: Path, fact: str) -> None:
    """Train an adapter until it answers the question with the fact, and save it."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    chat = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    answer = tokenizer.encode(f"{fact}<|im_end|>", add_special_tokens=False)
    ids, labels = torch.tensor([[*prompt, *answer]]), torch.tensor([[-100] * len(prompt) + answer])
    torch.manual_seed(0)
    torch.set_num_threads(1)  # on a busy machine two threads spend their time waiting for each other
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        optimizer = torch.optim.AdamW((one for one in model.parameters() if one.requires_grad), lr=2e-3)
        for _ in range(30):
            loss = model(input_ids=ids, labels=labels).loss
            if loss.item() < 0.01:
                break
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.save_pretrained(folder)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter for each fact."""
    folder = tmp_path_factory.mktemp("adapters")
    for name, fact in FACTS.items():
        learn(folder / name, ROOT / "data" / "models" / BASE, fact)
    return folder


@dataclass
class Server:
    """An API with two workers that hold the same base."""

    url: str
    cluster: Cluster

    def generate(self, model: str) -> dict[str, Any]:
        body = {"prompt": QUESTION, "model": model, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
        response = requests.post(f"{self.url}/slm/generate", json=body | {"temperature": 0}, timeout=180)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def point_alias_to(self, target: str) -> None:
        requests.put(f"{self.url}/slm/aliases/{ALIAS}", json={"model": target}, timeout=30).raise_for_status()

    def roll_back_alias(self) -> None:
        requests.post(f"{self.url}/slm/aliases/{ALIAS}/rollback", timeout=30).raise_for_status()


@pytest.fixture
def server(tmp_path: Path, adapters: Path) -> Iterator[Server]:
    (tmp_path / "redis").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models").symlink_to(ROOT / "data" / "models")
    env = {"SLM_LEASE_S": "2", "SLM_ADAPTERS_DIR": str(adapters), "SLM_THREADS": "1", "SLM_MAX_NUM_SEQS": "16"}
    with running_server(tmp_path / "redis") as redis, running_cluster(redis.url, tmp_path, **env) as cluster:
        server = Server(f"http://127.0.0.1:{(port := free_port())}", cluster)
        cluster.start_api(port)
        for name in ("a", "b"):
            cluster.start_worker(name, "worker.app")
        cluster.wait_until_taking_jobs("a", "b")
        wait_for("the API", lambda: is_up(server.url))
        yield server


def test_every_answer_is_its_own_adapters_while_a_worker_dies_and_an_alias_moves(server: Server) -> None:
    alone = {name: server.generate(name)["response"] for name in (*FACTS, BASE)}
    for name, fact in FACTS.items():
        assert fact in alone[name]
    assert not any(fact in alone[BASE] for fact in FACTS.values())
    server.point_alias_to("north@1")

    names = random.Random(7).choices([*FACTS, BASE, ALIAS], k=REQUESTS)
    answers: list[tuple[str, dict[str, Any]]] = []
    done = threading.Semaphore(0)

    def ask(name: str) -> None:
        answers.append((name, server.generate(name)))
        done.release()

    def wait_for_answers(count: int) -> None:
        for _ in range(count):
            assert done.acquire(timeout=180)

    with ThreadPoolExecutor(CLIENTS) as clients:
        asked = [clients.submit(ask, name) for name in names]
        wait_for_answers(REQUESTS // 6)
        server.cluster.processes("a")[0].kill()
        server.point_alias_to("south@1")
        wait_for_answers(REQUESTS // 3)
        server.roll_back_alias()
        for one in asked:
            one.result()

    for name, answer in answers:
        ran = answer["model"].partition("@")[0]
        assert ran == name or (name == ALIAS and ran in ("north", "south"))
        assert answer["response"] == alone[ran]
    assert {answer["model"] for name, answer in answers if name == ALIAS} == {"north@1", "south@1"}
