"""What the request being served stands on: the application's services, its own id, and the job it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app, g
from redis import Redis

from api.auth.caller import Caller
from api.auth.keyring import Keyring
from api.auth.rates import Allowance, Rates
from api.observation.metrics import ApiMetrics
from api.observation.starvation import Starvation
from api.overview import Overview
from api.service import JobService
from common import context
from common.batches import BatchStore
from common.files import FileStore
from common.settings import Settings

EXTENSION = "slm"  # the services' key in `app.extensions`


@dataclass(frozen=True, slots=True)
class Services:
    """What `create_app` builds and the routes use."""

    settings: Settings
    redis: Redis
    jobs: JobService
    overview: Overview
    keyring: Keyring
    rates: Rates
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


def note_job(job_id: str, *, is_repeat: bool = False) -> None:
    """Name the job in the answer's headers, whatever the answer will be; and say that it was entered before."""
    g.job_id = job_id
    context.add(job_id=job_id)
    g.is_repeat = is_repeat
