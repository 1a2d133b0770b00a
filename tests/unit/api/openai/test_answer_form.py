"""The form of an answer, under the names of OpenAI, vLLM and llama.cpp."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import InvalidRequest
from common.jobs.sampling import Grammar, GrammarKind
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import Seen, chat, complete, frames_of

SCHEMA = {"type": "object"}
JSON_SCHEMA = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}')
REGEX = Grammar(GrammarKind.REGEX, "a+")
CHOICE = Grammar(GrammarKind.CHOICE, '["a", "b"]')
GBNF = Grammar(GrammarKind.GBNF, 'root ::= "a"')
ANY_OBJECT = Grammar(GrammarKind.JSON_OBJECT)
FORMS: list[tuple[dict[str, Any], Grammar | None]] = [
    ({}, None),
    ({"response_format": {"type": "text"}}, None),
    ({"response_format": {"type": "json_object"}}, ANY_OBJECT),
    ({"response_format": {"type": "json_object", "schema": SCHEMA}}, JSON_SCHEMA),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, JSON_SCHEMA),
    ({"structured_outputs": {"json": SCHEMA}}, JSON_SCHEMA),
    ({"structured_outputs": {"json": '{"type": "object"}'}}, JSON_SCHEMA),
    ({"structured_outputs": {"regex": "a+"}}, REGEX),
    ({"structured_outputs": {"choice": ["a", "b"]}}, CHOICE),
    ({"structured_outputs": {"grammar": 'root ::= "a"'}}, GBNF),
    ({"structured_outputs": {"json_object": True}}, ANY_OBJECT),
    ({"guided_json": SCHEMA}, JSON_SCHEMA),
    ({"guided_json": '{"type": "object"}'}, JSON_SCHEMA),
    ({"guided_regex": "a+"}, REGEX),
    ({"guided_choice": ["a", "b"]}, CHOICE),
    ({"guided_grammar": 'root ::= "a"'}, GBNF),
    ({"grammar": 'root ::= "a"'}, GBNF),
    ({"json_schema": SCHEMA}, JSON_SCHEMA),
]


@pytest.mark.parametrize(("body", "expected"), FORMS)
def test_every_name_sets_the_form(start_api: StartApi, seen: Seen, body: dict[str, Any], expected: Grammar) -> None:
    api = start_api(seen)
    assert (chat(api, **body).status_code, complete(api, **body).status_code) == (200, 200)
    assert [params.sampling.grammar for params in seen.params] == [expected, expected]


def unusable(play: Play) -> None:
    grammar = play.params.sampling.grammar
    assert grammar is not None
    play.fail(InvalidRequest(f"{grammar.field} cannot be used", param=grammar.field))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"guided_choice": ["a"]}, "guided_choice"),
        ({"guided_grammar": "x"}, "guided_grammar"),
        ({"grammar": "x"}, "grammar"),
        ({"json_schema": SCHEMA}, "json_schema"),
    ],
)
def test_a_worker_s_error_names_the_field_that_was_sent(start_api: StartApi, body: dict[str, Any], param: str) -> None:
    api = start_api(unusable)
    assert chat(api, **body).json["error"]["param"] == param
    assert complete(api, **body).json["error"]["param"] == param


def test_in_a_stream_too(start_api: StartApi) -> None:
    def late(play: Play) -> None:
        play.say("a")
        unusable(play)

    *_, last = frames_of(chat(start_api(late), stream=True, guided_regex="a"))
    assert '"param": "guided_regex"' in last
