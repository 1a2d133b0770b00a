"""Represents the sender of a request."""

from __future__ import annotations

from dataclasses import dataclass

from common.owners import api_keys
from common.owners.api_keys import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `owner` owns their jobs; an admin may also read and change the jobs of others.

    `may_train`: whether they may train adapters. A worker of another host may use only the routes for workers. `key` is
    the digest of the caller's API key; empty if no key was required.
    """

    owner: str
    is_admin: bool
    key: str = ""
    is_worker: bool = False
    may_train: bool = False

    @property
    def role(self) -> Role:
        """The role of the caller's key; without keys, that of an admin."""
        if self.is_admin:
            return Role.ADMIN
        if self.is_worker:
            return Role.WORKER
        return Role.TRAINER if self.may_train else Role.USER

    def may_see(self, owner: str) -> bool:
        """Return whether the caller may see the jobs of that owner."""
        return self.is_admin or owner == self.owner


ANONYMOUS = Caller(owner=api_keys.ANONYMOUS, is_admin=True, may_train=True)  # everybody, on a server without keys
