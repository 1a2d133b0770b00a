"""The grammar of an answer, from the request to the worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.errors import InvalidRequest
from common.jobs.sampling import Grammar, GrammarKind
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi

SCHEMA = {"type": "object", "properties": {"z": {"const": "é"}, "a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar(GrammarKind.JSON_OBJECT)),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA)),
        ),
        ({"regex": r"\d+"}, Grammar(GrammarKind.REGEX, r"\d+")),
        ({"choice": ["ja", "nein"]}, Grammar(GrammarKind.CHOICE, '["ja", "nein"]')),
    ],
)
def test_the_grammar_reaches_the_worker(start_api: StartApi, fields: dict[str, Any], expected: Grammar | None) -> None:
    seen: list[Grammar | None] = []

    def script(play: Play) -> None:
        seen.append(play.params.sampling.grammar)
        play.end("x")

    api = start_api(script)
    settings = api.generate(**fields).json["settings"]
    api.stream(**fields).get_data()

    assert seen == [expected, expected]
    assert ("grammar" in settings) is (expected is not None)


def test_a_grammar_that_the_worker_cannot_use_is_the_clients_error(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.fail(InvalidRequest("regex cannot be used: unclosed group", param="regex"))

    api = start_api(script)

    for answer in (api.generate(regex="("), api.stream(regex="(")):
        assert (answer.status_code, answer.json["code"], answer.json["param"]) == (400, "invalid_request", "regex")
        assert answer.json["error"] == "regex cannot be used: unclosed group"
