"""A sampling parameter is named twice, in `SamplingFields` and in `SamplingParams`; all else follows."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import TypeAdapter

from api.openai.chat import ChatBody
from api.openai.completions import CompletionBody
from api.schemas.generated import Generated
from api.schemas.generation import GenerateBody
from api.schemas.sampling import SamplingFields
from common.jobs.sampling import SamplingParams

PARAMETERS = {one.name for one in fields(SamplingParams)}
CHOSEN: dict[str, Any] = {
    "temperature": 0.5,
    "top_k": 7,
    "top_p": 0.25,
    "min_p": 0.125,
    "repetition_penalty": 1.5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.75,
    "logit_bias": {"3": 1.5},
    "stop": ["x"],
    "stop_token_ids": [4],
    "ignore_eos": True,
}


def test_every_field_is_a_parameter_of_the_same_name() -> None:
    assert SamplingFields.model_fields.keys() <= PARAMETERS


def test_every_field_is_tried_here() -> None:
    assert SamplingFields.model_fields.keys() == CHOSEN.keys()


@pytest.mark.parametrize("name", CHOSEN)
def test_a_field_reaches_the_parameters_from_every_body(name: str) -> None:
    chosen = {name: CHOSEN[name]}
    generate = GenerateBody.model_validate({"prompt": "Hi", **chosen}).to_params()["sampling"]
    chat = ChatBody.model_validate({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **chosen})
    text = CompletionBody.model_validate({"model": "m", "prompt": "Hi", **chosen})
    assert generate[name] == CHOSEN[name]
    assert chat.choice_sampling(1, max_new_tokens=9).to_dict()[name] == CHOSEN[name]
    assert text.choice_sampling(1, max_new_tokens=9).to_dict()[name] == CHOSEN[name]


def test_every_parameter_is_described_in_the_answer() -> None:
    schema = TypeAdapter(Generated).json_schema()
    assert schema["$defs"]["SamplingUsed"]["properties"].keys() == PARAMETERS
