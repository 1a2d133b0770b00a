"""Measures the time to the first token on one base model while another one, with a worker of its own, is fully loaded.

    export SLM_MODELS="first=SmolLM2-135M-Instruct; second=/models/copy"
    SLM_THREADS=1 SLM_READER_GRACE_S=1 python start_slm_api.py
    python -m benchmarks.two_bases [--url http://127.0.0.1:5000] [--first first] [--second second] [--clients 31]

Streams one short answer after another from the first base: in turns while the second is idle, while it has `--clients`
long streams, and, for comparison, while the first base itself has them.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests

PROMPT = "Tell me about bridges."
NEW_TOKENS = 16
LOAD_TOKENS = 400
WARM_UP_S = 3.0
ROUNDS = 3


def stream(url: str, model: str, new_tokens: int, stop: threading.Event | None = None) -> float:
    """Stream an answer; return the ms until its first text."""
    body = {"prompt": PROMPT, "model": model, "max_new_tokens": new_tokens, "ignore_eos": True}
    begin, first = time.perf_counter(), 0.0
    with requests.post(f"{url}/slm/stream", json=body, stream=True, timeout=600) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not first and b'"text"' in line:
                first = time.perf_counter() - begin
            if stop is not None and stop.is_set():
                break
    return first * 1000


@contextmanager
def load(url: str, model: str | None, clients: int) -> Iterator[None]:
    """Keep a base model busy with that many streams; None: do nothing."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            stream(url, model or "", LOAD_TOKENS, stop)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(clients if model else 0)]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP_S)
    yield
    stop.set()
    for thread in threads:
        thread.join()
    while requests.get(f"{url}/slm/info", timeout=60).json()["queue"]["running"]:
        time.sleep(0.1)  # streams that were left go on until their readers' grace has ended


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the times to the first token (ms) of each kind of load."""
    loads = {"idle": None, f"{args.clients} streams on {args.second}": args.second}
    loads[f"{args.clients} streams on {args.first}"] = args.first
    found: dict[str, list[float]] = {name: [] for name in loads}
    stream(args.url, args.first, NEW_TOKENS)
    for _ in range(ROUNDS):
        for name, busy in loads.items():
            with load(args.url, busy, args.clients):
                found[name] += [stream(args.url, args.first, NEW_TOKENS) for _ in range(args.requests)]
    return found


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description="TTFT of one base model while another one is loaded.")
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--first", default="first")
    parser.add_argument("--second", default="second")
    parser.add_argument("--clients", type=int, default=31)
    parser.add_argument("--requests", type=int, default=15, help="in each of the rounds")
    found = measure(parser.parse_args())
    for name, times in found.items():
        ordered = sorted(times)
        p50, p95 = statistics.median(ordered), ordered[int(0.95 * (len(ordered) - 1))]
        print(f"{name:<24} time to the first token: p50 {p50:.0f} ms, p95 {p95:.0f} ms ({len(ordered)} requests)")


if __name__ == "__main__":
    main()
