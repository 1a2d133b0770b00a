"""What the body of every request for work may hold besides the work itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from api.schemas.shown import shown
from api.schemas.strict import Strict
from api.webhooks.target import MAX_URL_CHARS, URL_FORM, URL_PATTERN, Target

MAX_WAIT_S = 86_400


def _checked_url(url: str) -> str:
    try:
        Target.parse(url)
    except ValueError as err:
        raise ValueError(f"must be {URL_FORM}; got {shown(url)}") from err
    return url


Url = Annotated[
    str,
    AfterValidator(_checked_url),
    WithJsonSchema({"type": "string", "maxLength": MAX_URL_CHARS, "pattern": URL_PATTERN}),
]
Seconds = Annotated[float, Field(gt=0, le=MAX_WAIT_S)]


class Treatment(Strict):
    """How a generation is to be treated."""

    priority: Literal["interactive", "bulk"] = Field("interactive", description='"interactive" or "bulk"')
    ttl: Seconds | None = Field(None, description=f"seconds to wait at most, above 0 and at most {MAX_WAIT_S}")
    timeout: Seconds | None = Field(None, description=f"seconds to run at most, above 0 and at most {MAX_WAIT_S}")
    webhook_url: Url | None = Field(None, description=URL_FORM)
    on_disconnect: Literal["cancel", "continue"] | None = Field(None, description='"cancel" or "continue"')


class Body(Strict):
    """What every job's body may hold."""

    run_async: bool = Field(False, alias="async", description="true or false")

    def to_params(self) -> dict[str, Any]:
        """What the job carries to its worker."""
        return {}
