"""The abusive user of `benchmarks.abuse`, in a separate process, so that it does not slow the measuring process."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from benchmarks.abuse_client import Client
from benchmarks.attacks import ATTACKS, Send
from benchmarks.chaos import BROKEN

PREPARED = "prepared"


@contextmanager
def abusive_requests(client: Client, attack: str, size: int) -> Iterator[Counter[str]]:
    """Keep `size` requests of an attack in flight during a `with` block.

    After the block the counter has the number of answers by status.
    """
    outcomes: Counter[str] = Counter()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(client, attack, size, there), daemon=True)
    process.start()
    there.close()
    try:
        here.recv()
        yield outcomes
        here.send("stop")
        outcomes.update(here.recv())
    finally:
        process.kill()
        process.join()


def _run(client: Client, attack: str, size: int, parent: Connection) -> None:
    send = next(one for one in ATTACKS if one.name == attack).begin(client)
    numbers, stopping, outcomes = itertools.count(1), threading.Event(), Counter[str]()
    threads = [
        threading.Thread(target=_repeat, args=(send, numbers, stopping, outcomes), daemon=True) for _ in range(size)
    ]
    parent.send(PREPARED)
    for thread in threads:
        thread.start()
    parent.recv()
    stopping.set()
    parent.send(outcomes.copy())


def _repeat(send: Send, numbers: Iterator[int], stopping: threading.Event, outcomes: Counter[str]) -> None:
    while not stopping.is_set():
        try:
            outcomes[send(next(numbers))] += 1
        except BROKEN as err:
            outcomes[type(err).__name__] += 1
