"""A process for one grammar: compiles it, and follows it for all answers that use it.

On its link it first answers {"kind", "source"} with {} or {"error"} (of an `SLMError`). After that it receives "open"
messages, each with a pipe for one answer. On each such pipe it sends the initial state, then receives token ids (32
bits each) and replies with the new state (`AnswerState`).
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle

from llguidance import LLMatcher, LLTokenizer

from common.errors import InvalidRequest, SLMError
from common.jobs.sampling import Grammar
from worker.engine.grammar.deep_stack import STACK_BYTES, call_with_deep_stack
from worker.engine.grammar.forced_tokens import FollowedAnswer, ForcedTokens
from worker.engine.grammar.llguidance_grammar import GrammarState, compile_grammar
from worker.helper.limits import Limits, limit_memory, limited, limited_time, resident_bytes
from worker.helper.messages import receive, send

STEP_WALL_S, STEP_CPU_S = 10.0, 0.2  # the worst step of a realistic grammar takes 0.02
GRAMMAR = "grammar"  # the helper's service that follows a grammar, and what it is configured with
VOCABULARY = "vocabulary"  # both are followed by a name, because adapters may have their own vocabularies
MAX_COMPILED = 48 * 2**20  # bytes; an object of 2,500 properties takes 30 MiB
MAX_GROWTH = 64 * 2**20  # bytes, for all answers, in addition to the compiled grammar
_ALLOCATOR = 128 * 2**20  # bytes of address space that the C library reserves for a thread
COMPILING = Limits(wall_s=60.0, cpu_s=1.0, memory=STACK_BYTES + _ALLOCATOR + 64 * 2**20)
_WALKS, _STEPS = 2, 32  # random answers that are tried, and their length in tokens


def serve_grammar(link: Connection, tokenizer: LLTokenizer) -> None:
    """Serve until the link and the pipes of all answers are closed."""
    grammar = Grammar.from_dict(receive(link))
    try:
        matcher = _compiled(grammar, tokenizer)
    except SLMError as err:
        send(link, {"error": err.to_dict()})
        return
    send(link, {})
    limit_memory(MAX_GROWTH)
    _Answers(link, matcher, grammar.field, ForcedTokens(tokenizer)).serve()


def _compiled(grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
    size_before = resident_bytes()
    with limited(COMPILING):
        matcher = call_with_deep_stack(lambda: compile_grammar(grammar, tokenizer))
        for seed in range(_WALKS):
            _walk(GrammarState(matcher.deep_copy(), grammar.field), tokenizer, random.Random(seed))  # noqa: S311
    if resident_bytes() - size_before > MAX_COMPILED:
        raise MemoryError
    return matcher


def _walk(state: GrammarState, tokenizer: LLTokenizer, rng: random.Random) -> None:
    """Follow a random answer for some tokens, because some grammars become expensive only after their beginning.

    A random answer that fails is ignored, since no model might give it.
    """
    end_ids = frozenset(tokenizer.eos_tokens)
    with suppress(InvalidRequest):
        for _ in range(_STEPS):
            token_id = _some_token(state.allowed(), rng)
            if state.is_complete or token_id is None or token_id in end_ids:
                return
            state.advance([token_id])


def _some_token(mask: bytes, rng: random.Random) -> int | None:
    """Return a token that is marked, near a random position; None if there is none."""
    start = rng.randrange(len(mask))
    rotated = mask[start:] + mask[:start]
    skipped = len(rotated) - len(rotated.lstrip(b"\0"))
    if skipped == len(rotated):
        return None
    bits = rotated[skipped]
    return (start + skipped) % len(mask) * 8 + rng.choice([bit for bit in range(8) if bits >> bit & 1])


class _Answers:
    """The open answers that follow the grammar."""

    def __init__(self, link: Connection, matcher: LLMatcher, field: str, forced_tokens: ForcedTokens) -> None:
        self._link: Connection | None = link
        self._matcher = matcher
        self._field = field
        self._forced_tokens = forced_tokens
        self._followed: dict[Connection, FollowedAnswer] = {}

    def serve(self) -> None:
        while links := [*self._followed, *([self._link] if self._link else [])]:
            for ready in wait(links):
                if ready is self._link:
                    self._open(self._link)
                elif isinstance(ready, Connection):
                    self._continue(ready)

    def _open(self, link: Connection) -> None:
        try:
            receive(link)
        except (EOFError, OSError):
            self._link = None
            return
        answer = Connection(recv_handle(link))
        state = GrammarState(self._matcher.deep_copy(), self._field)
        self._followed[answer] = FollowedAnswer(state, self._forced_tokens)
        self._reply(answer, list)

    def _continue(self, answer: Connection) -> None:
        self._reply(answer, lambda: array("i", answer.recv_bytes()))

    def _reply(self, answer: Connection, next_tokens: Callable[[], Sequence[int]]) -> None:
        try:
            token_ids = next_tokens()
            with limited_time(STEP_WALL_S, STEP_CPU_S):
                state = self._followed[answer].append(token_ids)
            answer.send_bytes(state.to_bytes())
        except (EOFError, OSError):  # the answer has ended
            del self._followed[answer]
            answer.close()
