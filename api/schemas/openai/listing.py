"""Pages of listings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.response_model import ResponseModel


class Listed(ResponseModel):
    """An object in a listing."""

    id: str


class Listing(ResponseModel):
    """A page of a listing, newest first."""

    object: Literal["list"]
    first_id: str | None
    last_id: Annotated[str | None, Field(description="use it as `after` to request the next page")]
    has_more: bool
