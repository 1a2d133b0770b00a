"""Datasets are checked in the helper, with the model's tokenizer and template, as they are trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from common.errors import InvalidRequest
from models.text.conversation import ConversationEncoder
from models.text.plain_tokenizer import PlainTokenizer, TokenizerState
from models.text.prompt_template import INSTRUCTION_TEMPLATE
from tests.small_tokenizers import TOKENIZERS, byte_level
from training.data import Encoder
from training.data.examples import pair
from worker.engine.prompts.prompt import PromptRenderer
from worker.engine.untrusted_code.client import DATASETS, UntrustedPrograms
from worker.engine.untrusted_code.datasets import DatasetToCheck
from worker.engine.untrusted_code.services import PROGRAMS, SERVICES
from worker.helper.client import Helper

DATASET = "\n".join(json.dumps({"instruction": f"Say {one}", "response": f"It is {one}"}) for one in range(20))


@pytest.fixture(scope="module")
def programs() -> Iterator[UntrustedPrograms]:
    with closing(Helper(SERVICES)) as helper:
        helper.configure(PROGRAMS, True)
        yield UntrustedPrograms(helper)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_as_plain_data_gives_the_same_tokens(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    if (state := TokenizerState.of(tokenizer)) is None:
        assert name == "slow"
        return
    plain = PlainTokenizer(TokenizerState(**json.loads(json.dumps(state.to_dict()))))
    for template in (INSTRUCTION_TEMPLATE, "{% for one in messages %}<s>{{ one.content }}</s>{% endfor %}"):
        encoders = [Encoder(ConversationEncoder(one, template), one.eos_token_id) for one in (tokenizer, plain)]
        rows = [one.rows(pair("hello <s> x", "x </s> hello")) for one in encoders]
        assert rows[0] == rows[1]


def test_the_report_is_made_in_the_helper(programs: UntrustedPrograms) -> None:
    tokenizer = byte_level()
    renderer = PromptRenderer(tokenizer, programs=programs)
    report = renderer.check_dataset(DatasetToCheck(DATASET, context=64, options={"epochs": 2, "batch_size": 4}))
    assert report["usable"] is True
    assert report["examples_rendered"][0]["parts"] == [
        {"text": "<s>### Instruction:\nSay 0\n\n### Response:\n", "loss": False},
        {"text": "It is 0</s>", "loss": True},
    ]
    assert report["too_long"]["max_length"] == 64
    assert report["estimate"]["steps"] == 10


def test_content_that_is_not_utf8_is_reported(programs: UntrustedPrograms) -> None:
    renderer = PromptRenderer(byte_level(), programs=programs)
    content = (DATASET.encode() + b'\n{"instruction": "\xe9"}').decode("utf-8", "surrogateescape")
    report = renderer.check_dataset(DatasetToCheck(content))
    assert [(one["line"], one["column"]) for one in report["faults"]] == [(21, 18)]


def test_a_wrong_option_is_named(programs: UntrustedPrograms) -> None:
    renderer = PromptRenderer(byte_level(), programs=programs)
    with pytest.raises(InvalidRequest) as caught:
        renderer.check_dataset(DatasetToCheck(DATASET, options={"epochs": -1}))
    assert caught.value.param == "epochs"


def test_a_template_that_never_ends_is_stopped(programs: UntrustedPrograms, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    renderer = PromptRenderer(tokenizer, programs=programs)
    slow = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(renderer, "template", slow + "{% endfor %}")
    monkeypatch.setattr("worker.engine.untrusted_code.client.DATASETS", replace(DATASETS, cpu_s=0.5))
    with pytest.raises(InvalidRequest, match="cannot be checked: checking it takes too long"):
        renderer.check_dataset(DatasetToCheck(DATASET))
