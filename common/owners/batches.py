"""Stores batches in Redis: files of requests that run as jobs, and the result of each line."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from redis import Redis

from common import ids
from common.errors import Conflict, NotFound, QuotaExceeded
from common.owners.api_keys import UNLIMITED, Limits
from common.owners.collection import Page, page_of
from common.redis import keys
from common.redis.scripts import Argument, Script, or_empty

WINDOW_S = 86_400  # how long a batch may take
SLACK_S = 3600  # after the window, to finish the batch
LINES_PER_CALL = 500
RETRY_S = 60

Json = dict[str, Any]


class BatchStatus(StrEnum):
    """The state of a batch.

    validating ──> in_progress ──> finalizing ──> completed
        │   │           │  └─(too late)─────────> expired
        │   └───────────┴──> cancelling ────────> cancelled
        └──> failed
    """

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the batch has ended."""
        return self in (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch and its progress. `times` maps each status to the time it was entered, in s since the epoch.

    `total` lines have a request; `cursor` is the first line that has not been submitted yet. `models` maps the names in
    the lines to the models that they stood for when the batch was created; until the lines have been read, all names.
    """

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    status: BatchStatus
    created_at: int
    expires_at: int
    total: int
    cursor: int
    completed: int
    failed: int
    metadata: Json
    models: Mapping[str, str]
    errors: list[Json]
    output_file_id: str | None
    error_file_id: str | None
    times: Mapping[str, int]


class BatchStore:
    """Creates, finds, updates and drives batches.

    Every method may raise `redis.exceptions.RedisError`. The driver's methods are idempotent.

    Args:
        redis: connection (with `decode_responses`).
        ttl_s: how long a batch can be found after its window.
    """

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._enter, self._move = Script(redis, "batch_enter"), Script(redis, "batch_move")
        self._tidy = Script(redis, "batch_tidy")

    # -- for clients ---------------------------------------------------------------------------------------------------

    def enter(
        self, owner: str, *, endpoint: str, input_file_id: str, metadata: Json, limits: Limits = UNLIMITED
    ) -> Batch:
        """Create a batch from the lines of a file.

        Raises:
            NotFound: the file does not exist or has expired.
            QuotaExceeded: the owner has reached the limit of open batches.
        """
        batch_id, now = f"batch_{uuid.uuid4()}", int(time.time())
        fields: dict[str, Argument] = {
            "id": batch_id,
            "owner": owner,
            "endpoint": endpoint,
            "input_file_id": input_file_id,
            "status": BatchStatus.VALIDATING,
            "created_at": now,
            "expires_at": now + WINDOW_S,
            "total": 0,
            "cursor": 0,
            "metadata": json.dumps(metadata),
        }
        most = or_empty(limits.open_batches)
        flat = [part for pair in fields.items() for part in pair]
        obstacle = self._enter(batch_id, owner, input_file_id, WINDOW_S + self._ttl_s, WINDOW_S + SLACK_S, most, *flat)
        if obstacle == "file":
            raise NotFound(f"There is no file {input_file_id[:60]!r}.", param="input_file_id")
        if obstacle == "open_batches":
            message = f"You have reached your limit of {limits.open_batches} unfinished batches."
            raise QuotaExceeded(message, retry_after_s=RETRY_S, limit=limits.open_batches)
        return self.find(batch_id)

    def find(self, batch_id: str) -> Batch:
        """Return the batch; the caller checks its owner.

        Raises:
            NotFound: the batch does not exist or has expired.
        """
        if (found := self._look(batch_id)) is None:
            raise NotFound(f"There is no batch {batch_id[:60]!r}.", param="batch_id")
        return found

    def newest(self, owner: str, *, after: str | None, limit: int) -> Page[Batch]:
        """Return the owner's batches that follow `after`, newest first."""
        return page_of(self._redis, keys.batches(owner), self._look, after=after, limit=limit)

    def cancel(self, batch_id: str) -> None:
        """Request the cancellation of a batch.

        Raises:
            Conflict: the batch has ended or is finalizing.
        """
        begun = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)
        if not self.move(batch_id, BatchStatus.CANCELLING, begun):
            status = self.find(batch_id).status
            if status is not BatchStatus.CANCELLING:
                raise Conflict(f"The batch can no longer be cancelled: it is {status.value}.")

    def cancel_all(self, owner: str) -> int:
        """Request the cancellation of all open batches of an owner; return how many there were."""
        open_ones = [
            one for batch_id in self.open() if (one := self._look(batch_id)) is not None and one.owner == owner
        ]
        for batch in open_ones:
            with suppress(Conflict):
                self.cancel(batch.id)
        return len(open_ones)

    def _look(self, batch_id: str) -> Batch | None:
        if not ids.has_form(batch_id, ids.BATCH_ID):
            return None
        with self._redis.pipeline() as pipe:
            pipe.hgetall(keys.batch(batch_id))
            pipe.hlen(keys.batch_part(batch_id, "output"))
            pipe.hlen(keys.batch_part(batch_id, "errors"))
            fields, completed, failed = pipe.execute()
        return _batch(fields, int(completed), int(failed)) if fields else None

    # -- for the driver ------------------------------------------------------------------------------------------------

    def open(self) -> list[str]:
        """Return the ids of the batches that have not ended, oldest first."""
        return cast(list[str], self._redis.zrange(keys.OPEN_BATCHES, 0, -1))

    def move(self, batch_id: str, status: BatchStatus, come_from: Sequence[BatchStatus]) -> bool:
        """Set a new status if the current one is in `come_from`; return whether it was."""
        return bool(self._move(batch_id, status, *come_from))

    def lines(self, batch: Batch) -> Iterator[tuple[int, str]]:
        """Yield all lines with their numbers, from 0."""
        first = 0
        while chunk := self._lines(batch, first):
            yield from enumerate(chunk, first)
            first += len(chunk)

    def _lines(self, batch: Batch, first: int) -> list[str]:
        key = keys.file_lines(batch.input_file_id)
        return cast(list[str], self._redis.lrange(key, first, first + LINES_PER_CALL - 1))

    def line(self, batch: Batch, number: int) -> str | None:
        """Return one line; None after the last."""
        return cast("str | None", self._redis.lindex(keys.file_lines(batch.input_file_id), number))

    def note(self, batch_id: str, **fields: str | int) -> None:
        """Set fields of the batch's record."""
        self._redis.hset(keys.batch(batch_id), mapping=cast(Any, fields))

    def jobs(self, batch_id: str) -> dict[int, list[str]]:
        """Return the running lines, each with the ids of its jobs."""
        found = cast(dict[str, str], self._redis.hgetall(keys.batch_part(batch_id, "jobs")))
        return {int(number): json.loads(job_ids) for number, job_ids in found.items()}

    def note_jobs(self, batch_id: str, number: int, job_ids: Sequence[str]) -> None:
        """Record the jobs that were submitted for a line."""
        self._keep(batch_id, "jobs", number, list(job_ids))

    def note_result(self, batch_id: str, number: int, result: Json, *, is_error: bool) -> None:
        """Record the result of a line and forget its jobs."""
        self._keep(batch_id, "errors" if is_error else "output", number, result)
        self._redis.hdel(keys.batch_part(batch_id, "jobs"), str(number))

    def _keep(self, batch_id: str, part: str, number: int, value: object) -> None:
        key = keys.batch_part(batch_id, part)
        with self._redis.pipeline() as pipe:
            pipe.hset(key, str(number), json.dumps(value))
            pipe.expire(key, WINDOW_S + self._ttl_s)
            pipe.execute()

    def results(self, batch_id: str, part: str) -> Iterator[str]:
        """Yield the results (`output`) or the failures (`errors`), in the order of the lines."""
        key = keys.batch_part(batch_id, part)
        numbers = sorted(int(number) for number in cast(list[str], self._redis.hkeys(key)))
        for begin in range(0, len(numbers), LINES_PER_CALL):
            chunk = [str(number) for number in numbers[begin : begin + LINES_PER_CALL]]
            yield from cast(list[str], self._redis.hmget(key, chunk))

    def end(self, batch: Batch, status: BatchStatus, **fields: str | int) -> None:
        """Set the final status, and delete the data that only the driver needed."""
        counted = {"completed": batch.completed, "failed": batch.failed}
        self.note(batch.id, **counted, **fields)
        self.move(batch.id, status, list(BatchStatus))
        self.tidy(batch.id)

    def tidy(self, batch_id: str) -> None:
        """Remove an ended or expired batch from the open ones, and delete the data that only the driver needed."""
        self._tidy(batch_id)

    def lead(self, name: str, *, lease_s: float) -> bool:
        """Return whether `name` drives the batches for the next `lease_s` seconds.

        After a pause there may be two drivers for a moment; their actions are idempotent.
        """
        lease_ms = int(lease_s * 1000)
        if self._redis.set(keys.BATCH_DRIVER, name, nx=True, px=lease_ms):
            return True
        return self._redis.get(keys.BATCH_DRIVER) == name and bool(self._redis.pexpire(keys.BATCH_DRIVER, lease_ms))


def _batch(fields: Mapping[str, str], completed: int, failed: int) -> Batch:
    """Build a batch; the counts are used only while it runs, since an ended batch has them in its record."""
    return Batch(
        id=fields["id"],
        owner=fields["owner"],
        endpoint=fields["endpoint"],
        input_file_id=fields["input_file_id"],
        status=BatchStatus(fields["status"]),
        created_at=int(fields["created_at"]),
        expires_at=int(fields["expires_at"]),
        total=int(fields["total"]),
        cursor=int(fields["cursor"]),
        completed=int(fields.get("completed", completed)),
        failed=int(fields.get("failed", failed)),
        metadata=json.loads(fields["metadata"]),
        models=json.loads(fields.get("models", "{}")),  # an ended batch of an earlier version has none
        errors=json.loads(fields.get("errors", "[]")),
        output_file_id=fields.get("output_file_id"),
        error_file_id=fields.get("error_file_id"),
        times={name: int(fields[f"{name}_at"]) for name in BatchStatus if f"{name}_at" in fields},
    )
