"""Following the jobs of one request together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from api.jobs.generations import Generations
from common.jobs import events
from common.jobs.event_log import PAUSE
from common.jobs.job import JobState

END = events.finished(0, JobState.SUCCEEDED, "stop", "cpu")


Updates = Callable[[float], Iterator[Any]]


@pytest.fixture
def silent() -> Iterator[Updates]:
    """The updates of a job of which nothing is heard."""
    over = threading.Event()

    def updates(pulse_s: float) -> Iterator[None]:
        while not over.wait(pulse_s):
            yield None

    yield updates
    over.set()


def generations(*updates: Updates) -> Generations:
    jobs: Any = [SimpleNamespace(model="", updates=one) for one in updates]
    unstarted = iter(jobs)
    service: Any = SimpleNamespace(start=lambda _: next(unstarted))
    caller: Any = None
    return Generations(service, caller, jobs)


def test_the_end_of_a_choice_is_not_held_back_until_another_one_continues(silent: Updates) -> None:
    both = generations(lambda pulse_s: iter([END]), silent)
    assert list(islice(both.updates(pulse_s=0.2), 4)) == [(0, END), (0, PAUSE), (0, None), (0, None)]


def test_an_unforeseen_error_of_a_choice_ends_the_stream(silent: Updates) -> None:
    def broken(pulse_s: float) -> Iterator[Any]:
        raise KeyError("data")

    both = generations(silent, broken)
    with pytest.raises(KeyError, match="data"):
        list(islice(both.updates(pulse_s=0.2), 5))
