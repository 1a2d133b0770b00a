"""Decides which jobs must be prepared before they take capacity, because their preparation may take long.

A worker prepares a few jobs at a time, in a separate lane that takes no capacity. So a slow job of one client does not
delay jobs that wait for capacity, and hardly delays the preparation of others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from common.jobs import prompts
from common.jobs.job import JobKind, Lane
from common.jobs.sampling import Grammar, GrammarKind
from common.redis import keys

LONG_PROMPT = 8192  # characters; shorter prompts are encoded within 5 ms
REMEMBERED_S = 86_400  # how long a prepared grammar need not be prepared again

ALWAYS = keys.grammar("none", "")  # a key that never exists


def wanted(kind: JobKind, params: Mapping[str, Any]) -> str:
    """Return the key that exists once no preparation is needed (`ALWAYS`: never); empty if none is needed at all.

    The id of the job's adapter must be appended to it.
    """
    if kind.lane is not Lane.GENERATE:
        return ""
    if is_long(params):
        return ALWAYS
    grammar = params.get("sampling", {}).get("grammar")
    return "" if grammar is None else grammar_key(Grammar.from_dict(grammar), "")


def is_long(params: Mapping[str, Any]) -> bool:
    """Return whether encoding the prompt of a job with these parameters takes long."""
    return prompts.is_in(params) and prompts.length(prompts.from_wire(params)) > LONG_PROMPT


def grammar_key(grammar: Grammar | None, adapter_id: str) -> str:
    """Return the key that exists while the grammar is known to be harmless; empty if it always is.

    An adapter may have its own vocabulary, with which a grammar may take another time.
    """
    if grammar is None or grammar.kind is GrammarKind.JSON_OBJECT:
        return ""
    source = f"{grammar.kind}\n{grammar.source}".encode("utf-8", "surrogatepass")
    return keys.grammar(hashlib.sha256(source).hexdigest(), adapter_id)
