"""Listings in pages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.response_model import ResponseModel


class Listed(ResponseModel):
    """An object that a listing can hold."""

    id: str


class Listing(ResponseModel):
    """A page of a listing, newest first."""

    object: Literal["list"]
    first_id: str | None
    last_id: Annotated[str | None, Field(description="ask for the next page with it as `after`")]
    has_more: bool
