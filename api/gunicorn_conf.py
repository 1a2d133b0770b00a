"""How gunicorn runs the API: one process, one greenlet per connection, since a stream costs memory and no work.

gunicorn patches the standard library in its worker, before it imports the application there. So nothing may be
preloaded, and nothing imported here may bring in redis.
"""

from __future__ import annotations

import resource
import sys

from api.gunicorn_logger import FormattedLogger, JsonLogger
from common.settings import Settings, SettingsError

MAX_CONNECTIONS = 10_000

try:
    _settings = Settings.from_env()
except SettingsError as err:
    sys.exit(str(err))

_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host  # an IPv6 address

bind = f"{_host}:{_settings.port}"
worker_class = "gevent"
workers = 1
worker_connections = MAX_CONNECTIONS
graceful_timeout = int(_settings.drain_s)  # open streams get the time that the workers' generations get
control_socket_disable = True
loglevel = _settings.log_level.lower()
logger_class = JsonLogger if _settings.log_format == "json" else FormattedLogger


def on_starting(_server: object) -> None:
    """Let the process have as many connections as it takes, where the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
