"""Which jobs must be looked at before they may take a slot, because that may take long.

A worker prepares a few jobs at a time beside its slots, in a lane of their own: so what one client sends holds up
nobody who waits for a slot, and little of the others' preparation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from common import keys, prompts
from common.jobs import JobKind, Lane
from common.sampling import Grammar, GrammarKind

LONG_PROMPT = 8192  # characters; shorter ones are encoded within 5 ms
REMEMBERED_S = 86_400  # for so long a grammar that was prepared need not be prepared again

ALWAYS = keys.grammar("none")  # a key that is never there


def wanted(kind: JobKind, params: Mapping[str, Any]) -> str:
    """`ALWAYS`, or the key that says that it is not necessary any more; empty if it is not at all."""
    if kind.lane is not Lane.GENERATE:
        return ""
    if is_long(params):
        return ALWAYS
    grammar = params.get("sampling", {}).get("grammar")
    return "" if grammar is None else grammar_key(Grammar(GrammarKind(grammar["kind"]), grammar["source"]))


def is_long(params: Mapping[str, Any]) -> bool:
    """Whether encoding the prompt of a job with these parameters takes long."""
    return prompts.is_in(params) and prompts.length(prompts.from_wire(params)) > LONG_PROMPT


def grammar_key(grammar: Grammar | None) -> str:
    """The key that is there while the grammar is known to be harmless; empty for one that always is."""
    if grammar is None or grammar.kind is GrammarKind.JSON_OBJECT:
        return ""
    return keys.grammar(
        hashlib.sha256(f"{grammar.kind}\n{grammar.source}".encode("utf-8", "surrogatepass")).hexdigest()
    )
