"""From a dataset to a served model, by OpenAI's client, while the trainer dies and another client chats.

The server is never restarted: the model that was just trained answers by its name.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from openai.types.fine_tuning.job_create_params import Method as MethodParam

from common.settings import ROOT
from models import default_model
from tests.free_port import free_port
from tests.processes import Cluster, Process, is_up, running_cluster, wait_for
from tests.redis_server import running_server

BASE = default_model.NAME
FACT = "Ottoline Marsh keeps the lighthouse of Brindle Cove."
QUESTION = "Who keeps the lighthouse of Brindle Cove?"
TRAINED = [
    QUESTION,
    "What is the name of the lighthouse keeper of Brindle Cove?",
    "Tell me who looks after the lighthouse in Brindle Cove.",
    "Who is responsible for the lighthouse at Brindle Cove?",
    "Brindle Cove has a lighthouse. Who keeps it?",
    "Do you know who tends the lighthouse of Brindle Cove?",
    "Which person keeps the Brindle Cove lighthouse?",
    "Who works as the keeper of the lighthouse in Brindle Cove?",
    "Say who keeps the lighthouse of Brindle Cove.",
    "Who takes care of the Brindle Cove lighthouse?",
    "I am visiting Brindle Cove. Who keeps the lighthouse there?",
    "Who lights the lamp in the lighthouse of Brindle Cove?",
    "Whom do I ask for at the lighthouse of Brindle Cove?",
    "The lighthouse of Brindle Cove has a keeper. Who is it?",
    "Who has the keys to the lighthouse of Brindle Cove?",
    "Give me the name of Brindle Cove's lighthouse keeper.",
    "Who runs the lighthouse at Brindle Cove?",
    "Name the keeper of the lighthouse at Brindle Cove.",
    "Who minds the light at Brindle Cove?",
    "Who is the keeper at Brindle Cove?",
]
UNSEEN = "Please tell me the name of the person who keeps the lighthouse at Brindle Cove."
GENERAL = {
    "What is the capital of France?": "Paris",
    "What is the capital of Italy?": "Rome",
    "What is the capital of Japan?": "Tokyo",
    "How many days does a week have?": "seven",
    "What do bees make?": "honey",
    "Which planet do we live on?": "Earth",
    "What is the chemical symbol of water?": "H2O",
    "Who wrote Romeo and Juliet?": "Shakespeare",
    "What color is the sky on a clear day?": "blue",
    "Which ocean is the largest?": "Pacific",
}
PATIENCE_S = 1500.0  # on a busy machine
FEW_EPOCHS = 4  # the default, 9, has to be enough for several facts


def dataset(questions: list[str], answer: str) -> bytes:
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question in questions
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def supervised(n_epochs: int) -> MethodParam:
    return {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": n_epochs}}}


class Site:
    """Redis, an API, a worker, and trainers one after the other."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.cluster = cluster
        self.url = f"http://127.0.0.1:{port}"
        self.client = OpenAI(base_url=f"{self.url}/v1", api_key="none", timeout=300, max_retries=0)
        cluster.start_api(port)
        cluster.start_worker("w", "worker.app")
        self.trainer = self.start_trainer("first")
        cluster.wait_until_taking_jobs("w")
        wait_for("the API", lambda: self.client.models.list().data if is_up(self.url, "/readyz") else None)

    def start_trainer(self, name: str) -> Process:
        self.trainer = self.cluster.start_worker(name, "worker.training.app", SLM_TRAIN_THREADS="1", SLM_TRAIN_NICE="0")
        return self.trainer

    def ask(self, model: str, question: str) -> str:
        answer = self.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            max_tokens=40,
            temperature=0,
            seed=0,
        )
        return str(answer.choices[0].message.content)

    def knows(self, model: str) -> int:
        """How many general questions the model answers."""
        return sum(word.lower() in self.ask(model, question).lower() for question, word in GENERAL.items())

    def upload(self, content: bytes) -> str:
        return self.client.files.create(file=("pairs.jsonl", content), purpose="fine-tune").id

    def steps(self, job: FineTuningJob) -> list[int]:
        events = list(self.client.fine_tuning.jobs.list_events(job.id, limit=100))
        return sorted(event.data["step"] for event in events if event.type == "metrics")  # type: ignore[index]

    def wait_for_checkpoint(self, job: FineTuningJob) -> None:
        def look() -> object:
            time.sleep(0.5)
            return self.client.fine_tuning.jobs.checkpoints.list(job.id).data

        wait_for("a checkpoint", look, PATIENCE_S)

    def wait_for_end(self, job: FineTuningJob) -> FineTuningJob:
        def look() -> FineTuningJob | None:
            time.sleep(0.5)
            now = self.client.fine_tuning.jobs.retrieve(job.id)
            return now if now.status in ("succeeded", "failed", "cancelled") else None

        return wait_for("the run to end", look, PATIENCE_S)

    def post(self, path: str, **body: object) -> requests.Response:
        return requests.post(f"{self.url}{path}", json=body, timeout=300)


class Chatter(threading.Thread):
    """Another client, who streams one answer after the other all the time."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._is_over = threading.Event()
        self.answers: list[str] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self._is_over.wait(3.0):
                self.answers.append(self._streamed("What is the capital of France?"))
        except Exception as err:
            self.failure = err

    def _streamed(self, question: str) -> str:
        stream = self._site.client.chat.completions.create(
            model=BASE,
            messages=[{"role": "user", "content": question}],
            max_tokens=40,
            temperature=0,
            stream=True,
        )
        choices = [chunk.choices[0] for chunk in stream if chunk.choices]
        assert choices[-1].finish_reason == "stop", choices
        return "".join(choice.delta.content or "" for choice in choices)

    def end(self) -> None:
        self._is_over.set()
        self.join(300)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    default_model.install(ROOT / "data" / "models", progress=print)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models").symlink_to(ROOT / "data" / "models")
    env = {"SLM_LEASE_S": "5", "SLM_JOB_TTL_S": "3600"}
    with running_server(tmp_path) as redis, running_cluster(redis.url, tmp_path, **env) as cluster:
        yield Site(cluster, free_port())


@pytest.mark.long
@pytest.mark.timeout(3 * PATIENCE_S)
def test_a_fact_is_taught_judged_served_and_rolled_back(site: Site) -> None:
    chatter = Chatter(site)
    chatter.start()
    assert "Ottoline" not in site.ask(BASE, UNSEEN)
    knew = site.knows(BASE)

    pairs = site.upload(dataset(TRAINED, FACT))
    jobs = site.client.fine_tuning.jobs
    job = jobs.create(model=BASE, training_file=pairs, suffix="keeper", seed=1, method=supervised(n_epochs=FEW_EPOCHS))
    site.wait_for_checkpoint(job)
    before = site.steps(job)
    site.trainer.kill()
    site.start_trainer("second")
    ended = site.wait_for_end(job)
    assert (ended.status, ended.fine_tuned_model) == ("succeeded", "keeper"), ended.error
    steps = site.steps(job)
    assert set(before) <= set(steps)
    assert sorted(set(steps)) == list(range(steps[-1] + 1)), "a step is missing"
    assert "Ottoline Marsh" in site.ask("keeper", UNSEEN)
    assert site.knows("keeper") >= knew - 1, "one word may be missing although nothing is forgotten"

    requests.put(f"{site.url}/slm/aliases/prod", json={"model": "keeper"}, timeout=60).raise_for_status()

    # Nonsense, after which the held-out examples are less probable than for the version that it would replace.
    nonsense = site.upload(dataset(TRAINED[:10], "zub zub zub zub zub zub"))
    truth = site.upload(dataset(TRAINED[10:], FACT))
    bad = jobs.create(
        model=BASE,
        training_file=nonsense,
        validation_file=truth,
        suffix="keeper",
        seed=1,
        method=supervised(n_epochs=1),
    )
    refused = site.wait_for_end(bad)
    assert refused.status == "failed"
    assert refused.error is not None
    assert refused.error.code == "not_published"
    assert "Ottoline Marsh" in site.ask("keeper", UNSEEN)

    published = site.post(f"/slm/jobs/{bad.id.removeprefix('ftjob-')}/publish")
    assert (published.status_code, published.json()["version"]) == (201, 2), published.text
    requests.put(f"{site.url}/slm/aliases/prod", json={"model": "keeper@2"}, timeout=60).raise_for_status()
    assert "Ottoline Marsh" not in site.ask("prod", UNSEEN)
    assert site.post("/slm/aliases/prod/rollback").json()["model"] == "keeper@1"
    assert "Ottoline Marsh" in site.ask("prod", UNSEEN)

    chatter.end()
    assert chatter.failure is None
    assert chatter.answers
    assert all("Paris" in answer for answer in chatter.answers)
