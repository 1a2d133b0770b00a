"""The engine that does not wait for its runner. Behaviour of both engines is tested in `test_engine`."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from common.errors import InternalError
from common.jobs.sampling import SamplingParams
from tests.fakes import (
    EOS,
    FakeDeviceSampler,
    FakeRunner,
    Outputs,
    Plan,
    endless,
    fake_engine,
    fake_prompt,
    hashed,
    scripted,
)
from worker.engine.engine import Engine
from worker.engine.model_runner import DeviceLostError, OutOfMemoryError
from worker.engine.sequence import FinishReason, Sequence, SequenceOutput

GREEDY = SamplingParams(seed=0, temperature=0.0)


class DeviceRunnerFake(FakeRunner):
    can_overlap = True


class Run:
    """An engine whose steps the test starts."""

    def __init__(self, plan: Plan, *, on_fatal: Callable[[Exception], None] | None = None, **options: Any) -> None:
        self.outputs = Outputs()
        self.runner = DeviceRunnerFake(plan, **options)
        self.sampler = FakeDeviceSampler(self.runner.events)
        self.engine: Engine = fake_engine(
            self.outputs, runner=self.runner, sampler=self.sampler, on_fatal=on_fatal, prefill_chunk=16
        )

    def submit(self, name: str, prompt: str = "Hi", params: SamplingParams = GREEDY) -> Sequence:
        sequence = Sequence(name, fake_prompt(prompt), params)
        self.engine.submit(sequence)
        return sequence

    def finish(self, *names: str) -> None:
        while not all(self.outputs.finals(name) for name in names):
            self.engine.step()

    def reason(self, name: str) -> FinishReason | None:
        return self.outputs.finals(name)[0].finish_reason


# Order


def test_a_step_is_launched_before_the_tokens_of_the_last_one_are_fetched() -> None:
    run = Run(endless())
    run.submit("a", params=replace(GREEDY, max_new_tokens=4))

    run.finish("a")

    assert run.runner.events == ["launch", *["launch", "fetch"] * 3, "fetch"]


def test_a_superfluous_row_is_only_computed_for_an_unforeseeable_end() -> None:
    run = Run(scripted({"Hi": "abc"}))
    run.submit("a")

    run.finish("a")

    assert run.outputs.token_ids("a") == [*b"abc", EOS]
    assert run.runner.events.count("launch") == 4 + 1
    assert run.runner.events.count("fetch") == 4 + 1, "nothing is in flight when nothing runs"


@pytest.mark.parametrize("options", [{"repetition_penalty": 1.1}, {"presence_penalty": 0.1}], ids=str)
def test_a_step_waits_for_tokens_that_a_penalty_counts(options: dict[str, Any]) -> None:
    run = Run(endless())
    run.submit("penalised", params=replace(GREEDY, max_new_tokens=4, **options))
    run.submit("plain", params=replace(GREEDY, max_new_tokens=7))

    run.finish("penalised", "plain")

    assert run.runner.events == [*["launch", "fetch"] * 4, "launch", *["launch", "fetch"] * 2, "fetch"]


@pytest.mark.parametrize("options", [{"logit_bias": {5: 1.0}}, {"min_new_tokens": 3}, {"logprobs": 2}], ids=str)
def test_a_step_does_not_wait_if_only_the_number_of_tokens_matters(options: dict[str, Any]) -> None:
    run = Run(endless())
    run.submit("a", params=replace(GREEDY, max_new_tokens=4, **options))

    run.finish("a")

    assert run.runner.events == ["launch", *["launch", "fetch"] * 3, "fetch"]


def test_a_submission_does_not_delay_the_steps() -> None:
    run = Run(endless())
    run.submit("a", params=replace(GREEDY, max_new_tokens=6))
    for index in range(3):
        run.engine.step()
        run.submit(f"other {index}", params=replace(GREEDY, max_new_tokens=1))
    run.finish("a")

    assert run.runner.events == ["launch", *["launch", "fetch"] * 5, "fetch"]


# The same outputs


def some_sequences(seed: int) -> list[Sequence]:
    """Sequences of all kinds, some of which begin alike."""
    rng = random.Random(seed)
    choices: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 1.3, "top_k": 20},
        {"temperature": 0.8, "top_p": 0.9, "min_p": 0.01},
        {"temperature": 0.0, "repetition_penalty": 1.3},
        {"temperature": 1.0, "frequency_penalty": 0.5},
        {"temperature": 1.5, "min_new_tokens": 6, "stop_token_ids": tuple(range(0, 256, 9))},
        {"temperature": 1.0, "stop_token_ids": tuple(range(0, 256, 7))},
        {"temperature": 0.0, "logit_bias": {65: 4.0, 66: 3.0}, "logprobs": 2},
        {"temperature": 2.0, "stop": ("a", "b", "\x01")},
    ]
    return [
        Sequence(
            f"s{index}",
            fake_prompt("the same beginning, "[: rng.choice([0, 12, 20])] + f"{index % 5}" * rng.randint(1, 9)),
            SamplingParams(seed=rng.randint(0, 99), max_new_tokens=rng.randint(1, 30), **rng.choice(choices)),
        )
        for index in range(30)
    ]


def outputs_of(seed: int, *, can_overlap: bool, num_blocks: int) -> tuple[Outputs, Engine]:
    """Return the outputs of the sequences, which are submitted between the steps."""
    outputs, rng = Outputs(), random.Random(seed)
    runner = FakeRunner(hashed, max_num_seqs=5, context_length=64, block_tokens=8, num_blocks=num_blocks, mixed_chunk=4)
    runner.can_overlap = can_overlap
    engine = fake_engine(outputs, runner=runner, prefill_chunk=16)
    for sequence in some_sequences(seed):
        engine.submit(sequence)
        for _ in range(rng.randint(0, 3)):
            engine.step()
    while engine.num_running or engine.num_waiting:
        engine.step()
    return outputs, engine


def without_cached(outputs: list[SequenceOutput]) -> list[SequenceOutput]:
    """How much of a prompt was in the cache depends on when the sequence was admitted."""
    return [replace(one, num_cached_tokens=0) for one in outputs]


@pytest.mark.parametrize("num_blocks", [9, 40], ids=["preempting", "roomy"])
@pytest.mark.parametrize("seed", range(6))
def test_every_sequence_gets_the_same_tokens_as_from_an_engine_that_waits(seed: int, num_blocks: int) -> None:
    expected, _ = outputs_of(seed, can_overlap=False, num_blocks=num_blocks)

    outputs, engine = outputs_of(seed, can_overlap=True, num_blocks=num_blocks)

    for name in (sequence.sequence_id for sequence in some_sequences(seed)):
        assert without_cached(outputs.of(name)) == without_cached(expected.of(name))
    assert engine.kv_usage == 0
    assert (engine.num_preemptions > 0) == (num_blocks == 9)


@pytest.mark.parametrize("seed", range(3))
def test_sequences_removed_at_random_leave_nothing_behind(seed: int) -> None:
    run = Run(hashed, max_num_seqs=5, context_length=64, block_tokens=8, num_blocks=12)
    rng = random.Random(seed)
    names = [f"s{index}" for index in range(150)]
    released: set[str] = set()
    for index, name in enumerate(names):
        options = {"stop_token_ids": tuple(range(0, 256, 11))} if index % 2 else {}
        params = SamplingParams(seed=index, temperature=1.0, max_new_tokens=rng.randint(1, 12), **options)
        run.submit(name, "x" * rng.randint(1, 30), params)
        match rng.randint(0, 4):
            case 0:
                run.engine.cancel(rng.choice(names[: index + 1]))
            case 1:
                result: Future[frozenset[str]] = Future()
                run.engine._request(
                    lambda result=result, name=name: run.engine._fulfil(result, run.engine._release([name]))
                )
                run.engine.step()
                released |= result.result(timeout=0)
        for _ in range(rng.randint(0, 4)):
            run.engine.step()
    run.finish(*set(names) - released)

    assert all(len(run.outputs.finals(name)) == (name not in released) for name in names)
    assert {run.reason(name) for name in set(names) - released} == {
        FinishReason.STOP,
        FinishReason.LENGTH,
        FinishReason.CANCELLED,
    }
    assert (run.engine.kv_usage, run.engine.num_running) == (0, 0)
    run.engine._scheduler.check_idle()


def test_a_token_of_an_ended_sequence_is_not_given_to_the_next_one_of_its_name() -> None:
    run = Run(scripted({"first": "a", "second": "xyz", "long": "l" * 30}))
    run.submit("long", "long")
    run.submit("same", "first")
    run.finish("same")
    begin = len(run.outputs.deliveries)
    run.submit("same", "second")
    run.finish("long")

    later = [output for outputs in run.outputs.deliveries[begin:] for output in outputs if output.sequence_id == "same"]
    assert "".join(output.text for output in later) == "xyz"


def test_a_released_sequence_has_all_its_tokens_delivered() -> None:
    plan = scripted({"Hi": "hello world"})
    run = Run(plan)
    sequence = run.submit("a")
    for _ in range(5):
        run.engine.step()
    delivered: list[int] = []
    result: Future[frozenset[str]] = Future()
    result.add_done_callback(lambda _: delivered.extend(run.outputs.token_ids("a")))
    run.engine._request(lambda: run.engine._fulfil(result, run.engine._release(["a"])))
    run.engine.step()

    assert delivered == sequence.output_ids == [*b"hello"]
    continued = Run(plan)
    again = Sequence("a", fake_prompt("Hi"), GREEDY, output_ids=delivered, emitted_text="hello")
    continued.engine.submit(again)
    continued.finish("a")
    assert continued.outputs.text("a") == " world"


# Failures


def test_a_device_that_dies_while_it_computes_ends_the_engine_when_the_tokens_are_fetched() -> None:
    fatal: Future[Exception] = Future()
    run = Run(endless(), on_fatal=fatal.set_result)
    run.submit("a")
    run.sampler.fail_with = DeviceLostError("gone")
    run.engine.start()

    assert isinstance(fatal.result(timeout=60), DeviceLostError)
    assert run.outputs.finals("a") == []
    assert run.engine.release(["a"]) == frozenset()


def test_a_step_whose_tokens_cannot_be_fetched_fails_its_sequences_alone() -> None:
    run = Run(scripted({"Hi": "abc", "later": "xyz"}))
    run.submit("a")
    run.sampler.fail_with = RuntimeError("a bug")
    run.engine.step()
    run.submit("b", "later")
    run.finish("a", "b")

    assert isinstance(run.outputs.finals("a")[0].error, InternalError)
    assert run.outputs.text("b") == "xyz"


@pytest.mark.parametrize("num_steps", range(4))
def test_a_step_that_cannot_be_launched_loses_no_token_of_the_last_one(num_steps: int) -> None:
    run = Run(scripted({"Hi": "Hello"}))
    names = "abcd"
    for name in names:
        run.submit(name)
    for _ in range(num_steps):
        run.engine.step()
    run.runner.fail_with = OutOfMemoryError("the allocator has nothing left")
    run.finish(*names)

    assert [run.outputs.text(name) for name in names] == ["Hello"] * 4


def test_a_launch_that_fails_ends_its_sequences_after_their_last_tokens() -> None:
    run = Run(scripted({"Hi": "Hello"}))
    run.submit("a")
    for _ in range(3):
        run.engine.step()
    run.runner.fail_with = RuntimeError("a bug")
    run.finish("a")

    assert run.outputs.token_ids("a") == [*b"Hel"]
    assert isinstance(run.outputs.finals("a")[0].error, InternalError)
    assert run.engine.kv_usage == 0
