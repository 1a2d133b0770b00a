from __future__ import annotations

import pytest

from common.errors import InvalidRequest
from common.sampling import SamplingParams
from tests.fakes import VOCAB_SIZE, fake_prompt
from tests.unit.engine.conftest import StartEngine
from worker.engine.sequence import Sequence


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
        InvalidRequest, match=rf"{field} must hold token ids of the model, 0 to 257; got {token_id}"
    ) as e:
        start_engine().check(Sequence("a", fake_prompt("Hi"), params))
    assert e.value.param == field


def test_every_token_of_the_model_can_be_named(start_engine: StartEngine) -> None:
    params = SamplingParams(seed=0, logit_bias={0: 1.0, VOCAB_SIZE - 1: -1.0}, stop_token_ids=(0, VOCAB_SIZE - 1))

    start_engine().check(Sequence("a", fake_prompt("Hi"), params))
