"""The fields that requests under `/v1` may have although they cannot change the answer.

`IgnoredFields` is the only list of them: the parser, the header `X-Ignored-Fields` and the reference read it. A field
is also ignored if a body marks it with `IGNORED`. A body for which such a field does have an effect declares it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from api.schemas.meaning import Meaning
from api.schemas.strict import FIRST_ERROR, Strict


class IgnoredMark:
    """Marks a field that the server accepts and ignores."""


IGNORED = IgnoredMark()


def _because(reason: str) -> Meaning:
    return Meaning(f"Accepted and ignored: {reason}.")


def _only(wanted: bool) -> AfterValidator:
    """Return a check that the field has this value. A literal would also accept the number that equals it."""

    def check(value: bool | None) -> bool | None:
        if value not in (None, wanted):
            raise ValueError(f"must be {str(wanted).lower()}")
        return value

    return AfterValidator(check)


_OFF = _because("it is off")
_OWN = _because("it is for the client's own use")
_Report = Annotated[bool | None, Field(description="true or false"), IGNORED, _because("metrics have these figures")]
_Zero = Annotated[float | None, Field(ge=0, le=0, description="0"), IGNORED, _OFF]
_False = Annotated[
    bool | None, _only(False), Field(description="false", json_schema_extra={"const": False}), IGNORED, _OFF
]
_True = Annotated[
    bool | None,
    _only(True),
    Field(description="true", json_schema_extra={"const": True}),
    IGNORED,
    _because("it is always so"),
]


class OtherServersFields(Strict):
    """Fields of llama.cpp and vLLM that tell their server how to work, or with the value that means "off"."""

    cache_prompt: Annotated[bool | None, IGNORED, _because("known beginnings are always shared")] = Field(
        None, description="true or false"
    )
    id_slot: Annotated[int | None, IGNORED, _because("the scheduler chooses")] = Field(None, description="an integer")
    timings_per_token: _Report = None
    return_progress: _Report = None
    reasoning_format: Annotated[str | None, IGNORED, _because("as `reasoning`")] = Field(None, description="a string")
    n_probs: _Zero = None
    mirostat: _Zero = None
    dynatemp_range: _Zero = None
    xtc_probability: _Zero = None
    dry_multiplier: _Zero = None
    typical_p: Annotated[float | None, IGNORED, _OFF] = Field(None, ge=1, le=1, description="1")
    use_beam_search: _False = None
    include_stop_str_in_output: _False = None
    skip_special_tokens: _True = None
    spaces_between_special_tokens: _True = None
    request_id: Annotated[str | None, IGNORED, _OWN] = Field(None, description="a string")


class IgnoredFields(OtherServersFields):
    """Fields of OpenAI's API with the values that cannot change an answer of this server; others are refused."""

    user: Annotated[str | None, IGNORED, _OWN] = Field(None, description="a string")
    safety_identifier: Annotated[str | None, IGNORED, _because("API keys tell clients apart")] = Field(
        None, description="a string"
    )
    store: Annotated[bool | None, IGNORED, _because("completions are kept as jobs are")] = Field(
        None, description="true or false"
    )
    metadata: Annotated[dict[str, Any] | None, IGNORED, _OWN] = Field(None, description="an object")
    service_tier: Annotated[str | None, IGNORED, _because("`priority` is the server's own field")] = Field(
        None, description="a string"
    )
    prompt_cache_key: Annotated[str | None, IGNORED, _because("known beginnings are always shared")] = Field(
        None, description="a string"
    )
    prompt_cache_retention: Annotated[str | None, IGNORED, _because("as `prompt_cache_key`")] = Field(
        None, description="a string"
    )
    verbosity: Annotated[str | None, IGNORED, _because("the models here have no such setting")] = Field(
        None, description="a string"
    )
    reasoning_effort: Annotated[str | None, IGNORED, _because("as `reasoning`")] = Field(None, description="a string")
    reasoning: Annotated[
        dict[str, Any] | None, IGNORED, _because("without a chat template there is no reasoning before the answer")
    ] = Field(None, description="an object with effort and summary")
    modalities: Annotated[
        Annotated[list[Literal["text"]], FIRST_ERROR] | None, IGNORED, _because("every answer is text")
    ] = Field(None, min_length=1, max_length=1, description='["text"]')
    include: Annotated[
        Annotated[list[Literal["reasoning.encrypted_content"]], FIRST_ERROR] | None,
        IGNORED,
        _because("answers have no such part"),
    ] = Field(None, max_length=1, description='an empty list or ["reasoning.encrypted_content"]')
    truncation: Annotated[Literal["disabled"] | None, IGNORED, _because("prompts are never truncated")] = Field(
        None, description='"disabled"'
    )
    best_of: Annotated[Literal[1] | None, IGNORED, _because("it is the only possible value")] = Field(
        None, description="1"
    )


def is_ignored(model: type[Strict], name: str) -> bool:
    """Return whether the model ignores this field, which it accepts; it may accept unknown ones."""
    field = model.model_fields.get(name)
    return field is None or any(isinstance(mark, IgnoredMark) for mark in field.metadata)


def ignored_in(body: Strict) -> list[str]:
    """Return the paths of the ignored fields that the client set, such as `user` and `messages[].id`, sorted."""
    return sorted(set(_paths(body)))


def _paths(body: Strict) -> Iterator[str]:
    for name in body.model_fields_set:
        if is_ignored(type(body), name):
            yield name
        else:
            yield from (f"{name}{path}" for path in _inner_paths(getattr(body, name)))


def _inner_paths(value: object) -> Iterable[str]:
    if isinstance(value, Strict):
        return (f".{path}" for path in _paths(value))
    if isinstance(value, list):
        return (f"[]{path}" for one in value if isinstance(one, Strict) for path in _inner_paths(one))
    return ()
