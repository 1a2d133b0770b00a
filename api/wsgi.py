"""Entry point of a WSGI server: `gunicorn --config api/gunicorn_conf.py "api.wsgi:create_app()"`."""

from __future__ import annotations

from celery import Celery
from flask import Flask

from api import app as application
from common.logs import configure_logging
from common.queue import BellRinger, configure
from common.redis_client import connect
from common.settings import Settings
from common.subscriber import Subscriber


def create_app() -> Flask:
    """The application with the environment's settings and a running subscription.

    Redis need not be up yet: until it is, requests are answered with 503.

    Raises:
        SettingsError: a setting is wrong.
    """
    settings = Settings.from_env()
    configure_logging(settings.log_level)
    redis = connect(settings.redis_url)
    subscriber = Subscriber(redis)
    subscriber.start()
    ring = BellRinger(configure(Celery("slm", set_as_current=False), settings))
    return application.create_app(settings, redis=redis, ring=ring, subscriber=subscriber)
