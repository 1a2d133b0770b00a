"""Builds pages of listings in OpenAI's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

from flask import request

from api.schemas.openai.listing import Listed, Listing
from api.schemas.query import natural
from api.schemas.shown import shown
from common import ids
from common.errors import InvalidRequest

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
L = TypeVar("L", bound=Listing)


def page_arguments(id_form: str, *more: str) -> tuple[str | None, int]:
    """Return `after`, an id of that form, and `limit` from the query, which may also have the arguments in `more`.

    Raises:
        InvalidRequest: an argument is wrong or unknown.
    """
    known = {"after", "limit", *more}
    for name in request.args.keys() - known:
        raise InvalidRequest(f"{shown(name)} is not supported; known: {', '.join(sorted(known))}", param=name[:60])
    text = request.args.get("limit", str(DEFAULT_LIMIT))
    limit = natural(text)
    if limit is None or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be an integer from 1 to {MAX_LIMIT}; got {shown(text)}", param="limit")
    after = request.args.get("after")
    if after is not None and not ids.has_form(after, id_form):
        raise InvalidRequest(f"after must be the last_id of a page; got {shown(after)}", param="after")
    return after, limit


def listing(kind: type[L], items: Sequence[Listed], *, has_more: bool) -> L:
    """Return one page of type `kind`."""
    del kind
    page = {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
    return cast(L, page)
