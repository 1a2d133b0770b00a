"""Following the jobs of one request together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from api.jobs.generations import Generations
from common.jobs import events
from common.jobs.event_log import PAUSE
from common.jobs.job import JobState

END = events.finished(0, JobState.SUCCEEDED, "stop", "cpu")


@pytest.fixture
def generations() -> Iterator[Generations]:
    """Two jobs: the first ends at once, and nothing is heard of the second."""
    over = threading.Event()

    def waiting(pulse_s: float) -> Iterator[None]:
        while not over.wait(pulse_s):
            yield None

    jobs = [SimpleNamespace(model="", updates=lambda pulse_s: iter([END])), SimpleNamespace(model="", updates=waiting)]
    unstarted = iter(jobs)
    service: Any = SimpleNamespace(start=lambda _: next(unstarted))
    caller: Any = None
    new: Any = jobs
    yield Generations(service, caller, new)
    over.set()


def test_the_end_of_a_choice_is_not_held_back_until_another_one_continues(generations: Generations) -> None:
    assert list(islice(generations.updates(pulse_s=0.2), 4)) == [(0, END), (0, PAUSE), (0, None), (0, None)]
