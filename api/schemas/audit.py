"""The bodies of responses about what operators did."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.response_model import ResponseModel, Time


class AuditEntry(ResponseModel):
    """Something that an operator did."""

    id: str
    at: Time
    owner: Annotated[str, Field(description="the owner of the API key; `command line` on the server's machine")]
    action: Annotated[str, Field(description="what was done, such as `set_alias` or `revoke_key`")]
    target: Annotated[str | None, Field(description="what was changed, such as the alias or the key")]
    details: Annotated[str | None, Field(description="the new value, such as the alias's model")]
    job_id: Annotated[str | None, Field(description="the job that does it")]


class AuditEntries(ResponseModel):
    """What operators did, newest first."""

    success: Literal[True]
    entries: list[AuditEntry]
    last_id: str | None
    has_more: bool
