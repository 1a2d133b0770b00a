"""What all objects in responses have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, GetCoreSchemaHandler, with_config
from pydantic_core import CoreSchema
from typing_extensions import TypedDict


@with_config(extra="forbid")
class ResponseModel(TypedDict):
    """A JSON object that the API sends, with no other fields than these; one that is `NotRequired` can be missing."""


@dataclass(frozen=True, slots=True)
class DescribedAs:
    """Mark of a value whose JSON form pydantic describes and checks better as another type."""

    other: Any

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.other)


Count = Annotated[int, Field(ge=0)]
Ms = Annotated[int, Field(description="milliseconds")]
UnixTime = Annotated[int, Field(description="seconds since the epoch")]
Time = Annotated[str, DescribedAs(AwareDatetime), Field(description="UTC, with milliseconds")]
JobId = Annotated[str, Field(description="names the job under every route, in webhooks and in Flower")]
