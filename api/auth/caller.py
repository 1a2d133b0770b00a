"""Who sends a request."""

from __future__ import annotations

from dataclasses import dataclass

from common.owners import api_keys


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a request. `owner` is whom their jobs belong to; an admin may also touch the jobs of others.

    `key` is the digest of the API key that says so; empty if none was needed.
    """

    owner: str
    is_admin: bool
    key: str = ""

    def may_see(self, owner: str) -> bool:
        """Whether the jobs of that owner are there for them."""
        return self.is_admin or owner == self.owner


ANONYMOUS = Caller(owner=api_keys.ANONYMOUS, is_admin=True)  # everybody, on a server without keys
