"""Entry point of Flower with the server's connection to Redis: `celery -A deploy.flower flower`.

It has an effect at import. Flower by itself reads only a URL, in which it finds neither the files of TLS nor the name
that Sentinels monitor.
"""

from __future__ import annotations

from celery import Celery

from common.queue import configure
from common.settings import Settings

app = configure(Celery("slm"), Settings.from_env())
