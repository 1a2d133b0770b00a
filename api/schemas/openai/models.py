"""The models that a request can name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.response_model import ResponseModel, UnixTime


class ModelObject(ResponseModel):
    """A model that a request can name: a base model, an adapter, a version of one, an alias, or one for embeddings."""

    id: str
    object: Literal["model"]
    created: UnixTime
    owned_by: str
    root: Annotated[str, Field(description="what the name stands for now: a version of an adapter, or a base model")]
    parent: Annotated[str | None, Field(description="the base model of an adapter")]
    max_model_len: Annotated[
        int | None, Field(description="maximum number of tokens of prompt and answer; null until loaded")
    ]


class ModelList(ResponseModel):
    """The models."""

    object: Literal["list"]
    data: list[ModelObject]
