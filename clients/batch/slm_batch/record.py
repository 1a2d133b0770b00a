"""Reads and writes the file of answers, which is also the record of the finished items."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from slm_batch.batch_lock import hold_batch_lock
from slm_batch.item import Item

Line = dict[str, Any]


class BadRecord(Exception):
    """The file has lines that were not written by a batch; the text names the first one."""


class Record:
    """JSON Lines: one for each finished item, in the order of completion. If an item has several, the last one counts.

    Args:
        file: open for writing at its end, after `lines`.
        lines: the existing lines of the file.
        batch_id: distinguishes this batch's jobs from those of other batches.
    """

    def __init__(self, file: BinaryIO, lines: list[Line], batch_id: str) -> None:
        self._file = file
        self._batch_id = batch_id
        self._last = {line["digest"]: line for line in lines}
        self._failures = Counter(line["digest"] for line in lines if "error" in line)

    def todo(self, items: list[Item], *, retry_failed: bool) -> list[Item]:
        """Return the items that are not finished; failed items count as finished unless `retry_failed` is set."""
        return [item for item in items if self._is_missing(self._last.get(item.digest), retry_failed)]

    def key(self, item: Item) -> str:
        """Return the item's Idempotency-Key: the same in every run, until the item has failed and is retried."""
        return f"batch-{self._batch_id}-{item.digest}-{self._failures[item.digest]}"

    def add(self, item: Item, outcome: Line) -> None:
        """Write the outcome of an item; it is on the disk when this returns."""
        line = {"id": item.id, "digest": item.digest, "prompt": item.prompt} | outcome
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._last[item.digest] = line

    def count(self, items: list[Item]) -> tuple[int, int]:
        """Return how many of the items have an answer, and how many have failed."""
        lines = [self._last[item.digest] for item in items if item.digest in self._last]
        num_failed = sum("error" in line for line in lines)
        return len(lines) - num_failed, num_failed

    @staticmethod
    def _is_missing(line: Line | None, retry_failed: bool) -> bool:
        return line is None or (retry_failed and "error" in line)


@contextmanager
def open_record(path: Path, items: list[Item]) -> Iterator[Record]:
    """Open the record at `path`, new or incomplete, for exclusive use until the block ends.

    Raises:
        RecordInUse: another process uses it.
        BadRecord: it is not the record of a batch.
        OSError: it cannot be written.
    """
    with hold_batch_lock(path) as batch_lock, path.open("a+b") as file:
        record = Record(file, _read(file, path), batch_lock.batch_id)
        yield record
        if not record.todo(items, retry_failed=False):
            batch_lock.is_used_up = True


def _read(file: BinaryIO, path: Path) -> list[Line]:
    """Return the complete lines; truncates an incomplete last line left by a killed process."""
    file.seek(0)
    raw = file.read()
    end = raw.rfind(b"\n") + 1
    lines = [_parse(number, line, path) for number, line in enumerate(raw[:end].splitlines(), 1)]
    file.truncate(end)
    return lines


def _parse(number: int, raw: bytes, path: Path) -> Line:
    try:
        line = json.loads(raw)
    except ValueError:
        line = None
    if not isinstance(line, dict) or not isinstance(line.get("digest"), str):
        raise BadRecord(f"{path}, line {number}: this is not an answer of a batch; choose another file")
    return line
