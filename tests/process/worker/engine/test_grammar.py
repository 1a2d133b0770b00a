from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pytest
from llguidance import LLTokenizer
from numpy.typing import NDArray

from common.errors import InvalidRequest
from common.jobs.sampling import MAX_GRAMMAR_CHARS, Grammar, GrammarKind, SamplingParams
from common.settings import ROOT
from tests.fakes import EOS, VOCAB_SIZE, ByteTokenizer, FakeRunner, Outputs, fake_engine, fake_prompt, hashed, scripted
from worker.engine.grammar.constraint import TokenConstraint
from worker.engine.grammar.deep_stack import call_with_deep_stack
from worker.engine.grammar.llguidance_grammar import GrammarState, Vocabulary, compile_grammar
from worker.engine.sequence import FinishReason, Sequence

pytestmark = pytest.mark.usefixtures("each_engine")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
PATIENCE_S = 60.0
C = TypeVar("C", bound=TokenConstraint)
NOTHING = Grammar(GrammarKind.REGEX, r"[^\s\S]")


def schema(source: Any) -> Grammar:
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(source))


def regex(source: str) -> Grammar:
    return Grammar(GrammarKind.REGEX, source)


def gbnf(source: str) -> Grammar:
    return Grammar(GrammarKind.GBNF, source)


def choice(*answers: str) -> Grammar:
    return Grammar(GrammarKind.CHOICE, json.dumps(answers))


class LocalConstraint:
    """A `TokenConstraint` over a grammar in this process."""

    def __init__(self, state: GrammarState) -> None:
        self._state = state
        self._unread: list[int] = []

    @property
    def is_complete(self) -> bool:
        return self._state.is_complete

    def advance(self, token_ids: Iterable[int]) -> None:
        self._unread += token_ids

    def is_known(self, _timeout_s: float) -> bool:
        unread, self._unread = self._unread, []
        self._state.advance(unread)
        return True

    def draft_tokens(self, _count: int) -> list[int]:
        return []

    def allowed(self, mask: NDArray[np.int32], num_drafts: int = 0) -> None:
        assert not num_drafts
        mask[:] = np.frombuffer(self._state.allowed(), dtype=np.int32, count=len(mask))

    def close(self) -> None:
        pass


def compiled(grammar: Grammar, end_ids: Iterable[int] = (EOS,)) -> LocalConstraint:
    tokenizer = make_tokenizer(tuple(end_ids))
    matcher = call_with_deep_stack(lambda: compile_grammar(grammar, tokenizer))
    return LocalConstraint(GrammarState(matcher, grammar.field))


@lru_cache
def make_tokenizer(end_ids: tuple[int, ...]) -> LLTokenizer:
    decoder = ByteTokenizer()
    tokens = [decoder.token_bytes(token_id).decode("latin-1") for token_id in range(VOCAB_SIZE)]
    return Vocabulary(tokens, sorted(decoder.special_token_ids.union(end_ids)), list(end_ids)).to_library()


def allowed(constraint: TokenConstraint) -> set[int]:
    assert constraint.is_known(PATIENCE_S)
    mask = np.zeros(-(-VOCAB_SIZE // 32), np.int32)
    constraint.allowed(mask)
    words = [word & 0xFFFFFFFF for word in mask.tolist()]
    return {token_id for token_id in range(VOCAB_SIZE) if words[token_id // 32] >> token_id % 32 & 1}


def is_complete(constraint: TokenConstraint) -> bool:
    assert constraint.is_known(PATIENCE_S)
    return constraint.is_complete


def read(constraint: C, text: str) -> C:
    for token_id in text.encode():
        assert token_id in allowed(constraint), f"{chr(token_id)!r} of {text!r}"
        constraint.advance([token_id])
    return constraint


def takes(constraint: TokenConstraint, text: str) -> bool:
    """Whether the text is a complete answer: every token is allowed, and the answer may end after it."""
    for token_id in text.encode():
        if is_complete(constraint) or token_id not in allowed(constraint):
            return False
        constraint.advance([token_id])
    return is_complete(constraint) or EOS in allowed(constraint)


# Allowed answers


@pytest.mark.parametrize(
    ("grammar", "fitting", "others"),
    [
        (regex(r"\d{2}:\d{2}"), ["10:45"], ["1:45", "10:456", "", "١٢:٣٤"]),
        (regex("a/b|c\nd"), ["a/b", "c\nd"], ["a", "b|c"]),
        (regex("^(yes|no)$"), ["yes", "no"], ["yesno", "^yes$"]),
        (regex("(?i)ja"), ["ja", "JA"], ["j"]),
        (choice("a", "ab", "abc"), ["a", "ab", "abc"], ["", "b", "abcd"]),
        (
            choice('x"/\n\\', "1.5", "a|b", "日本", "#~& \t-"),
            ['x"/\n\\', "1.5", "a|b", "日本", "#~& \t-"],
            ["1x5", "a", "b"],
        ),
        (
            Grammar(GrammarKind.JSON_OBJECT),
            ["{}", '{"a":[1,null],"b":{" ":0}}'],
            ["[]", '"a"', "{} ", "{ }", '{"a": 1}'],
        ),
        (schema(PERSON), ['{"name":"Al","age":7,"tags":[]}'], ['{"age":7,"name":"Al","tags":[]}', "{}"]),
        (schema({"enum": [1, "x"]}), ["1", '"x"'], ["x", "2"]),
        (schema({"type": "string", "format": "date"}), ['"2026-11-23"'], ['"2026-13-01"']),
    ],
)
def test_only_answers_of_the_grammar_are_allowed(grammar: Grammar, fitting: list[str], others: list[str]) -> None:
    assert [takes(compiled(grammar), text) for text in fitting] == [True] * len(fitting)
    assert [takes(compiled(grammar), text) for text in others] == [False] * len(others)


def test_an_answer_can_only_end_when_it_is_complete() -> None:
    constraint = compiled(regex("ab+"))

    assert allowed(constraint) == {ord("a")}
    assert allowed(read(constraint, "a")) == {ord("b")}
    assert allowed(read(constraint, "b")) == {ord("b"), EOS}
    assert not is_complete(constraint)


def test_an_answer_is_complete_when_nothing_but_the_end_can_follow() -> None:
    constraint = compiled(regex("ab?"))

    assert not is_complete(read(constraint, "a"))
    assert is_complete(read(constraint, "b"))


def test_every_end_token_can_end_an_answer_and_none_counts_as_text() -> None:
    constraint = compiled(regex("a[a-z]*"), (EOS, ord("z")))

    assert allowed(read(constraint, "a")) == {*b"abcdefghijklmnopqrstuvwxyz", EOS}


ARITHMETIC = r"""
root  ::= (expr "=" term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= num | "(" expr ")"
num   ::= [0-9]+   # digits
"""


def test_a_grammar_of_llama_cpp_is_followed() -> None:
    assert takes(compiled(gbnf(ARITHMETIC)), "1+(2*3)=7\n")
    assert ord("x") not in allowed(read(compiled(gbnf(ARITHMETIC)), "(1"))


def test_special_tokens_are_not_text() -> None:
    assert allowed(compiled(regex("(.|\n)+"))) & ByteTokenizer.special_token_ids == set()


def test_a_client_cannot_set_the_librarys_options() -> None:
    with pytest.raises(InvalidRequest, match="uniqueItems"):
        compiled(schema({"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}))


# Unusable grammars


@pytest.mark.parametrize(
    ("grammar", "field", "reason"),
    [
        (regex("(a"), "regex", "unclosed group"),
        (regex("a\\"), "regex", "ends with a backslash"),
        (regex("a(?=b)"), "regex", "look-around.* not supported"),
        (regex(r"(a)\1"), "regex", "backreferences are not supported"),
        (regex("a" * (MAX_GRAMMAR_CHARS + 1)), "regex", "at most 65536 characters"),
        (NOTHING, "regex", "no answer fits it"),
        (gbnf("root = x"), "grammar", "Expected ::="),
        (gbnf('start ::= "a"'), "grammar", "No 'root' rule found"),
        (gbnf("root ::= missing"), "grammar", "Rule 'missing' not found"),
        (gbnf("root ::= " + "(" * 2000), "grammar", "cannot be used"),
        (gbnf("root ::= root"), "grammar", "no answer fits it"),
        (schema({"type": "strng"}), "response_format", "Invalid type: strng"),
        (schema({"type": "array", "uniqueItems": True}), "response_format", r'Unimplemented keys: \["uniqueItems"\]'),
        (
            schema({"type": "object", "properties": {"a": False}, "required": ["a"]}),
            "response_format",
            "Unsatisfiable schema",
        ),
        (schema({"$ref": "#/$defs/none"}), "response_format", "none"),
        (schema({"$ref": "file:///etc/passwd"}), "response_format", "/etc/passwd"),
        (schema({"$ref": "#"}), "response_format", "no answer fits it"),
        (schema({"enum": ["\ud800"]}), "response_format", "hex escape"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused_with_its_reason(grammar: Grammar, field: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        compiled(grammar)

    assert refusal.value.param == field
    assert str(refusal.value).startswith(field)
    assert "\n" not in str(refusal.value)


def test_a_token_that_the_grammar_forbids_is_refused() -> None:
    constraint = compiled(regex("ab"))
    constraint.advance([ord("z")])

    with pytest.raises(InvalidRequest, match="regex could not be followed"):
        constraint.is_known(0)


def test_a_grammar_that_becomes_too_complex_midway_is_abandoned() -> None:
    many = {"type": "object", "properties": {f"p{index}": {"type": "string"} for index in range(1000)}}
    constraint = compiled(schema(many))

    with pytest.raises(InvalidRequest, match=r"could not be followed to the end of the answer: .* items"):
        read(constraint, '{"p0":"","p1":""')


def test_deep_references_do_not_end_the_process() -> None:
    """They did once: the library follows them by recursion, and the usual stack is enough for about 500."""
    program = """
import json
from tests.process.worker.engine.test_grammar import compiled, schema
steps = {str(n): {"properties": {"a": {"$ref": f"#/$defs/{n + 1}"}}} for n in range(1100)}
source = {"$ref": "#/$defs/0", "$defs": steps | {"1100": {}}}
compiled(schema(source))
print(len(json.dumps(source)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    assert 60_000 < int(done.stdout) <= MAX_GRAMMAR_CHARS


# In the engine


def tokens_of(wish: str, grammar: Grammar | None, **options: Any) -> Sequence:
    params = SamplingParams(**{"seed": 3, "temperature": 0.0, "max_new_tokens": 200, **options})
    constraint = None if grammar is None else compiled(grammar)
    return Sequence(wish, fake_prompt("Hi"), params, constraint=constraint)


def run(*sequences: Sequence, runner: FakeRunner) -> Outputs:
    outputs = Outputs()
    engine = fake_engine(outputs, runner=runner)
    for sequence in sequences:
        engine.submit(sequence)
    while any(not outputs.finals(sequence.sequence_id) for sequence in sequences):
        engine.step()
    return outputs


@pytest.fixture(params=range(5))
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_answers_of_a_random_model_follow_their_schema(seed: int) -> None:
    outputs = run(tokens_of("a", schema(PERSON), seed=seed, temperature=1.5), runner=FakeRunner(hashed))

    person = json.loads(outputs.text("a"))
    assert list(person) == ["name", "age", "tags"]
    assert 1 <= len(person["name"]) <= 12
    assert 0 <= person["age"] <= 150
    assert set(person["tags"]) <= {"red", "blue"}
    assert outputs.finals("a")[0].finish_reason is FinishReason.STOP


def test_a_cut_answer_is_the_beginning_of_a_valid_one(seed: int) -> None:
    grammar = schema({"type": "array", "items": {"type": "integer"}, "minItems": 20})

    outputs = run(tokens_of("a", grammar, seed=seed, temperature=1.0, max_new_tokens=9), runner=FakeRunner(hashed))

    assert outputs.finals("a")[0].finish_reason is FinishReason.LENGTH
    read(compiled(grammar), outputs.text("a"))


def test_neighbours_in_the_batch_get_the_same_tokens_as_alone(seed: int) -> None:
    def batch() -> dict[str, Sequence]:
        sampled: dict[str, Any] = {"seed": seed, "temperature": 1.0, "max_new_tokens": 40}
        grammars = {
            "free": None,
            "json": schema(PERSON),
            "regex": regex("[a-z]{3,30}"),
            "choice": choice("left", "right"),
        }
        return {name: tokens_of(name, grammar, **sampled) for name, grammar in grammars.items()}

    together = run(*batch().values(), runner=FakeRunner(hashed))

    for name, sequence in batch().items():
        alone = run(sequence, runner=FakeRunner(hashed))
        assert together.token_ids(name) == alone.token_ids(name)
    assert re.fullmatch("[a-z]{3,30}", together.text("regex"))
    assert together.text("choice") in ("left", "right")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_resumed_inside_a_string_is_the_same(temperature: float, seed: int) -> None:
    options: dict[str, Any] = {"seed": seed, "temperature": temperature}
    whole = run(tokens_of("a", schema(PERSON), **options), runner=FakeRunner(hashed))
    split = random.Random(seed).randrange(len(b'{"name":'), len(whole.token_ids("a")) - 1)
    committed = whole.token_ids("a")[:split]
    rest = tokens_of("a", schema(PERSON), **options)
    rest.output_ids = list(committed)

    continued = run(rest, runner=FakeRunner(hashed))

    assert committed + continued.token_ids("a") == whole.token_ids("a")
    assert continued.text("a") == whole.text("a")


def test_a_grammar_that_can_only_end_overrides_the_minimum_length() -> None:
    sequence = tokens_of("a", choice("yes"), min_new_tokens=50)

    outputs = run(sequence, runner=FakeRunner(scripted({"Hi": "no"})))

    assert outputs.text("a") == "yes"
    assert outputs.finals("a")[0].finish_reason is FinishReason.STOP


def test_the_minimum_length_holds_while_the_grammar_can_continue() -> None:
    outputs = run(tokens_of("a", regex("a*"), min_new_tokens=5), runner=FakeRunner(scripted({"Hi": "a"})))

    assert len(outputs.text("a")) >= 5


def test_a_stop_string_cuts_an_answer_off_in_the_middle_of_its_grammar() -> None:
    outputs = run(tokens_of("a", choice("one, two"), stop=(", ",)), runner=FakeRunner(scripted({"Hi": "x"})))

    assert outputs.text("a") == "one"
    assert outputs.finals("a")[0].finish_reason is FinishReason.STOP


def test_a_bias_only_chooses_among_allowed_tokens() -> None:
    sequence = tokens_of("a", choice("left", "right"), logit_bias={ord("r"): 1000.0, ord("x"): 5000.0})

    outputs = run(sequence, runner=FakeRunner(scripted({"Hi": "left"})))

    assert outputs.text("a") == "right"


def test_log_probabilities_do_not_depend_on_the_grammar() -> None:
    outputs = run(tokens_of("a", choice("b"), logprobs=1), runner=FakeRunner(scripted({"Hi": "z"})))

    (scored,) = outputs.finals("a")[0].logprobs or ()
    assert scored.chosen.token_id == ord("b")
    assert scored.chosen.logprob == pytest.approx(-200.0)
    assert scored.top[0].token_id == ord("z")
