"""The user's document against the real server: its examples run as printed, on the real model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from common.settings import ROOT
from models import default_model
from tests import node_packages
from tests.free_port import free_port
from tests.processes import Cluster, running_cluster, wait_for
from tests.redis_server import running_server

DOCUMENT = (ROOT / "docs" / "slm_api_documentation.md").read_text(encoding="utf-8")
NODE = ROOT / "tests" / "node"
TIMEOUT_S = 240
MiB = 1024 * 1024


class Server:
    """A running server with the real model."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.cluster = cluster
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = requests.post(self.url + path, json=body, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def info(self) -> dict[str, Any]:
        return dict(requests.get(f"{self.url}/slm/info", timeout=TIMEOUT_S).json())

    def stream(self, **body: Any) -> list[dict[str, Any]]:
        with requests.post(f"{self.url}/slm/stream", json=body, stream=True, timeout=TIMEOUT_S) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith(b"data: ")]
        return [json.loads(line[6:]) for line in lines]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "redis").mkdir()
    default_model.install(ROOT / "data" / "models", progress=print)
    with (
        running_server(folder / "redis") as redis,
        running_cluster(redis.url, folder, SLM_DATA_DIR=str(ROOT / "data")) as cluster,
    ):
        server = Server(cluster, free_port())
        cluster.start_worker("a", "worker.app", SLM_MAX_NUM_SEQS="10")
        cluster.start_api(int(server.url.rpartition(":")[2]))
        cluster.wait_until_taking_jobs("a")
        yield server


def examples(language: str) -> list[str]:
    """The document's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)


def example(language: str, containing: str) -> str:
    (found,) = [block for block in examples(language) if containing in block]
    return found


def here(text: str, server: Server) -> str:
    assert "http://localhost:5000" in text
    return text.replace("http://localhost:5000", server.url)


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_client_works_as_printed(server: Server) -> None:
    output = run(sys.executable, "-c", here(example("python", "What is the capital of France?"), server))
    assert "'success': True" in output
    assert "Model loaded successfully on cpu" in output
    assert output.strip().splitlines()[-1]  # the answer


def test_the_batch_example_works_as_printed(server: Server) -> None:
    script = "import requests\n" + here(example("python", "Explain quantum computing"), server)
    assert run(sys.executable, "-c", script).count("A: ") == 3


def test_the_curl_examples_work_as_printed(server: Server) -> None:
    commands = here(example("bash", "# Get model info"), server).replace("\\\n", " ")
    answers = [json.loads(run("sh", "-c", line)) for line in commands.splitlines() if line.startswith("curl")]
    loaded, generated, info = answers
    assert loaded["message"] == "Model loaded successfully on cpu"
    assert generated["success"]
    assert generated["settings"]["max_new_tokens"] == 80
    assert info["model_loaded"]


def test_the_axios_client_works_as_printed(server: Server) -> None:
    node_packages.install(NODE)
    output = run("node", "-e", here(example("javascript", "axios"), server), cwd=NODE)
    assert "message: 'Model loaded successfully on cpu'" in output


@pytest.mark.parametrize(
    ("heading", "answer_of"),
    [
        ("GET** `/slm/info`", lambda server: server.info()),
        ("POST** `/slm/load`", lambda server: server.post("/slm/load")),
        (
            "POST** `/slm/generate`",
            lambda server: server.post("/slm/generate", {"prompt": "Say hello", "max_new_tokens": 4}),
        ),
    ],
)
def test_every_documented_field_is_there_in_the_documented_order(server: Server, heading: str, answer_of: Any) -> None:
    section = DOCUMENT[DOCUMENT.index(heading) :]
    documented = json.loads(re.findall(r"\*\*Response:\*\*\n```json\n(.*?)```", section, re.DOTALL)[0])
    answer = answer_of(server)
    assert list(answer)[: len(documented)] == list(documented)
    assert {name: type(answer[name]) for name in documented} == {
        name: type(value) for name, value in documented.items()
    }


def test_a_stream_on_an_unloaded_model_shows_the_documented_frames_in_their_order(server: Server) -> None:
    assert server.post("/slm/unload")["message"] == "Model unloaded successfully"
    frames = server.stream(prompt="Write a short story about a robot", max_new_tokens=12, temperature=0.8)
    assert frames[:3] == [
        {"status": "Loading SLM model..."},
        {"status": "Model loaded on cpu"},
        {"status": "Generating response..."},
    ]
    texts = frames[3:-1]
    assert all(list(frame) == ["text", "full_text", "is_complete"] for frame in texts)
    assert [frame["is_complete"] for frame in texts] == [False] * (len(texts) - 1) + [True]
    assert texts[-1]["full_text"] == "".join(frame["text"] for frame in texts).strip()
    assert frames[-1] == {"status": "Response complete!", "device_used": "cpu"}


def test_ten_streams_at_once_all_end_with_the_text_they_have_alone(server: Server) -> None:
    asked = [{"prompt": f"Name {n} things one can do with a robot.", "max_new_tokens": 24} for n in range(2, 12)]
    asked = [body | {"temperature": 0.9, "seed": n} for n, body in enumerate(asked)]
    alone = [server.post("/slm/generate", body)["response"] for body in asked]
    together: list[list[dict[str, Any]]] = [[] for _ in asked]

    def read(n: int) -> None:
        together[n] = server.stream(**asked[n])

    threads = [threading.Thread(target=read, args=(n,)) for n in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [frames[-2]["full_text"] for frames in together] == alone
    assert len(set(alone)) == len(alone)


def test_unloading_frees_the_memory(server: Server) -> None:
    worker = psutil.Process(server.info()["workers"][0]["pid"])
    server.post("/slm/unload")
    before = worker.memory_info().rss
    server.post("/slm/generate", {"prompt": "Hello", "max_new_tokens": 16})
    loaded = worker.memory_info().rss
    server.post("/slm/unload")
    after = worker.memory_info().rss
    assert loaded - before > 100 * MiB
    assert after - before < 100 * MiB


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(server: Server) -> None:
    for path in ("/slm/generate", "/slm/stream"):
        answer = requests.post(server.url + path, json={"prompt": "word " * 3000}, timeout=TIMEOUT_S)
        assert answer.status_code == 400, answer.text
        refusal = answer.json()
        assert refusal["code"] == "prompt_too_long"
        assert refusal["param"] == "prompt"
        assert "2048" in refusal["error"]


def test_without_a_worker_the_server_says_so_at_once(server: Server) -> None:
    """The last test, because it ends the worker."""
    for process in server.cluster.processes("a"):
        process.terminate()
    wait_for("the worker to be gone", lambda: not server.info()["workers"])
    for path in ("/slm/generate", "/slm/stream", "/slm/load"):
        body = {} if path == "/slm/load" else {"prompt": "Hello"}
        answer = requests.post(server.url + path, json=body, timeout=30)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert answer.json()["code"] == "no_worker"
