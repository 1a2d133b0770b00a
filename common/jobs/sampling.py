"""The sampling parameters of a generation. The API sets them from the validated request; the engine reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from typing import Any

from common.jobs.reasoning import Reasoning

MAX_LOGPROBS = 20  # alternatives that can be returned with a token, unless the server's settings allow more
ALL_TOKENS = -1  # as the number of alternatives: the whole vocabulary
MAX_GRAMMAR_CHARS = 65_536  # of a grammar's source: bounds the time and memory of its compilation
ALWAYS_INCLUDED = ("seed", "max_new_tokens", "temperature", "do_sample", "top_p", "top_k", "repetition_penalty", "stop")
LISTS = ("stop", "stop_token_ids", "logprob_token_ids", "allowed_token_ids")


class GrammarKind(StrEnum):
    """The language of a grammar."""

    JSON_OBJECT = "json_object"  # any JSON object; the source is empty
    JSON_SCHEMA = "json_schema"  # the source is the schema's JSON text
    REGEX = "regex"  # the source is the expression that the whole answer matches
    CHOICE = "choice"  # the source is a JSON list of the allowed answers
    GBNF = "gbnf"  # the source is a grammar in llama.cpp's form
    TOOLS = "tools"  # the source is `ToolRules` in JSON form


@dataclass(frozen=True, slots=True)
class Grammar:
    """The form that the answer must have; only tokens that can still lead to it are allowed.

    `reasoning` is what the answer may have, or has, before that form. Only the worker knows it.
    """

    kind: GrammarKind
    source: str = ""
    reasoning: Reasoning | None = None

    @property
    def field(self) -> str:
        """The field of a request that sets this grammar."""
        own = {
            GrammarKind.REGEX: "regex",
            GrammarKind.CHOICE: "choice",
            GrammarKind.GBNF: "grammar",
            GrammarKind.TOOLS: "tools",
        }
        return own.get(self.kind, "response_format")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        before = {} if self.reasoning is None else {"reasoning": self.reasoning.to_dict()}
        return {"kind": self.kind.value, "source": self.source} | before

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> Grammar:
        """Parse the JSON form."""
        before = wire.get("reasoning")
        return cls(GrammarKind(wire["kind"]), wire["source"], None if before is None else Reasoning.from_dict(before))


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The sampling parameters of one sequence. The API checks the ranges (`api/schemas`).

    `seed` is always set: the API draws one if the client gave none, so that every attempt of a job samples the same
    tokens. `top_k` 0, `top_p` 1.0, `min_p` 0.0, `repetition_penalty` 1.0 and the other penalties at 0.0 mean "off".
    """

    seed: int
    max_new_tokens: int = 100  # 0: only the prompt is computed
    min_new_tokens: int = 0  # until then, only a length limit ends the answer
    temperature: float = 0.7
    do_sample: bool = True
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0  # minimum probability, as a fraction of the most probable token's
    repetition_penalty: float = 1.0  # applies to the tokens of prompt and answer
    presence_penalty: float = 0.0  # subtracted from the logits of the answer's tokens
    frequency_penalty: float = 0.0  # subtracted once for each occurrence of a token in the answer
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to the logits, by token id
    logprobs: int | None = None  # how many alternatives to return with each token; None: no log probabilities at all
    prompt_logprobs: int | None = None  # the same for the prompt's tokens
    logprob_token_ids: tuple[int, ...] = ()  # with `logprobs`: these tokens, and the chosen one, are the alternatives
    allowed_token_ids: tuple[int, ...] = ()  # the only tokens of the answer; empty: all
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()  # end the answer like end-of-sequence tokens
    ignore_eos: bool = False  # continue after an end-of-sequence token
    grammar: Grammar | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return not self.do_sample or self.temperature == 0.0

    @property
    def is_penalised(self) -> bool:
        """Whether a penalty changes a token's probability depending on the tokens before it."""
        return self.repetition_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back. Newer fields are included only if they are set."""
        wire = {name: getattr(self, name) for name in ALWAYS_INCLUDED}
        wire |= {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != _default(one)}
        wire |= {name: list(wire[name]) for name in LISTS if name in wire}
        if self.logit_bias:
            wire["logit_bias"] = {str(token): bias for token, bias in self.logit_bias.items()}
        if self.grammar is not None:
            wire["grammar"] = self.grammar.to_dict()
        return wire

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> SamplingParams:
        """Parse the JSON form. Raises `TypeError` for an unknown name."""
        known: dict[str, Any] = dict(wire)
        for name in LISTS:
            known[name] = tuple(known.get(name, ()))
        known["logit_bias"] = {int(token): bias for token, bias in known.get("logit_bias", {}).items()}
        if (grammar := known.get("grammar")) is not None:
            known["grammar"] = Grammar.from_dict(grammar)
        return cls(**known)


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()
