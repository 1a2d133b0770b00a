"""Makes the jobs of training runs and evaluations from what a client asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.current import caller, services
from api.service import NewJob
from common.adapters.names import public_name
from common.errors import InvalidRequest, NotFound
from common.jobs.job import JobKind
from common.jobs.store import JobOptions
from common.owners.files import StoredFile
from common.training.spec import EvaluatedModel, EvaluationSpec, TrainingSpec

PURPOSE = "fine-tune"


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """A training run to submit. `model` is the name of its base, or of the version that it continues.

    `shown` are values that the fine-tuning routes repeat. `webhook_url` was checked.
    """

    spec: TrainingSpec
    model: str
    shown: Mapping[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None


def training_job(order: TrainingOrder) -> NewJob:
    """Return the job of a training run.

    Raises:
        InvalidRequest, Conflict: an adapter cannot have that name.
    """
    services().registry.check_free(order.spec.name)
    notes = {"fine_tuning": _repeated(order.spec) | dict(order.shown)}
    return NewJob(
        caller().owner,
        JobKind.TRAIN,
        order.spec.to_dict() | {"notes": notes},
        _options(order.webhook_url, order.model),
    )


def evaluation_job(spec: EvaluationSpec, webhook_url: str | None) -> NewJob:
    """Return the job of an evaluation."""
    return NewJob(caller().owner, JobKind.EVALUATE, spec.to_dict(), _options(webhook_url))


def _options(webhook_url: str | None, model: str = "") -> JobOptions:
    return JobOptions(webhook_url=webhook_url, model=model, keep_s=services().settings.train_ttl_s)


def _repeated(spec: TrainingSpec) -> dict[str, Any]:
    """Return what remains known of a run that ends without a result."""
    names = ("name", "file_id", "validation_file_id", "method", "seed")
    return {name: getattr(spec, name) for name in names}


def evaluated(names: Sequence[str]) -> list[EvaluatedModel]:
    """Return what each name stands for now.

    Raises:
        ModelNotFound: one stands for nothing.
    """
    found = services().registry.resolve_all(names)
    for name, resolved in zip(names, found, strict=True):
        if resolved is None:
            raise services().registry.unknown(name).renamed({"model": "models"})
    return [
        EvaluatedModel(name, one.model, one.base, one.adapter_id)
        for name, one in zip(names, found, strict=True)
        if one is not None
    ]


def start_model(base: str | None, version: str | None) -> str:
    """Return the name of the model to start from: a base model, or a version of an adapter.

    Args:
        base: the name of a base model; None: that of `version`, else the server's first.
        version: the adapter, version or alias to continue.

    Raises:
        ModelNotFound: nothing has that name.
        InvalidRequest: `base` is no base model, or `version` is none of it.
    """
    registry = services().registry
    if base is not None:
        found = registry.resolve(base)
        if found is None:
            raise registry.unknown(base).renamed({"model": "base"})
        if found.adapter_id:
            raise InvalidRequest(f"base must be a base model; {base!r} is an adapter (use from)", param="base")
    if version is None:
        return base or _default_base()
    continued = registry.resolve(version)
    if continued is None:
        raise registry.unknown(version).renamed({"model": "from"})
    if base is not None and continued.base != base:
        raise InvalidRequest(
            f"from must be a version for {base!r}; {version!r} is for {continued.base!r}", param="from"
        )
    return continued.model


def _default_base() -> str:
    """Return the base model of requests without a name; before a worker has reported it, the one in the settings."""
    default = services().registry.resolve("")
    return public_name(services().settings.base_model) if default is None else default.base


def dataset_file(file_id: str, param: str) -> StoredFile:
    """Return the caller's dataset with that id.

    Raises:
        NotFound: there is no such file, or it belongs to somebody else.
        InvalidRequest: it was uploaded for something else.
    """
    try:
        found = services().files.find(file_id)
    except NotFound as err:
        raise err.renamed({"file_id": param}) from err
    if not caller().may_see(found.owner):
        raise NotFound(f"There is no file {file_id[:60]!r}.", param=param)
    if found.purpose != PURPOSE:
        raise InvalidRequest(f"{param} must be the id of a file with the purpose {PURPOSE}", param=param)
    return found


def stored_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> StoredFile:
    """Store rows that came with the request as a dataset. Raises `QuotaExceeded`."""
    lines = [*(json.dumps(row, ensure_ascii=False) for row in rows), ""]
    limits = services().keyring.limits_of(caller().owner)
    return services().files.put(caller().owner, f"{name}.jsonl"[:255], PURPOSE, lines, limits=limits)
