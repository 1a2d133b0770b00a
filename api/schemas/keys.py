"""The bodies of requests and responses about API keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas.generated import TokenCounts
from api.schemas.meaning import Meaning
from api.schemas.response_model import Count, ResponseModel, Time
from api.schemas.strict import Strict
from common.owners.api_keys import Role

KEY_NAME = r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}"
_ROLES = "user, worker, trainer or admin"

Limit = Annotated[int | None, Field(ge=1, le=2**53 - 1)]
RoleName = Literal["user", "worker", "trainer", "admin"]


class LimitFields(Strict):
    """The limits to set; null lifts a limit, and those that are missing stay as they are."""

    requests_per_minute: Limit = Field(None, description="requests per minute that create work")
    reads_per_minute: Limit = Field(None, description="requests per minute that only read")
    concurrent_jobs: Limit = Field(None, description="jobs waiting or running at the same time")
    open_streams: Limit = Field(None, description="streams open at the same time, in each API process")
    tokens_per_day: Limit = Field(None, description="tokens of prompts and answers per day (UTC)")
    job_bytes: Limit = Field(None, description="bytes of prompts and answers kept")
    files: Limit = Field(None, description="files kept")
    file_bytes: Limit = Field(None, description="bytes of files kept")
    open_batches: Limit = Field(None, description="batches that have not ended yet")
    feedback_bytes: Limit = Field(None, description="bytes of feedback kept")

    def given(self) -> dict[str, Any]:
        """Return the limits that the client named."""
        return self.model_dump(exclude_unset=True)


_LIMITS = "an object of limits, each of them an integer from 1 to 2^53 - 1, or null for none"


class ChangeKeyBody(Strict):
    """Body of `PATCH /slm/keys/{key_name}`."""

    role: RoleName | None = Field(None, description=_ROLES)
    limits: Annotated[LimitFields, Meaning("Limits to change; null lifts one.")] = Field(
        default_factory=LimitFields, description=_LIMITS
    )

    def changes(self) -> dict[str, Any]:
        """Return the role and the limits that change."""
        return ({} if self.role is None else {"role": Role(self.role)}) | self.limits.given()


class CreateKeyBody(Strict):
    """Body of `POST /slm/keys`."""

    name: Annotated[str, Meaning("The name of the key, which owns the jobs that are sent with it.")] = Field(
        pattern=f"^{KEY_NAME}$",
        description="1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit",
    )
    role: Annotated[RoleName, Meaning("What the key permits. The first key must be an admin's.")] = Field(
        "user", description=_ROLES
    )
    limits: LimitFields = Field(default_factory=LimitFields, description=_LIMITS)


class KeyLimits(ResponseModel):
    """The limits of a key; null means no limit."""

    requests_per_minute: int | None
    reads_per_minute: int | None
    concurrent_jobs: int | None
    open_streams: int | None
    tokens_per_day: int | None
    job_bytes: int | None
    files: int | None
    file_bytes: int | None
    open_batches: int | None
    feedback_bytes: int | None


class KeyUsage(TokenCounts):
    """What the key was used for: the totals of its ended jobs, and what counts against its limits now."""

    jobs: Count
    open_jobs: Annotated[Count, Field(description="jobs that wait or run")]
    tokens_today: Annotated[Count, Field(description="of jobs that ended today (UTC)")]
    job_bytes: Annotated[Count, Field(description="size of the texts of its jobs")]


class Key(ResponseModel):
    """An API key, without its secret."""

    name: str
    role: Role
    created_at: Time
    limits: KeyLimits
    usage: KeyUsage


class ShownKey(Key):
    """An API key, without its secret."""

    success: Literal[True]


class NewKey(ShownKey):
    """A new API key with its secret, which cannot be read again."""

    key: str


class KeyList(ResponseModel):
    """All API keys, by name."""

    success: Literal[True]
    keys: list[Key]


class RevokedKey(ResponseModel):
    """The key was revoked, and the work of its owner cancelled."""

    success: Literal[True]
    name: str
    cancelled_jobs: Count
    cancelled_batches: Count
