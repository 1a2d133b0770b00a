"""Measures the end-to-end speed of a running server: HTTP, queue, engine, server-sent events.

    python start_slm_api.py                       # in another shell
    python -m benchmarks.serving [--url http://127.0.0.1:5000] [--workloads W1,W8,W32,WL] [--repeat 3] [--until-eos]

W1, W8, W32: that many clients, each sending one request after another; prompts of about 40 tokens that differ from the
first word on (so no prefix is shared), 64 new tokens, greedy. WL: one client, a prompt of about 1,000 tokens. Responses
continue after an end-of-sequence token unless `--until-eos` is given. Output tokens are counted in the server's job
records; times are measured by the client. TTFT: from sending the request to the first text frame. ITL: between two text
frames. Standard library only, so that the client uses little of the machine.
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
from itertools import pairwise
from typing import Protocol
from urllib.parse import urlsplit

NEW_TOKENS = 64
LONG_PROMPT_WORDS = 900
TOPICS = ["rivers", "bridges", "clocks", "gardens", "trains", "violins", "deserts", "lanterns", "harbours", "kites"]
TIMEOUT_S = 600


@dataclass(frozen=True)
class Workload:
    """`clients` clients send `requests` requests in total."""

    name: str
    clients: int
    requests: int
    is_long: bool = False


WORKLOADS = [Workload("W1", 1, 4), Workload("W8", 8, 32), Workload("W32", 32, 64), Workload("WL", 1, 3, is_long=True)]
WARM_UP = Workload("warm", 2, 2)


@dataclass
class Measured:
    """The measurements of one run of a workload; times in seconds.

    Args:
        wall: from the first request to the end of the last response.
        tokens: generated for all clients.
        arrivals: for each request, when each piece of its text arrived, from sending the request.
    """

    wall: float = 0.0
    tokens: int = 0
    arrivals: list[list[float]] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all clients divided by the wall time."""
        return self.tokens / self.wall

    @property
    def ttft(self) -> list[float]:
        """The time to the first piece of text of each request."""
        return [times[0] for times in self.arrivals if times]

    @property
    def itl(self) -> list[float]:
        """The times between two pieces of text of one response, of all requests."""
        return [later - earlier for times in self.arrivals for earlier, later in pairwise(times)]

    def goodput(self, max_ttft: float, max_mean_itl: float) -> float:
        """Return how many requests per second kept both bounds: as vLLM's `--goodput ttft:… tpot:…` counts them."""
        good = [times for times in self.arrivals if times and times[0] <= max_ttft and _mean_itl(times) <= max_mean_itl]
        return len(good) / self.wall

    def row(self, name: str) -> str:
        """Return one line of the table."""
        return (
            f"{name:4} {self.tokens_per_s:8.1f} tok/s   TTFT p50 {percentile(self.ttft, 50):6.3f} s"
            f"  p95 {percentile(self.ttft, 95):6.3f} s   ITL p50 {percentile(self.itl, 50) * 1e3:6.1f} ms"
            f"  p95 {percentile(self.itl, 95) * 1e3:6.1f} ms   ({self.tokens} tokens in {self.wall:.1f} s)"
        )


def _mean_itl(times: Sequence[float]) -> float:
    return (times[-1] - times[0]) / max(len(times) - 1, 1)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the given percentile; NaN if there are no values."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def prompts(workload: Workload, run: int) -> Iterator[str]:
    """Yield prompts that share no prefix with each other or with those of another run."""
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
    """A client that sends one request after another."""

    def stream(self, prompt: str) -> list[float]:
        """Send one streamed request; return when each piece of text arrived, in seconds after it was sent."""

    def count_tokens(self) -> int:
        """Return the number of tokens of all its responses; called after the measurement."""


class ServerClient:
    """A client of this server with its own connection; `model` as in a request, or empty."""

    def __init__(self, url: str, *, ignore_eos: bool = True, model: str = "") -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        self._fields: dict[str, object] = {"max_new_tokens": NEW_TOKENS, "temperature": 0}
        if ignore_eos:
            self._fields["ignore_eos"] = True
        if model:
            self._fields["model"] = model
        self._jobs: list[str] = []

    def stream(self, prompt: str) -> list[float]:
        """Send one streamed request; return when each piece of text arrived, in seconds after it was sent."""
        body = json.dumps({"prompt": prompt} | self._fields)
        sent = time.perf_counter()
        self._connection.request("POST", "/slm/stream", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{answer.status}: {answer.read()!r}")
        times = [time.perf_counter() - sent for line in answer if line.startswith(b'data: {"text"')]
        self._jobs.append(str(answer.headers["X-Job-Id"]))
        return times

    def count_tokens(self) -> int:
        """Return the number of generated tokens according to the server."""
        self._connection.close()  # the server may have closed it, if it was idle for long; the next request reconnects
        return sum(self._tokens_of(job_id) for job_id in self._jobs)

    def _tokens_of(self, job_id: str) -> int:
        self._connection.request("GET", f"/slm/jobs/{job_id}")
        job = json.load(self._connection.getresponse())
        if job["result"] is None:
            raise RuntimeError(f"Job {job_id} is {job['status']}: {job.get('error')}")
        return int(job["result"]["usage"]["completion_tokens"])


def run(clients: Sequence[Client], workload: Workload, number: int) -> Measured:
    """Run a workload once, with the given clients.

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
            measured.arrivals.append(client.stream(prompt))

    with ThreadPoolExecutor(len(clients)) as pool:
        begun = time.perf_counter()
        list(pool.map(work, clients))  # raises what a client raised
        measured.wall = time.perf_counter() - begun
    measured.tokens = sum(client.count_tokens() for client in clients)
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    """Run the workloads in turn, several times, and print each run."""
    parser = argparse.ArgumentParser(description="Measure the end-to-end speed of a running server.")
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--workloads", default=",".join(one.name for one in WORKLOADS))
    parser.add_argument("--repeat", type=int, default=3, help="runs of each workload, in turn (default: 3)")
    parser.add_argument("--until-eos", action="store_true", help="let responses end before 64 tokens")
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
