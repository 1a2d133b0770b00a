"""Stores clients' files in Redis: the input and output of batches."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from typing import cast

from redis import Redis
from redis.exceptions import OutOfMemoryError

from common import ids
from common.errors import NotFound, QuotaExceeded
from common.owners.api_keys import UNLIMITED, Limits
from common.owners.collection import Limiter, Page, page_of
from common.redis import keys
from common.redis.scripts import Argument, Script, or_empty
from common.wire import known_fields

RETRY_S = 3600  # files are kept for days unless they are deleted
LINES_PER_CALL = 500  # bounds the memory while a large file is written or read


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's record. `bytes` is its length; times are in s since the epoch."""

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> StoredFile:
        """Parse the hash at `keys.file(id)`."""
        numbers = {name: int(fields[name]) for name in ("bytes", "created_at", "expires_at")}
        return cls(**(known_fields(cls, fields) | numbers))


class FileStore:
    """Writes, finds, reads and deletes files. The content is stored line by line; lines are joined by newlines only.

    Every method may raise `redis.exceptions.RedisError`.

    Args:
        redis: connection (with `decode_responses`).
        ttl_s: how long a file is kept.
    """

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._keep, self._delete = Script(redis, "file_keep"), Script(redis, "file_delete")

    def put(
        self,
        owner: str,
        filename: str,
        purpose: str,
        lines: Iterable[str],
        *,
        file_id: str | None = None,
        limits: Limits = UNLIMITED,
    ) -> StoredFile:
        """Store a file. It can be found once it is complete. An existing file with the given id is replaced.

        Raises:
            QuotaExceeded: the owner has reached a storage limit.
        """
        file_id = file_id or f"file-{uuid.uuid4()}"
        size = self._put_lines(keys.file_lines(file_id), lines)
        now = int(time.time())
        record = StoredFile(file_id, owner, filename, purpose, size, now, now + self._ttl_s)
        fields: list[Argument] = [part for pair in asdict(record).items() for part in pair]
        self._reserve(owner, file_id, size, limits, fields)
        return record

    def check_room(self, owner: str, size: int, limits: Limits) -> None:
        """Check that a file of `size` bytes may be stored, before it is complete. Raises as `put`."""
        self._reserve(owner, "", size, limits, [])

    def _reserve(self, owner: str, file_id: str, size: int, limits: Limits, fields: list[Argument]) -> None:
        most = (or_empty(limits.files), or_empty(limits.file_bytes))
        refusal = self._keep(owner, file_id, size, *most, self._ttl_s, *fields)
        if refusal == "files":
            message = f"You have reached your limit of {limits.files} files; delete some to make room."
            raise QuotaExceeded(message, retry_after_s=RETRY_S, limit=limits.files)
        if refusal == "file_bytes":
            message = f"Your files may take up at most {limits.file_bytes} bytes; delete some to make room."
            raise QuotaExceeded(message, retry_after_s=RETRY_S, limit=limits.file_bytes)

    def _put_lines(self, key: str, lines: Iterable[str]) -> int:
        """Write the lines and return the content's length in bytes."""
        self._redis.delete(key)
        size, left = -1, iter(lines)
        try:
            while chunk := list(islice(left, LINES_PER_CALL)):
                self._append(key, chunk)
                size += sum(len(line.encode()) + 1 for line in chunk)
        except OutOfMemoryError:
            self._redis.delete(key)
            raise
        return max(size, 0)

    def _append(self, key: str, lines: Sequence[str]) -> None:
        with self._redis.pipeline() as pipe:
            pipe.rpush(key, *lines)
            pipe.expire(key, self._ttl_s)
            pipe.execute()

    def find(self, file_id: str) -> StoredFile:
        """Return the file's record; the caller checks its owner.

        Raises:
            NotFound: the file does not exist or has expired.
        """
        if (found := self._look(file_id)) is None:
            raise NotFound(f"There is no file {file_id[:60]!r}.", param="file_id")
        return found

    def _look(self, file_id: str) -> StoredFile | None:
        if not ids.has_form(file_id, ids.FILE_ID):
            return None
        fields = cast(dict[str, str], self._redis.hgetall(keys.file(file_id)))
        if not fields or "is_deleted" in fields:
            return None
        found = StoredFile.from_hash(fields)
        return found if time.time() < found.expires_at else None

    def newest(self, owner: str, *, purpose: str | None = None, after: str | None, limit: int) -> Page[StoredFile]:
        """Return the owner's files that follow `after`, newest first; only those with `purpose`, if given."""
        return page_of(
            self._redis,
            keys.files(owner),
            self._look,
            after=after,
            limit=limit,
            is_wanted=lambda one: purpose in (None, one.purpose),
        )

    def content(self, file_id: str, limiter: Limiter = nullcontext) -> Iterator[str]:
        """Yield the file's text in pieces; `limiter` is entered while a piece is read."""
        first, joint = 0, ""
        while lines := self._lines(file_id, first, limiter):
            yield joint + "\n".join(lines)
            first, joint = first + len(lines), "\n"

    def _lines(self, file_id: str, first: int, limiter: Limiter) -> list[str]:
        with limiter():
            return cast(list[str], self._redis.lrange(keys.file_lines(file_id), first, first + LINES_PER_CALL - 1))

    def delete(self, file: StoredFile) -> None:
        """Delete a file; a batch that reads it continues."""
        self._delete(file.id)
