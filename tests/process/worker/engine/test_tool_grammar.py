"""The grammars of tools: which answers they allow, and that an answer which follows them is a valid call."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from api.jobs.tool_reader import Call, Content, ToolReader, calls_in
from common.errors import InvalidRequest
from common.jobs.events import AnswerSyntax
from common.jobs.sampling import Grammar, GrammarKind
from common.jobs.tools import FORMS, Function, ToolRules
from tests.fakes import EOS, VOCAB_SIZE, ByteTokenizer
from worker.engine.grammar.llguidance_grammar import Vocabulary, compile_grammar

MARKER = VOCAB_SIZE  # of Mistral's calls, as a special token
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
TREE = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}}}
FUNCTIONS = (Function("weather", CITY, strict=True), Function("now", {"properties": {}}, strict=False))
JSON = Grammar(GrammarKind.JSON_OBJECT).to_dict()

WEATHER, NOW = '{"city": "Paris"}', "{}"
CALLS = {
    "hermes": f'<tool_call>\n{{"name": "weather", "arguments": {WEATHER}}}\n</tool_call>',
    "mistral": f'[TOOL_CALLS] [{{"name": "weather", "arguments": {WEATHER}}}]',
    "llama": f'{{"name": "weather", "parameters": {WEATHER}}}',
}
TWO = {
    "hermes": CALLS["hermes"] + f'\n<tool_call>\n{{"name": "now", "arguments": {NOW}}}\n</tool_call>',
    "mistral": CALLS["mistral"][:-1] + f', {{"name": "now", "arguments": {NOW}}}]',
}


@lru_cache
def library() -> LLTokenizer:
    tokens = [ByteTokenizer().token_bytes(token_id).decode("latin-1") for token_id in range(VOCAB_SIZE)]
    return Vocabulary([*tokens, "[TOOL_CALLS]"], [*range(256, VOCAB_SIZE), MARKER], [EOS]).to_library()


def compiled(form: str, *, must_call: bool, **more: Any) -> LLMatcher:
    functions = more.pop("functions", FUNCTIONS)
    return compile_grammar(ToolRules(functions, must_call=must_call, form=form, **more).grammar(), library())


def allows(matcher: LLMatcher, text: str, marker_id: int | None = None) -> bool:
    """Return whether the text can be a whole answer."""
    matcher = matcher.deep_copy()
    before, found, after = text.partition("[TOOL_CALLS]") if marker_id is not None else (text, "", "")
    ids = [*before.encode(), *([MARKER] if found else []), *after.encode()]
    return all(map(matcher.consume_token, ids)) and matcher.is_accepting()


@pytest.fixture(params=[("hermes", None), ("mistral", None), ("mistral", MARKER), ("llama", None)], ids=str)
def form(request: pytest.FixtureRequest) -> tuple[str, int | None]:
    return request.param  # type: ignore[no-any-return]


def test_a_required_call_is_all_that_is_allowed(form: tuple[str, int | None]) -> None:
    name, marker = form
    matcher = compiled(name, must_call=True, marker_id=marker)
    assert allows(matcher, CALLS[name], marker)
    for wrong in ("", "Hello", " " + CALLS[name], CALLS[name] + "x", CALLS[name].replace("weather", "wrong")):
        assert not allows(matcher, wrong, marker)
    for wrong in (CALLS[name].replace("Paris", "Bonn"), CALLS[name].replace("city", "town"), CALLS[name][:-1]):
        assert not allows(matcher, wrong, marker)


def test_a_free_answer_is_text_until_it_opens_a_call(form: tuple[str, int | None]) -> None:
    name, marker = form
    matcher = compiled(name, must_call=False, marker_id=marker)
    for right in ("", "Hello {", '{"a": 1}', CALLS[name]):
        assert allows(matcher, right, marker)
    assert allows(matcher, f"I see.\n{CALLS[name]}", marker)
    assert not allows(matcher, CALLS[name].replace("weather", "wrong"), marker)
    assert not allows(matcher, CALLS[name] + " and so on", marker)


@pytest.mark.parametrize("name", TWO)
def test_several_calls_are_allowed_up_to_the_limit(name: str) -> None:
    assert allows(compiled(name, must_call=True, max_calls=2), TWO[name])
    assert not allows(compiled(name, must_call=True, max_calls=1), TWO[name])
    assert compiled(name, must_call=False, max_calls=1).deep_copy().try_consume_tokens([*TWO[name].encode()]) < len(
        TWO[name]
    )


@pytest.mark.parametrize("name", TWO)
def test_the_content_can_have_a_form_too(name: str) -> None:
    matcher = compiled(name, must_call=False, content=JSON)
    assert allows(matcher, '{"a":1}')
    assert allows(matcher, CALLS[name])
    assert not allows(matcher, "Hello")


def test_but_not_if_calls_are_json_themselves() -> None:
    with pytest.raises(InvalidRequest, match="together with tools") as refused:
        compiled("llama", must_call=False, content=JSON)
    assert refused.value.param == "response_format"


def test_only_a_strict_function_refuses_what_the_library_does_not_know() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "not": {"const": "x"}}}}
    compiled("hermes", must_call=True, functions=(Function("f", schema, strict=False),))
    with pytest.raises(InvalidRequest, match='"not"') as refused:
        compiled("hermes", must_call=True, functions=(Function("f", schema, strict=True),))
    assert refused.value.param == "tools"


def test_a_schema_may_refer_to_its_own_definitions() -> None:
    matcher = compiled("hermes", must_call=True, functions=(Function("f", TREE, strict=True),) * 1 + FUNCTIONS)
    assert allows(matcher, '<tool_call>\n{"name": "f", "arguments": {"left": {"left": {}}}}\n</tool_call>')


def random_answer(matcher: LLMatcher, choose: Callable[[list[int]], int]) -> list[int]:
    ids: list[int] = []
    while not matcher.is_stopped() and len(ids) < 400:
        mask = matcher.compute_bitmask()
        token_id = choose([one for one in range(VOCAB_SIZE + 1) if mask[one // 8] >> one % 8 & 1])
        if token_id == EOS:
            break
        ids.append(token_id)
        assert matcher.consume_token(token_id)
    return ids


def text_of(ids: list[int]) -> str:
    return b"".join(b"[TOOL_CALLS]" if one == MARKER else bytes([one]) for one in ids).decode()


def read(form: str, text: str) -> tuple[str, list[Call]]:
    deltas = ToolReader("j").read_whole(text, AnswerSyntax(form))
    return "".join(one.text for one in deltas if isinstance(one, Content)), calls_in(deltas)


@pytest.mark.parametrize("seed", range(8))
def test_what_a_grammar_allows_is_read_back_as_valid_calls(form: tuple[str, int | None], seed: int) -> None:
    name, marker = form
    matcher = compiled(name, must_call=True, marker_id=marker)
    content, calls = read(name, text_of(random_answer(matcher, random.Random(seed).choice)))
    assert content == ""
    assert calls
    for call in calls:
        assert json.loads(call.arguments) in ([{"city": "Paris"}, {"city": "Rome"}] if call.name == "weather" else [{}])


def test_every_form_has_a_layout() -> None:
    for name in FORMS:
        compiled(name, must_call=True)
