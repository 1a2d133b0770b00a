"""The API keys as a process of the API knows them: read again when they are older than `CACHE_S`."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable

from api.auth.caller import ANONYMOUS, Caller
from common.errors import Unauthorized
from common.owners.api_keys import UNLIMITED, ApiKey, ApiKeyStore, Limits, Role, digest

CACHE_S = 2.0  # how long a revoked key may still open something


class Keyring:
    """Tells who sends a key. Every method may raise `redis.exceptions.RedisError`.

    Args:
        store: where the keys are kept.
        allows_anonymous: whether anybody is let in, as an admin, while there are no keys at all.
        clock: seconds.
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
        """Who sends that key, or none.

        A server without keys that allows everybody in takes any key: clients such as OpenAI's cannot send none.

        Raises:
            Unauthorized: it is no key of this server.
        """
        self._refresh()
        if not self._by_digest and self._allows_anonymous:
            return ANONYMOUS
        if secret is None:
            raise Unauthorized("This needs an API key: send it as 'Authorization: Bearer ...' or 'X-API-Key: ...'.")
        key = self._find(digest(secret))
        if key is None:
            raise Unauthorized("This API key is not valid; it may have been revoked.")
        return _caller(key)

    def now(self, caller: Caller) -> Caller | None:
        """The caller with the rights that their key has now; None if it was revoked. Who needed none keeps theirs."""
        if not caller.key:
            return caller
        self._refresh()
        key = self._by_digest.get(caller.key)
        return None if key is None else _caller(key)

    def _find(self, wanted: str) -> ApiKey | None:
        """How long the look-up takes tells at most about the digest, from which nobody comes to the key."""
        key = self._by_digest.get(wanted)
        return key if key is not None and hmac.compare_digest(key.digest, wanted) else None

    def limits_of(self, owner: str) -> Limits:
        """How much the owner may ask for. What has no key has no limits."""
        self._refresh()
        key = self._by_name.get(owner)
        return UNLIMITED if key is None else key.limits

    def _refresh(self) -> None:
        with self._lock:  # one asks for all that wait
            if self._clock() < self._stale_at:
                return
            found = self._store.all()
            self._by_digest = {key.digest: key for key in found}
            self._by_name = {key.name: key for key in found}
            self._stale_at = self._clock() + CACHE_S


def _caller(key: ApiKey) -> Caller:
    return Caller(key.name, is_admin=key.role is Role.ADMIN, key=key.digest)
