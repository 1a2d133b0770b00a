from __future__ import annotations

import threading

from deploy.processes.readiness import Readiness

DEADLINE_S = 60


def test_each_part_is_reported_once_and_the_welcome_follows_the_last() -> None:
    said: list[str] = []
    answers = {"api": iter(["answers"]), "worker-1": iter([None, None, "has the model loaded"])}
    readiness = Readiness(
        {name: lambda name=name: next(answers[name]) for name in answers},
        stopping=threading.Event(),
        say=said.append,
        then=lambda: said.append("welcome"),
    )
    readiness.start()
    readiness.join(DEADLINE_S)
    assert [line.split(" (")[0] for line in said] == ["api answers", "worker-1 has the model loaded", "welcome"]


def test_a_stop_ends_the_waiting_without_a_welcome() -> None:
    said: list[str] = []
    stopping = threading.Event()
    readiness = Readiness(
        {"api": lambda: None}, stopping=stopping, say=said.append, then=lambda: said.append("welcome")
    )
    readiness.start()
    stopping.set()
    readiness.join(DEADLINE_S)
    assert not readiness.is_alive()
    assert said == []
