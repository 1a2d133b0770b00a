from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from common.errors import InvalidRequest, Overloaded
from common.jobs.sampling import Grammar, GrammarKind
from tests.fakes import EOS, VOCAB_SIZE, ByteTokenizer
from tests.process.worker.engine.test_grammar import PATIENCE_S, allowed, choice, is_complete, read, regex, schema
from worker.engine.grammar import compiler as grammar_compiler
from worker.engine.grammar.compiler import GrammarCompiler
from worker.engine.grammar.process import COMPILING
from worker.engine.grammar.process_constraint import GrammarConstraint
from worker.engine.untrusted_code.services import SERVICES
from worker.helper.client import Child, Helper
from worker.helper.given_up import GivenUp, IsGivenUp, never

LONG = ".?" * 31_000
BYTES_TO_SPARE = 64 * 2**20
HOSTILE = [
    regex(LONG),
    regex(".?" * 10_000),
    regex("1" + LONG),
    regex("[0-9]{3}" + LONG),
    schema({"type": "integer", "multipleOf": 1_000_003}),
    schema({"allOf": [{"type": "string", "pattern": f".*{n}.*"} for n in range(300)]}),
    schema({"allOf": [{"type": "integer", "multipleOf": prime} for prime in (997, 991, 983, 977, 971)]}),
    schema({"anyOf": [{"type": "array", "items": {"type": "integer", "multipleOf": 1_000_003}}]}),
]
# The largest reasonable grammar.
LARGE = [
    schema({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(1_000)}}),
    schema({"type": "object", "properties": {f"p{n}": {"type": "string", "format": "uri"} for n in range(100)}}),
    schema({"enum": [f"value {n} of {n * 7919 % 1000}" for n in range(1_000)]}),
    schema({"type": "string", "minLength": 50, "maxLength": 4_000}),
    regex(r"([A-Z][a-z]+ ){3,8}says .{10,2000}"),
    choice(*(f"{n:03} " * 12 for n in range(256))),
]


@pytest.fixture(scope="module")
def helper() -> Iterator[Helper]:
    one = Helper(SERVICES)
    yield one
    one.close()


@pytest.fixture
def compiler(helper: Helper) -> GrammarCompiler:
    return make_compiler(helper)


def make_compiler(helper: Helper, eos_token_ids: frozenset[int] = frozenset({EOS})) -> GrammarCompiler:
    return GrammarCompiler(helper, ByteTokenizer(), VOCAB_SIZE, eos_token_ids)


def processes() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def wait_until_refused(constraint: GrammarConstraint) -> InvalidRequest:
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not constraint.is_known(0.1):
            assert time.monotonic() < deadline
    except InvalidRequest as refusal:
        return refusal
    raise AssertionError("it was not refused")


def name(grammar: Grammar) -> str:
    return f"{grammar.kind}-{grammar.source[:30]}"


# Following an answer


def test_an_answer_is_followed_to_its_end(compiler: GrammarCompiler) -> None:
    constraint = compiler.compile(regex("ab?|c"))

    assert allowed(constraint) == {*b"ac"}
    assert allowed(read(constraint, "a")) == {ord("b"), EOS}
    assert is_complete(read(constraint, "b"))


def test_every_answer_starts_from_the_beginning(compiler: GrammarCompiler) -> None:
    first = read(compiler.compile(choice("ab", "cd")), "a")
    second = compiler.compile(choice("ab", "cd"))

    assert allowed(first) == {ord("b")}
    assert allowed(second) == {*b"ac"}


def test_several_tokens_at_once_are_those_of_an_earlier_attempt(compiler: GrammarCompiler) -> None:
    constraint = compiler.compile(choice("abc", "abd"))
    constraint.advance([*b"ab"])

    assert allowed(constraint) == {*b"cd"}


def test_a_token_that_the_grammar_forbids_is_refused(compiler: GrammarCompiler) -> None:
    constraint = compiler.compile(regex("ab"))
    constraint.advance([ord("z")])

    refusal = wait_until_refused(constraint)
    assert refusal.message.startswith("regex could not be followed")
    assert refusal.param == "regex"


def test_an_answer_cancelled_immediately_ends_no_other(compiler: GrammarCompiler) -> None:
    """It did once: nobody read the beginning that the process reported."""
    constraint = compiler.compile(choice("ab", "cd"))
    for _ in range(5):
        compiler.compile(choice("ab", "cd")).close()

    assert is_complete(read(constraint, "ab"))


# Processes


def test_answers_with_the_same_grammar_share_a_process(compiler: GrammarCompiler) -> None:
    constraints = [compiler.compile(regex("shared")) for _ in range(3)]
    with_them = processes()
    for constraint in constraints:
        constraint.close()

    compiler.compile(regex("shared"))

    assert processes() == with_them


def test_many_requests_for_the_same_new_grammar_start_one_process(compiler: GrammarCompiler) -> None:
    compiler.compile(regex("first"))
    before = processes()
    made: list[GrammarConstraint] = []
    threads = [threading.Thread(target=lambda: made.append(compiler.compile(regex("wanted")))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [allowed(constraint) for constraint in made] == [{ord("w")}] * 12
    assert len(processes() - before) == 1


def test_only_the_most_recently_used_grammars_are_kept(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_compiler, "MAX_CACHED", 2)
    compiler = make_compiler(helper)
    compiler.compile(regex("first"))
    before = len(processes())
    in_use = compiler.compile(regex("in use"))
    for number in range(4):
        compiler.compile(regex(f"number {number}"))

    deadline = time.monotonic() + PATIENCE_S
    while len(processes()) > before + 2:  # two that are kept and one in use; `first` has ended
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert is_complete(read(in_use, "in use"))


def test_a_grammar_whose_process_died_gets_another(compiler: GrammarCompiler) -> None:
    compiler.compile(regex("first"))
    before = processes()
    lost = compiler.compile(regex("killed"))
    for pid in processes() - before:
        process = psutil.Process(pid)
        process.kill()
        process.wait(PATIENCE_S)
    lost.advance([*b"ki"])

    assert wait_until_refused(lost).param == "regex"
    assert is_complete(read(compiler.compile(regex("killed")), "killed"))


def test_the_tokens_are_looked_up_at_the_first_grammar_only(helper: Helper) -> None:
    looked_up: list[int] = []

    class Decoder(ByteTokenizer):
        def token_bytes(self, token_id: int) -> bytes:
            looked_up.append(token_id)
            return super().token_bytes(token_id)

    compiler = GrammarCompiler(helper, Decoder(), VOCAB_SIZE, frozenset({EOS}))
    assert looked_up == []
    for source in ("a", "b"):
        compiler.compile(regex(source))

    assert looked_up == list(range(VOCAB_SIZE))


# Costly grammars


@pytest.mark.parametrize("grammar", HOSTILE, ids=name)
def test_a_grammar_that_costs_too_much_is_refused_and_costs_the_worker_nothing(
    compiler: GrammarCompiler, grammar: Grammar
) -> None:
    compiler.compile(choice("a"))
    size = psutil.Process().memory_info().rss
    begin = time.process_time()

    with pytest.raises(InvalidRequest, match=r"cannot be used: it") as refusal:
        compiler.compile(grammar)

    assert refusal.value.param == ("regex" if grammar.kind is GrammarKind.REGEX else "response_format")
    assert psutil.Process().memory_info().rss - size < BYTES_TO_SPARE
    assert time.process_time() - begin < COMPILING.cpu_s / 2


@pytest.mark.parametrize(
    ("grammar", "beginning"),
    [
        (regex("[0-9]{40}" + LONG), "1" * 40),
        (schema({"type": "string", "pattern": "^[0-9]{50}" + LONG + "$"}), '"' + "1" * 50),
    ],
)
def test_a_grammar_that_becomes_too_costly_after_some_tokens_ends_only_its_answers(
    compiler: GrammarCompiler, grammar: Grammar, beginning: str
) -> None:
    """In the worker's own process it would end the worker."""
    good = compiler.compile(choice("left", "right"))
    hostile = compiler.compile(grammar)
    hostile.advance([*beginning.encode()])

    assert is_complete(read(good, "left"))
    refusal = wait_until_refused(hostile)

    assert refusal.message.startswith((f"{grammar.field} cannot be used", f"{grammar.field} could not be followed"))
    assert refusal.param == grammar.field


@pytest.mark.parametrize("grammar", LARGE, ids=name)
def test_a_large_but_reasonable_grammar_is_accepted(compiler: GrammarCompiler, grammar: Grammar) -> None:
    assert allowed(compiler.compile(grammar))


def test_a_grammar_that_the_library_refuses_is_refused_with_its_reason(compiler: GrammarCompiler) -> None:
    with pytest.raises(InvalidRequest, match="uniqueItems") as refusal:
        compiler.compile(schema({"type": "array", "uniqueItems": True}))

    assert refusal.value.param == "response_format"


def test_a_refusal_is_remembered(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="to compile") as refusal:
            compiler.compile(regex(LONG))
        assert refusal.value.param == "regex"
        monkeypatch.setattr(Helper, "fork", None)  # a retry would fail


def test_a_busy_machine_is_not_blamed_on_the_grammar(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = make_compiler(helper)
    compiler.compile(choice("a"))
    fork = helper.fork

    def fork_and_stop(service: str) -> Child:
        child = fork(service)
        os.kill(child.pid, signal.SIGALRM)  # the limit by the clock
        return child

    monkeypatch.setattr(helper, "fork", fork_and_stop)
    with pytest.raises(Overloaded):
        compiler.compile(regex("honest"))
    monkeypatch.undo()

    assert is_complete(read(compiler.compile(regex("honest")), "honest"))


def test_other_grammars_do_not_wait_for_a_hostile_one(compiler: GrammarCompiler) -> None:
    compiler.compile(choice("a"))
    refusals: list[InvalidRequest] = []

    def try_hostile(number: int) -> None:
        try:
            compiler.compile(schema({"type": "integer", "multipleOf": 1_000_003 + number}))
        except InvalidRequest as err:
            refusals.append(err)

    threads = [threading.Thread(target=try_hostile, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)

    read(compiler.compile(choice("left", "right")), "left")

    assert not refusals
    for thread in threads:
        thread.join()
    assert len(refusals) == len(threads)


def test_a_cancelled_job_does_not_wait_for_its_grammar(compiler: GrammarCompiler) -> None:
    compiler.compile(choice("a"))
    before = processes()
    given_up = threading.Event()
    threading.Timer(0.1, given_up.set).start()

    with pytest.raises(GivenUp):
        compiler.compile(regex("x?" + LONG), given_up.is_set)

    assert processes() <= before


def test_others_that_wait_for_the_same_grammar_continue_after_a_cancellation(compiler: GrammarCompiler) -> None:
    compiler.compile(choice("a"))
    given_up = threading.Event()
    outcome: list[Exception] = []

    def ask(is_given_up: IsGivenUp) -> None:
        try:
            compiler.compile(regex("y?" + LONG), is_given_up)
        except (InvalidRequest, GivenUp) as err:
            outcome.append(err)

    first = threading.Thread(target=ask, args=(given_up.is_set,))
    first.start()
    time.sleep(0.1)
    second = threading.Thread(target=ask, args=(never,))
    second.start()
    time.sleep(0.1)
    given_up.set()
    first.join()
    second.join()

    assert [type(one) for one in outcome] == [GivenUp, InvalidRequest]


def test_a_model_without_an_end_token_supports_no_grammar(helper: Helper) -> None:
    with pytest.raises(InvalidRequest, match="no token to end"):
        make_compiler(helper, frozenset({VOCAB_SIZE})).compile(regex("a"))


def test_the_grammars_know_the_tokens_of_their_own_model(helper: Helper) -> None:
    class OtherTokenizer(ByteTokenizer):
        def token_bytes(self, token_id: int) -> bytes:
            return b"x" if token_id == ord("a") else super().token_bytes(token_id)

    other = GrammarCompiler(helper, OtherTokenizer(), VOCAB_SIZE, frozenset({EOS}))

    with pytest.raises(InvalidRequest, match="no answer fits it"):
        other.compile(regex("a"))
    assert allowed(other.compile(regex("[ax]"))) == {*b"ax"}
