from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.jobs.logprobs import ScoredToken, TokenLogprobs
from common.jobs.sampling import ALL_TOKENS, SamplingParams
from tests.fakes import FakeRunner, Outputs, fake_engine, fake_prompt, hashed, scripted
from worker.engine.sampling.log_probabilities import score
from worker.engine.sampling.sampler import Sampler
from worker.engine.sampling.scored_tokens import Scoring, scored_tokens
from worker.engine.sequence import FinishReason, SampledToken, Sequence, SequenceOutput

pytestmark = pytest.mark.usefixtures("each_engine")

ASKED = SamplingParams(seed=4, temperature=1.0, max_new_tokens=40, logprobs=2)


def run(sequence: Sequence, runner: FakeRunner) -> list[SequenceOutput]:
    """Everything that an engine delivers for the sequence."""
    outputs = Outputs()
    engine = fake_engine(outputs, runner=runner)
    engine.submit(sequence)
    while not outputs.finals(sequence.sequence_id):
        engine.step()
    return outputs.of(sequence.sequence_id)


def make_sequence(params: SamplingParams = ASKED) -> Sequence:
    return Sequence("a", fake_prompt("Hi"), params)


def random_logits(num_rows: int, vocab_size: int = 5000) -> Tensor:
    return torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(1)) * 3


def with_logprobs(logits: Tensor, tokens: Tensor, nums: list[int]) -> list[SampledToken]:
    scorings = [Scoring(num) for num in nums]
    return scored_tokens(tokens.tolist(), *(scores.tolist() for scores in score(logits, tokens)), scorings=scorings)


# What is computed


def test_they_are_the_log_softmax_of_the_models_logits() -> None:
    logits = random_logits(3)
    tokens = torch.tensor([7, 8, 9])
    expected = logits.double().log_softmax(dim=-1)

    rows = with_logprobs(logits, tokens, [0, 3, 20])

    assert [row.token_id for row in rows] == [7, 8, 9]
    assert [len(row.top) for row in rows] == [0, 3, 20]
    for row, token, distribution in zip(rows, tokens, expected, strict=True):
        assert row.logprob == pytest.approx(float(distribution[token]), abs=1e-5)
        best = distribution.topk(len(row.top))
        assert [token_id for token_id, _ in row.top] == best.indices.tolist()
        assert [logprob for _, logprob in row.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_they_do_not_depend_on_the_other_rows() -> None:
    logits, tokens = random_logits(8), torch.arange(8)

    together = with_logprobs(logits, tokens, [row % 4 for row in range(8)])

    assert together == [with_logprobs(logits[row : row + 1], tokens[row : row + 1], [row % 4])[0] for row in range(8)]


def test_tokens_that_the_model_rules_out_are_no_alternatives() -> None:
    logits = torch.full((1, 300), -torch.inf)
    logits[0, [5, 6]] = 1.0

    (row,) = with_logprobs(logits, torch.tensor([5]), [4])

    assert sorted(token_id for token_id, _ in row.top) == [5, 6]


def test_sampling_settings_do_not_change_log_probabilities() -> None:
    logits = random_logits(1)
    plain = SamplingParams(seed=0, temperature=0.0, logprobs=3)
    changed = replace(plain, logit_bias={11: 100.0}, repetition_penalty=1.5, temperature=2.0, do_sample=True, top_k=2)
    sampler = Sampler()

    ((first,), (second,)) = (sampler.sample(logits, [make_sequence(params)]) for params in (plain, changed))

    assert second.token_id == 11 != first.token_id
    assert second.top == first.top
    assert second.logprob == pytest.approx(float(logits.log_softmax(-1)[0, 11]), abs=1e-5)


def sample_one(logits: Tensor, **settings: object) -> SampledToken:
    params = SamplingParams(seed=0, temperature=0.0, **settings)  # type: ignore[arg-type]
    (found,) = Sampler().sample(logits, [make_sequence(params)])
    assert isinstance(found, SampledToken)
    return found


def test_given_tokens_replace_the_most_probable_ones_and_the_chosen_one_comes_last() -> None:
    logits = random_logits(1)
    expected = logits.log_softmax(-1)[0]

    found = sample_one(logits, logprobs=5, logprob_token_ids=(4000, 3), allowed_token_ids=(11,))

    assert (found.token_id, [token_id for token_id, _ in found.top]) == (11, [4000, 3, 11])
    assert [logprob for _, logprob in found.top] == pytest.approx(expected[[4000, 3, 11]].tolist(), abs=1e-5)


def test_a_chosen_token_among_the_given_ones_comes_once() -> None:
    found = sample_one(random_logits(1), logprobs=0, logprob_token_ids=(11, 3), allowed_token_ids=(11,))
    assert [token_id for token_id, _ in found.top] == [11, 3]


def test_all_tokens_of_the_vocabulary_can_be_alternatives() -> None:
    found = sample_one(random_logits(1, 300), logprobs=ALL_TOKENS)
    assert sorted(token_id for token_id, _ in found.top) == list(range(300))
    assert sum(math.exp(logprob) for _, logprob in found.top) == pytest.approx(1.0, abs=1e-4)


def test_rows_with_few_and_many_alternatives_share_a_batch() -> None:
    logits = random_logits(4)
    settings: list[dict[str, int]] = [{"logprobs": 2}, {"logprobs": 50}, {}, {"logprobs": 3}]
    sequences = [make_sequence(SamplingParams(seed=0, temperature=0.0, **one)) for one in settings]  # type: ignore[arg-type]

    found = Sampler().sample(logits, sequences)

    assert [len(one.top) for one in found if isinstance(one, SampledToken)] == [2, 50, 0, 3]
    assert found == [Sampler().sample(logits[row][None], [sequences[row]])[0] for row in range(4)]


# How they travel


def test_every_token_is_returned_with_its_alternatives() -> None:
    outputs = run(make_sequence(), FakeRunner(hashed))

    for output in outputs:
        assert output.logprobs is not None
        assert [one.chosen.token_id for one in output.logprobs] == list(output.token_ids)
        assert all(len(one.top) == 2 and one.top[0].logprob >= one.top[1].logprob for one in output.logprobs)
    assert sum(len(output.token_ids) for output in outputs) == 40


def test_log_probabilities_are_only_returned_on_request() -> None:
    outputs = run(make_sequence(replace(ASKED, logprobs=None)), FakeRunner(hashed))

    assert {output.logprobs for output in outputs} == {None}


def test_tokens_with_delayed_or_hidden_text_are_returned_with_the_next_ones() -> None:
    params = SamplingParams(seed=0, temperature=0.0, stop=("abc",), logprobs=1)

    outputs = run(make_sequence(params), FakeRunner(scripted({"Hi": "abxabc"})))

    told = [b"".join(one.chosen.token for one in output.logprobs or ()) for output in outputs]
    assert [output.text for output in outputs] == ["abx", ""]
    assert told == [b"abx", b"abc"]


def test_a_partial_character_is_returned_as_bytes_and_an_end_token_by_name() -> None:
    params = SamplingParams(seed=0, temperature=0.0, logprobs=0)

    outputs = run(make_sequence(params), FakeRunner(scripted({"Hi": "é"})))

    chosen = [one.chosen for output in outputs for one in output.logprobs or ()]
    assert [(one.token, one.text, one.is_text) for one in chosen] == [
        (b"\xc3", "\ufffd", False),
        (b"\xa9", "\ufffd", False),
        (b"</s>", "</s>", True),
    ]


@pytest.mark.parametrize("stop", [(), ("e", "zz"), ("o, w",)])
def test_a_resumed_sequence_returns_only_the_tokens_after_the_committed_ones(stop: tuple[str, ...]) -> None:
    params = replace(ASKED, stop=stop)
    whole = run(make_sequence(params), FakeRunner(hashed))

    for num_seen in range(len(whole)):
        continued = make_sequence(params)
        continued.output_ids = [token for output in whole[:num_seen] for token in output.token_ids]
        continued.emitted_text = "".join(output.text for output in whole[:num_seen])

        assert run(continued, FakeRunner(hashed)) == whole[num_seen:]


def test_the_end_of_a_cancelled_sequence_returns_no_token() -> None:
    outputs = Outputs()
    engine = fake_engine(outputs, runner=FakeRunner(scripted({"Hi": "Hello"})))
    engine.submit(make_sequence())
    engine.step()
    engine.cancel("a")
    engine.step()

    assert outputs.of("a")[-1].finish_reason is FinishReason.CANCELLED
    assert outputs.of("a")[-1].logprobs == ()


@pytest.mark.parametrize("token", [b"", b" word", "é".encode(), b"\xc3", b"a\xff", b"\xef\xbf\xbd"])
def test_the_wire_form_is_read_back_unchanged(token: bytes) -> None:
    told = TokenLogprobs(ScoredToken(1, token, -0.25), (ScoredToken(2, b"x", -1.0), ScoredToken(1, token, -1e-7)))

    assert TokenLogprobs.from_wire(told.to_wire()) == told
