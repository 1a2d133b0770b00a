"""Forced tokens change the number of steps, but no answer."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterator

import pytest

from common.jobs.sampling import Grammar, GrammarKind, SamplingParams
from tests.fakes import EOS, VOCAB_SIZE, ByteTokenizer, FakeRunner, Outputs, fake_engine, fake_prompt, hashed
from tests.process.worker.engine.test_grammar import PERSON, allowed, choice, compiled, is_complete, regex, schema
from worker.engine.grammar.answer_state import AnswerState, AnswerStatus
from worker.engine.grammar.compiler import GrammarCompiler
from worker.engine.grammar.forced_tokens import MAX_AHEAD, FollowedAnswer, ForcedTokens
from worker.engine.grammar.llguidance_grammar import GrammarState, Vocabulary, compile_grammar
from worker.engine.sequence import FinishReason, Sequence
from worker.engine.untrusted_code.services import SERVICES
from worker.helper.client import Helper

NESTED = {
    "type": "object",
    "properties": {
        "outer_name": {"type": "object", "properties": {"is_it": {"type": "boolean"}}, "required": ["is_it"]}
    },
    "required": ["outer_name"],
    "additionalProperties": False,
}
GRAMMARS = {
    "person": schema(PERSON),
    "nested": schema(NESTED),
    "list": schema({"type": "array", "items": {"enum": ["northern", "north", 17]}, "minItems": 1, "maxItems": 3}),
    "constant": schema({"const": {"answer": "always the same"}}),
    "object": Grammar(GrammarKind.JSON_OBJECT),
    "choice": choice("Paris is nice", "Paris is not nice", "Rome"),
    "regex": regex(r"(begin: \d{2}; ){1,3}end"),
    "gbnf": Grammar(GrammarKind.GBNF, 'root ::= "the answer is " ("yes" | "no") " and that is it"'),
}
WAYS = {
    "greedy": SamplingParams(seed=0, temperature=0.0, max_new_tokens=60),
    "seeded": SamplingParams(seed=5, temperature=1.5, max_new_tokens=60),
    "scored": SamplingParams(seed=6, temperature=1.0, logprobs=2, max_new_tokens=60),
    "penalised": SamplingParams(seed=7, temperature=0.7, presence_penalty=0.5, max_new_tokens=60),
    "until a string": SamplingParams(seed=8, temperature=0.9, stop=("am", "is n"), max_new_tokens=60),
    "short": SamplingParams(seed=9, temperature=0.9, max_new_tokens=7),
}


@pytest.fixture(scope="module")
def compiler() -> Iterator[GrammarCompiler]:
    helper = Helper(SERVICES)
    yield GrammarCompiler(helper, ByteTokenizer(), VOCAB_SIZE, frozenset({EOS}))
    helper.close()


def run(compiler: GrammarCompiler, params: SamplingParams, max_draft_tokens: int) -> tuple[Outputs, FakeRunner]:
    """Generate an answer for each grammar, all together, in a cache that is too small for them."""
    outputs = Outputs()
    runner = FakeRunner(
        hashed, max_draft_tokens=max_draft_tokens, context_length=96, block_tokens=8, num_blocks=30, max_num_seqs=8
    )
    engine = fake_engine(outputs, runner=runner)
    for name, grammar in GRAMMARS.items():
        constraint = compiler.compile(grammar)
        engine.submit(Sequence(name, fake_prompt(name), params, constraint=constraint))
    while engine.num_running or engine.num_waiting:
        engine.step()
    assert engine.kv_usage == 0.0
    return outputs, runner


@pytest.mark.parametrize("way", WAYS)
def test_answers_are_the_same_as_without_forced_tokens(compiler: GrammarCompiler, way: str) -> None:
    expected, _ = run(compiler, WAYS[way], 0)
    found, forced = run(compiler, WAYS[way], 8)

    for name in GRAMMARS:
        assert found.token_ids(name) == expected.token_ids(name)
        assert found.text(name) == expected.text(name)
        assert [one.finish_reason for one in found.finals(name)] == [one.finish_reason for one in expected.finals(name)]
        scored = [one for output in found.of(name) for one in output.logprobs or ()]
        assert scored == [one for output in expected.of(name) for one in output.logprobs or ()]
    if way != "penalised":
        assert any(row.num_draft_tokens for batch in forced.batches for row in batch)


def test_a_constant_takes_a_fraction_of_the_steps(compiler: GrammarCompiler) -> None:
    outputs, runner = Outputs(), FakeRunner(hashed, max_draft_tokens=8)
    engine = fake_engine(outputs, runner=runner)
    constraint = compiler.compile(GRAMMARS["constant"])
    engine.submit(Sequence("a", fake_prompt("Hi"), WAYS["greedy"], constraint=constraint))
    while engine.num_running or engine.num_waiting:
        engine.step()

    assert json.loads(outputs.text("a")) == {"answer": "always the same"}
    assert outputs.finals("a")[0].finish_reason is FinishReason.STOP
    assert len(runner.batches) <= 2 + len(outputs.text("a")) // 9


def test_a_resumed_answer_continues_inside_forced_tokens(compiler: GrammarCompiler) -> None:
    text = '{"answer":"always the same"}'
    for length in range(len(text)):
        outputs = Outputs()
        engine = fake_engine(outputs, runner=FakeRunner(hashed, max_draft_tokens=8))
        committed, constraint = text[:length], compiler.compile(GRAMMARS["constant"])
        engine.submit(
            Sequence(
                "a",
                fake_prompt("Hi"),
                WAYS["greedy"],
                output_ids=[*committed.encode()],
                emitted_text=committed,
                constraint=constraint,
            )
        )
        while engine.num_running or engine.num_waiting:
            engine.step()
        assert committed + outputs.text("a") == text


@pytest.mark.parametrize("name", GRAMMARS)
def test_the_constraint_knows_the_same_tokens_as_without_looking_ahead(compiler: GrammarCompiler, name: str) -> None:
    chosen = random.Random(3)
    constraint, plain = compiler.compile(GRAMMARS[name]), compiled(GRAMMARS[name])
    for _ in range(60):
        assert is_complete(constraint) == is_complete(plain)
        if plain.is_complete:
            break
        assert allowed(constraint) == allowed(plain)
        token_id = chosen.choice(sorted(allowed(plain)))
        if token_id == EOS:
            break
        for one in (constraint, plain):
            one.advance([token_id])
    constraint.close()


def test_an_overlap_engine_gives_the_same_answers(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = run(compiler, WAYS["scored"], 8)
    monkeypatch.setattr(FakeRunner, "can_overlap", True)
    found, _ = run(compiler, WAYS["scored"], 0)

    assert [found.token_ids(name) for name in GRAMMARS] == [expected.token_ids(name) for name in GRAMMARS]


TOKENS = [*(bytes([value]) for value in range(256)), b"</s>", b"na", b"name", b'":', b'":"', b'{"', b'"}', b'","']


@pytest.fixture(scope="module")
def words() -> tuple[Vocabulary, ForcedTokens]:
    """A vocabulary with some longer tokens."""
    vocabulary = Vocabulary([token.decode("latin-1") for token in TOKENS], [256], [256])
    return vocabulary, ForcedTokens(vocabulary.to_library())


def followed(words: tuple[Vocabulary, ForcedTokens], source: object) -> tuple[FollowedAnswer, GrammarState]:
    matcher = compile_grammar(schema(source), words[0].to_library())
    return FollowedAnswer(GrammarState(matcher.deep_copy(), "f"), words[1]), GrammarState(matcher.deep_copy(), "f")


NAME = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def ids(*texts: str) -> list[int]:
    return [TOKENS.index(text.encode()) for text in texts]


def test_the_longest_token_is_tried_first_and_then_what_the_model_has_taken(
    words: tuple[Vocabulary, ForcedTokens],
) -> None:
    answer, _ = followed(words, NAME)
    first = answer.append([])
    assert [one[0] for one in first.forced] == ids('{"', "name", '":"')
    assert sorted(first.forced[1]) == sorted(ids("n", "na", "name"))

    second = answer.append(ids('{"', "na", "m"))
    assert [one[0] for one in second.forced] == ids("e", '":"')

    again, _ = followed(words, NAME)
    assert [one[0] for one in again.append([]).forced] == ids('{"', "na", "m", "e", '":"')


def test_any_split_leads_to_the_same_masks(words: tuple[Vocabulary, ForcedTokens]) -> None:
    """Also those for which the library must take tokens back, even if the answer was already complete."""
    for seed in range(40):
        chosen, (answer, plain) = random.Random(seed), followed(words, NAME | {"properties": {"name": {"const": "na"}}})
        state, num_tokens = answer.append([]), 0
        while state.forced or state.status is AnswerStatus.CONTINUES:
            taken: list[int] = []
            for position in state.forced:
                assert _bits(plain.allowed()) == set(position)
                taken.append(chosen.choice(list(position)))
                plain.advance([taken[-1]])
                if taken[-1] != position[0]:
                    break
            num_tokens += len(taken)
            assert taken and num_tokens < 60  # noqa: PT018
            state = answer.append(taken)
        assert plain.is_complete
        assert state.status is AnswerStatus.COMPLETE


def _bits(mask: bytes) -> set[int]:
    bits = int.from_bytes(mask, "little")
    return {place for place in range(bits.bit_length()) if bits >> place & 1}


@pytest.mark.parametrize(
    "state",
    [
        AnswerState([], AnswerStatus.CONTINUES, bytes(range(9))),
        AnswerState([array("i", [7]), array("i", [1, 2, 70_000])], AnswerStatus.COMPLETE, b""),
        AnswerState([array("i", [1])] * MAX_AHEAD, AnswerStatus.FAILED, "zu schön".encode()),
    ],
    ids=["continues", "complete", "failed"],
)
def test_a_message_is_read_back(state: AnswerState) -> None:
    assert AnswerState.from_bytes(state.to_bytes()) == state
