"""The bodies of responses about settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.response_model import ResponseModel


class ShownSetting(ResponseModel):
    """A setting in force."""

    name: Annotated[str, Field(description="its environment variable")]
    value: Annotated[str | None, Field(description="null if it is not set, or a secret")]
    default: str | None
    is_default: bool
    is_secret: Annotated[bool, Field(description="whether its value is never shown")]
    description: str


class ShownSettings(ResponseModel):
    """The settings of the API process that answers. Workers started elsewhere can have others."""

    success: Literal[True]
    settings: list[ShownSetting]
