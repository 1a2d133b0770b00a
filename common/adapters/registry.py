"""The registry of models in Redis: names, versions and aliases.

Every change is one Lua script. A name belongs to one thing: a base model, an adapter or an alias. An alias never points
to nothing: what it needs cannot be deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from redis import Redis

from common.adapters.names import DEFAULT_ALIAS, check_name, version_name
from common.adapters.records import (
    Alias,
    ModelKind,
    NamedModel,
    Registered,
    Resolved,
    Version,
    VersionFacts,
)
from common.errors import AdapterNotFound, Conflict, ModelNotFound, NotFound
from common.redis import keys
from common.redis.scripts import Script, or_empty

_SHOWN = 20  # names in an error's text
_RESERVED = "reserved"


class AdapterRegistry:
    """Registers, lists, resolves and deletes. Every method may raise `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._register, self._delete = Script(redis, "adapter_register"), Script(redis, "adapter_delete")
        self._set, self._rollback = Script(redis, "alias_set"), Script(redis, "alias_rollback")
        self._remove, self._resolve = Script(redis, "alias_delete"), Script(redis, "resolve")
        self._known, self._forget = Script(redis, "models"), Script(redis, "base_delete")

    # -- names ---------------------------------------------------------------------------------------------------------

    def note_base(self, name: str, base_id: str) -> None:
        """Record a base model that workers serve, and the hash of its files."""
        self._redis.hset(keys.BASES, name, base_id)
        self._redis.hsetnx(keys.BASES_CREATED, name, str(self._redis.time()[0]))

    def bases(self) -> dict[str, str]:
        """Return the base models: name -> hash of its files."""
        return cast(dict[str, str], self._redis.hgetall(keys.BASES))

    def forget_base(self, name: str) -> None:
        """Forget a base model that workers no longer serve. A worker that does serve it records it again.

        Raises:
            NotFound: there is no such base model.
            Conflict: an alias, an adapter, an open job or an open batch needs it; nothing was changed.
        """
        status, *user = self._forget(name)
        if status == "unknown":
            names = ", ".join(sorted(self.bases())[:_SHOWN])
            raise NotFound(f"There is no base model {name[:80]!r}. There are: {names or 'none'}.", param="name")
        if status != "ok":
            raise Conflict(f"{name!r} is needed by {_described(status, *user)}. Nothing was deleted.", param="name")

    def created(self, models: Sequence[Resolved]) -> list[int]:
        """Return when each of these models was registered (seconds since the epoch); 0 if that is unknown."""
        with self._redis.pipeline() as pipe:
            for model in models:
                if model.adapter_id:
                    pipe.hget(keys.adapter_version(model.adapter_id), "created_ms")
                else:
                    pipe.hget(keys.BASES_CREATED, model.base)
            found = cast(list[str | None], pipe.execute())
        divisors = (1000 if model.adapter_id else 1 for model in models)
        return [int(text or 0) // divisor for text, divisor in zip(found, divisors, strict=True)]

    def resolve(self, name: str) -> Resolved | None:
        """Return what a request's name stands for; '' is the alias `default`. None: nothing has that name."""
        return self.resolve_all([name])[0]

    def resolve_all(self, names: Sequence[str]) -> list[Resolved | None]:
        """Return what each of several names stands for, as `resolve`, in one round trip."""
        return [Resolved(*found) if found else None for found in self._resolve.many([(name,) for name in names])]

    def known(self) -> list[NamedModel]:
        """Return every name that a request can use, sorted; versions of adapters are not listed apart."""
        rows = [
            NamedModel(name, ModelKind(kind), Resolved(base, model, adapter_id))
            for name, kind, base, model, adapter_id in self._known()
        ]
        return sorted(rows, key=lambda row: row.name)

    def unknown(self, name: str) -> ModelNotFound:
        """Return the error for a name that stands for nothing; its text lists what exists."""
        names = [row.name for row in self.known()]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        there = f"There are: {', '.join(names[:_SHOWN])}{more}." if names else "No model is known yet."
        return ModelNotFound(f"There is no model {name[:80]!r}. {there}", param="model")

    # -- adapters ------------------------------------------------------------------------------------------------------

    def register(self, name: str, facts: VersionFacts) -> Registered:
        """Give the content the next number under that name; if it is the newest version already, change nothing.

        Raises:
            InvalidRequest: the name has a wrong form.
            Conflict: a base model or an alias has the name.
        """
        number, is_new = self._registered(name, facts, is_folder=False)
        return Registered(name, number, facts.id, is_new)

    def check_free(self, name: str) -> None:
        """Check that an adapter can have the name.

        Raises:
            InvalidRequest, Conflict: as `register`.
        """
        check_name(name, "name")
        if name == DEFAULT_ALIAS:
            raise _taken(name, _RESERVED, "name")
        for kind, key in ((ModelKind.ALIAS, keys.ALIASES), (ModelKind.BASE, keys.BASES)):
            if self._redis.hexists(key, name):
                raise _taken(name, kind, "name")

    def register_folder(self, name: str, facts: VersionFacts) -> Registered | None:
        """Register the present content of a folder: a new version only if the content changed since the last call.

        So versions that were published under the same name meanwhile remain the newest. None: that content was
        registered before and its version has been deleted.

        Raises:
            InvalidRequest, Conflict: as `register`.
        """
        number, is_new = self._registered(name, facts, is_folder=True)
        return Registered(name, number, facts.id, is_new) if number else None

    def _registered(self, name: str, facts: VersionFacts, *, is_folder: bool) -> tuple[int, bool]:
        check_name(name, "name")
        status, number, is_new = self._register(name, facts.id, int(is_folder), *facts.to_fields())
        if status != "ok":
            raise _taken(name, status, "name")
        return int(number), bool(is_new)

    def names(self) -> list[str]:
        """Return the names of all adapters, sorted."""
        return sorted(cast(set[str], self._redis.smembers(keys.ADAPTERS)))

    def versions(self, name: str) -> list[Version]:
        """Return the versions of an adapter, oldest first; empty if there is no such adapter."""
        return self._versions([name])[name]

    def all_versions(self) -> dict[str, list[Version]]:
        """Return the versions of every adapter, as `versions`, by its name; an adapter without any is left out."""
        return {name: versions for name, versions in self._versions(self.names()).items() if versions}

    def _versions(self, names: Sequence[str]) -> dict[str, list[Version]]:
        hashes = self._hashes([keys.adapter(name) for name in names])
        ids = [{int(field): one for field, one in found.items() if field.isdigit()} for found in hashes]
        wanted = sorted({adapter_id for numbers in ids for adapter_id in numbers.values()})
        facts = dict(zip(wanted, self._hashes([keys.adapter_version(one) for one in wanted]), strict=True))
        return {
            name: [
                Version(name, number, VersionFacts.from_hash(adapter_id, facts[adapter_id]))
                for number, adapter_id in sorted(numbers.items())
                if facts[adapter_id]  # else it was deleted meanwhile
            ]
            for name, numbers in zip(names, ids, strict=True)
        }

    def _hashes(self, names: Sequence[str]) -> list[dict[str, str]]:
        """Read several hashes in one round trip."""
        with self._redis.pipeline() as pipe:
            for name in names:
                pipe.hgetall(name)
            return cast(list[dict[str, str]], pipe.execute())

    def delete(self, name: str, number: int | None = None) -> list[int]:
        """Delete one version, or all if `number` is None; return the numbers. They are never used again.

        Raises:
            AdapterNotFound: there is no such version.
            Conflict: an open job, an open batch or an alias needs it; nothing was deleted.
        """
        status, *details = self._delete(name, or_empty(number))
        if status == "unknown":
            raise self.no_adapter(name if number is None else version_name(name, number))
        if status != "ok":
            version, user = details
            raise Conflict(f"{version!r} is needed by {_described(status, user)}. Nothing was deleted.", param="name")
        return sorted(int(one) for one in details)

    def no_adapter(self, name: str) -> AdapterNotFound:
        """Return the error for a name or version that no adapter has; its text lists the adapters."""
        names = self.names()
        there = f"There are: {', '.join(names[:_SHOWN])}." if names else "There are no adapters yet."
        return AdapterNotFound(f"There is no adapter {name[:80]!r}. {there}", param="name")

    def facts(self, adapter_id: str) -> VersionFacts | None:
        """Return the facts about the content of a version; None if no version has it."""
        fields = cast(dict[str, str], self._redis.hgetall(keys.adapter_version(adapter_id)))
        return VersionFacts.from_hash(adapter_id, fields) if fields else None

    def deleted_ids(self) -> set[str]:
        """Return the content that no name has any more: its files can be deleted."""
        return set(cast(list[str], self._redis.zrange(keys.DELETED_ADAPTERS, 0, -1)))

    # -- aliases -------------------------------------------------------------------------------------------------------

    def aliases(self) -> list[Alias]:
        """Return all aliases, sorted by name."""
        found = cast(dict[str, str], self._redis.hgetall(keys.ALIASES))
        return [Alias.from_json(name, text) for name, text in sorted(found.items())]

    def alias(self, name: str) -> Alias:
        """Return one alias.

        Raises:
            NotFound: there is no such alias.
        """
        text = cast("str | None", self._redis.hget(keys.ALIASES, name))
        if text is None:
            raise NotFound(f"There is no alias {name[:80]!r}.", param="alias")
        return Alias.from_json(name, text)

    def set_alias(self, name: str, model: str, *, set_by: str) -> Alias:
        """Point an alias to what `model` stands for now: a version of an adapter, or a base model.

        Raises:
            InvalidRequest: the name has a wrong form.
            ModelNotFound: `model` stands for nothing.
            Conflict: a base model or an adapter has the alias's name.
        """
        check_name(name, "alias")
        status, alias = self._set(name, model, set_by, 0)
        if status == "unknown":
            raise self.unknown(model)
        if status != "ok":
            raise _taken(name, status, "alias")
        return Alias.from_json(name, alias)

    def set_default(self, model: str) -> None:
        """Point the alias `default` to what `model` stands for, unless somebody has set it by hand."""
        self._set(DEFAULT_ALIAS, model, "", 1)

    def rollback(self, name: str, *, set_by: str) -> Alias:
        """Point an alias to its previous target again.

        Raises:
            NotFound: there is no such alias.
            Conflict: it has no previous target.
        """
        status, alias = self._rollback(name, set_by)
        if status == "first":
            raise Conflict(f"The alias {name!r} has no earlier target to return to.", param="alias")
        return Alias.from_json(name, alias) if status == "ok" else self.alias(name)

    def delete_alias(self, name: str) -> None:
        """Delete an alias.

        Raises:
            NotFound: there is no such alias.
        """
        if not self._remove(name):
            raise NotFound(f"There is no alias {name[:80]!r}.", param="alias")


def _taken(name: str, kind: str, param: str) -> Conflict:
    if kind == _RESERVED:
        return Conflict(f"{name!r} is the alias of requests without a name. Choose another name.", param=param)
    thing = {ModelKind.BASE: "a base model", ModelKind.ADAPTER: "an adapter", ModelKind.ALIAS: "an alias"}[
        ModelKind(kind)
    ]
    return Conflict(f"There is {thing} named {name!r} already. Choose another name.", param=param)


def _described(kind: str, user: str) -> str:
    return f"the open {kind} {user}" if kind in ("job", "batch") else f"the {kind} {user!r}"
