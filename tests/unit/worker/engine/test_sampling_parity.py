"""Whole answers under several settings at once, against `generate` of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from common.jobs.sampling import SamplingParams
from tests.engine_config import runner_config
from tests.fakes import EOS, ByteTokenizer
from tests.kernels.test_device_runner import make_runner as make_device_runner
from tests.unit.worker.engine.model_runs import PROMPTS, Run
from tests.unit.worker.engine.tiny_models import CONTEXT, make_model
from worker.engine.model_runner import ModelRunner
from worker.engine.runners.transformers.runner import TransformersRunner
from worker.engine.sequence import Sequence

MIN_NEW_TOKENS = 12
BIAS = {EOS: 60.0, ord("a"): -100.0}  # the end comes as soon as it is allowed
PARAMS = SamplingParams(
    seed=0,
    temperature=0.0,
    repetition_penalty=1.3,
    min_new_tokens=MIN_NEW_TOKENS,
    logit_bias=BIAS,
    logprobs=1,
)


RUNNERS: dict[str, Callable[[Any], ModelRunner]] = {
    "transformers": lambda model: TransformersRunner(model, runner_config(max_num_seqs=3, context_length=CONTEXT)),
    "device": lambda model: make_device_runner(model, max_num_seqs=3, can_overlap=True),
}


@pytest.mark.parametrize("runner_name", RUNNERS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_answers_and_log_probabilities_match_generate(name: str, runner_name: str) -> None:
    model = make_model(name)
    sequences = [Sequence(prompt, ByteTokenizer().encode(prompt), PARAMS) for prompt in PROMPTS]

    run = Run(RUNNERS[runner_name](model), sequences)

    for prompt in PROMPTS:
        token_ids = torch.tensor([ByteTokenizer().encode(prompt)])
        expected = model.generate(
            token_ids,
            attention_mask=torch.ones_like(token_ids),
            max_new_tokens=100,
            min_new_tokens=MIN_NEW_TOKENS,
            repetition_penalty=1.3,
            sequence_bias={(token,): bias for token, bias in BIAS.items()},
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        answer = expected.sequences[0, token_ids.shape[1] :]
        assert run.token_ids(prompt) == answer.tolist()
        assert len(answer) == MIN_NEW_TOKENS + 1
        returned = [one.chosen.logprob for output in run.outputs.of(prompt) for one in output.logprobs or ()]
        logprobs = torch.cat(expected.logits).log_softmax(dim=-1).gather(-1, answer[:, None])[:, 0]
        assert returned == pytest.approx(logprobs.tolist(), abs=1e-4)
