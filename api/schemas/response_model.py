"""The base of all objects in responses, and their common types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, GetCoreSchemaHandler, with_config
from pydantic_core import CoreSchema
from typing_extensions import TypedDict


@with_config(extra="forbid")
class ResponseModel(TypedDict):
    """A JSON object that the API sends, with exactly these fields; those that are `NotRequired` can be missing."""


@dataclass(frozen=True, slots=True)
class DescribedAs:
    """Makes pydantic describe and check a value as another type."""

    other: Any

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.other)


Count = Annotated[int, Field(ge=0)]
Ms = Annotated[int, Field(description="milliseconds")]
UnixTime = Annotated[int, Field(description="seconds since the epoch")]
Time = Annotated[str, DescribedAs(AwareDatetime), Field(description="UTC, with milliseconds")]
JobId = Annotated[str, Field(description="identifies the job in all routes, in webhooks and in Flower")]
