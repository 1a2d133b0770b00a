"""An answer is split into reasoning and the rest, no matter how it arrives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.jobs.reasoning import MISTRAL, THINK, Reasoning, ReasoningSplitter, num_reasoning_tokens

MAY = Reasoning(THINK, is_open=False)
OPEN = Reasoning(THINK, is_open=True)

ANSWERS = [
    (MAY, "", "", ""),
    (MAY, "Hello.\n", "", "Hello.\n"),
    (MAY, "<thin ice>", "", "<thin ice>"),
    (MAY, " \n", "", " \n"),
    (MAY, "Hi <think>x</think>", "", "Hi <think>x</think>"),
    (MAY, "<think>\nTwo and\n two.\n</think>\n\nFour. \n", "Two and\n two.", "Four. \n"),
    (MAY, "\n<think>a</think>b</think>c", "a", "b</think>c"),
    (MAY, "<think>\n\n</think>\n\nFour.", "", "Four."),
    (MAY, "<think>never ends </thin", "never ends </thin", ""),
    (MAY, "<think>ends late </think>\n", "ends late", ""),
    (MAY, "<think", "", "<think"),
    (OPEN, "\nWell <think> </ think></think>Yes", "Well <think> </ think>", "Yes"),
    (OPEN, "</think>Yes", "", "Yes"),
    (OPEN, "cut off \n", "cut off", ""),
    (Reasoning(MISTRAL, is_open=False), "[THINK]a <think>[/THINK] b", "a <think>", "b"),
]
Case = tuple[Reasoning, str, str, str]


def split(reasoning: Reasoning, pieces: list[str]) -> tuple[str, str]:
    splitter = ReasoningSplitter(reasoning)
    parts = [*map(splitter.feed, pieces), splitter.end()]
    return "".join(thought for thought, _ in parts), "".join(rest for _, rest in parts)


@pytest.mark.parametrize("case", ANSWERS, ids=[f"{index}" for index in range(len(ANSWERS))])
def test_an_answer_is_split_whole(case: Case) -> None:
    reasoning, text, thought, rest = case
    assert split(reasoning, [text]) == (thought, rest)


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 60), max_size=60))
def test_and_the_same_in_any_pieces(case: Case, cuts: list[int]) -> None:
    reasoning, text, thought, rest = case
    places = [0, *sorted(cuts), len(text)]
    assert split(reasoning, [text[begin:end] for begin, end in pairwise(places)]) == (thought, rest)


@pytest.mark.parametrize(("reasoning", "text", "thought", "rest"), ANSWERS[5:6])
def test_what_is_certain_is_not_held_back(reasoning: Reasoning, text: str, thought: str, rest: str) -> None:
    splitter = ReasoningSplitter(reasoning)
    for end in range(len("<think>\n"), text.index("</think>")):
        shown = splitter.feed(text[: end + 1][-1] if end > len("<think>\n") else text[: end + 1])[0]
        assert shown.strip() == text[end].strip()


@pytest.mark.parametrize(
    ("reasoning", "tokens", "expected"),
    [
        (MAY, ["Hel", "lo"], 0),
        (MAY, ["<think>", "a", "b", "</think>", "\n\n", "c"], 4),
        (MAY, ["<th", "ink>a", "b</th", "ink>c", "d"], 4),
        (MAY, ["<think>", "a"], 2),
        (OPEN, ["a", "</think>", "b"], 2),
        (OPEN, [], 0),
    ],
    ids=["none", "tags", "split tags", "cut off", "open", "empty"],
)
def test_the_tokens_of_the_reasoning_are_counted(reasoning: Reasoning, tokens: list[str], expected: int) -> None:
    assert num_reasoning_tokens(reasoning, tokens) == expected


def test_the_wire_form_is_read_back() -> None:
    for one in (MAY, OPEN, Reasoning(MISTRAL, is_open=True, begin_id=7, end_id=8)):
        assert Reasoning.from_dict(one.to_dict()) == one
