"""The bodies of requests and responses about models, adapters and aliases."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.meaning import Meaning
from api.schemas.response_model import Count, JobId, ResponseModel, Time
from api.schemas.strict import Strict

Workers = Annotated[list[str], Field(description="the workers that have it in memory")]
ContentId = Annotated[str, Field(description="SHA-256 of the adapter's files")]
Number = Annotated[int, Field(ge=1)]


class UploadedAdapter(BaseModel):
    """An archive with a PEFT folder."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[str, Meaning("A tar (also tar.gz) or zip archive with the adapter's files.")] = Field(
        description="an archive", json_schema_extra={"format": "binary", "contentMediaType": "application/gzip"}
    )


class AliasBody(Strict):
    """Body of `PUT /slm/aliases/{alias}`."""

    model: Annotated[
        str,
        Meaning("The alias gets what this name stands for now: a base model, an adapter, a version, or an alias."),
    ] = Field(min_length=1, max_length=200, description="the name of a model")


class AdapterVersion(ResponseModel):
    """A version of an adapter."""

    name: str
    version: Number
    id: ContentId
    base: Annotated[str, Field(description="the base model that it fits")]
    rank: Annotated[Count, Field(description="highest rank of its matrices")]
    modules: Annotated[list[str], Field(description="kinds of the base model's modules that it adapts")]
    bytes: Annotated[Count, Field(description="size of its files")]
    created: Annotated[Time, Field(description="when this content was first registered")]
    summary: Annotated[dict[str, Any] | None, Field(description="for admins: the summary that its training wrote")]
    aliases: Annotated[list[str], Field(description="the aliases that point to this version")]
    workers: Workers


class Adapter(AdapterVersion):
    """An adapter: its newest version, and all versions, oldest first."""

    versions: list[AdapterVersion]


class ShownAdapter(AdapterVersion):
    """A version of an adapter, or an adapter: its newest version, and all versions."""

    success: Literal[True]
    versions: NotRequired[Annotated[list[AdapterVersion], Field(description="of an adapter: oldest first")]]


class AdapterList(ResponseModel):
    """All adapters, by name."""

    success: Literal[True]
    adapters: list[Adapter]


class Published(AdapterVersion):
    """The uploaded adapter was registered. `is_new` is false if it already was the newest version of its name."""

    success: bool
    message: str
    is_new: bool
    job_id: JobId


class DeletedAdapter(ResponseModel):
    """These versions were deleted."""

    success: Literal[True]
    name: str
    versions: list[Number]


class Alias(ResponseModel):
    """An alias."""

    name: str
    model: Annotated[str, Field(description="what it points to: a version such as `support@3`, or a base model")]
    history: Annotated[list[str], Field(description="what it pointed to before, latest first")]
    set_by: NotRequired[
        Annotated[str | None, Field(description="for admins only: the owner who set it; null if the server did")]
    ]


class ShownAlias(Alias):
    """An alias."""

    success: Literal[True]


class AliasList(ResponseModel):
    """All aliases, by name."""

    success: Literal[True]
    aliases: list[Alias]


class DeletedModel(ResponseModel):
    """The base model is no longer known."""

    success: Literal[True]
    name: str


class DeletedAlias(ResponseModel):
    """The alias was deleted."""

    success: Literal[True]
    name: str


class BaseCard(ResponseModel):
    """What there is to know of a base model; null if its files do not say it."""

    license: Annotated[str | None, Field(description="an identifier such as `apache-2.0`, or the licence's title")]
    parameters: Annotated[Count | None, Field(description="number of weights")]
    bytes: Annotated[Count | None, Field(description="size of the files with the weights")]
    context_length: Annotated[Count | None, Field(description="maximum number of tokens of prompt and answer together")]
    dtype: Annotated[str | None, Field(description="number format of the weights in memory")]


class NamedModel(ResponseModel):
    """A name that a request can use as its `model`."""

    name: str
    kind: Literal["base", "adapter", "alias"]
    model: Annotated[str, Field(description="what it stands for now: a version such as `support@3`, or a base model")]
    base: str
    parent: Annotated[str | None, Field(description="the base model, unless it is one itself")]
    version: Annotated[int | None, Field(description="number of the adapter's version")]
    adapter_id: Annotated[str | None, Field(description="SHA-256 of the adapter's files")]
    versions: Annotated[
        list[Number], Field(description="of an adapter: all numbers; each is a name, such as `support@3`")
    ]
    workers: Workers
    card: Annotated[BaseCard | None, Field(description="of a base model, while a worker has it loaded")]


class ModelNames(ResponseModel):
    """Everything that a request can name, sorted by name."""

    success: Literal[True]
    models: list[NamedModel]
