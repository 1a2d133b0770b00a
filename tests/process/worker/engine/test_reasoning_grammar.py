"""A grammar of an answer begins after the model's reasoning."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
from llguidance import LLMatcher, LLTokenizer

from common.jobs.reasoning import MISTRAL, THINK, Reasoning
from common.jobs.sampling import Grammar, GrammarKind
from common.jobs.tools import Function, ToolRules
from tests.fakes import EOS, VOCAB_SIZE, ByteTokenizer
from worker.engine.grammar.llguidance_grammar import Vocabulary, compile_grammar

BEGIN, END = VOCAB_SIZE, VOCAB_SIZE + 1  # the tags, if they are special tokens
MAY = Reasoning(THINK, is_open=False)
OPEN = Reasoning(THINK, is_open=True)
SPECIAL = Reasoning(MISTRAL, is_open=False, begin_id=BEGIN, end_id=END)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
FORMS = {
    "schema": (Grammar(GrammarKind.JSON_SCHEMA, SCHEMA), '{"a":1}'),
    "object": (Grammar(GrammarKind.JSON_OBJECT), '{"b":"</think>"}'),
    "regex": (Grammar(GrammarKind.REGEX, "[0-9]+/[a-z]+"), "12/ab"),
    "choice": (Grammar(GrammarKind.CHOICE, '["yes", "no"]'), "yes"),
    "gbnf": (Grammar(GrammarKind.GBNF, 'root ::= "x" root | end\nend ::= "y"'), "xxy"),
}
CALL = '{"name": "weather", "arguments": {"city": "Paris"}}'
HERMES = f"<tool_call>\n{CALL}\n</tool_call>"
LLAMA = '{"name": "weather", "parameters": {"city": "Paris"}}'


@lru_cache
def library() -> LLTokenizer:
    tokens = [ByteTokenizer().token_bytes(token_id).decode("latin-1") for token_id in range(VOCAB_SIZE)]
    special = [*range(256, VOCAB_SIZE), BEGIN, END]
    return Vocabulary([*tokens, "[THINK]", "[/THINK]"], special, [EOS]).to_library()


def compiled(grammar: Grammar, reasoning: Reasoning) -> LLMatcher:
    return compile_grammar(replace(grammar, reasoning=reasoning), library())


def tools(form: str, *, must_call: bool) -> Grammar:
    return ToolRules((Function("weather", CITY, strict=True),), must_call=must_call, form=form).grammar()


def allows(matcher: LLMatcher, text: str) -> bool:
    """Return whether the text can be a whole answer; `\\1` and `\\2` stand for the special tokens."""
    matcher = matcher.deep_copy()
    ids = [{1: BEGIN, 2: END}.get(byte, byte) for byte in text.encode()]
    return all(map(matcher.consume_token, ids)) and matcher.is_accepting()


@pytest.mark.parametrize("name", FORMS)
def test_reasoning_may_come_before_every_form(name: str) -> None:
    grammar, answer = FORMS[name]
    matcher = compiled(grammar, MAY)
    for right in (answer, f"<think>\nA {{ b.\n</think>\n\n{answer}", f"\n<think></think>{answer}"):
        assert allows(matcher, right)
    for wrong in ("!", f"<think>a</think>!{answer}", f"x<think>a</think>{answer}", "<think>a</think>", f"{answer}!"):
        assert not allows(matcher, wrong)


@pytest.mark.parametrize("name", FORMS)
def test_reasoning_that_the_prompt_has_begun_must_end(name: str) -> None:
    grammar, answer = FORMS[name]
    matcher = compiled(grammar, OPEN)
    assert allows(matcher, f"So <think> it is.</think>\n\n{answer}")
    assert not allows(matcher, answer)
    assert not allows(matcher, f"So.</think>\n\n{answer}</think>")


def test_tags_may_be_special_tokens() -> None:
    matcher = compiled(FORMS["schema"][0], SPECIAL)
    for right in ('{"a":1}', '\1A [/THINK] b\2{"a":1}', '\1\2\n{"a":1}'):
        assert allows(matcher, right)
    for wrong in ('[THINK]a[/THINK]{"a":1}', '\1a[/THINK]{"a":1}', "\1a\2"):
        assert not allows(matcher, wrong)


@pytest.mark.parametrize("reasoning", [MAY, OPEN], ids=["may", "open"])
@pytest.mark.parametrize(("form", "call"), [("hermes", HERMES), ("llama", LLAMA)], ids=["hermes", "llama"])
def test_calls_come_after_the_reasoning(reasoning: Reasoning, form: str, call: str) -> None:
    thought = ("" if reasoning.is_open else "<think>") + f"Shall I write <tool_call>? {LLAMA}</think>\n\n"
    free, required = (compiled(tools(form, must_call=must), reasoning) for must in (False, True))
    wrong = call.replace("weather", "wrong")
    assert allows(required, thought + call)
    assert not allows(required, f"{thought}Hello")
    assert not allows(required, thought + wrong)
    for right in (f"{thought}Hello", thought + call):
        assert allows(free, right)
    assert not allows(free, thought + wrong)
    if form == "hermes":
        assert allows(free, f"{thought}I see. {call}")
    if not reasoning.is_open:
        assert allows(free, "Hello")
        assert allows(free, call)
        assert not allows(free, wrong)


def test_the_wire_form_keeps_the_reasoning() -> None:
    grammar = replace(FORMS["regex"][0], reasoning=SPECIAL)
    assert Grammar.from_dict(grammar.to_dict()) == grammar
