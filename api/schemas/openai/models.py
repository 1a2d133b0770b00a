"""The models that a request can name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.response_model import ResponseModel, UnixTime


class ModelObject(ResponseModel):
    """A model that a request can name: the base model, or an adapter, with the base as its `parent`."""

    id: str
    object: Literal["model"]
    created: UnixTime
    owned_by: str
    root: str
    parent: str | None
    max_model_len: Annotated[
        int | None, Field(description="maximum number of tokens of prompt and answer; null until loaded")
    ]


class ModelList(ResponseModel):
    """The models."""

    object: Literal["list"]
    data: list[ModelObject]
