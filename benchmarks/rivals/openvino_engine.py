"""Runs OpenVINO GenAI's engine in OpenVINO's own environment: reads workloads and writes times as JSON over a socket.

The clients are a loop around the engine's steps: tokens count as received after the step that generated them. There is
no HTTP and no detokenising, so the times are a lower bound for a server with this engine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.serving import NEW_TOKENS, Measured, Workload, prompts


@dataclass(eq=False)
class Request:
    """One running request."""

    handle: Any  # openvino_genai.GenerationHandle
    sent: float
    arrivals: list[float] = field(default_factory=list)  # when each token arrived, in seconds after `sent`


class Engine:
    """A pipeline with continuous batching.

    Args:
        model: the folder of the converted model.
        threads: the number of the engine's threads.
    """

    def __init__(self, model: str, threads: int) -> None:
        openvino_genai: Any = importlib.import_module("openvino_genai")  # only installed in OpenVINO's environment
        scheduling = openvino_genai.SchedulerConfig()
        scheduling.enable_prefix_caching = False
        self._pipeline: Any = openvino_genai.ContinuousBatchingPipeline(
            model, scheduling, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )
        self._sampling = openvino_genai.GenerationConfig(max_new_tokens=NEW_TOKENS, ignore_eos=True, do_sample=False)
        self._finished = openvino_genai.GenerationStatus.FINISHED
        self._requests = 0

    def run(self, workload: Workload, number: int) -> Measured:
        """Run a workload once."""
        measured, waiting = Measured(), prompts(workload, number)
        begun = now = time.perf_counter()
        active = [request for _ in range(workload.clients) if (request := self._next(waiting, now))]
        while active:
            self._pipeline.step()
            now = time.perf_counter()
            for request in active:
                self._receive(request, now, measured)
            ended = [request for request in active if request.handle.get_status() == self._finished]
            measured.arrivals += [request.arrivals for request in ended]
            active = [request for request in active if request not in ended]
            active += [request for _ in ended if (request := self._next(waiting, now))]
        measured.wall = now - begun
        return measured

    def _next(self, waiting: Iterator[str], now: float) -> Request | None:
        prompt = next(waiting, None)
        if prompt is None:
            return None
        self._requests += 1
        return Request(self._pipeline.add_request(self._requests, prompt, self._sampling), now)

    def _receive(self, request: Request, now: float, measured: Measured) -> None:
        while request.handle.can_read():
            for output in request.handle.read().values():
                request.arrivals.append(now - request.sent)
                measured.tokens += len(output.generated_ids)


def main() -> None:
    """Load the model, report that it is ready, and answer requests until the other end closes."""
    parser = argparse.ArgumentParser(description="OpenVINO GenAI's engine behind a socket.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--socket", type=int, required=True, help="its file descriptor")
    options = parser.parse_args()
    engine = Engine(options.model, options.threads)
    with socket.socket(fileno=options.socket) as link, link.makefile("rw") as lines:
        print("ready", file=lines, flush=True)
        for line in lines:
            asked = json.loads(line)
            measured = engine.run(Workload(**asked["workload"]), asked["number"])
            print(json.dumps(asdict(measured)), file=lines, flush=True)


if __name__ == "__main__":
    main()
