"""Configures gunicorn: one process with one greenlet per connection, because a stream costs memory but no work.

gunicorn patches the standard library in its worker before it imports the application there. So nothing may be
preloaded, and nothing imported here may import redis.
"""

from __future__ import annotations

import atexit
import math
import os
import resource
import shutil
import sys
import tempfile

from gunicorn.workers.base import Worker

from api.gunicorn.logger import FormattedLogger, JsonLogger
from common.environment import forget_others
from common.observation.tracing import check_tracing
from common.settings import Settings, SettingsError

MAX_CONNECTIONS = 10_000
HEAD_TIMEOUT_S = 5  # for the whole head of a request, and between two requests on a connection
MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
OPTIONS = "GUNICORN_CMD_ARGS"  # gunicorn has read these by now, and they would override this file

if os.environ.get(OPTIONS):
    sys.exit(f"{OPTIONS} is set. Only SLM_ variables configure this server; unset it.")
try:
    _settings = Settings.from_env()
    check_tracing(_settings)
except SettingsError as err:
    sys.exit(str(err))

_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host  # an IPv6 address

bind = f"{_host}:{_settings.port}"
worker_class = "api.gunicorn.worker.ApiWorker"
workers = 1
worker_connections = MAX_CONNECTIONS
forwarded_allow_ips = "127.0.0.1,::1"  # only proxies on this machine may set X-Forwarded-* headers
keepalive = HEAD_TIMEOUT_S
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190
graceful_timeout = math.ceil(_settings.drain_s) + 1  # `api/shutdown.py` ends open streams before that
control_socket_disable = True
loglevel = _settings.log_level.lower()
logger_class = JsonLogger if _settings.log_format == "json" else FormattedLogger


def on_starting(_server: object) -> None:
    """Raise the limit of open files to what the connections need, if the system allows it; prepare the metrics."""
    forget_others(os.environ)
    _check_redis()
    _share_metrics()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _check_redis() -> None:
    try:
        _settings.required_redis_url()
    except SettingsError as err:
        sys.exit(str(err))


def post_worker_init(worker: Worker) -> None:
    """Make the process end its work in order."""
    from api.shutdown import stop_in_order

    # gunicorn checks once a second whether everything has ended.
    grace_s = max(_settings.drain_s - 1, _settings.drain_s / 2)
    stop_in_order(worker.wsgi, lambda: worker.alive, grace_s=grace_s)


def _share_metrics() -> None:
    """Give the worker processes a folder for their metrics, so that each can report the sum of all."""
    os.environ[MULTIPROCESS_DIR] = tempfile.mkdtemp(prefix="slm-metrics-")
    atexit.register(_remove_metrics, os.getpid())


def _remove_metrics(master_pid: int) -> None:
    """Remove the folder, in the master only: the worker processes inherit its exit handlers."""
    if os.getpid() == master_pid:
        shutil.rmtree(os.environ[MULTIPROCESS_DIR], ignore_errors=True)


def child_exit(_server: object, worker: Worker) -> None:
    """Drop the gauges of a worker process that has ended; its counters stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
