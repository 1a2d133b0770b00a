"""What the request being served stands on: the application's services, its own id, and the job it is about."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

from flask import current_app, g, request
from redis import Redis

from api.auth.caller import Caller
from api.auth.keyring import Keyring
from api.auth.open_streams import OpenStreams
from api.auth.rates import Allowance, Rates
from api.http.turns import PATIENCE_S, Turns
from api.observation.metrics import ApiMetrics
from api.observation.starvation import Starvation
from api.overview import Overview
from api.service import JobService
from common.observation import context
from common.owners.batches import BatchStore
from common.owners.files import FileStore
from common.settings import Settings

EXTENSION = "slm"  # the services' key in `app.extensions`
LONG_BODY = 32_768  # bytes: to read it takes about a millisecond


@dataclass(frozen=True, slots=True)
class Services:
    """What `create_app` builds and the routes use."""

    settings: Settings
    redis: Redis
    jobs: JobService
    overview: Overview
    keyring: Keyring
    rates: Rates
    read_rates: Rates
    streams: OpenStreams
    read_turns: Turns
    short_turns: Turns
    stranger_turns: Turns
    metrics: ApiMetrics
    starvation: Starvation
    files: FileStore
    batches: BatchStore


def services() -> Services:
    """The application's services."""
    return cast(Services, current_app.extensions[EXTENSION])


def request_id() -> str:
    """The id under which this request appears in its answer and in the log."""
    return cast(str, g.request_id)


def caller() -> Caller:
    """Who sends this request. Nobody has asked, where the route is public."""
    return cast(Caller, g.caller)


def note_allowance(allowance: Allowance | None) -> None:
    """Tell in the answer's headers what is left of a limit, if it is known."""
    g.allowance = allowance


def take_turn(body_size: int = 0) -> None:
    """Wait until the caller's other requests leave room for this one's work; once, however often it is called.

    What is short and asks for work need not wait for an owner's other requests while nobody else is there.

    Raises:
        RateLimitExceeded: they do not, for a long time.
    """
    if "turn" in g:
        return
    turns, owner = _turns(body_size)
    with ExitStack() as stack:
        stack.enter_context(turns.take(owner, patience_s=PATIENCE_S))
        g.turn = stack.pop_all()


def _turns(body_size: int) -> tuple[Turns, str]:
    """Which turns the request takes, and whose they are: whoever is not known takes those of the address."""
    if "caller" not in g:
        return services().stranger_turns, str(request.remote_addr)
    is_reading = request.method in ("GET", "HEAD") or body_size > LONG_BODY
    return services().read_turns if is_reading else services().short_turns, caller().owner


def open_stream() -> None:
    """Count the answer as one of the caller's streams, for as long as it lasts.

    Raises:
        RateLimitExceeded: they have as many as they may have.
    """
    owner = caller().owner
    g.leave_stream = services().streams.enter(owner, services().keyring.limits_of(owner).open_streams)


def end_turn() -> None:
    """The request's own work is done: what follows is waiting. May be called twice."""
    if g.get("turn") is not None:
        g.turn.close()
        g.turn = None


def note_job(job_id: str, *, is_repeat: bool = False) -> None:
    """The job is entered: name it in the answer's headers, whatever the answer will be; and say if it was there before.

    Ends the request's turn.
    """
    end_turn()
    g.job_id = job_id
    context.add(job_id=job_id)
    g.is_repeat = is_repeat
