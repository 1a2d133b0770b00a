"""Revokes an API key together with the work of its owner."""

from __future__ import annotations

from dataclasses import dataclass

from common.jobs.store import JobStore
from common.owners.api_keys import ApiKeyStore, UnknownApiKey
from common.owners.batches import BatchStore


@dataclass(frozen=True, slots=True)
class Revoked:
    """The numbers of jobs and batches that were cancelled."""

    jobs: int
    batches: int


def revoke(name: str, keys: ApiKeyStore, batches: BatchStore, jobs: JobStore, *, keeps_admin: bool = False) -> Revoked:
    """Revoke the key first, so that nothing new is accepted, then end its work. Resumes an interrupted revocation.

    Raises:
        UnknownApiKey: no key has that name, and no work was left.
        NoAdminLeft: as in `ApiKeyStore.revoke`.
        RedisError: Redis cannot be used now.
    """
    unknown: UnknownApiKey | None = None
    try:
        keys.revoke(name, keeps_admin=keeps_admin)
    except UnknownApiKey as err:
        unknown = err
    revoked = Revoked(batches=batches.cancel_all(name), jobs=jobs.cancel_all(name))
    if unknown is not None and revoked == Revoked(0, 0):
        raise unknown
    return revoked
