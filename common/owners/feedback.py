"""Stores what people think of answers: a rating, a corrected answer, tags; with the prompt and answer themselves.

So a dataset can be made of it after the job's own record has expired.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

from redis import Redis

from common import ids
from common.errors import NotFound, QuotaExceeded
from common.owners.api_keys import UNLIMITED, Limits
from common.owners.collection import Page
from common.redis import keys
from common.redis.scripts import Argument, Script, or_empty

RETRY_S = 3600  # feedback is kept for months unless it is deleted
READ_AT_ONCE = 200
READ_FOR_PAGE = 20
PAGE_CHARS = 1_000_000  # a page ends after the feedback with which its texts are longer than this

Rating = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody says about an answer."""

    rating: Rating | None = None
    correction: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer that is judged. `prompt` is in wire form (`common.jobs.prompts`); `model` and `base` as in a job.

    `is_complete`: the model ended the answer, rather than a limit.
    """

    prompt: Mapping[str, Any]
    response: str
    is_complete: bool
    model: str
    base: str


@dataclass(frozen=True, slots=True)
class Feedback:
    """Feedback on a job. Times are ms since the epoch on Redis's clock."""

    job_id: str
    owner: str
    judgement: Judgement
    judged: Judged
    created_ms: int
    updated_ms: int

    @property
    def chars(self) -> int:
        """The length of its texts."""
        return len(str(self.judged.prompt)) + len(self.judged.response) + len(self.judgement.correction or "")

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> Feedback:
        """Parse the hash at `keys.feedback(job_id)`."""
        said = json.loads(fields["judgement"])
        return cls(
            fields["job_id"],
            fields["owner"],
            Judgement(said["rating"], said["correction"], tuple(said["tags"])),
            Judged(**json.loads(fields["judged"])),
            int(fields["created_ms"]),
            int(fields["updated_ms"]),
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which feedback to read; None stands for any. Times as in `Feedback`, of the latest change, both included.

    Args:
        owner: whose jobs.
        tags: the feedback has all of these.
        model: a version of an adapter (`support@3`), an adapter (all of its versions), or a base model.
        rating: the feedback has this one.
    """

    owner: str | None = None
    tags: frozenset[str] = frozenset()
    model: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    rating: Rating | None = None

    def includes(self, one: Feedback) -> bool:
        """Return whether the feedback has the tags, the model and the rating."""
        used, said = one.judged, one.judgement
        names = {used.model, used.model.partition("@")[0], used.base}
        has_rating = self.rating in (None, said.rating)
        return has_rating and self.tags <= set(said.tags) and (self.model is None or self.model in names)


class FeedbackStore:
    """Writes, finds, reads and deletes feedback. Every method may raise `redis.exceptions.RedisError`.

    Args:
        redis: connection (with `decode_responses`).
        ttl_s: how long feedback is kept after its latest change.
    """

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._keep, self._delete = Script(redis, "feedback_keep"), Script(redis, "feedback_delete")

    def put(
        self, job_id: str, owner: str, judgement: Judgement, judged: Judged, limits: Limits = UNLIMITED
    ) -> Feedback:
        """Store feedback on a job of `owner`; it replaces earlier feedback.

        Raises:
            QuotaExceeded: the owner's feedback takes too much.
        """
        said, about = json.dumps(asdict(judgement)), json.dumps(asdict(judged))
        fields: tuple[Argument, ...] = ("judgement", said, "judged", about)
        times = self._keep(job_id, owner, len(said) + len(about), or_empty(limits.feedback_bytes), self._ttl_s, *fields)
        if not times:
            message = f"Your feedback may take up at most {limits.feedback_bytes} bytes; delete some to make room."
            raise QuotaExceeded(message, retry_after_s=RETRY_S, limit=limits.feedback_bytes)
        return Feedback(job_id, owner, judgement, judged, *map(int, times))

    def find(self, job_id: str) -> Feedback:
        """Return the feedback on a job; the caller checks its owner.

        Raises:
            NotFound: there is none.
        """
        is_id = ids.has_form(job_id, ids.UUID)
        fields = cast(dict[str, str], self._redis.hgetall(keys.feedback(job_id))) if is_id else {}
        if not fields:
            raise NotFound(f"There is no feedback on job {job_id[:60]!r}.", param="job_id")
        return Feedback.from_hash(fields)

    def delete(self, one: Feedback) -> None:
        """Delete feedback."""
        self._delete(one.job_id, one.owner)

    def read(self, wanted: Wanted) -> Iterator[Feedback]:
        """Yield feedback, the oldest first."""
        return self._matching(wanted, self._ids(wanted), READ_AT_ONCE)

    def page(self, wanted: Wanted, *, after: str | None, limit: int) -> Page[Feedback]:
        """Return the feedback that follows that on the job `after`, the latest change first.

        That may have been deleted meanwhile. If there was none on `after`, the page starts with the latest. It is short
        if its texts are long.
        """
        job_ids = self._ids(wanted)[::-1]
        begin = job_ids.index(after) + 1 if after in job_ids else self._num_later(wanted, after)
        found: list[Feedback] = []
        chars = 0
        for one in self._matching(wanted, job_ids[begin:], READ_FOR_PAGE):
            if len(found) == limit or chars > PAGE_CHARS:
                return Page(found, has_more=True)
            found.append(one)
            chars += one.chars
        return Page(found, has_more=False)

    def _num_later(self, wanted: Wanted, deleted: str | None) -> int:
        """Return how much feedback is later than that which was deleted; 0 if there was none."""
        time_ms = None if deleted is None else self._redis.zscore(keys.deleted(keys.FEEDBACK), deleted)
        if time_ms is None:
            return 0
        later_ms = max(wanted.since_ms or 0, int(time_ms) + 1)
        return len(self._ids(replace(wanted, since_ms=later_ms)))

    def _ids(self, wanted: Wanted) -> list[str]:
        """Return the jobs of that owner and time, the oldest change first."""
        index = keys.FEEDBACK if wanted.owner is None else keys.owner_feedback(wanted.owner)
        first = "-inf" if wanted.since_ms is None else wanted.since_ms
        last = "+inf" if wanted.until_ms is None else wanted.until_ms
        return cast(list[str], self._redis.zrangebyscore(index, first, last))

    def _matching(self, wanted: Wanted, job_ids: Sequence[str], at_once: int) -> Iterator[Feedback]:
        for begin in range(0, len(job_ids), at_once):
            yield from filter(wanted.includes, self._read(job_ids[begin : begin + at_once]))

    def _read(self, job_ids: Sequence[str]) -> list[Feedback]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(keys.feedback(job_id))
            return [Feedback.from_hash(fields) for fields in pipe.execute() if fields]
