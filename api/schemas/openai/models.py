"""What can be asked for by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.response_model import ResponseModel, UnixTime


class ModelObject(ResponseModel):
    """What can be asked for by name: the base model, or the adapter on it with its `parent`."""

    id: str
    object: Literal["model"]
    created: UnixTime
    owned_by: str
    root: str
    parent: str | None
    max_model_len: Annotated[int | None, Field(description="most tokens of prompt and answer; null until it is loaded")]


class ModelList(ResponseModel):
    """The models, the base first."""

    object: Literal["list"]
    data: list[ModelObject]
