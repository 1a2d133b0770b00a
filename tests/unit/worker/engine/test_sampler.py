from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.errors import InternalError, InvalidRequest
from common.jobs.sampling import SamplingParams
from tests.unit.worker.engine.scripted_constraint import ScriptedConstraint
from worker.engine.device.transfers import ToHost
from worker.engine.model_runner import DeviceLostError
from worker.engine.sampling.sampler import Sampler
from worker.engine.sequence import SampledToken, Sequence

VOCAB_SIZE = 500
EOS = 49
SAMPLER = Sampler()
GREEDY = SamplingParams(seed=0, temperature=0.0)
VARIANTS = [
    GREEDY,
    SamplingParams(seed=1, temperature=1.3),
    SamplingParams(seed=2, temperature=0.7, top_k=3),
    SamplingParams(seed=3, temperature=1.0, top_p=0.5, repetition_penalty=1.2),
    SamplingParams(seed=4, do_sample=False, repetition_penalty=5.0),
    SamplingParams(seed=5, temperature=1.0, min_p=0.1, logprobs=3),
    SamplingParams(seed=6, presence_penalty=1.0, frequency_penalty=0.5, logit_bias={9: 3.0}, logprobs=0),
    SamplingParams(seed=7, temperature=0.0, min_new_tokens=50, logprobs=20),
    SamplingParams(seed=8, temperature=2.0, top_k=100, top_p=0.95, min_p=0.01, stop_token_ids=(3,), min_new_tokens=50),
]


def make_sequence(params: SamplingParams, prompt_ids: list[int] | None = None, num_output_tokens: int = 0) -> Sequence:
    sequence = Sequence("a", prompt_ids or [1, 2, 3], params, output_ids=[4] * num_output_tokens)
    sequence.eos_token_ids = frozenset({EOS})
    return sequence


def random_logits(num_rows: int, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(seed)) * 3


def sample(logits: Tensor, sequences: list[Sequence]) -> list[SampledToken]:
    tokens = SAMPLER.sample(logits, sequences)
    assert all(isinstance(token, SampledToken) for token in tokens), tokens
    return tokens  # type: ignore[return-value]


def sample_ids(logits: Tensor, sequences: list[Sequence]) -> list[int]:
    return [token.token_id for token in sample(logits, sequences)]


def test_greedy_takes_the_most_probable_token_after_the_penalty() -> None:
    logits = torch.zeros(2, VOCAB_SIZE)
    logits[:, 3], logits[:, 9] = 2.0, 1.5

    tokens = sample_ids(logits, [make_sequence(GREEDY), make_sequence(replace(GREEDY, repetition_penalty=2.0))])

    assert tokens == [3, 9]


def test_do_sample_false_and_temperature_zero_are_both_greedy() -> None:
    logits = random_logits(1).repeat(2, 1)
    sequences = [make_sequence(GREEDY), make_sequence(SamplingParams(seed=0, do_sample=False, temperature=5.0))]

    assert sample_ids(logits, sequences) == logits.argmax(dim=-1).tolist()


def test_rows_of_one_batch_use_their_own_parameters() -> None:
    def sequence(row: int) -> Sequence:
        return make_sequence(VARIANTS[row % len(VARIANTS)], [row, row + 1], row)

    logits = random_logits(45)

    together = sample(logits.clone(), [sequence(row) for row in range(45)])

    assert together == [sample(logits[row : row + 1].clone(), [sequence(row)])[0] for row in range(45)]
    backwards = sample(logits.flip(0), [sequence(row) for row in reversed(range(45))])
    assert together == backwards[::-1]


def test_a_seeded_answer_has_a_new_draw_for_every_token() -> None:
    params = SamplingParams(seed=5, temperature=2.0)
    logits = random_logits(1).repeat(60, 1)

    tokens = sample_ids(logits, [make_sequence(params, num_output_tokens=index) for index in range(60)])

    assert tokens == sample_ids(logits, [make_sequence(params, num_output_tokens=index) for index in range(60)])
    assert len(set(tokens)) > 20


def test_the_logits_stay_as_they_are() -> None:
    logits = random_logits(len(VARIANTS))

    sample(logits, [make_sequence(params, num_output_tokens=1) for params in VARIANTS])

    assert torch.equal(logits, random_logits(len(VARIANTS)))


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = torch.full((500, VOCAB_SIZE), -math.inf)
    logits[:, 17] = 0.0
    sequences = [make_sequence(SamplingParams(seed=seed, temperature=2.0)) for seed in range(500)]

    assert set(sample_ids(logits, sequences)) == {17}


@pytest.mark.parametrize(
    "neighbours", [[GREEDY] * 3, VARIANTS[1:4], VARIANTS[4:7]], ids=["greedy", "random", "processed"]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_fails_alone(bad: float, neighbours: list[SamplingParams]) -> None:
    logits = random_logits(3)
    expected = sample(logits, [make_sequence(params) for params in neighbours])
    logits[1, 7] = bad

    tokens = SAMPLER.sample(logits, [make_sequence(params) for params in neighbours])

    assert isinstance(tokens[1], InternalError)
    assert [tokens[0], tokens[2]] == [expected[0], expected[2]]


def test_nan_is_not_hidden_by_a_forbidden_token() -> None:
    logits = random_logits(1)
    logits[0, EOS] = math.nan

    (result,) = SAMPLER.sample(logits, [make_sequence(replace(GREEDY, min_new_tokens=5))])

    assert isinstance(result, InternalError)


def test_a_row_with_unreadable_parameters_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    logits = random_logits(2)
    broken = SamplingParams(seed=0, top_k="many")  # type: ignore[arg-type]

    with caplog.at_level(logging.CRITICAL):
        tokens = SAMPLER.sample(logits, [make_sequence(broken), make_sequence(GREEDY)])

    assert isinstance(tokens[0], InternalError)
    assert tokens[1] == SampledToken(int(logits[1].argmax()))


def test_half_precision_logits_are_sampled_too() -> None:
    sequences = [make_sequence(SamplingParams(seed=9, top_p=0.9)), make_sequence(GREEDY)]

    assert len(sample(random_logits(2).bfloat16(), sequences)) == 2
    assert len(sample(random_logits(2).bfloat16(), sequences[1:] * 2)) == 2


def test_a_failing_constraint_only_ends_its_sequence_and_says_why() -> None:
    sequences = [make_sequence(GREEDY) for _ in range(3)]
    sequences[0].constraint = ScriptedConstraint({11})
    sequences[1].constraint = ScriptedConstraint(set())
    logits = random_logits(3)

    first, failed, last = SAMPLER.sample(logits, sequences)

    assert first == SampledToken(11)
    assert isinstance(failed, InvalidRequest)
    assert failed.param == "regex"
    assert last == SampledToken(int(logits[2].argmax()))


@pytest.mark.parametrize("params", [GREEDY, VARIANTS[2]], ids=["greedy", "random"])
def test_a_dead_device_is_distinguished_from_a_failed_step(
    params: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    sequences = [make_sequence(params)]
    started = SAMPLER.start(random_logits(1), sequences)
    monkeypatch.setattr(ToHost, "fetch", fail)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        started.fetch()
    monkeypatch.setattr(ToHost, "__init__", fail)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        SAMPLER.start(random_logits(1), sequences)
