"""The shipped general texts are of the gate's kind, but none of them is in the gate."""

from __future__ import annotations

from training.data import Encoder
from training.gate.questions import general_questions, general_text
from training.general import general_examples, general_passages, general_sequences


class Letters:
    """Encodes a letter as its number."""

    @property
    def texts(self) -> Letters:
        return self

    def part_ids(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def encode(self, messages: list[dict[str, str]]) -> tuple[str, list[int]]:
        text = f"<{messages[-1]['content']}>"
        return text, self.part_ids(text)


def words(text: str) -> list[str]:
    return [word.strip(".,:;?!").casefold() for word in text.split()]


def runs(text: str, length: int = 6) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[start : start + length]) for start in range(len(found) - length + 1)}


def test_no_example_asks_or_answers_a_question_of_the_gate() -> None:
    asked = {tuple(words(one.question)) for one in general_questions()}
    answered = {tuple(words(choice)) for one in general_questions() for choice in one.choices}
    examples = general_examples().examples
    assert len(examples) >= 50
    for one in examples:
        assert tuple(words(one.prompt[-1].content)) not in asked
        assert tuple(words(one.response)) not in answered


def test_no_passage_shares_six_words_in_a_row_with_the_gate() -> None:
    gate = runs(general_text()).union(*(runs(choice) for one in general_questions() for choice in one.choices))
    assert len(general_passages()) >= 8
    for text in general_passages():
        assert not runs(text) & gate, text


def test_examples_are_whole_conversations_and_passages_plain_text() -> None:
    encoder = Encoder(Letters(), 0)
    found = general_sequences(encoder, 10_000)
    assert len(found) == len(general_examples()) + len(general_passages())
    assert [*map(ord, "<What is the capital of Portugal?>The capital of Portugal is Lisbon."), 0] in found
    assert [*map(ord, general_passages()[0])] in found
    assert all(len(ids) <= 100 for ids in general_sequences(encoder, 100))
