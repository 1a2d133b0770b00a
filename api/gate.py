"""What each request goes through before its view: who is it, may they, and how often."""

from __future__ import annotations

from flask import Flask, Response, current_app, g, request

from api.auth.access import Access, access_of
from api.auth.caller import ANONYMOUS
from api.auth.foreign_page import is_foreign_page
from api.auth.rates import Allowance
from api.current import caller, end_turn, note_allowance, services, take_turn
from api.http.request_body import has_body
from common.errors import Forbidden, SLMError, Unauthorized
from common.observation import context


def register_gate(app: Flask) -> None:
    """Let in who may come in; must be registered behind what gives a request its id."""
    app.before_request(_let_in)
    app.after_request(_add_headers)
    app.after_request(_keep_stream)
    app.teardown_request(_clean_up)


def _let_in() -> None:
    """Whoever is refused takes a turn as well: a refusal costs as much as a small answer."""
    try:
        _admit()
    except SLMError:
        take_turn()
        raise


def _admit() -> None:
    """A path or a method that does not exist is open to all: the answer says no more than that."""
    if request.endpoint is None:
        take_turn()
        return
    access = access_of(current_app, request.endpoint)
    if access is Access.PUBLIC or _asks_for_methods_only():
        take_turn()
        return
    identify(access)
    _count()
    if request.method != "POST" or not has_body():  # otherwise when the body is there
        take_turn()


def _keep_stream(response: Response) -> Response:
    """A stream lasts as long as its answer, which goes on after the request."""
    if response.is_streamed and (leave := g.pop("leave_stream", None)) is not None:
        response.call_on_close(leave)
    return response


def _clean_up(_err: BaseException | None) -> None:
    end_turn()
    if (leave := g.pop("leave_stream", None)) is not None:
        leave()


def identify(access: Access | None) -> None:
    """Find out who sends the present request; from here on `caller` and the log lines tell.

    Raises:
        Unauthorized: the key is missing or wrong.
        Forbidden: the key is good, and not for such a route.
        RedisError: keys cannot be looked up now.
    """
    g.caller = services().keyring.identify(_sent_key())
    context.add(owner=caller().owner)
    if caller() is ANONYMOUS and not services().settings.insecure and _is_foreign():
        raise Forbidden("Without API keys, this server rejects requests from other sites and under other host names.")
    if access is not Access.USER and not caller().is_admin:
        raise Forbidden("This needs an admin's API key.")


def is_admin() -> bool:
    """Whether the present request, to a route that is open to all, comes from an admin."""
    try:
        identify(Access.ADMIN)
    except (Unauthorized, Forbidden):
        return False
    return True


def _is_foreign() -> bool:
    origin = request.headers.get("Origin")
    if origin in services().settings.allowed_origins:
        origin = None
    return is_foreign_page(request.headers.get("Host", ""), origin)


def _asks_for_methods_only() -> bool:
    """A browser sends OPTIONS without a key. Flask answers it by itself, for every view that does not."""
    return request.method == "OPTIONS" and getattr(request.url_rule, "provide_automatic_options", False)


def _sent_key() -> str | None:
    """The key in the request's headers. Never in the URL: that is logged on the way."""
    if "X-API-Key" in request.headers:
        return request.headers["X-API-Key"].strip()
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _count() -> None:
    """What asks for work counts for itself: whoever looks how their jobs are doing does not run out of it by that."""
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
