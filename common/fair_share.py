"""What a job counts for before it runs: its tokens, as far as they are known. Owners share the line by them.

The line is start-time fair queueing (Goyal, Vin and Cheng, 1996) in `lua/prelude.lua`: a job begins, in virtual time,
where its owner's last one ends, but never before the present, and the line is ordered by these beginnings. An owner's
jobs stand so far apart as they cost, so an owner with little in the line comes to their turn soon, however much
others have put into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHARS_PER_TOKEN = 4  # of English, about
BULK_DELAY = 60_000  # tokens; a bulk job waits as if its owner had so much in line before it: it never starves


def cost_of(params: Mapping[str, Any], params_json: str, context: int) -> int:
    """Tokens of a job's prompt, estimated from the length of its parameters' text, and the most of its answer.

    At least 1, and no more than the `context`, which holds both. The text is ASCII (`json.dumps`): six characters for
    one of a script whose characters are tokens.
    """
    most_new: int = params.get("sampling", {}).get("max_new_tokens", 0)
    return max(1, min(len(params_json) // CHARS_PER_TOKEN + most_new, context))
