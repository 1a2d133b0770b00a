"""What an answer must look like, as a limit on its tokens. The library is llguidance: docs/decisions/0008.

No limit of the library holds against every grammar: one of 60 KB ends the process that computes with it, at once or
behind some tokens. So all of this runs in processes of its own (`grammar_process`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark

from common.errors import InvalidRequest
from common.sampling import MAX_GRAMMAR_CHARS, Grammar, GrammarKind

# What the library may do in a step. Most grammars reach these limits before those of the process.
_LIMITS = LLParserLimits(
    max_lexer_states=30_000,  # of 1 KiB each
    step_lexer_fuel=100_000,
    step_max_items=10_000,
    verbose_errors=False,
)
START_S, TOKEN_S = 1.0, 0.005  # of computing for one answer: to begin with, and more with every token
# Small models that may write white space write much of it, and lose themselves in it: docs/log.md has the numbers.
_JSON_OPTIONS = {"whitespace_flexible": False}
# The model decides how a text is cut into tokens. The library would ask for an encoder otherwise, in every step.
_OPTIONS = '%llguidance {"no_forcing": true}'
_TOO_COMPLEX = ("panic", "fuel exhausted", "lexer precomputation failed")  # how the library says it
_SHOWN_CHARS = 200  # of the library's reason, in a message


class Vocabulary(NamedTuple):
    """What the library must know of a model's tokens. `tokens`: what each stands for, bytes written as Latin-1."""

    tokens: list[str]
    special_ids: list[int]
    end_ids: list[int]

    def known_to_library(self) -> LLTokenizer:
        """The form that grammars are compiled for. Takes a tenth of a second."""
        wrapped = SimpleNamespace(
            tokens=[token.encode("latin-1") for token in self.tokens],
            special_token_ids=self.special_ids,
            bos_token_id=None,
            eos_token_id=self.end_ids[0],
        )
        return LLTokenizer(TokenizerWrapper(wrapped), eos_token=self.end_ids)


class GrammarState:
    """Where a grammar stands behind the tokens of one answer."""

    def __init__(self, matcher: LLMatcher, field: str) -> None:
        self._matcher = matcher
        self._field = field
        self._seconds_left = START_S

    @property
    def is_complete(self) -> bool:
        """Whether nothing may come any more but the end."""
        return self._matcher.is_stopped()

    def advance(self, token_ids: Sequence[int]) -> None:
        """Go on behind these tokens. Raises `InvalidRequest` if they may not stand there."""
        if not self._matcher.consume_tokens(list(token_ids)):
            raise self._failure(_reason(self._matcher.get_error()))

    def allowed(self) -> bytes:
        """Which tokens may come next, in the form of `TokenConstraint.allowed`.

        Raises:
            InvalidRequest: the grammar cannot be followed further.
        """
        begin = time.thread_time()
        mask = self._matcher.compute_bitmask()
        self._seconds_left += TOKEN_S - (time.thread_time() - begin)
        if self._matcher.is_error():  # the mask then says that the answer may end
            raise self._failure(_reason(self._matcher.get_error()))
        if self._seconds_left < 0:
            raise self._failure("it takes too long to find out what may come next")
        return mask

    def _failure(self, reason: str) -> InvalidRequest:
        return InvalidRequest(f"{self._field} cannot be followed to its end: {reason}", param=self._field)


def compile_grammar(grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
    """The grammar in its first state. Needs a large stack: the library follows references by recursion.

    Raises:
        InvalidRequest: it cannot be used; `param` is the field that it came in.
    """
    if len(grammar.source) > MAX_GRAMMAR_CHARS:
        raise InvalidRequest(f"{grammar.field} must have at most {MAX_GRAMMAR_CHARS} characters", param=grammar.field)
    matcher = LLMatcher(tokenizer, f"{_OPTIONS}\nstart: {_lark(grammar)}", log_level=0, limits=_LIMITS)
    matcher.compute_bitmask()  # the first is the longest, and finds out whether there is an answer at all
    if matcher.is_error():
        reason = _reason(matcher.get_error())
        raise InvalidRequest(f"{grammar.field} cannot be used: {reason}", param=grammar.field)
    return matcher


def _lark(grammar: Grammar) -> str:
    """The grammar in the library's own language."""
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return _json_lark({"type": "object"})
        case GrammarKind.JSON_SCHEMA:
            return _json_lark(json.loads(grammar.source))
        case GrammarKind.REGEX:
            return _regex_lark(grammar.source)
        case GrammarKind.CHOICE:
            return _regex_lark("|".join(map(re.escape, json.loads(grammar.source))))


def _regex_lark(expression: str) -> str:
    if (len(expression) - len(expression.rstrip("\\"))) % 2:  # the library passes over it
        raise InvalidRequest("regex cannot be used: it ends with a backslash that escapes nothing", param="regex")
    return f"/{regex_to_lark(expression, use_ascii='d')}/"


def _json_lark(schema: dict[str, object]) -> str:
    """The schema with our options: a client's own could switch the refusal of unsupported keywords off."""
    return f"%json {json.dumps(schema | {'x-guidance': _JSON_OPTIONS})}"


def _reason(error: str) -> str:
    """The part of the library's message that says something to a client."""
    lines = error.splitlines()
    if lines[0] == "NoExtensionBias":
        return "no answer fits it"
    if lines[0].startswith(_TOO_COMPLEX):
        return "it is too complex"
    line = next((line for line in lines if line.startswith("error: ")), lines[0])
    line = re.sub(r"^((error|at \d+\(\d+\)|failed to compile JSON schema|Parser Error): )+", "", line)
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}..."
