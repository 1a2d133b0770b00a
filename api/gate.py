"""Checks each request before its view runs: identifies the caller, and checks permission and rate limits."""

from __future__ import annotations

from collections.abc import Collection

from flask import Flask, Response, current_app, g, request

from api.auth.access import Access, access_of
from api.auth.caller import ANONYMOUS
from api.auth.foreign_page import is_foreign_page
from api.auth.rates import Allowance
from api.current import begin_work, caller, end_work, note_allowance, services
from api.http.request_body import has_body
from common.errors import Forbidden, SLMError, Unauthorized
from common.observation import context
from common.owners.api_keys import Role

_NEEDS = {
    Access.USER: "A worker's API key may only be used by a worker.",
    Access.WORKER: "This needs a worker's API key.",
    Access.TRAINER: "This needs an API key of an admin, or one with the role trainer.",
    Access.ADMIN: "This needs an admin's API key.",
}

_READING = ("GET", "HEAD", "OPTIONS")


def register_gate(app: Flask) -> None:
    """Check every request; must be registered after the hook that gives a request its id."""
    app.before_request(_let_in)
    app.after_request(_add_headers)
    app.after_request(_keep_stream)
    app.teardown_request(_clean_up)


def _let_in() -> None:
    """Limit the concurrency of rejected requests, too: a rejection costs as much as a small response."""
    try:
        _admit()
    except SLMError:
        begin_work()
        raise


def _admit() -> None:
    """Check the caller, except if the path or method does not exist: the response says only that."""
    if request.endpoint is None:
        begin_work()
        return
    access = access_of(current_app, request.endpoint)
    if access is Access.PUBLIC or _is_options_request():
        begin_work()
        return
    identify(access)
    _count()
    if request.method != "POST" or not has_body():  # otherwise after the body has arrived
        begin_work()


def _keep_stream(response: Response) -> Response:
    """Count a stream until its response ends, which is after Flask's request context ends."""
    if response.is_streamed and (leave := g.pop("leave_stream", None)) is not None:
        response.call_on_close(leave)
    return response


def _clean_up(_err: BaseException | None) -> None:
    end_work()
    if (leave := g.pop("leave_stream", None)) is not None:
        leave()


def identify(access: Access | None) -> None:
    """Identify the caller of the current request, for `caller` and the log lines.

    Raises:
        Unauthorized: the key is missing or unknown.
        Forbidden: the key's role may not use this route.
        RedisError: keys cannot be looked up now.
    """
    g.caller = services().keyring.identify(_sent_key())
    if request.method not in _READING and caller().role is not Role.USER:
        g.caller = services().keyring.confirm(caller())  # a revoked admin must not create a key meanwhile
    context.add(owner=caller().owner)
    if caller() is ANONYMOUS and not services().settings.insecure and _is_foreign():
        raise Forbidden("Without API keys, this server rejects requests from other sites and under other host names.")
    if not caller().is_admin and access not in _own_access():
        raise Forbidden(_NEEDS[access or Access.ADMIN])


def _own_access() -> Collection[Access]:
    if caller().is_worker:
        return (Access.WORKER,)
    return (Access.USER, Access.TRAINER) if caller().may_train else (Access.USER,)


def is_admin() -> bool:
    """Return whether the current request, to a public route, comes from an admin."""
    try:
        identify(Access.ADMIN)
    except (Unauthorized, Forbidden):
        return False
    return True


def _is_foreign() -> bool:
    origin = request.headers.get("Origin")
    if origin is not None and services().settings.allowed_origins.name(origin):
        origin = None
    return is_foreign_page(request.headers.get("Host", ""), origin)


def _is_options_request() -> bool:
    """Return whether Flask answers this OPTIONS request itself; browsers send these without a key."""
    return request.method == "OPTIONS" and getattr(request.url_rule, "provide_automatic_options", False)


def _sent_key() -> str | None:
    """Return the key in the request's headers. It is never read from the URL, which proxies log."""
    if "X-API-Key" in request.headers:
        return request.headers["X-API-Key"].strip()
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _count() -> None:
    """Count the request. Reads are counted apart, so that polling does not use up the allowance for new work."""
    owner, limits = caller().owner, services().keyring.limits_of(caller().owner)
    if request.method == "POST" and limits.requests_per_minute is not None:
        note_allowance(services().rates.take(owner, limits.requests_per_minute))
    if request.method != "POST" and limits.reads_per_minute is not None:
        services().read_rates.take(owner, limits.reads_per_minute)


def _add_headers(response: Response) -> Response:
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    allowance: Allowance | None = g.get("allowance")
    if allowance is not None:
        response.headers["X-RateLimit-Limit"] = str(allowance.limit)
        response.headers["X-RateLimit-Remaining"] = str(allowance.remaining)
        response.headers["X-RateLimit-Reset"] = str(allowance.reset_s)
    return response
