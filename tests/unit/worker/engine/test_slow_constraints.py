"""Slow constraints delay only their own sequence."""

from __future__ import annotations

import time

import pytest

from common.jobs.sampling import SamplingParams
from tests.fakes import FakeRunner, Outputs, fake_engine, fake_prompt, scripted
from tests.unit.worker.engine.scripted_constraint import ScriptedConstraint
from worker.engine.engine import Engine
from worker.engine.patience import MAX_S, MIN_S, SHARE, Patience
from worker.engine.sequence import FinishReason, Sequence

pytestmark = pytest.mark.usefixtures("each_engine")

GREEDY = SamplingParams(seed=0, temperature=0.0)
HELLO = [{letter} for letter in b"Hello"]


def make_engine(outputs: Outputs, runner: FakeRunner | None = None) -> Engine:
    return fake_engine(outputs, runner=runner or FakeRunner(scripted({"Hi": "Hello", "He": "Hello"})))


def constrained(name: str, constraint: ScriptedConstraint, prompt: str = "Hi") -> Sequence:
    return Sequence(name, fake_prompt(prompt), GREEDY, constraint=constraint)


def run(engine: Engine, outputs: Outputs, *names: str) -> None:
    for _ in range(100):
        if all(outputs.finals(name) for name in names):
            return
        engine.step()
    raise AssertionError(f"{names} did not end")


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_waiting_sequence_is_skipped_while_the_others_continue(place: int) -> None:
    outputs = Outputs()
    engine = make_engine(outputs)
    slow = ScriptedConstraint(*HELLO, slow_at=[place])
    engine.submit(constrained("slow", slow))
    engine.submit(Sequence("free", fake_prompt("Hi"), GREEDY))

    run(engine, outputs, "free")

    assert outputs.text("free") == "Hello"
    assert len(slow.accepted) == place
    assert not outputs.finals("slow")
    slow.set_free()
    run(engine, outputs, "slow")
    assert outputs.text("slow") == "Hello"
    assert outputs.finals("slow")[0].finish_reason is FinishReason.STOP
    assert engine.kv_usage == 0.0


def test_nothing_is_computed_for_a_waiting_sequence() -> None:
    outputs, runner = Outputs(), FakeRunner(scripted({"Hi": "Hello"}))
    engine = make_engine(outputs, runner)
    slow = ScriptedConstraint(*HELLO, slow_at=[2])
    engine.submit(constrained("slow", slow))
    while not slow.num_looks:
        engine.step()
    num_batches = len(runner.batches)

    for _ in range(5):
        engine.step()

    assert len(runner.batches) == num_batches


def test_a_sequence_that_waits_for_its_prefix_reuses_the_blocks_of_others() -> None:
    """It was once entered into the cache before it was computed, and lost its block copies."""
    outputs = Outputs()
    engine = make_engine(outputs, FakeRunner(scripted({"Hi there!": "Hello"}), block_tokens=4))
    engine.submit(constrained("first", ScriptedConstraint(*HELLO), "Hi there!"))
    run(engine, outputs, "first")
    slow = ScriptedConstraint(*HELLO, slow_at=[0])
    engine.submit(constrained("second", slow, "Hi there!"))
    for _ in range(3):
        engine.step()

    slow.set_free()
    run(engine, outputs, "second")

    assert outputs.text("second") == "Hello"


def test_a_waiting_sequence_can_be_cancelled() -> None:
    outputs = Outputs()
    engine = make_engine(outputs)
    slow = ScriptedConstraint(*HELLO, slow_at=[2])
    engine.submit(constrained("slow", slow))
    while not slow.num_looks:
        engine.step()

    engine.cancel("slow")
    run(engine, outputs, "slow")
    slow.set_free()
    engine.step()

    assert outputs.finals("slow")[0].finish_reason is FinishReason.CANCELLED
    assert outputs.text("slow") == "He"
    assert engine.kv_usage == 0.0


def test_a_sequence_released_while_it_waits_generates_its_tokens_again() -> None:
    outputs, elsewhere = Outputs(), Outputs()
    engine = make_engine(outputs)
    engine.start()
    slow = ScriptedConstraint(*HELLO, slow_at=[3])
    engine.submit(constrained("a", slow))
    while not slow.num_looks:
        time.sleep(0.001)
    assert engine.release(["a"]) == {"a"}
    engine.stop()

    committed = outputs.token_ids("a")
    rest = constrained("a", ScriptedConstraint(*HELLO))
    rest.output_ids, rest.emitted_text = list(committed), outputs.text("a")
    other = make_engine(elsewhere)
    other.submit(rest)
    run(other, elsewhere, "a")

    assert outputs.text("a") + elsewhere.text("a") == "Hello"
    assert committed + elsewhere.token_ids("a") == [*b"Hello"]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("worker.engine.patience.time", clock)
    return clock


def waited_s(patience: Patience, clock: Clock) -> float:
    """Return how long the engine waits for something that never happens."""
    begin = clock.now
    with patience.waiting() as deadline:
        clock.now = deadline
    return clock.now - begin


def test_the_engine_waits_for_a_tenth_of_its_time(clock: Clock) -> None:
    patience = Patience()
    waits = []
    for _ in range(50):
        clock.now += 0.05
        waits.append(waited_s(patience, clock))

    assert waits[0] == pytest.approx(MAX_S)
    assert waits[-1] == pytest.approx(0.05 * SHARE)


def test_the_shortest_wait_is_always_granted(clock: Clock) -> None:
    patience = Patience()

    assert [waited_s(patience, clock) for _ in range(3)] == pytest.approx([MAX_S, MIN_S, MIN_S])


def test_a_pause_saves_up_at_most_the_longest_wait(clock: Clock) -> None:
    patience = Patience()
    clock.now += 3600

    assert waited_s(patience, clock) == pytest.approx(MAX_S)
