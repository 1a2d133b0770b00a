"""How failures read."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field

from api.schemas.response_model import ResponseModel


class Error(ResponseModel):
    """Every answer that is no success, but under `/v1`."""

    success: Literal[False]
    error: Annotated[str, Field(description="what is wrong, and what would be right")]
    code: str
    request_id: str
    param: NotRequired[Annotated[str, Field(description="the field that is to blame, where one is")]]


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
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(ResponseModel):
    """Every answer under `/v1` that is no success."""

    error: OpenAIErrorBody
