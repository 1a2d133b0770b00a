"""Compiles a grammar and computes the tokens that it allows, with llguidance: docs/decisions/0008.

The library's limits do not hold for every grammar: a grammar of 60 KB can crash the process, immediately or after some
tokens. So all of this runs in separate processes (`process.py`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark
from llguidance.gbnf_to_lark import gbnf_to_lark

from common.errors import InvalidRequest
from common.jobs.reasoning import Reasoning
from common.jobs.sampling import MAX_GRAMMAR_CHARS, Grammar, GrammarKind
from common.jobs.tools import ToolRules
from worker.engine.grammar.tool_lark import tool_lark
from worker.engine.kv_cache.prefix_tree import common_length

# The library's limits per step. Most grammars reach these before the limits of the process.
_LIMITS = LLParserLimits(
    max_lexer_states=30_000,  # of 1 KiB each
    step_lexer_fuel=100_000,
    step_max_items=10_000,
    verbose_errors=False,
)
START_S, TOKEN_S = 1.0, 0.005  # CPU time budget of an answer: initially, and added with every token
# If small models may write whitespace, they write much of it and never stop: docs/log.md has the numbers.
_JSON_OPTIONS = {"whitespace_flexible": False}
# The model decides how a text is split into tokens. Otherwise the library would need an encoder in every step.
_OPTIONS = '%llguidance {"no_forcing": true}'
_TOO_COMPLEX = ("panic", "fuel exhausted", "lexer precomputation failed")  # the library's messages for this
_SHOWN_CHARS = 200  # maximum length of the library's reason in a message


class Vocabulary(NamedTuple):
    """The library's data about a model's tokens. `tokens`: the bytes of each token, written as Latin-1."""

    tokens: list[str]
    special_ids: list[int]
    end_ids: list[int]

    def to_library(self) -> LLTokenizer:
        """Return the library's form of the vocabulary, for which grammars are compiled. Takes 0.1 s."""
        wrapped = SimpleNamespace(
            tokens=[token.encode("latin-1") for token in self.tokens],
            special_token_ids=self.special_ids,
            bos_token_id=None,
            eos_token_id=self.end_ids[0],
        )
        return LLTokenizer(TokenizerWrapper(wrapped), eos_token=self.end_ids)


class GrammarState:
    """The state of a grammar after the tokens of one answer."""

    def __init__(self, matcher: LLMatcher, field: str) -> None:
        self._matcher = matcher
        self._field = field
        self._seconds_left = START_S
        self._ahead: list[int] = []  # tokens that the library has read, although the answer may continue otherwise

    @property
    def is_complete(self) -> bool:
        """Whether the answer must end here, or after the tokens that `look_ahead` has read."""
        return self._matcher.is_stopped()

    def advance(self, token_ids: Sequence[int]) -> None:
        """Append these tokens. Raises `InvalidRequest` if they are not allowed."""
        ahead, self._ahead = self._ahead, []
        num_right = common_length(ahead, token_ids)
        self._seconds_left += TOKEN_S * len(token_ids)
        if num_right < len(ahead) and not self._matcher.rollback(len(ahead) - num_right):
            raise self._failure(_reason(self._matcher.get_error()))
        self._read(token_ids[num_right:])

    def look_ahead(self, token_id: int) -> None:
        """Read a token that probably comes next; `advance` takes it back if another one comes. Raises as `advance`."""
        self._ahead.append(token_id)
        self._read([token_id])

    def _read(self, token_ids: Sequence[int]) -> None:
        if not self._matcher.consume_tokens(list(token_ids)):
            raise self._failure(_reason(self._matcher.get_error()))

    def allowed(self) -> bytes:
        """Return the tokens that may come next, in the format of `TokenConstraint.allowed`.

        Raises:
            InvalidRequest: the grammar cannot be followed further.
        """
        begin = time.thread_time()
        mask = self._matcher.compute_bitmask()
        self._seconds_left -= time.thread_time() - begin
        if self._matcher.is_error():  # the mask would then allow the answer to end
            raise self._failure(_reason(self._matcher.get_error()))
        if self._seconds_left < 0:
            raise self._failure("it takes too long to compute which tokens may come next")
        return mask

    def _failure(self, reason: str) -> InvalidRequest:
        return InvalidRequest(
            f"{self._field} could not be followed to the end of the answer: {reason}", param=self._field
        )


def compile_grammar(grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
    """Return the compiled grammar in its initial state. Needs a large stack: the library recurses on references.

    Raises:
        InvalidRequest: the grammar cannot be used; `param` is its field in the request.
    """
    if len(grammar.source) > MAX_GRAMMAR_CHARS:
        raise InvalidRequest(f"{grammar.field} must have at most {MAX_GRAMMAR_CHARS} characters", param=grammar.field)
    matcher = LLMatcher(tokenizer, f"{_OPTIONS}\n{_lark(grammar)}", log_level=0, limits=_LIMITS)
    matcher.compute_bitmask()  # the first mask takes longest, and shows whether any answer is possible
    if matcher.is_error():
        reason = _reason(matcher.get_error())
        raise InvalidRequest(f"{grammar.field} cannot be used: {reason}", param=grammar.field)
    return matcher


def _lark(grammar: Grammar) -> str:
    """Return the grammar in the library's own language, without the line of its options."""
    if (before := grammar.reasoning) is not None:
        return f"{_before_answer(before)}\nanswer: %lark {{\n{_answer_lark(grammar)}\n}}"
    return _answer_lark(grammar)


def _before_answer(reasoning: Reasoning) -> str:
    """Return the rules of an answer after reasoning. The second tag ends it, whatever the model writes before."""
    begin = f"/\\s*{re.escape(reasoning.form.begin)}/" if reasoning.begin_id is None else f"<[{reasoning.begin_id}]>"
    rules = {
        True: "start: reasoning /\\s{0,2}/ answer",
        False: f"start: ({begin} reasoning /\\s{{0,2}}/)? answer",
    }[reasoning.is_open]
    if reasoning.end_id is None:
        return f"{rules}\nreasoning[lazy]: /(?s:.*){_quoted(reasoning.form.end)}/"
    return f"{rules}\nreasoning: REASONING? <[{reasoning.end_id}]>\nREASONING: /(?s:.+)/"


def _quoted(text: str) -> str:
    """Return a regular expression for the text, for use between slashes."""
    return re.escape(text).replace("/", "\\/")


def _answer_lark(grammar: Grammar) -> str:
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return f"start: {_json_lark({'type': 'object'})}"
        case GrammarKind.JSON_SCHEMA:
            return f"start: {_json_lark(json.loads(grammar.source))}"
        case GrammarKind.REGEX:
            return f"start: {_regex_lark(grammar.source)}"
        case GrammarKind.CHOICE:
            return f"start: {_regex_lark('|'.join(map(re.escape, json.loads(grammar.source))))}"
        case GrammarKind.GBNF:
            return _gbnf_lark(grammar.source)
        case GrammarKind.TOOLS:
            rules = ToolRules.of(grammar)
            content = None if rules.content is None else _content_lark(Grammar.from_dict(rules.content))
            return tool_lark(rules, content, grammar.reasoning)


def _content_lark(grammar: Grammar) -> str:
    """Return the grammar as a single expression, for an answer that may call tools instead."""
    if grammar.kind is GrammarKind.GBNF:
        raise InvalidRequest("grammar cannot be used together with tools", param="grammar")
    return _lark(grammar).removeprefix("start: ")


def _regex_lark(expression: str) -> str:
    if (len(expression) - len(expression.rstrip("\\"))) % 2:  # the library ignores it
        raise InvalidRequest("regex cannot be used: it ends with a backslash that escapes nothing", param="regex")
    return f"/{regex_to_lark(expression, use_ascii='d')}/"


def _gbnf_lark(source: str) -> str:
    """Convert the grammar; the converter's first line only sets options."""
    try:
        return str(gbnf_to_lark(source)).partition("\n")[2]
    except Exception as err:  # the converter raises nothing more special
        raise InvalidRequest(f"grammar cannot be used: {_reason(str(err))}", param="grammar") from err


def _json_lark(schema: dict[str, object]) -> str:
    """Return the schema with our options: a client's options could disable the refusal of unsupported keywords."""
    return f"%json {json.dumps(schema | {'x-guidance': _JSON_OPTIONS})}"


def _reason(error: str) -> str:
    """Return the part of the library's message that is useful to a client."""
    lines = error.splitlines()
    if lines[0] == "NoExtensionBias":
        return "no answer fits it"
    if lines[0].startswith(_TOO_COMPLEX):
        return "it is too complex"
    line = next((line for line in lines if line.startswith("error: ")), lines[0])
    line = re.sub(r"^((error|at \d+\(\d+\)|failed to compile JSON schema|Parser Error): )+", "", line)
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}..."
