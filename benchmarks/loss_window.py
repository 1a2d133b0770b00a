"""Measures which accepted jobs a failover loses, by promoting a replica that was cut off before it.

    python -m benchmarks.loss_window [--replicas 0] [--cut 2] [--stale 3] [--rounds 3]

A primary has two replicas, and the API waits for `--replicas` of them. Four clients submit jobs one after another. In
each round the links to `--cut` replicas are cut (their packets vanish, nothing is closed); `--stale` seconds later the
primary and the replicas that still followed it are killed, and one that was cut off is promoted. A job is lost if it
was accepted (202) and is then unknown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import requests
from redis import Redis

from benchmarks.chaos import is_answering
from benchmarks.link import Link
from common.settings import ROOT
from tests.free_port import free_port
from tests.processes import running_cluster, wait_for
from tests.redis_server import RedisServer, running_server

NUM_REPLICAS = 2
CLIENTS = 4
CALM_S = 3.0
PAUSE_S = 0.02  # between two requests of a client
TIMEOUT_S = 30


class Client(threading.Thread):
    """Submits jobs one after another, and notes when each was accepted, and what else was answered."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._stopping = threading.Event()
        self.accepted: dict[str, float] = {}
        self.took: list[float] = []
        self.refused: Counter[str] = Counter()

    def run(self) -> None:
        """Submit until `stop`."""
        while not self._stopping.wait(PAUSE_S):
            began = time.monotonic()
            response = requests.post(
                f"{self._url}/slm/generate", json={"prompt": "a", "async": True}, timeout=TIMEOUT_S
            )
            if response.status_code == requests.codes.accepted:
                self.accepted[response.json()["job_id"]] = time.monotonic()
                self.took.append(time.monotonic() - began)
            else:
                self.refused[f"{response.status_code} {response.json().get('code')}"] += 1

    def stop(self) -> None:
        """End the thread after its current request."""
        self._stopping.set()
        self.join()


class Servers:
    """A primary with two replicas, each on a link of its own, and the clients' link to the primary."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack, self._folder = stack, folder
        self.primary = self._start("primary")
        self.links = [Link(self.primary.port) for _ in range(NUM_REPLICAS)]
        self.replicas = [self._start(f"replica{link.port}", f"127.0.0.1 {link.port}") for link in self.links]
        self.clients_link = Link(self.primary.port)
        wait_for("the replicas", self._are_online)

    @property
    def url(self) -> str:
        """The URL of whichever server is the primary."""
        return f"redis://127.0.0.1:{self.clients_link.port}/0"

    def fail_over(self, *, cut: int, stale_s: float) -> tuple[float, float]:
        """Promote a replica that was cut off `stale_s` ago. Return when it was cut off, and when the others died."""
        for link in self.links[:cut]:
            link.is_cut = True
        began = time.monotonic()
        time.sleep(stale_s)
        for server in (self.primary, *self.replicas[cut:]):
            server.kill()
        ended = time.monotonic()
        with Redis.from_url(self.replicas[0].url) as redis:
            redis.replicaof("NO", "ONE")  # type: ignore[no-untyped-call]
        self.clients_link.lead_to(self.replicas[0].port)
        return began, ended

    def _start(self, name: str, follows: str = "") -> RedisServer:
        place = self._folder / name
        place.mkdir()
        options = ["--repl-diskless-sync-delay", "0", *(["--replicaof", *follows.split()] if follows else [])]
        return self._stack.enter_context(running_server(place, options=options))

    def _are_online(self) -> bool:
        with Redis.from_url(self.primary.url) as redis:
            info = redis.info("replication")
        return all(info.get(f"slave{number}", {}).get("state") == "online" for number in range(NUM_REPLICAS))


def play(*, replicas: int, cut: int, stale_s: float) -> None:
    """Run one round, and print what was lost."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = Servers(folder, stack)
        env = {"SLM_REDIS_REPLICAS": str(replicas), "SLM_DATA_DIR": str(ROOT / "data"), "SLM_MAX_QUEUE": "100000"}
        cluster = stack.enter_context(running_cluster(servers.url, folder, FAKE_STEP_MS="1", **env))
        port = free_port()
        cluster.start_api(port, SLM_DRAIN_S="1")
        cluster.start_worker("a")
        cluster.wait_until_taking_jobs("a")
        wait_for("the API", lambda: is_answering(port))
        clients = [Client(f"http://127.0.0.1:{port}") for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(CALM_S)
        cut_at, died_at = servers.fail_over(cut=cut, stale_s=stale_s)
        time.sleep(CALM_S)
        for client in clients:
            client.stop()
        report(clients, f"http://127.0.0.1:{port}", cut_at, died_at)


def report(clients: Sequence[Client], url: str, cut_at: float, died_at: float) -> None:
    """Ask for every accepted job, and print how many are unknown."""
    accepted = {job_id: at for client in clients for job_id, at in client.accepted.items()}
    found = {job_id: requests.get(f"{url}/slm/jobs/{job_id}", timeout=TIMEOUT_S).status_code for job_id in accepted}
    lost = sorted(at for job_id, at in accepted.items() if found[job_id] == requests.codes.not_found)
    between = sum(cut_at <= at <= died_at for at in accepted.values())
    took = sorted(seconds for client in clients for seconds in client.took)
    window = f", accepted from {lost[0] - died_at:.1f} to {lost[-1] - died_at:.1f} s before its death" if lost else ""
    refused = sum((client.refused for client in clients), Counter[str]())
    print(f"accepted {len(accepted)} (in {statistics.median(took) * 1000:.1f} ms), {between} of them while cut off")
    print(f"lost {len(lost)}{window}; refused {dict(refused)}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description="Accepted jobs that a failover of Redis loses.")
    parser.add_argument("--replicas", type=int, default=0)
    parser.add_argument("--cut", type=int, choices=range(1, NUM_REPLICAS + 1), default=NUM_REPLICAS)
    parser.add_argument("--stale", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    for _ in range(options.rounds):
        play(replicas=options.replicas, cut=options.cut, stale_s=options.stale)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
