"""Where Celery keeps the wake-up messages: in the Redis of the jobs, or in RabbitMQ."""

from __future__ import annotations

import ssl
import threading

import pytest
from amqp import Connection as AmqpConnection
from amqp.exceptions import AccessRefused
from celery import Celery
from kombu import Connection

from common.jobs.job import JobKind
from common.jobs.store import WakeUp
from common.queue import QUEUE, Dispatcher, configure, keys_of
from common.settings import Settings, SettingsError

REDIS = "redis://127.0.0.1:6379/0"
WAKE_UPS = [WakeUp(name, JobKind.GENERATE) for name in "abc"]
RABBITMQ = "amqp://ann:se%2Fcret@mq.example:5673/jobs"


@pytest.fixture(autouse=True)
def _has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send also on a busy machine."""
    monkeypatch.setattr("common.queue.SEND_S", 60)


def configured(**settings: str) -> Celery:
    return configure(Celery("test"), Settings.model_validate({"redis_url": REDIS, **settings}))


def test_messages_go_through_redis_without_acknowledgements() -> None:
    app = configured()
    assert app.conf.broker_url == REDIS
    assert {queue.no_ack for queue in app.conf.task_queues} == {True}


def test_messages_go_through_rabbitmq_which_keeps_those_of_a_dead_worker() -> None:
    app = configured(broker_url=RABBITMQ)
    found = Connection(app.conf.broker_url)
    assert (found.transport_cls, found.hostname, found.port) == ("amqp", "mq.example", 5673)
    assert (found.userid, found.password, found.virtual_host) == ("ann", "se/cret", "jobs")
    assert {queue.no_ack for queue in app.conf.task_queues} == {False}


@pytest.mark.parametrize(
    ("query", "tls"),
    [
        ("", {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "mq.example"}),
        (
            "?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_check_hostname=false",
            {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "/etc/ca.pem", "certfile": "/c.pem", "keyfile": "/k.pem"},
        ),
        ("?ssl_cert_reqs=none", {"cert_reqs": ssl.CERT_NONE}),
    ],
    ids=["default", "files", "unchecked"],
)
def test_rabbitmqs_certificate_is_checked(query: str, tls: dict[str, object]) -> None:
    found = configured(broker_url=f"amqps://ann:secret@mq.example/jobs{query}").connection_for_write()
    assert found.ssl == tls
    assert (found.hostname, found.virtual_host, found.transport.driver_name) == ("mq.example", "jobs", "py-amqp")
    assert found.transport.default_connection_params["port"] == 5671


def test_queues_are_watched_in_redis_only_if_they_are_there() -> None:
    """Messages that were left there would look as if the worker took none, and end it again and again."""
    assert keys_of(Settings(redis_url=REDIS), [QUEUE]) == [QUEUE]
    assert keys_of(Settings(redis_url=REDIS, broker_url=RABBITMQ), [QUEUE]) == []


def test_an_unreachable_broker_is_tried_once_for_many_messages(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sends them may have to renew leases of a few seconds."""
    tries: list[float | None] = []

    def connect(connection: AmqpConnection) -> None:
        tries.append(connection.connect_timeout)
        raise ConnectionRefusedError

    monkeypatch.setattr(AmqpConnection, "connect", connect)
    Dispatcher(configured(broker_url=RABBITMQ))(WAKE_UPS)
    assert tries == [2]
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == ["job a and 2 more"]


def test_a_broker_that_refuses_a_message_does_not_keep_the_others_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, sent = configured(broker_url=RABBITMQ), []

    def send_task(*_: object, task_id: str, **_more: object) -> None:
        if task_id == "a":
            raise AccessRefused("access to the queue refused")
        sent.append(task_id)

    monkeypatch.setattr(app, "send_task", send_task)
    Dispatcher(app)(WAKE_UPS)
    assert sent == ["b", "c"]
    assert "job a: not dispatched" in caplog.text


def test_nobody_waits_for_a_broker_that_accepts_no_messages(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ with a memory alarm, until that is over. A heartbeat that waited would lose the worker's leases."""
    app, sent, alarm_is_over = configured(broker_url=RABBITMQ), [], threading.Event()

    def send_task(*_: object, task_id: str, **_more: object) -> None:
        assert alarm_is_over.wait(60)
        sent.append(task_id)

    monkeypatch.setattr(app, "send_task", send_task)
    monkeypatch.setattr("common.queue.SEND_S", 0.05)
    dispatch = Dispatcher(app)
    dispatch(WAKE_UPS)
    dispatch(WAKE_UPS)
    hanging = [thread for thread in threading.enumerate() if thread.name == "slm-dispatch"]
    assert (sent, len(hanging)) == ([], 1)
    message = "job a and 2 more: not dispatched (the broker does not answer); the reaper will"
    assert [record.getMessage() for record in caplog.records] == [message] * 2
    alarm_is_over.set()
    hanging[0].join(60)
    monkeypatch.setattr("common.queue.SEND_S", 60)
    dispatch(WAKE_UPS[:1])
    assert sent == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1/1",
        "amqp://",
        "amqp://host/?ssl=1",
        "amqp://host/?ssl_cert_reqs=none",
        "amqps://host/?ssl_cert_reqs=never",
        "amqp://u:p@",
        "amqp://u:p/w@host",
        "amqp://host:65536",
    ],
)
def test_another_broker_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SLM_BROKER_URL", url)
    with pytest.raises(SettingsError, match=r"SLM_BROKER_URL has the value \*\*\*"):
        Settings.from_env()


def test_replicas_need_a_redis_that_can_have_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_REDIS_REPLICAS", "1")
    with pytest.raises(SettingsError, match=r"SLM_REDIS_REPLICAS .* needs SLM_REDIS_URL"):
        Settings.from_env()
    monkeypatch.setenv("SLM_REDIS_URL", REDIS)
    assert Settings.from_env().redis_replicas == 1
