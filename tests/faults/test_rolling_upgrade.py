"""An upgrade without downtime, as in docs/operations.md: one process after the other, behind nginx, under load."""

from __future__ import annotations

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from tests.free_port import free_port
from tests.nginx import running_nginx
from tests.processes import Cluster, is_up, running_cluster, wait_for
from tests.redis_server import RedisServer

TIMEOUT_S = 120
PATIENCE_S = 100
PROMPT = "0123456789" * 15  # the fake worker says it again, a character per step
STEP_MS = "10"


class Client:
    """Does what the documentation tells clients: repeats refused requests, and resumes broken streams."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.resumed = 0
        self.refused = 0

    def generate(self) -> str:
        answer = self._post("/slm/generate")
        return str(answer.json()["response"])

    def stream(self) -> str:
        """Return the text of a stream, put together from all its parts."""
        pieces: list[str] = []
        with self._post("/slm/stream") as answer:
            job_id = answer.headers["X-Job-Id"]
            last, is_complete = self._read(answer, pieces, "0")
        while not is_complete:
            self.resumed += 1
            last, is_complete = self._resume(job_id, pieces, last)
        return "".join(pieces)

    def _post(self, path: str) -> requests.Response:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = requests.post(
                self._url + path,
                json={"prompt": PROMPT, "max_new_tokens": 200},
                headers=headers,
                stream=True,
                timeout=TIMEOUT_S,
            )
            if answer.status_code == 200:
                return answer
            assert answer.status_code in (202, 503), answer.text  # 202: a stopping API lets go of who waits
            assert time.monotonic() < deadline, answer.text
            self.refused += 1
            time.sleep(0.1)

    def _resume(self, job_id: str, pieces: list[str], last: str) -> tuple[str, bool]:
        where = f"{self._url}/slm/jobs/{job_id}/stream"
        with requests.get(where, headers={"Last-Event-ID": last}, stream=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code == 200:
                return self._read(answer, pieces, last)
        time.sleep(0.1)
        return last, answer.status_code == 204

    @staticmethod
    def _read(answer: requests.Response, pieces: list[str], last: str) -> tuple[str, bool]:
        try:
            for line in answer.iter_lines(chunk_size=None):
                if line.startswith(b"id: "):
                    last = line[4:].decode()
                elif line.startswith(b"data: "):
                    frame = json.loads(line[6:])
                    pieces.append(frame.get("text", ""))
                    if frame.get("status") == "Response complete!":
                        return last, True
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            pass
        return last, False


def restart_all(cluster: Cluster, ports: list[int]) -> None:
    """The steps of an upgrade, each while the other process of its kind serves."""
    for port, old in zip(ports, cluster.processes("api"), strict=True):
        old.terminate()
        cluster.start_api(port)
        wait_for("the new API", lambda port=port: is_up(f"http://127.0.0.1:{port}"))
    for number in (1, 2):
        cluster.start_worker(f"new{number}", FAKE_STEP_MS=STEP_MS)
        cluster.wait_until_taking_jobs(f"new{number}")
        (old,) = cluster.processes(f"old{number}")
        old.terminate()


def test_no_request_and_no_token_is_lost_while_every_process_is_replaced(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    apis = "".join(f"server 127.0.0.1:{port};" for port in ports)
    upstream = {"resolver 127.0.0.11 valid=2s ipv6=off;": f"upstream slm_apis {{ {apis} }}"}
    done = threading.Event()
    (tmp_path / "nginx").mkdir()
    with (
        running_cluster(redis_server.url, tmp_path, SLM_DRAIN_S="0.5") as cluster,
        running_nginx(tmp_path / "nginx", "slm_apis", changes=upstream) as nginx,
        ThreadPoolExecutor() as pool,
    ):
        for port in ports:
            cluster.start_api(port)
        for number in (1, 2):
            cluster.start_worker(f"old{number}", FAKE_STEP_MS=STEP_MS)
        cluster.wait_until_taking_jobs("old1", "old2")
        for port in ports:
            wait_for("the APIs", lambda port=port: is_up(f"http://127.0.0.1:{port}"))
        clients = [Client(nginx.url) for _ in range(4)]

        def work(client: Client, is_streaming: bool) -> list[str]:
            texts = []
            while not done.is_set():
                texts.append(client.stream() if is_streaming else client.generate())
            return texts

        running = [pool.submit(work, client, number % 2 == 0) for number, client in enumerate(clients)]
        try:
            restart_all(cluster, ports)
        finally:
            done.set()
        texts = [text for one in running for text in one.result()]
    print(len(texts), "answers;", [(client.resumed, client.refused) for client in clients], "resumed, refused")
    assert set(texts) == {PROMPT}
