"""What clients may send, field by field, and how a refusal reads.

Each field's `description` says what would be right, and is part of the message that refuses a wrong value.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from api.nesting import num_levels
from api.strict import FIRST_ERROR, Strict, at_most
from api.structured import MAX_CHOICES, SCHEMA_BOUNDS, Choice, Regex, ResponseFormat, choice_grammar
from api.webhooks.target import MAX_URL_CHARS, URL_FORM, URL_PATTERN, Target
from common.errors import InvalidRequest
from common.jobs import GenerateParams
from common.sampling import MAX_GRAMMAR_CHARS, MAX_LOGPROBS, Grammar, GrammarKind, SamplingParams

MAX_SEED = 2**63 - 1
MAX_WAIT_S = 86_400
MAX_BIASES = 1024
MAX_STOP_TOKENS = 64
MAX_LEVELS = 200  # of a body: far from where Python's own reader and writer of JSON give up, at different depths
SHOWN_CHARS = 60  # of a refused value, in the message
MAX_EXACT = 2**53  # up to here a float holds every integer

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _checked_url(url: str) -> str:
    try:
        Target.parse(url)
    except ValueError as err:
        raise ValueError(f"must be {URL_FORM}; got {shown(url)}") from err
    return url


StopString = Annotated[str, Field(min_length=1)]
Url = Annotated[
    str,
    AfterValidator(_checked_url),
    WithJsonSchema({"type": "string", "maxLength": MAX_URL_CHARS, "pattern": URL_PATTERN}),
]
TokenId = Annotated[int, Field(ge=0)]
TokenIdKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]  # JSON's objects have strings for keys
Bias = Annotated[float, Field(ge=-100, le=100)]
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


class ModelBody(Body):
    """Body of `POST /slm/load` and `/slm/unload`."""


class GenerateBody(Body, Treatment):
    """Body of `POST /slm/generate` and `/slm/stream`."""

    prompt: str = Field(pattern=r"\S", description="a non-blank string of valid Unicode")
    max_new_tokens: int = Field(100, ge=1, le=1_048_576, description="an integer from 1 to 1048576")
    min_new_tokens: int = Field(0, ge=0, le=1_048_576, description="an integer from 0 to max_new_tokens")
    temperature: float = Field(0.7, ge=0, le=5, description="a number from 0 to 5")
    do_sample: bool = Field(True, description="true or false")
    top_p: float = Field(1.0, gt=0, le=1, description="a number above 0 and at most 1")
    top_k: int = Field(0, ge=0, le=1_000_000, description="an integer from 0 (off) to 1000000")
    min_p: float = Field(0.0, ge=0, le=1, description="a number from 0 (off) to 1")
    repetition_penalty: float = Field(1.0, ge=0.01, le=100, description="a number from 0.01 to 100")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    logit_bias: Annotated[dict[TokenIdKey, Bias], Field(max_length=MAX_BIASES), at_most(MAX_BIASES)] = Field(
        default_factory=dict,
        description=f"an object of at most {MAX_BIASES} token ids, each with a number from -100 to 100",
    )
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS, description=f"an integer from 0 to {MAX_LOGPROBS}")
    stop: StopString | Annotated[list[StopString], Field(max_length=8), FIRST_ERROR] = Field(
        default_factory=list, description="a non-empty string or a list of at most 8 of them"
    )
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKENS), FIRST_ERROR] = Field(
        default_factory=list, description=f"a list of at most {MAX_STOP_TOKENS} token ids"
    )
    ignore_eos: bool = Field(False, description="true or false")
    response_format: ResponseFormat | None = Field(
        None,
        description='an object with the type "text", "json_object" or "json_schema", the last with a json_schema '
        f"that has a schema {SCHEMA_BOUNDS}",
    )
    regex: Regex | None = Field(
        None, description=f"a regular expression of 1 to {MAX_GRAMMAR_CHARS} characters of valid Unicode"
    )
    choice: Choice | None = Field(
        None,
        description=f"a list of 1 to {MAX_CHOICES} non-empty strings, {MAX_GRAMMAR_CHARS} characters of JSON at most",
    )
    seed: int = Field(
        default_factory=lambda: secrets.randbelow(MAX_SEED),  # drawn here, so that every attempt samples alike
        ge=0,
        le=MAX_SEED,
        description=f"an integer from 0 to {MAX_SEED}",
    )

    @field_validator("min_new_tokens")
    @classmethod
    def _fits_max_new_tokens(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("max_new_tokens", value):
            raise ValueError
        return value

    @model_validator(mode="after")
    def _has_one_form(self) -> GenerateBody:
        given = [name for name in ("response_format", "regex", "choice") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidRequest(f"{given[1]} must not be used together with {given[0]}", param=given[1])
        return self

    @property
    def grammar(self) -> Grammar | None:
        """What the answer must look like; None where anything goes."""
        if self.regex is not None:
            return Grammar(GrammarKind.REGEX, self.regex)
        if self.choice is not None:
            return choice_grammar(self.choice)
        return None if self.response_format is None else self.response_format.grammar

    def to_params(self) -> dict[str, Any]:
        """The prompt and how to sample: `GenerateParams`."""
        return GenerateParams(
            prompt=self.prompt,
            sampling=SamplingParams(
                seed=self.seed,
                max_new_tokens=self.max_new_tokens,
                min_new_tokens=self.min_new_tokens,
                temperature=self.temperature,
                do_sample=self.do_sample,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                logit_bias={int(token): bias for token, bias in self.logit_bias.items()},
                logprobs=self.logprobs,
                stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
                stop_token_ids=tuple(self.stop_token_ids),
                ignore_eos=self.ignore_eos,
                grammar=self.grammar,
            ),
        ).to_dict()


B = TypeVar("B", bound=Body)


def parse_body(schema: type[B], raw: bytes) -> B:
    """Read a request body; an empty one counts as `{}`. A field can be left out, but is never null.

    Raises:
        InvalidRequest: it is no JSON object, or a field is wrong; `param` names the field.
    """
    fields = json_object(raw) if raw.strip() else {}
    known = {field.alias or name: field.description for name, field in schema.model_fields.items()}
    for name in fields.keys() - known.keys():
        raise InvalidRequest(f"{shown(name)} is not a field; known: {', '.join(sorted(known))}", param=label(name))
    try:
        body = schema.model_validate(fields)
    except ValidationError as err:
        raise _wrong(str(err.errors(include_url=False)[0]["loc"][0]), fields, known) from err
    if nulls := [name for name, value in fields.items() if value is None]:
        raise _wrong(nulls[0], fields, known)
    return body


def _wrong(name: str, fields: dict[str, Any], known: Mapping[str, str | None]) -> InvalidRequest:
    found = shown(fields[name]) if name in fields else "nothing"
    return InvalidRequest(f"{name} must be {known[name]}; got {found}", param=name)


def parse_limit(text: str | None) -> int:
    """The `limit` of a listing: 1 to 1000, 100 where none is given. Raises `InvalidRequest`."""
    if text is None:
        return 100
    limit = natural(text)
    if limit is None or not 1 <= limit <= 1000:
        raise InvalidRequest(f"limit must be an integer from 1 to 1000; got {shown(text)}", param="limit")
    return limit


def parse_last_event_id(text: str | None) -> int:
    """The number of the last event a client has seen; -1 where it gives none. Raises `InvalidRequest`."""
    if text is None:
        return -1
    seq = natural(text)
    if seq is None:
        raise InvalidRequest(
            f"Last-Event-ID must be the id of an event of this stream, 0 or more; got {shown(text)}",
            param="last_event_id",
        )
    return seq


def natural(text: str) -> int | None:
    """The value of up to 18 plain digits; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def json_object(raw: bytes) -> dict[str, Any]:
    """Read a JSON object; a byte order mark before it is skipped. Raises `InvalidRequest`."""
    try:
        value = json.loads(raw.decode("utf-8-sig"), parse_float=_number, parse_constant=_refuse_constant)
    except UnicodeDecodeError as err:
        raise InvalidRequest("The body must be JSON in UTF-8.") from err
    except json.JSONDecodeError as err:
        raise InvalidRequest(f"The body is not valid JSON: {err}.") from err
    except (ValueError, RecursionError) as err:
        raise InvalidRequest("The body is not valid JSON: a number is too long or the nesting too deep.") from err
    if _has_many_levels(raw) and num_levels(value) > MAX_LEVELS:
        raise InvalidRequest(f"The body must not have more than {MAX_LEVELS} levels of objects and lists.")
    if not isinstance(value, dict):
        raise InvalidRequest(f"The body must be a JSON object; got {shown(value)}")
    if _SURROGATE.search(raw):
        _check_unicode(value)
    return value


def _has_many_levels(raw: bytes) -> bool:
    """Whether it could, which is much faster to tell than whether it does."""
    return raw.count(b"{") + raw.count(b"[") > MAX_LEVELS


def _number(text: str) -> float:
    """An integer is an integer however it is written (10.0, 1e1), as in JSON Schema."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT else value


def _refuse_constant(name: str) -> NoReturn:
    """Python's parser takes NaN and Infinity, which are no JSON."""
    raise InvalidRequest(f"The body is not valid JSON: {name} is not a JSON value.")


def _beginning(value: object) -> str:
    """As JSON: no more of it than will be shown."""
    return "".join(islice(json.JSONEncoder().iterencode(value), SHOWN_CHARS + 1))


def _check_unicode(fields: Mapping[str, Any]) -> None:
    """JSON can say halves of a surrogate pair, which are no characters. Raises `InvalidRequest`."""
    for name, value in fields.items():
        if not _is_unicode(value):
            raise InvalidRequest(f"{label(name)} must be valid Unicode; got {shown(value)}", param=label(name))


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def label(name: str) -> str:
    """The name of a field as it may stand in `param`."""
    return name[:SHOWN_CHARS].encode("utf-8", "backslashreplace").decode()


def shown(value: object) -> str:
    """A refused value as it may stand in a message: short, and always printable."""
    text = repr(value[: SHOWN_CHARS + 1]) if isinstance(value, str) else _beginning(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."
