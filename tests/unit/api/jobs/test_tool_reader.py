"""The text of an answer becomes text and calls of tools, no matter how it arrives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.jobs.tool_reader import Arguments, CallBegin, Content, Delta, ToolReader
from common.jobs.events import AnswerSyntax

PARIS = '{"city": "Pa\\"ri}s", "at": {"x": [1, {}]}}'
HERMES = f'<tool_call>\n{{"name": "weather", "arguments": {PARIS}}}\n</tool_call>'
TIME = '<tool_call>\n{"name": "time.now", "arguments": {}}\n</tool_call>'
MISTRAL = f'[TOOL_CALLS] [{{"name": "weather", "arguments": {PARIS}}}, {{"name": "time.now", "arguments": {{}}}}]'
LLAMA = f'{{"name": "weather", "parameters": {PARIS}}}'
WEATHER, NOW = ("weather", PARIS), ("time.now", "{}")

ANSWERS = [
    ("hermes", "", "", []),
    ("hermes", "Hello <tool> and <tool_call", "Hello <tool> and <tool_call", []),
    ("hermes", HERMES, "", [WEATHER]),
    ("hermes", f"I look it up. \n\n{HERMES}\n{TIME}", "I look it up.", [WEATHER, NOW]),
    ("hermes", "Blanks at the end \n ", "Blanks at the end \n ", []),
    ("hermes", HERMES[:-30], "", [("weather", PARIS[: len(HERMES[:-30]) - HERMES.index(PARIS)])]),
    ("hermes", LLAMA, LLAMA, []),
    ("mistral", MISTRAL, "", [WEATHER, NOW]),
    ("mistral", f"Well, {MISTRAL}", "Well,", [WEATHER, NOW]),
    ("llama", LLAMA, "", [WEATHER]),
    ("llama", f"See {LLAMA}", f"See {LLAMA}", []),
    ("llama", '{"nam', '{"nam', []),
    ("llama", '{"names": 1}', '{"names": 1}', []),
]


def read(form: str, pieces: list[str]) -> list[Delta]:
    reader = ToolReader("j")
    reader.expect(AnswerSyntax(form))
    return [delta for piece in pieces for delta in reader.read(piece)] + reader.end()


def joined(deltas: list[Delta]) -> tuple[str, list[tuple[str, str]]]:
    content = "".join(one.text for one in deltas if isinstance(one, Content))
    begun = [one for one in deltas if isinstance(one, CallBegin)]
    assert [(one.index, one.id) for one in begun] == [(number, f"call_j_{number}") for number in range(len(begun))]
    texts = ["".join(one.text for one in deltas if isinstance(one, Arguments) and one.index == n.index) for n in begun]
    return content, [(one.name, text) for one, text in zip(begun, texts, strict=True)]


@pytest.mark.parametrize(("form", "text", "content", "calls"), ANSWERS)
def test_an_answer_is_read_whole(form: str, text: str, content: str, calls: list[tuple[str, str]]) -> None:
    assert joined(read(form, [text])) == (content, calls)


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200), max_size=40))
def test_and_the_same_in_any_pieces(answer: tuple[str, str, str, list[tuple[str, str]]], cuts: list[int]) -> None:
    form, text, content, calls = answer
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    assert joined(read(form, pieces)) == (content, calls)


def test_every_piece_is_given_at_once() -> None:
    deltas = read("hermes", list(HERMES))
    assert len([one for one in deltas if isinstance(one, Arguments)]) == len(PARIS)
    assert len(read("hermes", list("abc d"))) == 4  # a blank waits for the next character
