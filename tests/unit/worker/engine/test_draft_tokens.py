"""Draft tokens: the same answers in fewer steps."""

from __future__ import annotations

import random

import numpy as np
import pytest

from common.jobs.sampling import SamplingParams
from tests.fakes import ASSISTANT, EOS, VOCAB_SIZE, FakeRunner, Logits, Outputs, endless, fake_engine, fake_prompt
from worker.engine.sequence import FinishReason, Sequence

GREEDY = SamplingParams(seed=0, temperature=0.0, max_new_tokens=60)


def rhyming(history: list[int]) -> Logits:
    """Logits of a text that sometimes repeats itself, in which a draw changes the rest."""
    generator = np.random.default_rng(hash(tuple(history[-2:])) % 2**63)
    logits = generator.standard_normal(VOCAB_SIZE, np.float32)
    logits[list(b"abcd")] += 6
    logits[EOS] = 4.5
    return logits


def run(
    sequences: list[Sequence], max_draft_tokens: int, plan=rhyming, **options: object
) -> tuple[Outputs, FakeRunner]:
    """Run the sequences together, with that many draft tokens."""
    outputs, runner = Outputs(), FakeRunner(plan, max_draft_tokens=max_draft_tokens, **options)  # type: ignore[arg-type]
    engine = fake_engine(outputs, runner=runner)
    for sequence in sequences:
        engine.submit(sequence)
    while engine.num_running or engine.num_waiting:
        engine.step()
    assert engine.kv_usage == 0.0
    return outputs, runner


def answer(outputs: Outputs, name: str) -> tuple[list[int], str, FinishReason | None]:
    return outputs.token_ids(name), outputs.text(name), outputs.finals(name)[0].finish_reason


WAYS = {
    "greedy": GREEDY,
    "seeded": SamplingParams(seed=5, temperature=0.8, max_new_tokens=60),
    "filtered": SamplingParams(seed=6, temperature=1.0, top_k=8, top_p=0.9, max_new_tokens=60),
    "going on": SamplingParams(seed=7, temperature=1.0, min_new_tokens=30, max_new_tokens=60),
    "until a string": SamplingParams(seed=8, temperature=0.9, stop=["cab", "dd"], max_new_tokens=60),
    "until a token": SamplingParams(seed=9, temperature=0.9, stop_token_ids=[ord("d")], max_new_tokens=60),
    "with log probabilities": SamplingParams(seed=10, temperature=0.7, logprobs=2, max_new_tokens=60),
    "penalised": SamplingParams(seed=11, temperature=0.7, repetition_penalty=1.2, max_new_tokens=60),
    "biased": SamplingParams(seed=12, temperature=0.7, logit_bias={ord("a"): 2.0}, max_new_tokens=60),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("num_sequences", [1, 2, 3])
@pytest.mark.parametrize("max_draft_tokens", [1, 4])
def test_answers_are_the_same_as_with_one_token_per_step(way: str, num_sequences: int, max_draft_tokens: int) -> None:
    def sequences() -> list[Sequence]:
        return [Sequence(str(n), fake_prompt("abcd" * n + "ab"), WAYS[way]) for n in range(num_sequences)]

    expected, _ = run(sequences(), 0, block_tokens=8, context_length=128)
    found, _ = run(sequences(), max_draft_tokens, block_tokens=8, context_length=128)

    for name in map(str, range(num_sequences)):
        assert answer(found, name) == answer(expected, name)
        assert [o.logprobs for o in found.finals(name)][-1:] == [o.logprobs for o in expected.finals(name)][-1:]
        scored = [one for output in found.of(name) for one in output.logprobs or ()]
        assert scored == [one for output in expected.of(name) for one in output.logprobs or ()]


def test_a_repetitive_text_takes_a_fraction_of_the_steps() -> None:
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=100)
    plain, plain_runner = run([Sequence("a", fake_prompt("Hi"), params)], 0, endless("abcdefg "))
    drafted, runner = run([Sequence("a", fake_prompt("Hi"), params)], 4, endless("abcdefg "))

    assert drafted.text("a") == plain.text("a")
    assert len(plain_runner.batches) == 100
    assert len(runner.batches) <= 12 + 88 / 4


def test_draft_tokens_and_accepted_ones_are_counted() -> None:
    outputs, runner = Outputs(), FakeRunner(rhyming, max_draft_tokens=3)
    engine = fake_engine(outputs, runner=runner)
    engine.submit(Sequence("a", fake_prompt("abcdabcd"), WAYS["going on"]))
    while engine.num_running or engine.num_waiting:
        engine.step()

    assert engine.num_draft_tokens == sum(row.num_draft_tokens for batch in runner.batches for row in batch)
    assert engine.num_accepted_tokens == len(outputs.token_ids("a")) - len(runner.batches), "each saves a step"
    assert 0 < engine.num_accepted_tokens < engine.num_draft_tokens


def test_tokens_of_one_step_come_in_one_output() -> None:
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=40)
    outputs, _ = run([Sequence("a", fake_prompt("Hi"), params)], 4, endless("abcd"))

    assert max(len(output.token_ids) for output in outputs.of("a")) == 4
    assert len(outputs.token_ids("a")) == 40
    assert len(outputs.finals("a")) == 1


def test_many_sequences_or_a_prompt_beside_them_prevent_draft_tokens() -> None:
    outputs = Outputs()
    runner = FakeRunner(endless("abab"), max_draft_tokens=4, mixed_chunk=2)
    engine = fake_engine(outputs, runner=runner)
    for name in "abc":
        engine.submit(Sequence(name, fake_prompt(f"{name}ababab"), GREEDY))
    for _ in range(5):
        engine.step()
    assert not any(row.num_draft_tokens for batch in runner.batches for row in batch)

    engine.cancel("a")
    engine.cancel("b")
    engine.step()
    assert runner.batches[-1][0].num_draft_tokens == 3
    engine.submit(Sequence("d", fake_prompt("dabababababab"), GREEDY))
    engine.step()
    assert [row.num_draft_tokens for row in runner.batches[-1]] == [0, 0]


def test_penalties_get_no_draft_tokens() -> None:
    params = SamplingParams(seed=0, temperature=0.0, presence_penalty=0.1, max_new_tokens=20)
    _, runner = run([Sequence("a", fake_prompt("ababab"), params)], 4, endless("ab"))

    assert not any(row.num_draft_tokens for batch in runner.batches for row in batch)


def test_draft_tokens_reach_neither_beyond_the_answer_nor_beyond_the_context() -> None:
    for limit, context in ((7, 64), (60, 20)):
        params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=limit)
        sequence = Sequence("a", fake_prompt("abababab"), params)
        outputs, runner = run([sequence], 4, endless("ab"), context_length=context, block_tokens=4)
        assert len(outputs.token_ids("a")) == min(limit, context - sequence.num_prompt_tokens)
        assert all(row.start + len(row.token_ids) <= context for batch in runner.batches for row in batch)


def test_a_full_cache_has_no_room_for_draft_tokens() -> None:
    def sequences() -> list[Sequence]:
        return [Sequence(name, fake_prompt(f"{name}abab"), GREEDY) for name in "ab"]

    tight = {"context_length": 64, "block_tokens": 4, "num_blocks": 17}
    expected, _ = run(sequences(), 0, endless("ab"), **tight)
    found, _ = run(sequences(), 4, endless("ab"), **tight)

    assert [answer(found, name) for name in "ab"] == [answer(expected, name) for name in "ab"]


def test_a_draft_token_with_unusable_logits_only_ends_its_sequence() -> None:
    def plan(history: list[int]) -> Logits:
        answered = len(history) - history.index(ASSISTANT) - 1
        logits = np.full(VOCAB_SIZE, -100.0, np.float32)
        logits[b"abab"[answered % 4]] = 100.0
        return logits * np.float32("nan") if answered == 12 and history[0] == ord("x") else logits

    sequences = [Sequence(name, fake_prompt(f"{name}abababab"), GREEDY) for name in "xy"]
    outputs, runner = run(sequences, 4, plan)

    assert any(row.num_draft_tokens for batch in runner.batches for row in batch)
    assert outputs.finals("x")[0].finish_reason is FinishReason.ERROR
    assert len(outputs.token_ids("x")) == 12
    assert len(outputs.token_ids("y")) == 60


def test_a_storm_of_submits_and_cancels_leaves_every_block_free() -> None:
    chosen, outputs = random.Random(1), Outputs()
    engine = fake_engine(
        outputs,
        runner=FakeRunner(
            rhyming, max_draft_tokens=3, max_num_seqs=2, context_length=64, block_tokens=4, num_blocks=20
        ),
    )
    live: list[str] = []
    for number in range(300):
        name = str(number)
        engine.submit(Sequence(name, fake_prompt("ab" * chosen.randrange(1, 20)), WAYS["seeded"]))
        live.append(name)
        if chosen.random() < 0.5:
            engine.cancel(live.pop(chosen.randrange(len(live))))
        for _ in range(chosen.randrange(4)):
            engine.step()
    while engine.num_running or engine.num_waiting:
        engine.step()

    assert engine.kv_usage == 0.0
    assert all(len(outputs.finals(str(number))) == 1 for number in range(300))
