from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from common.jobs.sampling import SamplingParams
from tests.unit.worker.engine.scripted_constraint import ScriptedConstraint
from worker.engine.sampling.logits_processors import apply_processors
from worker.engine.sampling.processors import needs_processor, processor_for
from worker.engine.sequence import Sequence

VOCAB_SIZE = 100
EOS = frozenset({7, 8})


def make_sequence(
    output_ids: list[int] | None = None,
    *,
    prompt_ids: list[int] | None = None,
    eos_token_ids: frozenset[int] = EOS,
    **params: Any,
) -> Sequence:
    sequence = Sequence("a", prompt_ids or [1, 2, 2, 3], SamplingParams(seed=0, **params), output_ids=output_ids or [])
    sequence.eos_token_ids = eos_token_ids
    return sequence


def random_logits(num_rows: int = 1) -> Tensor:
    return torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(3)) * 3


def edit(logits: Tensor, *sequences: Sequence) -> Tensor:
    """The logits as their sequences change them."""
    edits = {row: processor_for(one, VOCAB_SIZE) for row, one in enumerate(sequences) if needs_processor(one)}
    return apply_processors(logits, edits)


def openai_penalties(logits: Tensor, answer: list[int], presence: float, frequency: float) -> Tensor:
    """mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, as OpenAI documents it."""
    mu = logits.clone()
    for token in range(VOCAB_SIZE):
        count = answer.count(token)
        mu[0, token] = mu[0, token] - count * frequency - float(count > 0) * presence
    return mu


@pytest.mark.parametrize("penalty", [0.5, 1.3, 100.0])
def test_the_repetition_penalty_is_that_of_transformers_over_prompt_and_answer(penalty: float) -> None:
    sequence = make_sequence([4, 5, 5, 2], repetition_penalty=penalty)

    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([[1, 2, 3, 4, 5]]), random_logits())

    assert torch.equal(edit(random_logits(), sequence), expected)


@pytest.mark.parametrize(("presence", "frequency"), [(0.5, 0.0), (0.0, 0.7), (-2.0, 2.0), (1.5, -0.25)])
def test_presence_and_frequency_penalties_only_count_the_answer(presence: float, frequency: float) -> None:
    answer = [4, 5, 5, 2, 5]
    sequence = make_sequence(answer, presence_penalty=presence, frequency_penalty=frequency)

    result = edit(random_logits(), sequence)

    assert torch.allclose(result, openai_penalties(random_logits(), answer, presence, frequency), atol=1e-6)
    assert torch.equal(result[0, [1, 3]], random_logits()[0, [1, 3]])


def test_the_bias_is_added_as_transformers_adds_its_own() -> None:
    bias = {3: 5.0, 0: -100.0, 99: 0.25}

    expected = SequenceBiasLogitsProcessor({(token,): value for token, value in bias.items()})

    ids = torch.tensor([[1]])
    assert torch.equal(edit(random_logits(), make_sequence(logit_bias=bias)), expected(ids, random_logits()))


@pytest.mark.parametrize("num_output_tokens", range(5))
def test_nothing_ends_the_answer_before_its_minimum_length(num_output_tokens: int) -> None:
    answer = [50] * num_output_tokens
    processor = MinNewTokensLengthLogitsProcessor(4, 3, [*EOS, 20], device="cpu")

    result = edit(random_logits(), make_sequence(answer, min_new_tokens=3, stop_token_ids=(20,)))

    assert torch.equal(result, processor(torch.tensor([[1, 2, 2, 3, *answer]]), random_logits()))


def test_an_end_token_that_ends_nothing_is_not_held_back() -> None:
    result = edit(random_logits(), make_sequence(min_new_tokens=3, ignore_eos=True, stop_token_ids=(20,)))

    assert (result == -torch.inf).nonzero().tolist() == [[0, 20]]


def test_an_end_token_that_the_model_does_not_have_needs_no_holding_back() -> None:
    changes = processor_for(make_sequence(min_new_tokens=3, eos_token_ids=frozenset({7, VOCAB_SIZE})), VOCAB_SIZE)

    assert (apply_processors(random_logits(), {0: changes}) == -torch.inf).nonzero().tolist() == [[0, 7]]


def test_penalties_come_before_the_bias() -> None:
    logits = torch.zeros(1, VOCAB_SIZE)
    logits[0, 2] = 4.0

    result = edit(logits, make_sequence([2], repetition_penalty=2.0, frequency_penalty=0.5, logit_bias={2: 10.0}))

    assert result[0, 2] == 4.0 / 2.0 - 0.5 + 10.0


def test_penalties_follow_a_growing_answer() -> None:
    rng = random.Random(0)
    growing = make_sequence(repetition_penalty=1.2, frequency_penalty=0.3, presence_penalty=0.1)
    for _ in range(30):
        growing.output_ids.append(rng.randrange(20))
        fresh = make_sequence(
            list(growing.output_ids),
            repetition_penalty=1.2,
            frequency_penalty=0.3,
            presence_penalty=0.1,
        )

        assert torch.equal(edit(random_logits(), growing), edit(random_logits(), fresh))


def test_each_row_is_only_changed_by_its_own_sequence() -> None:
    sequences = [
        make_sequence(),
        make_sequence([5], repetition_penalty=1.5),
        make_sequence([5, 5], frequency_penalty=1.0, logit_bias={9: 1.0}),
        make_sequence(min_new_tokens=1),
        make_sequence(logit_bias={1: -1.0}, presence_penalty=0.5),
    ]
    logits = random_logits(5)

    together = edit(logits, *sequences)

    assert torch.equal(together, torch.cat([edit(logits[row : row + 1], sequences[row]) for row in range(5)]))
    assert torch.equal(logits, random_logits(5))
    assert torch.equal(together[0], logits[0])


# Constraints


def test_only_tokens_that_a_constraint_allows_are_chosen() -> None:
    sequence = make_sequence()
    sequence.constraint = ScriptedConstraint({0, 31, 32, 63, 99})

    result = edit(random_logits(2), make_sequence(), sequence)

    assert result[1].isfinite().nonzero()[:, 0].tolist() == [0, 31, 32, 63, 99]
    assert torch.equal(result[1, [0, 31, 32, 63, 99]], random_logits(2)[1, [0, 31, 32, 63, 99]])
    assert torch.equal(result[0], random_logits(2)[0])


@pytest.mark.parametrize(
    ("allowed", "possible"), [({7, 20, 30}, [30]), ({7, 20}, [7, 20]), ({30}, [30])], ids=["both", "end", "no end"]
)
def test_the_minimum_length_holds_while_the_constraint_allows_more(allowed: set[int], possible: list[int]) -> None:
    sequence = make_sequence(min_new_tokens=5, stop_token_ids=(20,))
    sequence.constraint = ScriptedConstraint(allowed)

    assert edit(random_logits(), sequence).isfinite().nonzero()[:, 1].tolist() == possible


def test_bias_does_not_bring_back_what_a_constraint_forbids() -> None:
    sequence = make_sequence(logit_bias={5: 100.0})
    sequence.constraint = ScriptedConstraint({6})

    assert edit(random_logits(), sequence).isfinite().nonzero()[:, 1].tolist() == [6]
