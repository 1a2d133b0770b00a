"""Runs the server on this machine: checks, prepares the model, starts and supervises the processes, stops them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from redis import Redis

from common.network import is_loopback
from common.redis.client import connect
from common.settings import Settings, SettingsError
from deploy import data_folder
from deploy.options import StartOptions
from deploy.processes import stack
from deploy.processes.child_log import LogEcho, is_important
from deploy.processes.model_setup import make_model
from deploy.processes.probes import Probes
from deploy.processes.readiness import Readiness
from deploy.processes.stack import Stack
from deploy.processes.supervisor import Supervisor
from deploy.processes.welcome import welcome
from deploy.redis import own_redis
from deploy.redis.redis_server import EmbeddedRedis
from deploy.setup import preflight
from deploy.setup.preflight import PreflightError
from models.base_model import DEFAULT_BASE_MODEL, BaseModelError, needs_conversion, resolve_base_model
from models.encoder import read_encoder
from models.errors import EncoderError


def serve(options: StartOptions) -> int:
    """Run the server until SIGINT, SIGTERM or SIGHUP. Returns the exit status."""
    os.environ.update(options.environment())
    os.umask(0o077)  # every process writes prompts and responses to files: only this user may read them
    try:
        prepared = prepare(options)
    except (SettingsError, PreflightError) as err:
        print(f"Cannot start: {err}", file=sys.stderr)
        return 1
    _warn_if_open(prepared.settings)
    supervise(prepared, debug=options.debug)
    return 0


def _warn_if_open(settings: Settings) -> None:
    if settings.insecure and not is_loopback(settings.host):
        say(
            f"WARNING: listening on {settings.host} with --insecure: while there are no API keys, anyone who can "
            "reach this machine is an admin of the server."
        )


def say(line: str) -> None:
    """Print a line. The server must survive the loss of its console."""
    try:
        print(f"{line}\n", end="", flush=True)  # a single write, so that lines of several threads do not mix
    except OSError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process


def prepare(options: StartOptions) -> Stack:
    """Check everything that can be checked before a process is started, and prepare the model.

    Raises:
        SettingsError, PreflightError: the text is one line that says what is wrong.
    """
    settings = _with_absolute_paths(Settings.from_env())
    claim = data_folder.claim_data_dir(settings.data_dir)
    preflight.check_port_free(settings.host, settings.port)
    installation = data_folder.installation(settings.data_dir)
    api = stack.API if options.gunicorn is None else stack.api(options.gunicorn)
    prepared = Stack(settings, options.workers, _redis(settings), claim.inherited, installation, api)
    _check_access(prepared)
    _check_encoder(settings)
    claim.announce(prepared.redis_url, settings.broker_url)
    _get_model(prepared)
    return prepared


def _check_access(prepared: Stack) -> None:
    """Look up the API keys, but only if they matter: they are in Redis, which may have to be started for this."""
    if prepared.settings.allows_anonymous:
        return
    if prepared.redis is None:
        reached: AbstractContextManager[Redis] = connect(prepared.redis_url)
    else:
        reached = own_redis.running(prepared.redis, prepared.lock)
    with reached as redis:
        preflight.check_access(prepared.settings, redis)


def _check_encoder(settings: Settings) -> None:
    """Check the description of the model for embeddings, if there is one; its process loads the weights."""
    if settings.embed_folder is None:
        return
    try:
        read_encoder(settings.embed_folder)
    except EncoderError as err:
        raise PreflightError(str(err)) from err


def _with_absolute_paths(settings: Settings) -> Settings:
    """Resolve paths against the user's current folder: the processes run in the project's folder."""
    paths: dict[str, object] = {"data_dir": settings.data_dir.absolute()}
    if settings.lora_path is not None:
        paths["lora_path"] = settings.lora_path.absolute()
    if settings.adapters_dir is not None:
        paths["adapters_dir"] = settings.adapters_dir.absolute()
    paths["base_model"] = _absolute_model(settings.base_model)
    if settings.embed_folder is not None:
        paths["embed_model"] = str(settings.embed_folder.absolute())
    if settings.models:
        paths["models"] = "; ".join(
            replace(base, source=_absolute_model(base.source)).to_text() for base in settings.bases
        )
    return settings.model_copy(update=paths)


def _absolute_model(source: str) -> str:
    return str(Path(source).absolute()) if source != DEFAULT_BASE_MODEL and Path(source).exists() else source


def _redis(settings: Settings) -> EmbeddedRedis | None:
    """Return the Redis server to start; None if SLM_REDIS_URL names one, after checking that it answers."""
    if settings.redis_url is not None:
        preflight.check_redis(settings.redis_url)
        return None
    return own_redis.embedded(settings)


def _get_model(prepared: Stack) -> None:
    """Prepare every base model, or raise the reason why that is not possible."""
    data_dir = prepared.settings.data_dir
    for base in prepared.settings.bases:
        if needs_conversion(base.source, data_dir):
            make_model(prepared, base.source)
        try:
            resolve_base_model(base.source, data_dir, progress=say)
        except BaseModelError as err:
            raise PreflightError(str(err)) from err


def supervise(prepared: Stack, *, debug: bool) -> None:
    """Start the processes, report when they are ready, and return when all of them have stopped."""
    children = prepared.children()
    supervisor = Supervisor(children, say=say)
    stop_on_signals(supervisor.request_stop)
    echo = LogEcho({child.name: child.log for child in children}, _always if debug else is_important, say)
    echo.start()
    probes = Probes(prepared, supervisor.pid).all()
    Readiness(probes, stopping=supervisor.stopping, say=say, then=lambda: say(welcome(prepared))).start()
    supervisor.run()
    echo.stop()
    say("Stopped.")


def _always(_line: str) -> bool:
    return True


def stop_on_signals(request_stop: Callable[[], None]) -> None:
    """Stop on Ctrl-C, SIGTERM or a closed terminal; a second signal stops immediately."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: request_stop())
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it to outlive the terminal
        signal.signal(signal.SIGHUP, lambda *_: request_stop())
