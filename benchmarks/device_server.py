"""Measures the whole server with workers on this machine's GPU, and checks that streams survive the death of a worker.

    python -m benchmarks.device_server [--workloads W1,W8,W32,W128,WL] [--repeat 2] [--api-workers 1,4]
                                       [--streams 32] [--skip-kill]

Starts its own Redis, API and worker, and runs the workloads of `benchmarks.serving`, once for each number of API
processes in `--api-workers`. Then a second worker joins,
`--streams` streams are opened, and the first worker is killed while they run: every stream must end with all its
tokens, each once and in order. It also prints how many texts are identical to those of an undisturbed run. On a CPU
this only checks the program.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos import Frames, Tally, is_answering
from benchmarks.serving import WARM_UP, WORKLOADS, ServerClient, Workload, run
from common.settings import ROOT
from tests.free_port import free_port
from tests.processes import Cluster, running_cluster, wait_for
from tests.redis_server import running_server

WIDE = Workload("W128", 128, 256)
NEW_TOKENS = 200
MAX_NUM_SEQS = 128
WORKER = "worker.app"


@dataclass(eq=False)
class Stream(threading.Thread):
    """Reads one streamed generation to its end."""

    port: int
    number: int
    tally: Tally
    text: str = ""
    num_frames: int = 0
    longest_pause_s: float = 0.0
    error: str = ""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        """Read every frame; reconnects if necessary."""
        body: dict[str, object] = {
            "prompt": f"Tell me {self.number} facts about robots.",
            "max_new_tokens": NEW_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
        }
        last = time.monotonic()
        for _, data in Frames(self.port, body, self.tally):
            now = time.monotonic()
            self.longest_pause_s, last = max(self.longest_pause_s, now - last), now
            self.text += str(data.get("text", ""))
            self.num_frames += "text" in data
            self.error = str(data.get("error", ""))


def open_streams(port: int, count: int) -> list[Stream]:
    """Start `count` streams."""
    streams = [Stream(port, number, Tally()) for number in range(count)]
    for stream in streams:
        stream.start()
    return streams


def ended(streams: Sequence[Stream]) -> list[str]:
    """Wait for all streams to end, and return their texts."""
    for stream in streams:
        stream.join(300)
    return [stream.text for stream in streams]


def measure(port: int, workloads: Sequence[Workload], repeat: int) -> None:
    """Run the workloads in turn and print a line for each."""
    for number in range(repeat + 1):
        for workload in workloads if number else [WARM_UP]:
            clients = [ServerClient(f"http://127.0.0.1:{port}") for _ in range(workload.clients)]
            print(run(clients, workload, number).row(workload.name), flush=True)


def kill_a_worker(cluster: Cluster, port: int, count: int) -> None:
    """Kill the first of two workers while streams run, and print the effect on them."""
    expected = ended(open_streams(port, count))
    cluster.start_worker("second", WORKER)
    cluster.wait_until_taking_jobs("second")
    streams = open_streams(port, count)
    wait_for("the streams to run", lambda: all(stream.num_frames > NEW_TOKENS // 10 for stream in streams))
    victim = cluster.processes("first")[0]
    victim.kill()
    texts = ended(streams)
    same = sum(text == one for text, one in zip(texts, expected, strict=True))
    errors = [stream.error for stream in streams if stream.error]
    unfinished = sum(stream.is_alive() for stream in streams)
    pauses = sorted(stream.longest_pause_s for stream in streams)
    print(
        f"a worker killed under {count} streams: {unfinished} unfinished, {len(errors)} errors {errors[:1]}, "
        f"{same} texts identical to undisturbed, longest pause p50 {pauses[count // 2]:.2f} s, max {pauses[-1]:.2f} s"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Start everything, measure, kill a worker and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="W1,W8,W32,W128,WL")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--api-workers", default="1", help="numbers of API processes")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--skip-kill", action="store_true")
    options = parser.parse_args(argv)
    known = {workload.name: workload for workload in (*WORKLOADS, WIDE)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "redis").mkdir()
        redis = stack.enter_context(running_server(folder / "redis"))
        env = {"SLM_DATA_DIR": str(ROOT / "data"), "SLM_MAX_NUM_SEQS": str(MAX_NUM_SEQS), "SLM_KV_MEMORY": "8GiB"}
        cluster = stack.enter_context(running_cluster(redis.url, folder, **env))
        ports = {number: free_port() for number in options.api_workers.split(",")}
        for number, port in ports.items():
            cluster.start_api(port, "--workers", number)
        begun = time.monotonic()
        cluster.start_worker("first", WORKER)
        try:
            cluster.wait_until_taking_jobs("first")
            wait_for("the APIs", lambda: all(map(is_answering, ports.values())))
            print(f"the worker takes jobs {time.monotonic() - begun:.1f} s after its start", flush=True)
            for number, port in ports.items():
                print(f"API processes: {number}", flush=True)
                measure(port, [known[name] for name in options.workloads.split(",")], options.repeat)
            if not options.skip_kill:
                kill_a_worker(cluster, next(iter(ports.values())), options.streams)
        except BaseException:
            for process in cluster.processes("first") + cluster.processes("second"):
                print(process.log.read_text("utf-8")[-5000:])
            raise


if __name__ == "__main__":
    main()
