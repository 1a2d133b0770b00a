"""What the body of every request for work may hold besides the work itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from api.schemas.meaning import Meaning
from api.schemas.shown import shown
from api.schemas.strict import Strict
from api.schemas.webhook_target import MAX_URL_CHARS, URL_FORM, URL_PATTERN, Target

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


class RequestOptions(Strict):
    """How a generation is to be treated."""

    priority: Annotated[
        Literal["interactive", "bulk"], Meaning("Bulk jobs let others go first; they never starve.")
    ] = Field("interactive", description='"interactive" or "bulk"')
    ttl: Annotated[Seconds | None, Meaning("How long the job may wait in the queue.")] = Field(
        None, description=f"seconds to wait at most, above 0 and at most {MAX_WAIT_S}"
    )
    timeout: Annotated[Seconds | None, Meaning("How long the job may run.")] = Field(
        None, description=f"seconds to run at most, above 0 and at most {MAX_WAIT_S}"
    )
    webhook_url: Annotated[Url | None, Meaning("Is told when the job has ended.")] = Field(None, description=URL_FORM)
    on_disconnect: Annotated[
        Literal["cancel", "continue"] | None, Meaning("What becomes of the job when nobody reads it.")
    ] = Field(None, description='"cancel" or "continue"')


class Body(Strict):
    """What every job's body may hold."""

    run_async: Annotated[bool, Meaning("Whether to answer 202 with the job's id at once.")] = Field(
        False, alias="async", description="true or false"
    )

    def to_params(self) -> dict[str, Any]:
        """What the job carries to its worker."""
        return {}
