"""The lock file next to a record, which holds the batch's id while the batch is unfinished."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class RecordInUse(Exception):
    """Another process is working on the same batch."""


@dataclass
class BatchLock:
    """The batch's id, the same in all its runs. `is_used_up`: the batch is finished; the next one gets another id."""

    batch_id: str
    is_used_up: bool = False


@contextmanager
def hold_batch_lock(record: Path) -> Iterator[BatchLock]:
    """Lock the file `<record>.batch` and yield its content. If there is no record yet, a new batch begins.

    Raises:
        RecordInUse: another process holds the lock.
    """
    path = record.with_name(f"{record.name}.batch")
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise RecordInUse(f"another process writes to {record}") from err
        file.seek(0)
        batch_id = file.read()
        if not batch_id or not record.exists():
            batch_id = uuid.uuid4().hex
            file.truncate(0)
            file.write(batch_id)
            file.flush()
        batch_lock = BatchLock(batch_id)
        yield batch_lock
        if batch_lock.is_used_up:
            path.unlink()
