"""A job's model is fixed when the job is accepted; on the emulated and on the real Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import ModelNotFound, NoWorker
from common.jobs import events
from common.jobs.job import JobKind, JobRecord
from common.jobs.store import MAX_CRASHES, Submitted, WakeUp
from common.redis import keys
from tests.contract.test_job_store import Station

BASE = "smol"


class Models(Station):
    """A station with a registry; `publish` gives an adapter a new version, whose content is its name."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.registry = AdapterRegistry(redis)

    def publish(self, name: str) -> None:
        number = len(self.registry.versions(name)) + 1
        self.registry.register(name, VersionFacts(f"{name}-{number}", BASE))

    def point(self, alias: str, model: str) -> None:
        self.registry.set_alias(alias, model, set_by="ops")

    def model_of(self, job_id: str) -> tuple[str, str, str]:
        return shown(self.store.get(job_id))

    def crash(self, job_id: str) -> JobRecord:
        record = self.claim(job_id).job
        self.expire_leases()
        self.store.reap()
        return record


def shown(record: JobRecord) -> tuple[str, str, str]:
    return record.model, record.base, record.adapter_id


FIRST = ("support@1", BASE, "support-1")
SECOND = ("support@2", BASE, "support-2")
BARE = (BASE, BASE, "")


@pytest.fixture
def models(redis: Redis) -> Models:
    """A base, the adapter `support` with two versions, and the alias `prod`, which points to the first."""
    models = Models(redis)
    models.registry.note_base(BASE, "b1")
    models.publish("support")
    models.point("prod", "support")
    models.publish("support")
    return models


@pytest.mark.parametrize(
    ("name", "model"),
    [("smol", BARE), ("support", SECOND), ("support@1", FIRST), ("support@2", SECOND), ("prod", FIRST)],
)
def test_a_name_of_any_form_is_resolved_when_the_job_is_accepted(
    models: Models, name: str, model: tuple[str, str, str]
) -> None:
    for kind in (JobKind.GENERATE, JobKind.STREAM, JobKind.TOKENIZE):
        accepted = models.enter(kind.value, kind, model=name)
        assert accepted.model == model[0]
        assert models.model_of(kind.value) == model
    assert models.wake_ups[0] == WakeUp("generate", JobKind.GENERATE, model[0], model[1])


def test_without_a_name_a_job_uses_the_default(models: Models) -> None:
    models.point("default", "support@1")
    models.enter("a")
    assert models.model_of("a") == FIRST


@pytest.mark.parametrize("name", ["nope", "support@3", "support@", "SUPPORT", "prod@1", "smol@1", " ", "@1"])
def test_an_unknown_name_is_refused_and_the_error_lists_those_that_exist(models: Models, name: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        models.enter("a", model=name)
    assert refused.value.message == f"There is no model {name!r}. There are: prod, smol, support."
    assert refused.value.param == "model"
    assert not models.redis.exists(keys.job("a"))


def test_a_name_is_unknown_until_a_worker_has_reported_its_base(redis: Redis) -> None:
    with pytest.raises(NoWorker):
        Station(redis).submit("a", model="smol")


def test_a_waiting_job_keeps_its_version_when_the_alias_moves(models: Models) -> None:
    for job_id in "abcd":
        models.enter(job_id, model="prod")
    models.enter("newest", model="support")
    models.point("prod", "support@2")
    models.publish("support")
    assert shown(models.claim("a").job) == FIRST
    assert models.model_of("d") == FIRST
    assert models.model_of("newest") == SECOND
    models.enter("e", model="prod")
    assert models.model_of("e") == SECOND


def test_later_attempts_of_a_job_keep_its_version(models: Models) -> None:
    models.enter("a", model="prod")
    first = models.claim("a")
    models.store.emit([("a", first.attempt, [events.token(0, "one", [1])])])
    models.point("prod", "support@2")
    models.store.release("a", first.attempt)
    assert shown(models.crash("a")) == FIRST
    assert shown(models.claim("a", "w2").job) == FIRST
    assert models.wake_ups[-1] == WakeUp("a", JobKind.GENERATE, "support@1", BASE)


def test_a_prepared_job_keeps_its_version(models: Models) -> None:
    models.enter("a", JobKind.TOKENIZE, model="prod")
    models.point("prod", "support@2")
    assert shown(models.claim("a").job) == FIRST


def test_a_repeated_request_gets_its_first_job_wherever_the_alias_points_now(models: Models) -> None:
    first = models.enter("a", model="prod", idempotency_key="k", fingerprint="f")
    models.point("prod", "support@2")
    again = models.enter("b", model="prod", idempotency_key="k", fingerprint="f")
    models.registry.delete_alias("prod")
    without_alias = models.enter("c", model="prod", idempotency_key="k", fingerprint="f")
    assert first == Submitted("a", 0, repeated=False, model="support@1")
    assert again == without_alias == Submitted("a", 0, repeated=True, model="support@1")


def test_a_submission_that_is_sent_twice_is_resolved_once(models: Models) -> None:
    models.enter("a", model="prod")
    models.point("prod", "support@2")
    assert models.enter("a", model="prod").model == "support@1"
    assert models.model_of("a") == FIRST


def test_a_retried_dead_letter_keeps_its_version(models: Models) -> None:
    models.enter("a", model="prod")
    models.point("prod", "support@2")
    for _ in range(MAX_CRASHES):
        models.crash("a")
    models.store.retry("a", "b", max_queue=10)
    assert models.model_of("b") == FIRST


def test_a_dead_letter_stays_one_if_its_version_was_deleted(models: Models) -> None:
    models.enter("a", model="support@1")
    for _ in range(MAX_CRASHES):
        models.crash("a")
    models.registry.delete_alias("prod")
    models.registry.delete("support", 1)
    with pytest.raises(ModelNotFound, match="support@1"):
        models.store.retry("a", "b", max_queue=10)
    assert [job.id for job in models.store.dead_letters()] == ["a"]


def test_a_job_without_a_prompt_has_no_model(models: Models) -> None:
    models.point("default", "support")
    models.enter("load", JobKind.LOAD)
    assert models.enter("load", JobKind.LOAD).model == ""
    assert shown(models.claim("load").job) == ("", "", "")


def test_a_job_that_came_before_any_model_is_resolved_when_it_is_claimed(redis: Redis) -> None:
    models = Models(redis)
    assert [models.enter(job_id).model for job_id in "abc"] == ["", "", ""]
    assert shown(models.crash("a")) == ("", "", "")  # its worker uses the bare base
    models.registry.note_base(BASE, "b1")
    models.publish("support")
    models.registry.set_default("support")
    assert shown(models.crash("b")) == FIRST
    models.publish("support")
    models.registry.set_default("support")
    assert shown(models.claim("b", "w2").job) == FIRST
    assert shown(models.claim("c").job) == SECOND
    assert shown(models.claim("a", "w2").job) == ("", "", "")  # continues what the bare base began
    listed = {job.id: shown(job) for job in models.store.newest(10)}
    assert listed == {"a": ("", "", ""), "b": FIRST, "c": SECOND}
