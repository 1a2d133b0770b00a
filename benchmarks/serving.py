"""Speed of a running server through its whole path: HTTP, queue, engine, server-sent events.

    python start_slm_api.py                       # in another shell
    python -m benchmarks.serving [--url http://127.0.0.1:5000] [--workloads W1,W8,W32,WL] [--repeat 3]

W1, W8, W32: that many clients, each asking one thing after another; prompts of about 40 tokens that differ from the
first word on (no prefix can be shared), 64 new tokens, greedy. WL: one client, a prompt of about 1,000 tokens. Output
tokens are what the server counts in its own records; times are the client's. TTFT: from sending the request to the
first text frame. ITL: between two text frames. Standard library only, so that the measuring costs the machine little.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

NEW_TOKENS = 64
LONG_PROMPT_WORDS = 900
TOPICS = ["rivers", "bridges", "clocks", "gardens", "trains", "violins", "deserts", "lanterns", "harbours", "kites"]
TIMEOUT_S = 600


@dataclass(frozen=True)
class Workload:
    """`clients` clients send `requests` requests in all."""

    name: str
    clients: int
    requests: int
    is_long: bool = False


WORKLOADS = [Workload("W1", 1, 4), Workload("W8", 8, 32), Workload("W32", 32, 64), Workload("WL", 1, 3, is_long=True)]


@dataclass
class Measured:
    """What one run of a workload came to; times in seconds."""

    wall: float = 0.0
    tokens: int = 0
    ttft: list[float] = field(default_factory=list)
    itl: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        """One line of the table."""
        return (
            f"{name:4} {self.tokens / self.wall:8.1f} tok/s   TTFT p50 {_at(self.ttft, 50):6.3f} s"
            f"  p95 {_at(self.ttft, 95):6.3f} s   ITL p50 {_at(self.itl, 50) * 1e3:6.1f} ms"
            f"  p95 {_at(self.itl, 95) * 1e3:6.1f} ms   ({self.tokens} tokens in {self.wall:.1f} s)"
        )


def _at(values: Sequence[float], percent: int) -> float:
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def prompts(workload: Workload, run: int) -> Iterator[str]:
    """Prompts that share no beginning, with each other or with those of another run."""
    for number in range(workload.requests):
        first = f"{run}-{workload.name}-{number}"
        topic = TOPICS[number % len(TOPICS)]
        if workload.is_long:
            yield f"{first} " + " ".join(TOPICS[(number + n) % len(TOPICS)] for n in range(LONG_PROMPT_WORDS))
        else:
            yield (
                f"{first} is the number of this question. Please write a long and detailed story about {topic}, with a "
                f"beginning, a middle and an end, for readers who like {TOPICS[(number + 5) % len(TOPICS)]}."
            )


class Client:
    """One HTTP client with a connection of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)

    def stream(self, prompt: str, measured: Measured) -> str:
        """Send one streamed request and note its times; returns the job's id."""
        body = json.dumps({"prompt": prompt, "max_new_tokens": NEW_TOKENS, "temperature": 0})
        begun = last = time.perf_counter()
        self._connection.request("POST", "/slm/stream", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{answer.status}: {answer.read()!r}")
        has_text = False
        for line in answer:
            if line.startswith(b'data: {"text"'):
                now = time.perf_counter()
                (measured.itl if has_text else measured.ttft).append(now - (last if has_text else begun))
                has_text, last = True, now
        return str(answer.headers["X-Job-Id"])

    def tokens_of(self, job_id: str) -> int:
        """How many tokens the server generated for a job."""
        self._connection.request("GET", f"/slm/jobs/{job_id}")
        job = json.load(self._connection.getresponse())
        return int(job["result"]["usage"]["completion_tokens"])


def run(url: str, workload: Workload, number: int) -> Measured:
    """Run a workload once."""
    measured, waiting, jobs = Measured(), prompts(workload, number), list[str]()
    lock = threading.Lock()

    def work() -> None:
        client = Client(url)
        while True:
            with lock:
                prompt = next(waiting, None)
            if prompt is None:
                return
            jobs.append(client.stream(prompt, measured))

    threads = [threading.Thread(target=work) for _ in range(workload.clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    measured.wall = time.perf_counter() - begun
    if len(jobs) != workload.requests:
        raise RuntimeError(f"{workload.name}: {workload.requests - len(jobs)} requests failed")
    client = Client(url)
    measured.tokens = sum(client.tokens_of(job_id) for job_id in jobs)
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    """Run the workloads in turn, several times over, and print each run."""
    parser = argparse.ArgumentParser(description="Measure a running server through its whole path.")
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--workloads", default=",".join(one.name for one in WORKLOADS))
    parser.add_argument("--repeat", type=int, default=3, help="runs of each workload, in turn (default: 3)")
    options = parser.parse_args(argv)
    chosen = [one for one in WORKLOADS if one.name in options.workloads.split(",")]
    run(options.url, Workload("warm", 2, 2), 0)
    for number in range(1, options.repeat + 1):
        for workload in chosen:
            print(run(options.url, workload, number).row(workload.name), flush=True)


if __name__ == "__main__":
    main()
