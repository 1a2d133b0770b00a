"""Files of clients, in Redis: what a batch is made of, and what it has brought."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, cast

from redis import Redis

from common import ids, keys
from common.errors import NotFound
from common.owned import Page, page_of

LINES_AT_ONCE = 500  # what a large file holds in memory while it is written or read


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
        """Read the hash at `keys.file(id)`."""
        numbers = {name: int(fields[name]) for name in ("bytes", "created_at", "expires_at")}
        return cls(**(dict(fields) | numbers))  # type: ignore[arg-type]


class FileStore:
    """Put, find, read and delete files. A content is kept line by line; lines are joined by a newline and nothing else.

    Every method may raise `redis.exceptions.RedisError`.

    Args:
        redis: connection (with `decode_responses`).
        ttl_s: how long a file is kept.
    """

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    def put(
        self, owner: str, filename: str, purpose: str, lines: Iterable[str], *, file_id: str | None = None
    ) -> StoredFile:
        """Keep a file. It can be found once all of it is there. Under a given id, what was there is replaced."""
        file_id = file_id or f"file-{uuid.uuid4()}"
        size = self._put_lines(keys.file_lines(file_id), lines)
        now = int(time.time())
        record = StoredFile(file_id, owner, filename, purpose, size, now, now + self._ttl_s)
        with self._redis.pipeline() as pipe:
            pipe.hset(keys.file(file_id), mapping=cast(Any, asdict(record)))
            pipe.expire(keys.file(file_id), self._ttl_s)
            pipe.zadd(keys.files(owner), {file_id: now})
            pipe.execute()
        return record

    def _put_lines(self, key: str, lines: Iterable[str]) -> int:
        """Returns the content's length in bytes."""
        self._redis.delete(key)
        size, left = -1, iter(lines)
        while chunk := list(islice(left, LINES_AT_ONCE)):
            with self._redis.pipeline() as pipe:
                pipe.rpush(key, *chunk)
                pipe.expire(key, self._ttl_s)
                pipe.execute()
            size += sum(len(line.encode()) + 1 for line in chunk)
        return max(size, 0)

    def find(self, file_id: str) -> StoredFile:
        """The file's record, whosever it is.

        Raises:
            NotFound: there is no such file, or it has expired.
        """
        if (found := self._look(file_id)) is None:
            raise NotFound(f"There is no file {file_id[:60]!r}.", param="file_id")
        return found

    def _look(self, file_id: str) -> StoredFile | None:
        if not ids.has_form(file_id, ids.FILE_ID):
            return None
        fields = cast(dict[str, str], self._redis.hgetall(keys.file(file_id)))
        return StoredFile.from_hash(fields) if fields else None

    def newest(self, owner: str, *, purpose: str | None = None, after: str | None, limit: int) -> Page[StoredFile]:
        """The owner's files behind `after`, newest first; those of one purpose, where one is given."""
        return page_of(
            self._redis,
            keys.files(owner),
            self._look,
            after=after,
            limit=limit,
            is_wanted=lambda one: purpose in (None, one.purpose),
        )

    def content(self, file_id: str) -> Iterator[str]:
        """The file's text, piece by piece."""
        first, joint = 0, ""
        while lines := self._lines(file_id, first):
            yield joint + "\n".join(lines)
            first, joint = first + len(lines), "\n"

    def _lines(self, file_id: str, first: int) -> list[str]:
        return cast(list[str], self._redis.lrange(keys.file_lines(file_id), first, first + LINES_AT_ONCE - 1))

    def delete(self, file: StoredFile) -> None:
        """Drop a file; a batch that was made of it goes on."""
        with self._redis.pipeline() as pipe:
            pipe.delete(keys.file(file.id), keys.file_lines(file.id))
            pipe.zrem(keys.files(file.owner), file.id)
            pipe.execute()
