"""What an answer must look like, as a limit on its tokens. The library is llguidance: docs/decisions/0010."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from functools import cached_property, lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark

from common.errors import InvalidRequest
from common.sampling import MAX_GRAMMAR_CHARS, Grammar, GrammarKind
from worker.engine.deep_stack import call_with_deep_stack

if TYPE_CHECKING:
    from torch import Tensor

    from worker.engine.detokenizer import TokenDecoder

MAX_COMPILED = 64  # grammars that are kept, the last used ones
MAX_LEXER_STATES = 50_000  # of 1 to 2 KiB each
# Small models that may write white space write much of it, and lose themselves in it: docs/log.md has the numbers.
_JSON_OPTIONS = {"whitespace_flexible": False}
# The model decides how a text is cut into tokens. The library would ask for an encoder otherwise, in every step.
_OPTIONS = '%llguidance {"no_forcing": true}'
_FIELDS = {
    GrammarKind.JSON_OBJECT: "response_format",
    GrammarKind.JSON_SCHEMA: "response_format",
    GrammarKind.REGEX: "regex",
    GrammarKind.CHOICE: "choice",
}
_SHOWN_CHARS = 200  # of the library's reason, in a message


class GrammarConstraint:
    """A grammar's state behind the tokens of one answer: a `TokenConstraint`."""

    def __init__(self, matcher: LLMatcher, field: str) -> None:
        self._matcher = matcher
        self._field = field

    @property
    def is_complete(self) -> bool:
        """As `TokenConstraint.is_complete`."""
        return self._matcher.is_stopped()

    def allowed(self, mask: Tensor) -> None:
        """As `TokenConstraint.allowed`."""
        self._matcher.unsafe_compute_mask_ptr(mask.data_ptr(), mask.nbytes)
        if self._matcher.is_error():  # the mask then says that the answer may end
            raise self._failure()

    def accept(self, token_id: int) -> None:
        """As `TokenConstraint.accept`."""
        if not self._matcher.consume_token(token_id):
            raise self._failure()

    def _failure(self) -> InvalidRequest:
        reason = _reason(self._matcher.get_error())
        return InvalidRequest(f"{self._field} cannot be followed to its end: {reason}", param=self._field)


class GrammarCompiler:
    """Makes constraints of grammars, for the tokens of one model. Safe from several threads.

    One grammar is compiled at a time, so that all of them together take one core at most from the engine. The first
    one takes a second more: the tokens are made known to the library.

    Args:
        decoder: tells what the tokens stand for.
        vocab_size: length of a row of logits.
        eos_token_ids: tokens that end an answer.
    """

    def __init__(self, decoder: TokenDecoder, vocab_size: int, eos_token_ids: frozenset[int]) -> None:
        self._decoder = decoder
        self._vocab_size = vocab_size
        self._eos_token_ids = sorted(token_id for token_id in eos_token_ids if token_id < vocab_size)
        self._lock = threading.Lock()
        self._compiled: Callable[[Grammar], LLMatcher] = lru_cache(MAX_COMPILED)(self._compile)

    def compile(self, grammar: Grammar) -> GrammarConstraint:
        """A constraint in its first state. Takes milliseconds, or seconds for the largest grammars.

        Raises:
            InvalidRequest: the grammar is wrong, too complex, impossible to keep to, or uses what the library does not
                support; `param` is the field that it came in.
        """
        with self._lock:
            return GrammarConstraint(self._compiled(grammar).deep_copy(), _FIELDS[grammar.kind])

    def _compile(self, grammar: Grammar) -> LLMatcher:
        field = _FIELDS[grammar.kind]
        if len(grammar.source) > MAX_GRAMMAR_CHARS:
            raise InvalidRequest(f"{field} must have at most {MAX_GRAMMAR_CHARS} characters", param=field)
        if not self._eos_token_ids:
            raise InvalidRequest(f"{field} cannot be used: the model has no token to end an answer with", param=field)
        limits = LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)
        tokenizer, text = self._tokenizer, f"{_OPTIONS}\nstart: {_lark(grammar)}"
        matcher = call_with_deep_stack(lambda: LLMatcher(tokenizer, text, log_level=0, limits=limits))
        matcher.compute_bitmask()  # the first is the longest, and finds out whether there is an answer at all
        if matcher.is_error():
            raise InvalidRequest(f"{field} cannot be used: {_reason(matcher.get_error())}", param=field)
        return matcher

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        vocabulary = SimpleNamespace(
            tokens=[self._decoder.token_bytes(token_id) for token_id in range(self._vocab_size)],
            special_token_ids=sorted(self._decoder.special_token_ids.union(self._eos_token_ids)),
            bos_token_id=None,
            eos_token_id=self._eos_token_ids[0],
        )
        return LLTokenizer(TokenizerWrapper(vocabulary), eos_token=self._eos_token_ids)


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
    line = next((line for line in lines if line.startswith("error: ")), lines[0])
    line = re.sub(r"^((error|at \d+\(\d+\)|failed to compile JSON schema|Parser Error): )+", "", line)
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}..."
