"""Caches the API keys in an API process; they are read again after `CACHE_S`."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable

from api.auth.caller import ANONYMOUS, Caller
from common.errors import Unauthorized
from common.owners.api_keys import UNLIMITED, ApiKey, ApiKeyStore, Limits, Role, UnknownApiKey, digest

CACHE_S = 2.0  # how long a revoked key may still be accepted, except for changes by operators


class Keyring:
    """Identifies callers by their keys. Every method may raise `redis.exceptions.RedisError`.

    Args:
        store: the stored keys.
        allows_anonymous: whether everybody may use the server, as an admin, while there are no keys at all.
        clock: returns seconds.
    """

    def __init__(
        self, store: ApiKeyStore, *, allows_anonymous: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._allows_anonymous = allows_anonymous
        self._clock = clock
        self._lock = threading.Lock()
        self._by_digest: dict[str, ApiKey] = {}
        self._by_name: dict[str, ApiKey] = {}
        self._stale_at = -1.0

    def identify(self, secret: str | None) -> Caller:
        """Return the caller who sent that key, or no key.

        A server without keys that allows anonymous use accepts any key, because OpenAI's clients always send one.

        Raises:
            Unauthorized: the key is missing or unknown.
        """
        self._refresh()
        if not self._by_digest and self._allows_anonymous:
            return ANONYMOUS
        if secret is None:
            raise Unauthorized("This needs an API key: send it as 'Authorization: Bearer ...' or 'X-API-Key: ...'.")
        wanted = digest(secret)
        return _caller(self._valid(self._by_digest.get(wanted), wanted))

    def confirm(self, caller: Caller) -> Caller:
        """Return the caller with the rights that their key has at this moment; unchanged without a key.

        Raises:
            Unauthorized: the key was revoked.
        """
        if not caller.key:
            return caller
        try:
            found: ApiKey | None = self._store.find(caller.owner)
        except UnknownApiKey:
            found = None
        return _caller(self._valid(found, caller.key))

    def now(self, caller: Caller) -> Caller | None:
        """Return the caller with the current rights of their key; None if it was revoked. Unchanged without a key."""
        if not caller.key:
            return caller
        self._refresh()
        key = self._by_digest.get(caller.key)
        return None if key is None else _caller(key)

    @staticmethod
    def _valid(found: ApiKey | None, wanted: str) -> ApiKey:
        """Return a key that was found if it has that digest.

        The timing can reveal at most the digest, from which the key cannot be computed.
        """
        if found is None or not hmac.compare_digest(found.digest, wanted):
            raise Unauthorized("This API key is not valid; it may have been revoked.")
        return found

    def limits_of(self, owner: str) -> Limits:
        """Return the limits of an owner; an owner without a key has none."""
        self._refresh()
        key = self._by_name.get(owner)
        return UNLIMITED if key is None else key.limits

    def forget(self) -> None:
        """Read the keys again at the next request, because this process has changed them."""
        with self._lock:
            self._stale_at = -1.0

    def _refresh(self) -> None:
        with self._lock:  # one thread reads the keys for all that wait
            if self._clock() < self._stale_at:
                return
            found = self._store.all()
            self._by_digest = {key.digest: key for key in found}
            self._by_name = {key.name: key for key in found}
            self._stale_at = self._clock() + CACHE_S


def _caller(key: ApiKey) -> Caller:
    is_admin = key.role is Role.ADMIN
    return Caller(
        key.name,
        is_admin=is_admin,
        key=key.digest,
        is_worker=key.role is Role.WORKER,
        may_train=is_admin or key.role is Role.TRAINER,
    )
