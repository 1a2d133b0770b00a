"""Searches jobs for a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from redis import Redis

from common.jobs import prompts
from common.jobs.job import SUMMARY, JobKind, JobRecord
from common.jobs.records import read_fields
from common.redis import keys

MAX_JOBS, MAX_BYTES = 1000, 16 * 2**20  # that one search reads
AT_ONCE = 20
GENERATIONS = (JobKind.GENERATE, JobKind.STREAM)  # clients that count tokens also submit each prompt for that
FIELDS = (*SUMMARY, "params")


def search(redis: Redis, text: str, *, owner: str | None, reader: str, limit: int) -> list[JobRecord]:
    """Return up to `limit` of an owner's jobs, or of everybody's, that have a text in any case; newest first.

    It is in their id, model, base or owner, or in the prompt of a generation that is the reader's own. Looks at the
    newest `MAX_JOBS`, and ends early after `MAX_BYTES` of prompts. May raise `redis.exceptions.RedisError`.
    """
    wanted, found, size = text.casefold(), [], 0
    index = keys.JOB_INDEX if owner is None else keys.owner_index(owner)
    for record, num_bytes in _read(redis, cast(list[str], redis.zrevrange(index, 0, MAX_JOBS - 1))):
        if wanted in _text_of(record, reader).casefold():
            found.append(record)
        size += num_bytes
        if len(found) == limit or size >= MAX_BYTES:
            break
    return found


def _read(redis: Redis, job_ids: Sequence[str]) -> Iterator[tuple[JobRecord, int]]:
    """Yield the jobs that still exist, with the size of their parameters."""
    for begin in range(0, len(job_ids), AT_ONCE):
        for fields in read_fields(redis, job_ids[begin : begin + AT_ONCE], FIELDS):
            yield JobRecord.from_hash(fields), len(fields.get("params", ""))


def _text_of(record: JobRecord, reader: str) -> str:
    shows_prompt = record.owner == reader and record.kind in GENERATIONS and prompts.is_in(record.params)
    prompt = prompts.text(prompts.from_wire(record.params)) if shows_prompt else ""
    return f"{record.id}\n{record.model}\n{record.base}\n{record.owner}\n{prompt}"
