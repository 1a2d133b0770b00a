"""Log probabilities of the prompt's tokens."""

from __future__ import annotations

import pytest
import torch

from common.jobs.sampling import SamplingParams
from tests.fakes import FakeRunner, Outputs, fake_engine, fake_prompt, hashed
from worker.engine.sequence import FinishReason, Sequence

PROMPT = fake_prompt("a prompt of some length")


def run(prompt_ids: list[int], params: SamplingParams, runner: FakeRunner, others: int = 0) -> Outputs:
    """Run the prompt twice, the second time after its tokens are in the cache, beside other sequences."""
    outputs = Outputs()
    engine = fake_engine(outputs, runner=runner)
    for name in ("first", "second"):
        for number in range(others):
            plain = SamplingParams(seed=number, temperature=0.0, max_new_tokens=30)
            engine.submit(Sequence(f"{name} {number}", fake_prompt(f"{number}"), plain))
        engine.submit(Sequence(name, prompt_ids, params))
        while engine.num_running or engine.num_waiting:
            engine.step()
    assert engine.kv_usage == 0.0
    return outputs


@pytest.mark.parametrize("can_overlap", [False, True], ids=["plain", "overlap"])
@pytest.mark.parametrize("max_draft_tokens", [0, 3])
@pytest.mark.parametrize("num_blocks", [8, 16])  # the smaller cache preempts
def test_each_token_has_the_models_probability_after_those_before_it(
    can_overlap: bool, max_draft_tokens: int, num_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRunner, "can_overlap", can_overlap)
    drafts = 0 if can_overlap else max_draft_tokens
    runner = FakeRunner(hashed, max_draft_tokens=drafts, context_length=64, block_tokens=8, num_blocks=num_blocks)
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=3, prompt_logprobs=2)

    outputs = run(PROMPT, params, runner, others=2)

    for name in ("first", "second"):
        (final,) = outputs.finals(name)
        assert final.prompt_logprobs is not None
        assert [one.chosen.token_id for one in final.prompt_logprobs] == PROMPT
        for place, one in enumerate(final.prompt_logprobs[1:], 1):
            expected = torch.from_numpy(hashed(PROMPT[:place])).log_softmax(dim=-1)
            assert one.chosen.logprob == pytest.approx(float(expected[PROMPT[place]]), abs=1e-4)
            assert [each.token_id for each in one.top] == torch.topk(expected, 2).indices.tolist()
    assert outputs.token_ids("first") == outputs.token_ids("second")


def test_no_step_has_more_rows_of_logits_than_with_draft_tokens() -> None:
    runner = FakeRunner(hashed, max_draft_tokens=3)
    run(PROMPT, SamplingParams(seed=0, max_new_tokens=1, prompt_logprobs=0), runner)

    assert max(row.num_logits for batch in runner.batches for row in batch) == 4


def test_without_new_tokens_only_the_prompt_is_computed() -> None:
    outputs = run(PROMPT, SamplingParams(seed=0, max_new_tokens=0, prompt_logprobs=0), FakeRunner(hashed))

    (final,) = outputs.finals("first")
    assert (final.token_ids, final.text, final.finish_reason) == ((), "", FinishReason.LENGTH)
    assert final.prompt_logprobs is not None
    assert len(final.prompt_logprobs) == len(PROMPT)


def test_a_prompt_of_one_token_has_no_probabilities() -> None:
    outputs = run([65], SamplingParams(seed=0, max_new_tokens=0, prompt_logprobs=0), FakeRunner(lambda _: 66))

    (final,) = outputs.finals("second")
    assert final.prompt_logprobs is not None
    assert [(one.chosen.token_id, one.chosen.logprob) for one in final.prompt_logprobs] == [(65, 0.0)]
