"""From pairs to ids and labels: what the model sees, and which tokens count in the loss."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from models.text.prompt_template import INSTRUCTION_TEMPLATE
from SLMInit.dataset import Pair
from SLMInit.encoding import IGNORED, Collator, encode
from tests.sliminit_models import EOS, EOS_ID, byte_tokenizer
from tests.small_tokenizers import TOKENIZERS
from worker.engine.prompts.prompt import PromptRenderer

PROMPT = "### Instruction:\nHi\n\n### Response:\n"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = INSTRUCTION_TEMPLATE
    return tokenizer


def test_the_model_sees_prompt_response_and_end_of_text(tokenizer: PreTrainedTokenizerFast) -> None:
    (row,) = encode([Pair("Hi", "Hello.\n 12 é")], tokenizer, max_length=100)
    assert tokenizer.decode(row["input_ids"]) == f"{PROMPT}Hello.\n 12 é{EOS}"


def test_only_the_response_and_its_end_count_in_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    (row,) = encode([Pair("Hi", "Hello.")], tokenizer, max_length=100)
    assert row["labels"][: len(PROMPT)] == [IGNORED] * len(PROMPT)
    assert row["labels"][len(PROMPT) :] == row["input_ids"][len(PROMPT) :]
    assert tokenizer.decode(row["labels"][len(PROMPT) :]) == f"Hello.{EOS}"
    assert row["labels"][-1] == EOS_ID


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_prompt_has_the_ids_that_a_server_sends(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    tokenizer.chat_template = INSTRUCTION_TEMPLATE
    (row,) = encode([Pair("Hi </s>", "\n\nHello. <s>")], tokenizer, max_length=200)
    served = PromptRenderer(tokenizer).render("Hi </s>").token_ids
    assert row["input_ids"][: len(served)] == served
    assert row["labels"][len(served) - 1 : len(served) + 1] == [IGNORED, row["input_ids"][len(served)]]
    assert row["input_ids"].count(tokenizer.bos_token_id) == (0 if name == "slow" else 1)
    assert row["input_ids"].count(tokenizer.eos_token_id) == 1


def test_a_special_token_written_out_in_the_data_is_plain_text(tokenizer: PreTrainedTokenizerFast) -> None:
    (row,) = encode([Pair(f"Say {EOS}", f"{EOS} it is.")], tokenizer, max_length=100)
    assert row["input_ids"].count(EOS_ID) == 1
    assert tokenizer.decode(row["input_ids"]).endswith(f"Say {EOS}\n\n### Response:\n{EOS} it is.{EOS}")


def test_pairs_that_are_too_long_are_omitted_and_never_cut(tokenizer: PreTrainedTokenizerFast) -> None:
    fits, exceeds = Pair("Hi", "x" * 10), Pair("Hi", "x" * 11)
    rows = encode([fits, exceeds], tokenizer, max_length=len(PROMPT) + 11)
    assert [len(row["input_ids"]) for row in rows] == [len(PROMPT) + 11]


def test_a_batch_is_padded_on_the_right_with_ignored_tokens() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    batch = {name: tensor.tolist() for name, tensor in Collator(pad_id=9)(rows).items()}
    assert batch == {
        "input_ids": [[5, 6, 7], [8, 9, 9]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "labels": [[IGNORED, 6, 7], [8, IGNORED, IGNORED]],
    }
