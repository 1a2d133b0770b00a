"""Measures what streams do with RabbitMQ as Celery's broker when a worker or RabbitMQ itself is killed.

    python -m benchmarks.rabbitmq [--clients 6] [--rounds 2]     # needs Debian's rabbitmq-server

Two workers and an API run on a Redis, and on a RabbitMQ that has its data in a temporary folder. Clients stream one
generation after another. In turn a worker is killed, and RabbitMQ, which starts again 3 s later. Each response must be
identical to that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.chaos import LEASE_S, Client, Tally, fake_answers, is_answering, stop_all
from common.settings import ROOT
from tests.free_port import free_port
from tests.processes import Cluster, running_cluster, wait_for
from tests.redis_server import running_server

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on PATH insists on the user rabbitmq
AWAY_S = 3.0
SETTLE_S = 8.0


class RabbitServer:
    """A RabbitMQ server that can be killed and started again with its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [free_port() for _ in range(3)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL that Celery connects to."""
        return f"amqp://guest:guest@127.0.0.1:{self._ports[0]}//"

    def start(self) -> None:
        """Start, and wait until it accepts connections."""
        port, dist_port, epmd_port = self._ports
        env = {
            "HOME": self._folder,
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": port,
            "RABBITMQ_DIST_PORT": dist_port,
            "RABBITMQ_MNESIA_BASE": self._folder / "mnesia",
            "RABBITMQ_LOG_BASE": self._folder / "log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self._folder / "plugins",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": epmd_port,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM],
                env=os.environ | {k: str(v) for k, v in env.items()},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for("RabbitMQ", self._accepts)

    def kill(self) -> None:
        """Send SIGKILL to its processes, except Erlang's name server, which `start` uses again."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop_name_server(self) -> None:
        """Stop what `kill` leaves."""
        subprocess.run(["epmd", "-port", str(self._ports[2]), "-kill"], check=False, stdout=subprocess.DEVNULL)

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._ports[0])).close()
        except OSError:
            return False
        return True


@contextmanager
def running_rabbitmq(folder: Path) -> Iterator[RabbitServer]:
    """Start a server, and kill it at the end."""
    server = RabbitServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        server.stop_name_server()


def blows(cluster: Cluster, broker: RabbitServer) -> dict[str, Callable[[], None]]:
    """Return what can be done to the processes."""

    def restart_worker() -> None:
        cluster.processes("a")[-1].signal(signal.SIGKILL)
        cluster.start_worker("a")

    def restart_broker() -> None:
        broker.kill()
        time.sleep(AWAY_S)
        broker.start()

    return {"a worker is killed": restart_worker, "RabbitMQ is killed": restart_broker}


def run(*, clients: int, rounds: int) -> None:
    """Run the benchmark, and print the observations after each part."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("redis", "rabbitmq"):
            (folder / name).mkdir()
        redis = stack.enter_context(running_server(folder / "redis"))
        broker = stack.enter_context(running_rabbitmq(folder / "rabbitmq"))
        env = {"SLM_LEASE_S": str(LEASE_S), "FAKE_STEP_MS": "25", "SLM_DATA_DIR": str(ROOT / "data")}
        cluster = stack.enter_context(running_cluster(redis.url, folder, SLM_BROKER_URL=broker.url, **env))
        port = free_port()
        cluster.start_api(port, SLM_DRAIN_S="1")
        for name in ("a", "b"):
            cluster.start_worker(name)
        cluster.wait_until_taking_jobs("a", "b")
        wait_for("the API", lambda: is_answering(port))
        for name, strike in blows(cluster, broker).items():
            tally = Tally()
            streams = [Client(number, port, fake_answers, tally) for number in range(clients)]
            for stream in streams:
                stream.start()
            for _ in range(rounds):
                time.sleep(SETTLE_S)
                began = time.monotonic()
                strike()
                print(f"{name}: back after {time.monotonic() - began:.1f} s")
                time.sleep(SETTLE_S)
            stop_all(streams)
            print(tally.report(), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description="Streams with RabbitMQ as Celery's broker.")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(argv)
    run(clients=options.clients, rounds=options.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
