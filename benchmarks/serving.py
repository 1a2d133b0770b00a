"""Speed of a running server through its whole path: HTTP, queue, engine, server-sent events.

    python start_slm_api.py                       # in another shell
    python -m benchmarks.serving [--url http://127.0.0.1:5000] [--workloads W1,W8,W32,WL] [--repeat 3] [--until-eos]

W1, W8, W32: that many clients, each asking one thing after another; prompts of about 40 tokens that differ from the
first word on (no prefix can be shared), 64 new tokens, greedy. WL: one client, a prompt of about 1,000 tokens. Answers
go on behind an end-of-sequence token, unless `--until-eos` lets them end there. Output tokens are what the server
counts in its own records; times are the client's. TTFT: from sending the request to the first text frame. ITL: between
two text frames. Standard library only, so that the measuring costs the machine little.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol
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
WARM_UP = Workload("warm", 2, 2)


@dataclass
class Measured:
    """What one run of a workload came to; times in seconds."""

    wall: float = 0.0
    tokens: int = 0
    ttft: list[float] = field(default_factory=list)
    itl: list[float] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all clients over the wall time."""
        return self.tokens / self.wall

    def row(self, name: str) -> str:
        """One line of the table."""
        return (
            f"{name:4} {self.tokens_per_s:8.1f} tok/s   TTFT p50 {percentile(self.ttft, 50):6.3f} s"
            f"  p95 {percentile(self.ttft, 95):6.3f} s   ITL p50 {percentile(self.itl, 50) * 1e3:6.1f} ms"
            f"  p95 {percentile(self.itl, 95) * 1e3:6.1f} ms   ({self.tokens} tokens in {self.wall:.1f} s)"
        )


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of the values do not exceed; NaN where there are none."""
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


class Client(Protocol):
    """Asks one thing after another."""

    def stream(self, prompt: str, measured: Measured) -> None:
        """Send one streamed request and note its times."""

    def count_tokens(self) -> int:
        """How many tokens its answers had, all together; asked once nothing is measured any more."""


class ServerClient:
    """A client of this server with a connection of its own."""

    def __init__(self, url: str, *, ignore_eos: bool = True) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        self._fields: dict[str, object] = {"max_new_tokens": NEW_TOKENS, "temperature": 0}
        if ignore_eos:
            self._fields["ignore_eos"] = True
        self._jobs: list[str] = []

    def stream(self, prompt: str, measured: Measured) -> None:
        """Send one streamed request and note its times."""
        body = json.dumps({"prompt": prompt} | self._fields)
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
        self._jobs.append(str(answer.headers["X-Job-Id"]))

    def count_tokens(self) -> int:
        """How many tokens the server says it generated."""
        return sum(self._tokens_of(job_id) for job_id in self._jobs)

    def _tokens_of(self, job_id: str) -> int:
        self._connection.request("GET", f"/slm/jobs/{job_id}")
        job = json.load(self._connection.getresponse())
        return int(job["result"]["usage"]["completion_tokens"])


def run(clients: Sequence[Client], workload: Workload, number: int) -> Measured:
    """Run a workload once, with as many clients as there are.

    Raises:
        RuntimeError, OSError, http.client.HTTPException: a request failed.
    """
    measured, waiting, lock = Measured(), prompts(workload, number), threading.Lock()

    def work(client: Client) -> None:
        while True:
            with lock:
                prompt = next(waiting, None)
            if prompt is None:
                return
            client.stream(prompt, measured)

    with ThreadPoolExecutor(len(clients)) as pool:
        begun = time.perf_counter()
        list(pool.map(work, clients))  # raises what a client raised
        measured.wall = time.perf_counter() - begun
    measured.tokens = sum(client.count_tokens() for client in clients)
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    """Run the workloads in turn, several times over, and print each run."""
    parser = argparse.ArgumentParser(description="Measure a running server through its whole path.")
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--workloads", default=",".join(one.name for one in WORKLOADS))
    parser.add_argument("--repeat", type=int, default=3, help="runs of each workload, in turn (default: 3)")
    parser.add_argument("--until-eos", action="store_true", help="let answers end before their 64 tokens")
    options = parser.parse_args(argv)
    chosen = [one for one in WORKLOADS if one.name in options.workloads.split(",")]

    def measure(workload: Workload, number: int) -> Measured:
        clients = [ServerClient(options.url, ignore_eos=not options.until_eos) for _ in range(workload.clients)]
        return run(clients, workload, number)

    measure(WARM_UP, 0)
    for number in range(1, options.repeat + 1):
        for workload in chosen:
            print(measure(workload, number).row(workload.name), flush=True)


if __name__ == "__main__":
    main()
