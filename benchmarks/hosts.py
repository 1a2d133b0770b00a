"""Measures what streams do while links between hosts are cut or slow.

    python -m benchmarks.hosts [--clients 6]         # as root: it makes network namespaces

Two API hosts and three workers are each in a network namespace of their own; Redis is reached through a proxy that can
delay both directions. Clients stream one generation after another, half of them from each API. In turn: the links of a
worker, of an API and of all workers are cut for 10 s (packets vanish, nothing is refused), then Redis is 300 ms away,
then every fifth packet of the workers, and of all hosts, is lost (with `nft`). Each response must be identical to that
of an undisturbed run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.chaos import LEASE_S, Client, Tally, fake_answers, is_answering, stop_all
from benchmarks.link import Link
from common.settings import ROOT
from tests.free_port import free_port
from tests.processes import Cluster, Process, running_cluster, wait_for
from tests.redis_server import running_server

NETWORK = "10.77.0"
BRIDGE = "slmbench"
CUT_S = 10.0
SETTLE_S = 8.0
ROUND_TRIP_S = 0.3
LOSES_ONE_IN = 5


def ip(*words: str) -> None:
    """Run `ip` with these words."""
    subprocess.run(["ip", *words], check=True)


class Host:
    """A network namespace with a link to the bridge."""

    def __init__(self, number: int) -> None:
        self.address = f"{NETWORK}.{number}"
        self._name = f"{BRIDGE}{number}"

    def add(self) -> None:
        """Create it."""
        ip("netns", "add", self._name)
        ip("link", "add", self._name, "type", "veth", "peer", "name", "eth0", "netns", self._name)
        ip("link", "set", self._name, "master", BRIDGE, "up")
        for words in (
            ["addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
        ):
            ip("-n", self._name, *words)

    def remove(self) -> None:
        """Delete it, and its link."""
        with suppress(subprocess.CalledProcessError):
            ip("netns", "del", self._name)

    def cut(self) -> None:
        """Let all packets vanish."""
        ip("link", "set", self._name, "nomaster")

    def heal(self) -> None:
        """Let them through again."""
        ip("link", "set", self._name, "master", BRIDGE)

    def lose(self) -> None:
        """Lose one in `LOSES_ONE_IN` packets of each direction, at random."""
        hooks = [
            f"add chain inet loss {hook} {{ type filter hook {hook} priority 0; }}; "
            f"add rule inet loss {hook} oif != lo numgen random mod {LOSES_ONE_IN} 0 drop;"
            for hook in ("input", "output")
        ]
        self._nft(f"add table inet loss; {' '.join(hooks)}".replace("input oif", "input iif"))

    def keep(self) -> None:
        """Lose none any more."""
        self._nft("delete table inet loss")

    def _nft(self, commands: str) -> None:
        subprocess.run(["ip", "netns", "exec", self._name, "nft", commands], check=True)

    def start(self, name: str, module: Sequence[str], env: dict[str, str], folder: Path) -> Process:
        """Start a Python module on this host."""
        return Process(name, ["ip", "netns", "exec", self._name, sys.executable, "-m", *module], env, folder)


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """Yield that many hosts with the addresses .11, .12, ...; this machine is .1."""
    hosts = [Host(11 + number) for number in range(count)]
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for host in hosts:
            host.add()
        yield hosts
    finally:
        for host in hosts:
            host.remove()
        ip("link", "del", BRIDGE)


def for_each(act: Callable[[Host], None], hosts: Sequence[Host]) -> None:
    """Do the same with all hosts."""
    for host in hosts:
        act(host)


def for_a_while(begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Call `begin`, and after `CUT_S` `end`."""
    begin()
    time.sleep(CUT_S)
    end()
    time.sleep(SETTLE_S)


def start_all(cluster: Cluster, hosts: list[Host], folder: Path, port: int) -> list[Process]:
    """Start the APIs on the first two hosts, a worker on each other."""
    api = ("gunicorn", "--config", "api/gunicorn_conf.py", "api.wsgi:create_app()")
    env = cluster.env | {"SLM_PORT": str(port), "SLM_INSECURE": "true", "SLM_DRAIN_S": "1"}
    started = [
        host.start(f"api{number}", api, env | {"SLM_HOST": host.address}, folder)
        for number, host in enumerate(hosts[:2])
    ]
    for number, host in enumerate(hosts[2:]):
        worker = ("worker.celery", "-A", "tests.fake_worker", "worker", "--hostname", f"w{number}@%h")
        quiet = ("--without-mingle", "--without-gossip", "--loglevel", "INFO")
        started.append(host.start(f"w{number}", (*worker, *quiet), cluster.env, folder))
    cluster.wait_until_taking_jobs(*(f"w{number}" for number in range(len(hosts) - 2)))
    wait_for("the APIs", lambda: all(is_answering(port, host.address) for host in hosts[:2]))
    return started


def run(clients: int) -> None:
    """Run the benchmark, and print the observations after each part."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "redis").mkdir()
        redis = stack.enter_context(running_server(folder / "redis"))
        hosts = stack.enter_context(network(5))
        path = Link(redis.port, f"{NETWORK}.1")
        env = {"SLM_LEASE_S": str(LEASE_S), "FAKE_STEP_MS": "25", "SLM_DATA_DIR": str(ROOT / "data")}
        cluster = stack.enter_context(running_cluster(f"redis://{NETWORK}.1:{path.port}/0", folder, **env))
        port = free_port()
        for process in start_all(cluster, hosts, folder, port):
            stack.callback(process.end)
        workers = hosts[2:]
        parts: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "a worker is cut off": (workers[0].cut, workers[0].heal),
            "an API is cut off": (hosts[0].cut, hosts[0].heal),
            "all workers are cut off": (
                lambda: for_each(Host.cut, workers),
                lambda: for_each(Host.heal, workers),
            ),
            "Redis is 300 ms away": (
                lambda: setattr(path, "delay_s", ROUND_TRIP_S / 2),
                lambda: setattr(path, "delay_s", 0.0),
            ),
            "20 % of the workers' packets are lost": (
                lambda: for_each(Host.lose, workers),
                lambda: for_each(Host.keep, workers),
            ),
            "20 % of everybody's packets are lost": (
                lambda: for_each(Host.lose, hosts),
                lambda: for_each(Host.keep, hosts),
            ),
        }
        for name, (begin, end) in parts.items():
            tally = Tally()
            streams = [Client(one, port, fake_answers, tally, hosts[one % 2].address) for one in range(clients)]
            for stream in streams:
                stream.start()
            time.sleep(2)
            for_a_while(begin, end)
            stop_all(streams)
            print(f"{name}\n{tally.report()}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description="Streams while links between hosts are cut or slow.")
    parser.add_argument("--clients", type=int, default=6)
    run(parser.parse_args(argv).clients)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
