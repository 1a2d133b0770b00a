"""Measures what streams do when the primary of Redis dies, freezes, or is replaced by a stale replica.

    python -m benchmarks.failover [--of sentinel|cluster] [--clients 8] [--blow kill|freeze|stale] [--rounds 3]
        [--replicas 0]

Three servers run with two workers and an API, and with three Sentinels or two more masters of a cluster. Clients
stream one generation after another. In each round the primary is killed (`kill`) or stopped (`freeze`), and restarted
or continued after its successor has taken over. With `stale` the replicas are stopped for a second before the primary
is killed, so they lack what was written in it. `--replicas` is SLM_REDIS_REPLICAS. Each response must be identical to
that of an undisturbed run. Streams of jobs that are gone end with `job_lost`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.chaos import LEASE_S, Client, Tally, fake_answers, is_answering, stop_all
from common.settings import ROOT
from tests.cluster_set import ClusterSet, running_redis_cluster
from tests.free_port import free_port
from tests.processes import running_cluster, wait_for
from tests.sentinel_set import SentinelSet, running_sentinels

SETTLE_S = 8.0
STALE_S = 1.0


SETS = {
    "sentinel": partial(running_sentinels, servers=3, sentinels=3),
    "cluster": partial(running_redis_cluster, replicas=2),
}


def strike(redis: SentinelSet | ClusterSet, blow: str) -> float:
    """Disable the primary, wait for its successor, and restore it; returns the seconds until there was one."""
    primary = redis.primary
    replicas = [server for server in redis.servers if server is not primary]
    if blow == "stale":
        for replica in replicas:
            replica.pause()
        time.sleep(STALE_S)
    began = time.monotonic()
    if blow == "freeze":
        primary.pause()
    else:
        primary.kill()
    if blow == "stale":
        for replica in replicas:
            replica.resume()
    redis.wait_for_successor(primary)
    took = time.monotonic() - began
    time.sleep(SETTLE_S)
    if blow == "freeze":
        primary.resume()
    else:
        primary.start()
    return took


def run(*, of: str, clients: int, blow: str, rounds: int, replicas: int) -> Tally:
    """Run the benchmark, and return the observations."""
    tally = Tally()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(SETS[of](folder))
        env = {"SLM_LEASE_S": str(LEASE_S), "FAKE_STEP_MS": "25", "SLM_DATA_DIR": str(ROOT / "data")}
        cluster = stack.enter_context(running_cluster(redis.url, folder, **env))
        port = free_port()
        cluster.start_api(port, SLM_DRAIN_S="1", SLM_REDIS_REPLICAS=str(replicas))
        for name in ("a", "b"):
            cluster.start_worker(name)
        cluster.wait_until_taking_jobs("a", "b")
        wait_for("the API", lambda: is_answering(port))
        streams = [Client(number, port, fake_answers, tally) for number in range(clients)]
        for stream in streams:
            stream.start()
        for _ in range(rounds):
            time.sleep(SETTLE_S)
            print(f"successor after {strike(redis, blow):.1f} s")
            tally.blows[blow] += 1
            redis.wait_until_complete()
        stop_all(streams)
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the result; returns status 1 if a stream was wrong or did not end."""
    parser = argparse.ArgumentParser(description="Streams during failovers of Redis.")
    parser.add_argument("--of", choices=SETS, default="sentinel")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--blow", choices=["kill", "freeze", "stale"], default="kill")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replicas", type=int, default=0)
    tally = run(**vars(parser.parse_args(argv)))
    print(tally.report())
    return int(bool(tally.wrong) or tally.begun != tally.ended)


if __name__ == "__main__":
    raise SystemExit(main())
