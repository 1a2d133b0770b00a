"""Estimates the cost of a job in tokens before it runs. Owners share the queue by these costs.

The queue is start-time fair queueing (Goyal, Vin and Cheng, 1996) in `lua/prelude.lua`: a job starts, in virtual time,
when its owner's previous job ends, but never in the past, and the queue is ordered by these start times. The distance
between two jobs of one owner is their cost, so an owner with few jobs in the queue is served soon, no matter how many
jobs others have submitted.

Each base model has its own queue with its own virtual time. The cost of an owner's jobs that run on other bases at that
moment is added to a new job's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHARS_PER_TOKEN = 4  # about right for English
BULK_DELAY = 60_000  # tokens; a bulk job waits as if its owner had that much queued before it, so it never starves


def cost_of(params: Mapping[str, Any], params_json: str, context: int) -> int:
    """Return the prompt tokens, estimated from the length of the parameters' JSON, plus the answer's token limit.

    The result is at least 1 and at most `context`, which holds both. The text is ASCII (`json.dumps`): a character of a
    script in which each character is a token takes six.
    """
    most_new: int = params.get("sampling", {}).get("max_new_tokens", 0)
    return max(1, min(len(params_json) // CHARS_PER_TOKEN + most_new, context))
