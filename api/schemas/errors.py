"""The bodies of errors."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field

from api.schemas.response_model import ResponseModel


class Error(ResponseModel):
    """The body of every error response, except under `/v1`."""

    success: Literal[False]
    error: Annotated[str, Field(description="what is wrong, and what is allowed")]
    code: str
    request_id: str
    param: NotRequired[Annotated[str, Field(description="the field that is wrong, if it is one")]]


class ErrorFrame(ResponseModel):
    """The last frame of a job that failed."""

    error: str
    code: str
    request_id: str
    param: NotRequired[str]


class JobError(ResponseModel):
    """Why a job failed."""

    code: str
    message: str
    param: NotRequired[str]
    retry_after_s: NotRequired[int]


class OpenAIErrorBody(ResponseModel):
    """The error."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(ResponseModel):
    """The body of every error response under `/v1`."""

    error: OpenAIErrorBody
