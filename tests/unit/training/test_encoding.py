"""From examples to token ids: what the model sees, and which tokens the loss counts."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from models.text.conversation import ConversationEncoder
from models.text.prompt_template import INSTRUCTION_TEMPLATE
from tests.letter_tokens import END, letter_encoder
from tests.sliminit_models import EOS, EOS_ID, byte_tokenizer
from tests.small_tokenizers import TOKENIZERS
from training.data import Conversation, Encoder, Message, Preference
from training.data.examples import pair
from worker.engine.prompts.prompt import PromptRenderer

PROMPT = "### Instruction:\nHi\n\n### Response:\n"


def encoder_of(tokenizer: PreTrainedTokenizerFast, template: str = INSTRUCTION_TEMPLATE) -> Encoder:
    return Encoder(ConversationEncoder(tokenizer, template), tokenizer.eos_token_id, tokenizer.decode)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return encoder_of(byte_tokenizer())


def test_the_model_sees_prompt_response_and_end_and_the_loss_counts_the_last_two(encoder: Encoder) -> None:
    assert encoder.render(pair("Hi", "Hello.\n 12 é")) == [[(PROMPT, False), (f"Hello.\n 12 é{EOS}", True)]]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_prompt_has_the_ids_that_a_server_sends(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    tokenizer.chat_template = INSTRUCTION_TEMPLATE
    (row,) = encoder_of(tokenizer).rows(pair("Hi </s>", "\n\nHello. <s>"))
    served = PromptRenderer(tokenizer).render("Hi </s>").token_ids
    assert row.ids[: len(served)] == served
    assert row.loss == [False] * len(served) + [True] * (len(row) - len(served))
    assert row.ids.count(tokenizer.bos_token_id) == (0 if name == "slow" else 1)
    assert row.ids.count(tokenizer.eos_token_id) == 1


def test_a_special_token_written_out_in_the_data_is_plain_text(encoder: Encoder) -> None:
    (row,) = encoder.rows(pair(f"Say {EOS}", f"{EOS} it is."))
    assert row.ids.count(EOS_ID) == 1


def talk(*learned: bool) -> Conversation:
    turns = [
        (Message("user", f"Q{one}"), Message("assistant", f"A{one}", wanted)) for one, wanted in enumerate(learned)
    ]
    return Conversation(tuple(message for turn in turns for message in turn))


@pytest.mark.parametrize("learned", [(True,), (False, True), (True, True)], ids=["one turn", "the last", "both"])
def test_the_size_of_a_conversation_is_that_of_its_sequences(encoder: Encoder, learned: tuple[bool, ...]) -> None:
    (row,) = encoder.rows(talk(*learned))
    assert encoder.size(talk(*learned)) == (1, len(row), len(row), sum(row.loss))


def test_the_turns_of_a_conversation_share_one_sequence(encoder: Encoder) -> None:
    (row,) = encoder.rows(talk(True, True))
    assert encoder.render(talk(True, True)) == [
        [
            ("### Instruction:\nQ0\n\n### Response:\n", False),
            (f"A0{EOS}", True),
            ("\n\n### Instruction:\nQ1\n\n### Response:\n", False),
            (f"A1{EOS}", True),
        ]
    ]
    assert sum(row.loss) == 2 * (len("A0") + 1)


def test_a_turn_with_weight_0_is_seen_and_not_learned(encoder: Encoder) -> None:
    first = f"### Instruction:\nQ0\n\n### Response:\nA0{EOS}\n\n### Instruction:\nQ1\n\n### Response:\n"
    assert encoder.render(talk(False, True)) == [[(first, False), (f"A1{EOS}", True)]]


def test_turns_that_the_template_writes_differently_get_sequences_of_their_own() -> None:
    encoder = encoder_of(byte_tokenizer(), "{% for one in messages %}{{ one.content }}/{% endfor %}>")
    assert encoder.render(talk(True, True)) == [
        [("Q0/>", False), (f"A0{EOS}", True)],
        [("Q0/A0/Q1/>", False), (f"A1{EOS}", True)],
    ]


def test_a_preference_pair_has_one_prompt_and_two_endings() -> None:
    one = Preference((Message("user", "A"),), "B", "CC")
    row = letter_encoder().preference(one)
    assert (row.chosen, row.rejected) == ([ord("B"), ord(END)], [ord("C"), ord("C"), ord(END)])
    assert len(row) == len("USER: A\nASSISTANT: ") + 3
