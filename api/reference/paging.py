"""The parameters of routes that return a list page by page."""

from __future__ import annotations

from api.openai.listing import DEFAULT_LIMIT, MAX_LIMIT
from api.reference.operation import Parameter

LIMIT = Parameter(
    "query",
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    "Maximum number of items to list.",
    10,
)


def after(id_pattern: str) -> Parameter:
    """Return the parameter that names the last item of the previous page; the pattern is that of the items' ids."""
    return Parameter(
        "query", "after", {"type": "string", "pattern": f"^{id_pattern}$"}, "The `last_id` of the previous page."
    )
