"""Reads the records of many jobs at once."""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis

from common.redis import keys


def read_fields(redis: Redis, job_ids: Sequence[str], names: Sequence[str]) -> list[dict[str, str]]:
    """Return these fields of the jobs that still exist, as `JobRecord.from_hash` reads them; in one round trip."""
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hmget(keys.job(job_id), names)
        found = [dict(zip(names, values, strict=True)) for values in pipe.execute()]
    known = ({name: value for name, value in one.items() if value is not None} for one in found)
    return [fields for fields in known if fields]
