from __future__ import annotations

import math
import random
import threading
from concurrent.futures import Future
from itertools import pairwise

import numpy as np
import pytest

from common.errors import AdapterNotFound, Conflict, InternalError, InvalidRequest, PromptTooLong
from common.jobs.sampling import SamplingParams
from tests.fakes import (
    EOS,
    VOCAB_SIZE,
    FakeRunner,
    Gate,
    Logits,
    Outputs,
    echo,
    endless,
    fake_engine,
    fake_prompt,
    hashed,
    scripted,
)
from tests.unit.worker.engine.conftest import StartEngine
from worker.engine.engine import Engine
from worker.engine.model_runner import DeviceLostError, OutOfMemoryError
from worker.engine.sequence import FinishReason, Sequence, SequenceStatus

pytestmark = pytest.mark.usefixtures("each_engine")

GREEDY = SamplingParams(seed=0, temperature=0.0)


def make_sequence(name: str, prompt: str = "Hi", params: SamplingParams = GREEDY) -> Sequence:
    return Sequence(name, fake_prompt(prompt), params)


def sampled(seed: int, max_new_tokens: int = 30) -> SamplingParams:
    return SamplingParams(seed=seed, temperature=1.0, max_new_tokens=max_new_tokens)


def run_alone(sequence: Sequence, runner: FakeRunner) -> Outputs:
    """Run one sequence in an engine of its own."""
    outputs = Outputs()
    engine = fake_engine(outputs, runner=runner)
    engine.submit(sequence)
    while not outputs.finals(sequence.sequence_id):
        engine.step()
    return outputs


# Texts and tokens


def test_an_answer_is_streamed_token_by_token_and_ends_once(start_engine: StartEngine, outputs: Outputs) -> None:
    engine = start_engine(FakeRunner(scripted({"Hi": "Hello"})))

    engine.submit(make_sequence("a"))
    outputs.wait_for("a")

    assert [output.text for output in outputs.of("a")] == ["H", "e", "l", "l", "o", ""]
    assert outputs.token_ids("a") == [*b"Hello", EOS]
    assert [output.finish_reason for output in outputs.of("a")] == [None] * 5 + [FinishReason.STOP]
    assert [output.num_output_tokens for output in outputs.of("a")] == [1, 2, 3, 4, 5, 6]
    assert {output.num_prompt_tokens for output in outputs.of("a")} == {3}


def test_the_tokens_of_a_character_are_delivered_together(start_engine: StartEngine, outputs: Outputs) -> None:
    engine = start_engine(FakeRunner(scripted({"Hi": "a🎌東"})))

    engine.submit(make_sequence("a"))
    outputs.wait_for("a")

    assert [(output.text, len(output.token_ids)) for output in outputs.of("a")] == [
        ("a", 1),
        ("🎌", 4),
        ("東", 3),
        ("", 1),
    ]


@pytest.mark.parametrize(
    ("answer", "stop", "shown"),
    [
        ("one two three", (" two",), "one"),
        ("one two three", ("two", "ne t"), "o"),
        ("aaab", ("aab",), "a"),
        ("Hello", ("Hello",), ""),
        ("a\n\n### Instruction", ("\n\n###",), "a"),
        ("emoji 🎌 end", ("🎌",), "emoji "),
        ("ends with tw", ("two",), "ends with tw"),
    ],
)
def test_nothing_of_a_stop_string_is_shown(
    start_engine: StartEngine, outputs: Outputs, answer: str, stop: tuple[str, ...], shown: str
) -> None:
    engine = start_engine(FakeRunner(scripted({"Hi": answer})))

    engine.submit(make_sequence("a", params=SamplingParams(seed=0, stop=stop)))
    outputs.wait_for("a")

    assert outputs.text("a") == shown
    assert outputs.finals("a")[0].finish_reason is FinishReason.STOP


def test_text_that_may_begin_a_stop_string_is_held_back_until_it_is_clear(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    engine = start_engine(FakeRunner(scripted({"Hi": "abxabc"})))

    engine.submit(make_sequence("a", params=SamplingParams(seed=0, stop=("abc",))))
    outputs.wait_for("a")

    assert [(output.text, bytes(output.token_ids)) for output in outputs.of("a")] == [("abx", b"abx"), ("", b"abc")]


def test_the_token_limit_ends_a_sequence_and_flushes_held_text(start_engine: StartEngine, outputs: Outputs) -> None:
    engine = start_engine(FakeRunner(endless("ab🎌")))

    engine.submit(make_sequence("a", params=SamplingParams(seed=0, max_new_tokens=4, stop=("b!", "abc"))))
    outputs.wait_for("a")

    assert outputs.finals("a")[0].finish_reason is FinishReason.LENGTH
    assert outputs.text("a") == "ab\ufffd"
    assert len(outputs.token_ids("a")) == 4


def test_a_stop_string_completed_by_the_last_token_counts_as_a_stop(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    engine = start_engine(FakeRunner(endless("abc")))

    engine.submit(make_sequence("a", params=SamplingParams(seed=0, max_new_tokens=3, stop=("bc",))))
    outputs.wait_for("a")

    assert outputs.text("a") == "a"
    assert outputs.finals("a")[0].finish_reason is FinishReason.STOP


def test_the_end_of_the_context_ends_a_sequence(start_engine: StartEngine, outputs: Outputs) -> None:
    engine = start_engine(FakeRunner(endless(), context_length=10))

    engine.submit(make_sequence("a"))
    outputs.wait_for("a")

    assert outputs.finals("a")[0].finish_reason is FinishReason.LENGTH
    assert len(outputs.token_ids("a")) == 10 - 3


# Many at once


def test_one_delivery_per_step_carries_all_sequences(start_engine: StartEngine, outputs: Outputs) -> None:
    gate = Gate()
    engine = start_engine(FakeRunner(scripted({"Hi": "xyz"}), gate=gate))
    for name in "abc":
        engine.submit(make_sequence(name))
    gate.open()
    outputs.wait_for(*"abc")

    whole = [delivery for delivery in outputs.deliveries if len(delivery) == 3]
    assert len(whole) >= 3
    assert all([output.sequence_id for output in delivery] == ["a", "b", "c"] for delivery in whole)


def test_more_sequences_than_max_num_seqs_all_finish_in_order_of_arrival(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    engine = start_engine(FakeRunner(max_num_seqs=3))
    names = [f"s{index}" for index in range(20)]

    for name in names:
        engine.submit(make_sequence(name, prompt=f"text of {name}"))
    outputs.wait_for(*names)

    assert [outputs.text(name) for name in names] == [f"text of {name}" for name in names]
    starts = {output.sequence_id: None for delivery in outputs.deliveries for output in delivery}
    assert list(starts) == names


def test_seeded_tokens_are_the_same_alone_in_any_batch_and_with_any_chunks(outputs: Outputs) -> None:
    params = [sampled(seed) for seed in range(12)]
    expected = [run_alone(make_sequence("a", str(seed), params[seed]), FakeRunner(hashed)) for seed in range(12)]
    engine = fake_engine(outputs, runner=FakeRunner(hashed, max_num_seqs=5), prefill_chunk=2)

    for seed in range(12):
        engine.submit(make_sequence(str(seed), str(seed), params[seed]))
    while any(not outputs.finals(str(seed)) for seed in range(12)):
        engine.step()

    assert [outputs.token_ids(str(seed)) for seed in range(12)] == [alone.token_ids("a") for alone in expected]
    assert len({tuple(alone.token_ids("a")) for alone in expected}) == 12


def test_counts_follow_the_sequences(start_engine: StartEngine, outputs: Outputs) -> None:
    gate = Gate()
    engine = start_engine(FakeRunner(max_num_seqs=2, gate=gate))
    for name in "abc":
        engine.submit(make_sequence(name))
    gate.allow()
    gate.wait_until_blocked()

    assert (engine.num_running, engine.num_waiting) == (2, 1)
    gate.open()
    outputs.wait_for(*"abc")
    engine.stop()
    assert (engine.num_running, engine.num_waiting) == (0, 0)


# Continuing an earlier attempt


@pytest.mark.parametrize("params", [GREEDY, sampled(3, max_new_tokens=60)], ids=["greedy", "seeded"])
@pytest.mark.parametrize("stop", [(), ("e", "zz"), ("o, w",)])
def test_a_resumed_sequence_gives_the_same_answer(params: SamplingParams, stop: tuple[str, ...]) -> None:
    params = SamplingParams.from_dict(params.to_dict() | {"stop": stop})
    plan = scripted({"Hi": "hell🎌 w, wörld 東京 z"}) if params.is_greedy else hashed
    whole = run_alone(make_sequence("a", params=params), FakeRunner(plan))

    for num_seen in range(len(whole.of("a"))):
        seen, rest = whole.of("a")[:num_seen], whole.of("a")[num_seen:]
        continued = make_sequence("a", params=params)
        continued.output_ids = [token for output in seen for token in output.token_ids]
        continued.emitted_text = "".join(output.text for output in seen)

        assert run_alone(continued, FakeRunner(plan)).of("a") == rest


def test_text_that_was_committed_but_not_sent_comes_with_the_next_output() -> None:
    continued = make_sequence("a")
    continued.output_ids, continued.emitted_text = [*b"Hel"], "H"

    outputs = run_alone(continued, FakeRunner(scripted({"Hi": "Hello"})))

    assert [output.text for output in outputs.of("a")] == ["ell", "o", ""]
    assert outputs.token_ids("a") == [*b"lo", EOS]


@pytest.mark.parametrize(
    ("output_ids", "params", "reason", "rest"),
    [
        ([*b"Hel"], SamplingParams(seed=0, max_new_tokens=3), FinishReason.LENGTH, "el"),
        ([*b"Hel", EOS], GREEDY, FinishReason.STOP, "el"),
        ([*b"Hello"], SamplingParams(seed=0, stop=("ll",)), FinishReason.STOP, "e"),
    ],
)
def test_a_sequence_that_was_complete_ends_without_another_token(
    output_ids: list[int], params: SamplingParams, reason: FinishReason, rest: str
) -> None:
    continued = make_sequence("a", params=params)
    continued.output_ids, continued.emitted_text = output_ids, "H"
    runner = FakeRunner()

    (output,) = run_alone(continued, runner).of("a")

    assert (output.finish_reason, output.text, output.token_ids) == (reason, rest, ())
    assert runner.batches == []


def test_a_text_that_does_not_belong_to_its_tokens_is_refused(start_engine: StartEngine) -> None:
    continued = make_sequence("a")
    continued.output_ids, continued.emitted_text = [*b"Hel"], "Ha"

    with pytest.raises(InternalError, match="does not belong"):
        start_engine().submit(continued)


# Refusals


def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(start_engine: StartEngine) -> None:
    engine = start_engine(FakeRunner(context_length=16))

    with pytest.raises(PromptTooLong, match=r"length is 16 tokens.* prompt has 16 tokens; the limit is 15\.") as caught:
        engine.submit(Sequence("a", [1] * 16, GREEDY))
    assert caught.value.param == "prompt"
    engine.submit(Sequence("a", fake_prompt("x" * 14), GREEDY))


def test_an_empty_prompt_is_refused(start_engine: StartEngine) -> None:
    with pytest.raises(InvalidRequest, match="no token"):
        start_engine().submit(Sequence("a", [], GREEDY))


@pytest.mark.parametrize("token_id", [VOCAB_SIZE, -1])
def test_a_token_outside_the_vocabulary_never_reaches_the_device(start_engine: StartEngine, token_id: int) -> None:
    with pytest.raises(InvalidRequest, match=f"has the token {token_id}, but the model has the tokens 0 to") as refusal:
        start_engine().submit(Sequence("a", [1, token_id], GREEDY))
    assert refusal.value.param == "prompt"


def test_a_committed_token_outside_the_vocabulary_never_reaches_the_device(start_engine: StartEngine) -> None:
    with pytest.raises(InternalError, match="not in the model's vocabulary"):
        start_engine().submit(Sequence("a", [1], GREEDY, output_ids=[VOCAB_SIZE]))


def test_an_unknown_adapter_is_refused(start_engine: StartEngine) -> None:
    with pytest.raises(AdapterNotFound, match="'mine'"):
        start_engine().submit(Sequence("a", fake_prompt("Hi"), GREEDY, adapter="mine"))


def test_an_id_cannot_be_reused_while_its_sequence_runs(start_engine: StartEngine, outputs: Outputs) -> None:
    gate = Gate()
    engine = start_engine(FakeRunner(gate=gate))
    engine.submit(make_sequence("a"))

    with pytest.raises(InternalError, match="already in the engine"):
        engine.submit(make_sequence("a"))
    gate.open()
    outputs.wait_for("a")
    engine.submit(make_sequence("a"))


# Cancelling


def test_a_running_sequence_is_cancelled_at_the_next_step(start_engine: StartEngine, outputs: Outputs) -> None:
    gate = Gate(permits=3)
    engine = start_engine(FakeRunner(endless("xyz"), gate=gate))
    engine.submit(make_sequence("a"))
    gate.wait_until_blocked()

    engine.cancel("a")
    gate.open()
    outputs.wait_for("a")

    (final,) = outputs.finals("a")
    assert final.finish_reason is FinishReason.CANCELLED
    assert outputs.text("a") == "xyzx"  # the running step still counts


def test_a_waiting_sequence_is_cancelled_without_ever_running(start_engine: StartEngine, outputs: Outputs) -> None:
    gate = Gate()
    engine = start_engine(FakeRunner(max_num_seqs=1, gate=gate))
    engine.submit(make_sequence("a"))
    engine.submit(make_sequence("b"))
    gate.wait_until_blocked()

    engine.cancel("b")
    gate.allow(2)  # the running step, and the one that carries out the cancellation
    outputs.wait_for("b")
    gate.open()
    outputs.wait_for("a")

    (only,) = outputs.of("b")
    assert (only.finish_reason, only.text, only.token_ids) == (FinishReason.CANCELLED, "", ())
    assert outputs.text("a") == "Hi"


def test_held_text_is_shown_when_a_sequence_is_cancelled(start_engine: StartEngine, outputs: Outputs) -> None:
    gate = Gate(permits=3)
    engine = start_engine(FakeRunner(endless("xab"), gate=gate))
    engine.submit(make_sequence("a", params=SamplingParams(seed=0, stop=("abc",))))
    gate.wait_until_blocked()

    engine.cancel("a")
    engine.cancel("a")
    engine.cancel("unknown")
    gate.open()
    outputs.wait_for("a")

    assert [output.text for output in outputs.of("a")][:2] == ["x", "abx"]
    assert len(outputs.finals("a")) == 1


def test_1000_random_submits_and_cancels_leave_every_block_free(start_engine: StartEngine, outputs: Outputs) -> None:
    runner = FakeRunner(max_num_seqs=5, context_length=64, block_tokens=8, num_blocks=12, mixed_chunk=4)
    engine = start_engine(runner, prefill_chunk=16)
    names = [f"s{index}" for index in range(1000)]

    def client(names: list[str], seed: int) -> None:
        rng = random.Random(seed)
        for name in names:
            params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=rng.randint(1, 12))
            engine.submit(make_sequence(name, "x" * rng.randint(1, 30), params))
            if rng.random() < 0.6:
                engine.cancel(rng.choice(names))

    threads = [threading.Thread(target=client, args=(names[part::3], part)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outputs.wait_for(*names, timeout_s=60)
    engine.stop()

    by_name: dict[str, list[FinishReason | None]] = {name: [] for name in names}
    for output in (output for delivery in outputs.deliveries for output in delivery):
        by_name[output.sequence_id].append(output.finish_reason)
    assert all(None not in reasons[-1:] and set(reasons[:-1]) <= {None} for reasons in by_name.values())
    reasons = {reasons[-1] for reasons in by_name.values()}
    assert reasons == {FinishReason.CANCELLED, FinishReason.LENGTH, FinishReason.STOP}
    assert (engine.num_running, engine.num_waiting) == (0, 0)
    assert engine.kv_usage == 0


# A cache that is too small for all


def test_preempted_sequences_get_the_tokens_they_would_get_alone(outputs: Outputs) -> None:
    params = [sampled(seed, max_new_tokens=40) for seed in range(12)]
    alone = [run_alone(make_sequence("a", f"{seed}" * 9, params[seed]), FakeRunner(hashed)) for seed in range(12)]
    runner = FakeRunner(hashed, max_num_seqs=6, context_length=64, block_tokens=4, num_blocks=24, mixed_chunk=3)
    engine = fake_engine(outputs, runner=runner, prefill_chunk=8)

    for seed in range(12):
        engine.submit(make_sequence(str(seed), f"{seed}" * 9, params[seed]))
    while any(not outputs.finals(str(seed)) for seed in range(12)):
        engine.step()

    assert engine.num_preemptions > 0
    assert [outputs.token_ids(str(seed)) for seed in range(12)] == [one.token_ids("a") for one in alone]


def test_sequences_that_begin_alike_get_the_tokens_they_would_get_alone(outputs: Outputs) -> None:
    prompt = "the same long beginning, "
    params = [sampled(seed, max_new_tokens=20) for seed in range(8)]
    alone = [
        run_alone(make_sequence("a", f"{prompt}{seed % 3}", params[seed]), FakeRunner(hashed)) for seed in range(8)
    ]
    runner = FakeRunner(hashed, max_num_seqs=4, context_length=64, block_tokens=4)
    engine = fake_engine(outputs, runner=runner)

    for seed in range(8):
        engine.submit(make_sequence(str(seed), f"{prompt}{seed % 3}", params[seed]))
    while any(not outputs.finals(str(seed)) for seed in range(8)):
        engine.step()

    assert [outputs.token_ids(str(seed)) for seed in range(8)] == [one.token_ids("a") for one in alone]
    computed = sum(len(row.token_ids) for batch in runner.batches for row in batch)
    assert computed < 8 * 20 + 3 * len(prompt), "the beginning was computed once, not eight times"


def test_the_next_turn_of_a_chat_computes_its_new_text_only(outputs: Outputs) -> None:
    runner = FakeRunner(echo, max_num_seqs=1, block_tokens=16)
    engine = fake_engine(outputs, runner=runner)
    first = make_sequence("first", "x" * 100)
    engine.submit(first)
    while not outputs.finals("first"):
        engine.step()
    runner.batches.clear()

    engine.submit(Sequence("second", first.all_ids() + fake_prompt("next"), GREEDY))
    engine.step()

    assert len(runner.batches[0][0].token_ids) <= len("next") + 16


def test_without_memory_for_a_step_a_smaller_one_is_tried(outputs: Outputs) -> None:
    runner = FakeRunner(scripted({"Hi": "Hello"}))
    engine = fake_engine(outputs, runner=runner)
    for name in "abcd":
        engine.submit(make_sequence(name))
    runner.fail_with = OutOfMemoryError("the allocator has nothing left")
    while any(not outputs.finals(name) for name in "abcd"):
        engine.step()

    assert [outputs.text(name) for name in "abcd"] == ["Hello"] * 4
    assert max(len(batch) for batch in runner.batches[1:]) == 2


def test_without_memory_for_a_single_token_a_sequence_fails(outputs: Outputs) -> None:
    runner = FakeRunner(echo)
    engine = fake_engine(outputs, runner=runner)
    engine.submit(make_sequence("a", "x"))
    while not outputs.finals("a"):
        runner.fail_with = OutOfMemoryError("the allocator has nothing left")
        engine.step()

    error = outputs.finals("a")[0].error
    assert error is not None
    assert error.message == "Not enough memory for a single token."


# Releasing


def test_released_sequences_get_no_final_output_and_can_be_continued(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    gate = Gate(permits=4)
    plan = scripted({"Hi": "hello wörld"})
    engine = start_engine(FakeRunner(plan, max_num_seqs=1, gate=gate))
    running, waiting = make_sequence("a"), make_sequence("b")
    engine.submit(running)
    engine.submit(waiting)
    gate.wait_until_blocked()
    released: list[frozenset[str]] = []
    releaser = threading.Thread(target=lambda: released.append(engine.release(["a", "b", "ended"])))
    releaser.start()
    gate.allow()
    releaser.join()

    assert released == [frozenset({"a", "b"})]
    assert [outputs.text("a"), outputs.text("b")] == ["hello", ""]
    assert outputs.finals("a") == outputs.finals("b") == []
    assert engine.num_running == 0
    assert running.status is SequenceStatus.WAITING
    continued = make_sequence("a")
    continued.output_ids, continued.emitted_text = outputs.token_ids("a"), outputs.text("a")
    assert run_alone(continued, FakeRunner(plan)).text("a") == " wörld"


def test_release_from_a_stopped_engine_returns_at_once(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.stop()

    assert engine.release(["a"]) == frozenset()


# Failures


def test_a_row_without_usable_logits_ends_alone(start_engine: StartEngine, outputs: Outputs) -> None:
    def plan(history: list[int]) -> int | Logits:
        if history[0] == ord("b") and len(history) > 4:
            return np.full(VOCAB_SIZE, math.nan, np.float32)
        return endless("xyz")(history)

    engine = start_engine(FakeRunner(plan))
    for name in "abc":
        engine.submit(make_sequence(name, name * 2, SamplingParams(seed=0, max_new_tokens=9)))
    outputs.wait_for(*"abc")

    (failed,) = outputs.finals("b")
    assert failed.finish_reason is FinishReason.ERROR
    assert isinstance(failed.error, InternalError)
    assert outputs.text("b") == "xy"
    assert outputs.text("a") == outputs.text("c") == "xyz" * 3


def test_parameters_that_cannot_be_used_end_their_sequence_alone(start_engine: StartEngine, outputs: Outputs) -> None:
    engine = start_engine()
    engine.submit(make_sequence("bad", params=SamplingParams(seed="x")))  # type: ignore[arg-type]
    engine.submit(make_sequence("good"))
    outputs.wait_for("bad", "good")

    assert isinstance(outputs.finals("bad")[0].error, InternalError)
    assert outputs.text("good") == "Hi"


def test_a_failed_forward_fails_its_sequences_and_the_engine_goes_on(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    gate = Gate(permits=2)
    runner = FakeRunner(endless(), max_num_seqs=2, gate=gate)
    engine = start_engine(runner)
    for name in "abc":
        engine.submit(make_sequence(name, params=SamplingParams(seed=0, max_new_tokens=5)))
    gate.wait_until_blocked()

    runner.fail_with = RuntimeError("out of memory")
    gate.open()
    outputs.wait_for(*"abc")

    assert [outputs.finals(name)[0].finish_reason for name in "abc"] == [
        FinishReason.ERROR,
        FinishReason.ERROR,
        FinishReason.LENGTH,
    ]
    assert isinstance(outputs.finals("a")[0].error, InternalError)
    assert outputs.finals("c")[0].error is None


def test_a_dead_device_ends_the_engine_without_ending_the_jobs(start_engine: StartEngine, outputs: Outputs) -> None:
    fatal: Future[Exception] = Future()
    gate = Gate(permits=2)
    runner = FakeRunner(endless(), gate=gate)
    engine = start_engine(runner, on_fatal=fatal.set_result)
    engine.submit(make_sequence("a"))
    gate.wait_until_blocked()

    runner.fail_with = DeviceLostError("gone")
    gate.open()

    assert isinstance(fatal.result(timeout=60), DeviceLostError)
    assert outputs.finals("a") == []
    assert engine.release(["a"]) == frozenset()
    with pytest.raises(Conflict):
        engine.submit(make_sequence("b"))


def test_an_engine_whose_delivery_breaks_says_so(outputs: Outputs) -> None:
    fatal: Future[Exception] = Future()

    def deliver(_: object) -> None:
        raise ValueError("a bug")

    engine = fake_engine(deliver, on_fatal=fatal.set_result)
    engine.start()
    engine.submit(make_sequence("a"))

    assert isinstance(fatal.result(timeout=60), ValueError)
    engine.stop()


# The end


def test_a_stopped_engine_has_ended_every_sequence_and_takes_no_more(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    engine = start_engine(FakeRunner(endless(), max_num_seqs=1, context_length=100_000))
    engine.submit(make_sequence("a", params=SamplingParams(seed=0, max_new_tokens=90_000)))
    engine.submit(make_sequence("b"))

    engine.stop()
    engine.stop()

    assert [type(outputs.finals(name)[0].error) for name in "ab"] == [Conflict, Conflict]
    with pytest.raises(Conflict):
        engine.submit(make_sequence("c"))


def test_the_engine_thread_sleeps_when_there_is_nothing_to_do(start_engine: StartEngine, outputs: Outputs) -> None:
    runner = FakeRunner(max_num_seqs=2)
    engine = start_engine(runner)
    engine.submit(make_sequence("a"))
    outputs.wait_for("a")
    num_steps = len(runner.batches)

    engine.cancel("unknown")
    engine.release([])

    assert len(runner.batches) == num_steps


def test_rows_continue_their_sequences_without_gaps(outputs: Outputs) -> None:
    runner = FakeRunner(max_num_seqs=1)
    engine: Engine = fake_engine(outputs, runner=runner, prefill_chunk=4)
    engine.submit(make_sequence("a", "eleven text"))
    while not outputs.finals("a"):
        engine.step()

    rows = [batch[0] for batch in runner.batches]
    assert all(before.start + len(before.token_ids) == after.start for before, after in pairwise(rows))
    assert [len(row.token_ids) for row in rows[:4]] == [4, 4, 4, 1]
    assert [row.needs_logits for row in rows[:4]] == [False, False, True, True]


@pytest.mark.parametrize("token_id", [VOCAB_SIZE, -1])
@pytest.mark.parametrize("field", ["logit_bias", "stop_token_ids"])
def test_a_token_that_the_model_does_not_have_is_refused_by_the_name_of_its_field(
    start_engine: StartEngine, field: str, token_id: int
) -> None:
    params = {
        "logit_bias": SamplingParams(seed=0, logit_bias={1: 1.0, token_id: 1.0}),
        "stop_token_ids": SamplingParams(seed=0, stop_token_ids=(1, token_id)),
    }[field]

    with pytest.raises(
        InvalidRequest, match=rf"{field} must contain token ids of the model, which has 258 tokens; got {token_id}"
    ) as e:
        start_engine().check(Sequence("a", fake_prompt("Hi"), params))
    assert e.value.param == field


def test_every_token_of_the_model_can_be_named(start_engine: StartEngine) -> None:
    params = SamplingParams(seed=0, logit_bias={0: 1.0, VOCAB_SIZE - 1: -1.0}, stop_token_ids=(0, VOCAB_SIZE - 1))

    start_engine().check(Sequence("a", fake_prompt("Hi"), params))


# The cache


def test_the_last_output_says_how_much_of_the_prompt_was_cached(outputs: Outputs) -> None:
    engine = fake_engine(outputs, runner=FakeRunner(block_tokens=4))
    for name, prompt in (("a", "once upon a time"), ("b", "once upon a time"), ("c", "other")):
        engine.submit(make_sequence(name, prompt))
        while not outputs.finals(name):
            engine.step()
    cached = [outputs.finals(name)[0].num_cached_tokens for name in "abc"]
    assert cached[0] == cached[2] == 0
    assert 4 <= cached[1] < outputs.finals("b")[0].num_prompt_tokens
