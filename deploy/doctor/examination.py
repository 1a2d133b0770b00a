"""All checks, in the order in which a server needs things."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

from kombu import Connection
from redis import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from common.binding import InsecureBinding, check_binding
from common.rabbitmq import RabbitAddress
from common.redis.client import connect
from common.settings import Settings, SettingsError
from deploy.data_folder import announced_redis
from deploy.doctor.files import check_files, nearest
from deploy.doctor.finding import Finding, ok, problem, warning
from deploy.doctor.job_store import check_job_store
from deploy.doctor.machine import Machine, check_machine
from deploy.redis.redis_server import find_server
from deploy.setup.preflight import PreflightError, check_port_free

BROKER_TIMEOUT_S = 3


def examine() -> Iterator[Finding]:
    """Check the settings in the environment, this machine, and Redis if it runs; yield what each check has found."""
    yield ok("Python", sys.version.split()[0])
    try:
        settings = Settings.from_env()
    except SettingsError as err:
        yield problem("settings", str(err), "Correct the variable; docs/settings.md lists all.")
        return
    yield ok("settings", "valid")
    yield from check_files(settings)
    yield from check_machine(Machine.here(nearest(settings.data_dir)), device=settings.device)
    yield from _running(settings)


def _running(settings: Settings) -> Iterator[Finding]:
    """Check the servers of the settings, or the Redis of the running server, and whether a server can listen."""
    if settings.broker_url is not None:
        yield _broker(settings.broker_url)
    try:
        url = settings.redis_url or announced_redis(settings.data_dir)
    except PreflightError as err:
        yield warning("Redis", str(err), "Run this again.")
        return
    if url is None:
        yield _embedded_redis()
        yield _port(settings)
        return
    is_own = settings.redis_url is None
    try:
        with connect(url, retries=0) as redis:
            yield from check_job_store(redis, settings.redis_replicas)
            yield _access(settings, redis)
    except (RedisError, ValueError) as err:
        yield _unusable(err)
    yield ok("server", f"runs with the data folder {settings.data_dir}") if is_own else _port(settings)


def _unusable(err: Exception) -> Finding:
    if isinstance(err, BusyLoadingError):
        return problem("Redis", "reads its data after a start", "Wait: its log says how far it is.")
    if isinstance(err, AuthenticationError | ResponseError):
        advice = "Correct user, password or database in SLM_REDIS_URL, or the user's rights: docs/redis.md has them."
        return problem("Redis", f"refuses this user ({err})", advice)
    return problem("Redis", f"does not answer ({err})", "Start it, or correct SLM_REDIS_URL.")


def _broker(url: str) -> Finding:
    address = RabbitAddress.parse(url)
    with Connection(address.url, ssl=dict(address.tls) or False, connect_timeout=BROKER_TIMEOUT_S) as broker:
        try:
            broker.connect()
        except (*broker.connection_errors, *broker.channel_errors) as err:
            return problem("broker", f"does not answer ({err})", "Start it, or correct SLM_BROKER_URL.")
        return ok("broker", broker.as_uri())  # without the password


def _embedded_redis() -> Finding:
    try:
        return ok("Redis", f"will be started: {find_server().name}")
    except PreflightError as err:
        return problem("Redis", "there is none", str(err))


def _access(settings: Settings, redis: Redis) -> Finding:
    try:
        check_binding(settings, redis)
    except InsecureBinding as err:
        return problem("access", "open to other machines", str(err))
    if settings.insecure:
        advice = "Create API keys with 'slm keys create', and unset SLM_INSECURE."
        return warning("access", "everybody who reaches the server may do everything (SLM_INSECURE)", advice)
    return ok("access", f"{settings.published_host or settings.host}")


def _port(settings: Settings) -> Finding:
    try:
        check_port_free(settings.host, settings.port)
    except PreflightError as err:
        if isinstance(err.__cause__, OSError) and err.__cause__.errno == errno.EADDRINUSE:
            return warning("port", f"{settings.port} is in use, perhaps by this server", str(err))
        return problem("port", f"{settings.host} port {settings.port} cannot be used", str(err))
    return ok("port", f"{settings.port} is free")
