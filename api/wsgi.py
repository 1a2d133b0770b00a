"""Entry point of a WSGI server: `gunicorn --config api/gunicorn_conf.py "api.wsgi:create_app()"`."""

from __future__ import annotations

import logging
from contextlib import suppress

from celery import Celery
from flask import Flask
from redis import Redis
from redis.exceptions import RedisError

from api import app as application
from api.current import EXTENSION, Services
from api.observation.metrics import ApiMetrics
from api.openai.batches.driver import BatchDriver
from api.openai.batches.line_routes import line_routes
from api.pulse import Pulse
from api.webhooks.deliverer import Deliverer
from api.webhooks.sender import Sender
from common.adapters.tidying import tidy
from common.binding import check_binding
from common.jobs.webhook_queue import WebhookQueue
from common.observation.logs import configure_logging
from common.observation.tracing import start_tracing
from common.queue import Dispatcher, configure
from common.redis.client import connect
from common.redis.subscriber import Subscriber
from common.settings import Settings

log = logging.getLogger(__name__)


def create_app() -> Flask:
    """Build the application from the environment's settings, and start its subscription and background threads.

    Redis need not be up yet: until it is, requests are answered with 503.

    Raises:
        SettingsError: a setting is wrong.
        InsecureBinding: other machines can reach the server, but there are no API keys.
    """
    settings = Settings.from_env()
    configure_logging(settings.log_level, settings.log_format)
    metrics = ApiMetrics()
    redis = connect(settings.required_redis_url(), trouble=metrics.redis_trouble)
    _check_binding(settings, redis)
    subscriber = Subscriber(redis)
    subscriber.start()
    dispatch = Dispatcher(configure(Celery("slm", set_as_current=False), settings))
    tracer = start_tracing(settings, "slm-api")
    app = application.create_app(
        settings, redis=redis, dispatch=dispatch, subscriber=subscriber, metrics=metrics, tracer=tracer
    )
    services: Services = app.extensions[EXTENSION]
    services.starvation.start()
    Pulse(
        {
            "presence of the API not recorded": services.jobs.note_presence,
            "files not deleted": lambda: _tidy(services),
            "old conversations not deleted": services.conversations.tidy,
            "revoked keys not checked": lambda: services.jobs.end_revoked(services.keyring.now),
        }
    ).start()
    _start_webhooks(services, redis, settings)
    _start_batches(services)
    return app


def _start_batches(services: Services) -> None:
    routes = line_routes(services.jobs, services.fingerprints, services.embedding, services.settings)
    BatchDriver(services.batches, services.files, services.jobs, services.registry, routes).start()


def _tidy(services: Services) -> None:
    """Delete what nobody needs any more; workers do it, too, but those of other hosts do not see these folders."""
    services.uploads.tidy(services.jobs.is_open)
    with suppress(OSError):
        tidy(services.adapter_store, services.registry)


def _check_binding(settings: Settings, redis: Redis) -> None:
    try:
        check_binding(settings, redis)
    except RedisError as err:
        log.warning("API keys could not be read (%s); until they are, all requests are rejected", err)


def _start_webhooks(services: Services, redis: Redis, settings: Settings) -> None:
    queue = WebhookQueue(redis, job_ttl_s=settings.job_ttl_s)
    sender = Sender(allow_private=settings.webhook_allow_private)
    Deliverer(queue, services.jobs.view, sender, key=settings.webhook_key).start()
