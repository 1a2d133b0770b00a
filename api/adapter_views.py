"""Builds the JSON bodies about models, adapters and aliases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from api.schemas import adapters as bodies
from api.times import iso
from common.adapters.names import split_version, version_name
from common.adapters.records import Alias, ModelKind, NamedModel, Version, VersionFacts
from common.fleet import WorkerReport


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The aliases, the live workers, and whether the reader is an admin."""

    aliases: Sequence[Alias]
    workers: Sequence[WorkerReport]
    is_admin: bool

    def aliases_of(self, model: str) -> list[str]:
        """Return the aliases that point to a version or a base model."""
        return [alias.name for alias in self.aliases if alias.target == model]

    def workers_with(self, base: str, adapter_id: str) -> list[str]:
        """Return the workers that have an adapter in memory; the base model itself if `adapter_id` is empty."""
        return [
            one.id
            for one in self.workers
            if one.holds_model and one.base_name == base
            if not adapter_id or adapter_id in one.adapters
        ]

    def card_of(self, base: str) -> bodies.BaseCard | None:
        """Return what there is to know of a base model; None while no worker has it loaded."""
        cards = (
            bodies.BaseCard(
                license=one.license,
                parameters=one.parameters,
                bytes=one.model_bytes,
                context_length=one.context,
                dtype=one.dtype,
            )
            for one in self.workers
            if one.holds_model and one.base_name == base
        )
        return next(cards, None)


def version(name: str, number: int, facts: VersionFacts, around: Surroundings) -> bodies.AdapterVersion:
    """Describe a version of an adapter. Its training's summary may quote the data, so only admins see that."""
    return bodies.AdapterVersion(
        name=name,
        version=number,
        id=facts.id,
        base=facts.base,
        rank=facts.rank,
        modules=list(facts.modules),
        bytes=facts.bytes,
        created=iso(facts.created_ms),
        summary=(dict(facts.summary) or None) if around.is_admin else None,
        aliases=around.aliases_of(version_name(name, number)),
        workers=around.workers_with(facts.base, facts.id),
    )


def adapter(versions: Sequence[Version], around: Surroundings) -> bodies.Adapter:
    """Describe an adapter with all its versions, oldest first."""
    described = [version(one.name, one.number, one.facts, around) for one in versions]
    return bodies.Adapter(**described[-1], versions=described)


def models(known: Iterable[NamedModel], numbers: dict[str, list[int]], around: Surroundings) -> list[bodies.NamedModel]:
    """Describe every name; `numbers` are the versions of each adapter."""
    return [_model(one, numbers.get(one.name, []), around) for one in known]


def _model(one: NamedModel, numbers: list[int], around: Surroundings) -> bodies.NamedModel:
    found = one.resolved
    return bodies.NamedModel(
        name=one.name,
        kind=one.kind.value,
        model=found.model,
        base=found.base,
        parent=None if one.kind is ModelKind.BASE else found.base,
        version=split_version(found.model)[1] if found.adapter_id else None,
        adapter_id=found.adapter_id or None,
        versions=numbers,
        workers=around.workers_with(found.base, found.adapter_id),
        card=around.card_of(found.base) if one.kind is ModelKind.BASE else None,
    )


def alias(one: Alias, *, is_admin: bool) -> bodies.Alias:
    """Describe an alias; only admins see who set it."""
    described = bodies.Alias(name=one.name, model=one.target, history=list(one.history))
    if is_admin:
        described["set_by"] = one.set_by or None
    return described


def published(result: dict[str, Any], *, job_id: str, succeeded: bool) -> bodies.Published:
    """Describe what a publish job has registered, as it was at that time."""
    facts = VersionFacts.from_dict(result["facts"])
    described = version(result["name"], result["version"], facts, Surroundings((), (), is_admin=True))
    return bodies.Published(
        **described, success=succeeded, message=result["message"], is_new=result["is_new"], job_id=job_id
    )
