"""The sampler without torch chooses what the one with torch chooses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import InternalError, SLMError
from common.jobs.sampling import ALL_TOKENS, SamplingParams
from tests.unit.worker.engine.scripted_constraint import ScriptedConstraint
from worker.engine.sampling.host import HostSampler
from worker.engine.sampling.sampler import Sampler
from worker.engine.sequence import SampledToken, Sequence

EOS = 49
VARIANTS = {
    "greedy": {"temperature": 0.0},
    "all tokens": {"temperature": 1.0},
    "hot": {"temperature": 5.0},
    "coldest": {"temperature": 1e-40},
    "top_k": {"temperature": 0.7, "top_k": 50},
    "large top_k": {"temperature": 2.0, "top_k": 1500, "top_p": 0.99},
    "top_p": {"temperature": 1.0, "top_p": 0.9},
    "broad top_p": {"temperature": 3.0, "top_p": 0.999},
    "smallest top_p": {"temperature": 1.0, "top_p": 1e-9},
    "min_p": {"temperature": 1.3, "min_p": 0.02},
    "all filters": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.01},
    "penalties": {"temperature": 1.0, "repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.3},
    "bias": {"temperature": 1.0, "logit_bias": {9: 3.0, 7: -2.0}},
    "minimum": {"temperature": 0.0, "min_new_tokens": 5, "logprobs": 20},
    "log probabilities": {"temperature": 1.0, "logprobs": 5},
    "log probabilities of many tokens": {"temperature": 1.0, "logprobs": 70},
    "log probabilities of all tokens": {"temperature": 1.0, "logprobs": ALL_TOKENS},
    "log probabilities of some tokens": {"temperature": 1.0, "logprobs": 0, "logprob_token_ids": (7, 3, 290)},
    "allowed tokens": {"temperature": 1.0, "allowed_token_ids": (7, 31, 32, 290)},
    "allowed, but too early": {"temperature": 1.0, "allowed_token_ids": (EOS,), "min_new_tokens": 5},
}


def make_sequence(seed: int, **settings: object) -> Sequence:
    sequence = Sequence("a", [1, 2, 3, 3], SamplingParams(seed=seed, **settings))  # type: ignore[arg-type]
    sequence.eos_token_ids = frozenset({EOS})
    return sequence


def both(logits: torch.Tensor, make: object, num: int) -> tuple[list[SampledToken], list[SampledToken]]:
    samplers = ((Sampler(), logits), (HostSampler(), logits.numpy()))
    found = [sampler.sample(values, [make(seed) for seed in range(num)]) for sampler, values in samplers]  # type: ignore[operator]
    return found[0], found[1]  # type: ignore[return-value]


@pytest.mark.parametrize("vocab_size", [5000, 8192], ids=["5000", "8192"])
@pytest.mark.parametrize("name", VARIANTS)
def test_both_choose_the_same_tokens(name: str, vocab_size: int) -> None:
    generator = torch.Generator().manual_seed(len(name))
    logits = torch.randn(30, vocab_size, generator=generator) * torch.linspace(0.5, 6, 30)[:, None]
    logits[3] = 1.0  # all equal
    logits[4, 100:200] = 50.0
    before = logits.clone()
    expected, found = both(logits, lambda seed: make_sequence(seed, **VARIANTS[name]), 30)
    assert torch.equal(logits, before)
    assert [one.token_id for one in found] == [one.token_id for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.logprob is None) == (other.logprob is None)
        if one.logprob is not None:
            assert one.logprob == pytest.approx(other.logprob, abs=1e-5)
            assert [value for _, value in one.top] == pytest.approx([value for _, value in other.top], abs=1e-5)


def test_a_row_does_not_depend_on_the_others() -> None:
    logits = np.random.default_rng(1).normal(size=(len(VARIANTS), 3000)).astype(np.float32) * 3
    sequences = [make_sequence(seed, **settings) for seed, settings in enumerate(VARIANTS.values())]
    alone = [HostSampler().sample(logits[i : i + 1], [one])[0] for i, one in enumerate(sequences)]
    assert HostSampler().sample(logits, sequences) == alone


def test_a_constraint_and_draft_tokens_count() -> None:
    logits = torch.zeros(2, 300)
    logits[:, 40], logits[:, 31] = 5.0, 4.0

    def make(_seed: int) -> Sequence:
        sequence = make_sequence(0, temperature=0.0)
        sequence.constraint = ScriptedConstraint({31, 32}, {299})
        return sequence

    assert [one.token_id for one in HostSampler().sample(logits.numpy(), [make(0), make(1)], [0, 1])] == [31, 299]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["greedy", "all tokens", "top_p", "penalties", "log probabilities"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "all forbidden"])
def test_a_row_that_is_not_finite_ends_only_its_sequence(name: str, value: float) -> None:
    logits = np.zeros((2, 300), np.float32)
    logits[0] = value
    bad, good = HostSampler().sample(logits, [make_sequence(0, **VARIANTS[name]) for _ in range(2)])
    assert isinstance(bad, InternalError)
    assert isinstance(good, SampledToken)


def test_an_error_in_the_settings_ends_only_its_sequence() -> None:
    sequences = [make_sequence(0, temperature=1.0), make_sequence(0, temperature=1.0)]
    sequences[0].constraint = ScriptedConstraint(set())
    bad, good = HostSampler().sample(np.zeros((2, 300), np.float32), sequences)
    assert isinstance(bad, SLMError)
    assert isinstance(good, SampledToken)


def test_prompts_are_scored_alike() -> None:
    logits = torch.randn(6, 700, generator=torch.Generator().manual_seed(0)) * 4
    expected, found = (
        Sampler().score(logits, [1, 2, 3, 4, 5, 6], 3),
        HostSampler().score(logits.numpy(), [1, 2, 3, 4, 5, 6], 3),
    )
    for one, other in zip(found, expected, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-5)
        assert [token for token, _ in one.top] == [token for token, _ in other.top]
