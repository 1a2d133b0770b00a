"""The limits of an owner's files and batches, and what remains of them; on the emulated and on the real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from common.errors import NotFound, QuotaExceeded
from common.owners.api_keys import Limits
from common.owners.batches import SLACK_S, WINDOW_S, Batch, BatchStatus, BatchStore
from common.owners.files import LINES_PER_CALL, FileStore, StoredFile
from common.redis import keys

TTL_S = 600


class Shelf:
    """Both stores."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.files = FileStore(redis, ttl_s=TTL_S)
        self.batches = BatchStore(redis, ttl_s=TTL_S)

    def put(self, content: str = "one\ntwo", owner: str = "me", **limits: int) -> StoredFile:
        return self.files.put(owner, "a.jsonl", "batch", content.split("\n"), limits=Limits(**limits))

    def enter(self, file: StoredFile, owner: str = "me", **limits: int) -> Batch:
        return self.batches.enter(
            owner, endpoint="/v1/completions", input_file_id=file.id, metadata={}, limits=Limits(**limits)
        )

    def end(self, batch: Batch) -> None:
        self.batches.end(batch, BatchStatus.COMPLETED)

    def expire(self, file: StoredFile) -> None:
        self.redis.delete(keys.file(file.id), keys.file_lines(file.id))

    def text(self, file: StoredFile) -> str:
        return "".join(self.files.content(file.id))


@pytest.fixture
def shelf(redis: Redis) -> Shelf:
    return Shelf(redis)


def test_a_batch_of_an_earlier_version_can_be_found(shelf: Shelf) -> None:
    batch = shelf.enter(shelf.put())
    shelf.end(batch)
    shelf.redis.hdel(keys.batch(batch.id), "models")
    assert shelf.batches.find(batch.id).models == {}


def test_the_number_of_an_owners_files_is_limited(shelf: Shelf) -> None:
    first, second = shelf.put(files=2), shelf.put(files=2)
    with pytest.raises(QuotaExceeded, match="2 files") as refused:
        shelf.put(files=2)
    assert (refused.value.limit, refused.value.retryable) == (2, False)
    assert shelf.put(owner="ann", files=2)
    shelf.files.delete(first)
    third = shelf.put(files=2)
    with pytest.raises(QuotaExceeded):
        shelf.put(files=2)
    shelf.expire(second)
    shelf.put(files=2)
    assert shelf.files.find(third.id) == third


def test_the_size_of_an_owners_files_is_limited(shelf: Shelf) -> None:
    first = shelf.put("x" * 60, file_bytes=100)
    with pytest.raises(QuotaExceeded, match="100 bytes"):
        shelf.put("x" * 41, file_bytes=100)
    shelf.put("x" * 40, file_bytes=100)
    shelf.files.delete(first)
    shelf.put("x" * 60, file_bytes=100)


def test_a_refused_file_leaves_nothing(shelf: Shelf) -> None:
    shelf.put()
    before = set(shelf.redis.keys())
    with pytest.raises(QuotaExceeded):
        shelf.put(files=1)
    with pytest.raises(QuotaExceeded):
        shelf.files.check_room("me", 1000, Limits(file_bytes=1000))
    shelf.files.check_room("me", 900, Limits(file_bytes=1000))
    assert set(shelf.redis.keys()) == before


def test_a_batchs_results_count_and_are_never_refused(shelf: Shelf) -> None:
    shelf.files.put("me", "out", "batch_output", ["x" * 1000], file_id="file-o")
    shelf.files.put("me", "out", "batch_output", ["x" * 2000], file_id="file-o")  # the driver may do it twice
    with pytest.raises(QuotaExceeded):
        shelf.put(file_bytes=2000)
    assert shelf.put("x", file_bytes=2001)


def test_a_batch_reads_its_file_and_copies_nothing(shelf: Shelf) -> None:
    file = shelf.put("one\ntwo\nthree")
    batch = shelf.enter(file)
    assert list(shelf.batches.lines(batch)) == [(0, "one"), (1, "two"), (2, "three")]
    assert [shelf.batches.line(batch, number) for number in (2, 3)] == ["three", None]
    held = [key for key in shelf.redis.scan_iter() if shelf.redis.type(key) == "list"]
    assert held == [keys.file_lines(file.id)]


def test_a_deleted_file_stays_for_its_batches_alone(shelf: Shelf) -> None:
    file = shelf.put("one")
    batches = [shelf.enter(file), shelf.enter(file)]
    shelf.files.delete(file)
    with pytest.raises(NotFound):
        shelf.files.find(file.id)
    with pytest.raises(NotFound) as refused:
        shelf.enter(file)
    assert refused.value.param == "input_file_id"
    assert shelf.files.newest("me", after=None, limit=9).items == []
    for batch in batches:
        assert shelf.batches.line(batch, 0) == "one"
        with pytest.raises(QuotaExceeded):  # it still counts
            shelf.put(files=1)
        shelf.end(batch)
    assert shelf.put(files=1)
    assert not shelf.redis.exists(keys.file(file.id), keys.file_lines(file.id), f"{keys.file(file.id)}:batches")


def test_a_file_that_was_not_deleted_outlives_its_batches(shelf: Shelf) -> None:
    file = shelf.put("one")
    shelf.end(shelf.enter(file))
    assert shelf.files.find(file.id) == file
    assert shelf.text(file) == "one"


def test_a_file_does_not_expire_under_its_batch(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shelf.put("one")
    batch = shelf.enter(file)
    for key in (keys.file(file.id), keys.file_lines(file.id)):
        assert WINDOW_S < shelf.redis.ttl(key) <= WINDOW_S + SLACK_S
    monkeypatch.setattr("common.owners.files.time.time", lambda: file.expires_at)
    with pytest.raises(NotFound):  # but not for its owner
        shelf.files.find(file.id)
    assert shelf.batches.line(batch, 0) == "one"


def test_the_number_of_an_owners_open_batches_is_limited(shelf: Shelf) -> None:
    file = shelf.put()
    first, _ = shelf.enter(file, open_batches=2), shelf.enter(file, open_batches=2)
    with pytest.raises(QuotaExceeded, match="limit of 2 unfinished batches") as refused:
        shelf.enter(file, open_batches=2)
    assert refused.value.retry_after_s
    shelf.enter(file, owner="ann", open_batches=2)
    shelf.end(first)
    shelf.enter(file, open_batches=2)


def test_a_batch_that_expired_before_its_end_is_not_open(shelf: Shelf) -> None:
    batch = shelf.enter(shelf.put(), open_batches=1)
    shelf.redis.delete(keys.batch(batch.id))
    shelf.redis.zadd("slm:batches:open:me", {batch.id: 0})
    shelf.enter(shelf.put(), open_batches=1)


def test_a_file_that_does_not_fit_into_redis_leaves_nothing(real_redis: Redis) -> None:
    shelf = Shelf(real_redis)

    def lines() -> Iterator[str]:
        for number in range(2 * LINES_PER_CALL):
            if number == LINES_PER_CALL:
                real_redis.config_set("maxmemory", 1)
            yield "x"

    try:
        with pytest.raises(OutOfMemoryError):
            shelf.files.put("me", "a", "batch", lines())
    finally:
        real_redis.config_set("maxmemory", 0)
    assert real_redis.keys() == []


def test_a_file_is_read_in_turns_that_end_while_the_client_receives(shelf: Shelf) -> None:
    file = shelf.put("\n".join("x" * (2 * LINES_PER_CALL)))
    held: list[bool] = []

    @contextmanager
    def limiter() -> Iterator[None]:
        held.append(True)
        yield
        held.append(False)

    for _ in shelf.files.content(file.id, limiter):
        assert held[-1] is False
    assert held.count(True) == 3
