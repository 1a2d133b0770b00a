"""Connection settings and response parsing shared by both clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

import httpx

from slm_client.errors import BadAnswer

DEFAULT_URL = "http://127.0.0.1:5000"

T = TypeVar("T")


class Setup(TypedDict):
    """Arguments that `httpx.Client` and `httpx.AsyncClient` share."""

    base_url: str
    headers: dict[str, str]


def setup(url: str, api_key: str | None) -> Setup:
    """Return the connection settings for a server."""
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return {"base_url": url, "headers": headers}


def read(response: httpx.Response, reader: Callable[[Mapping[str, Any]], T]) -> T:
    """Parse a successful response's JSON object with `reader`.

    Raises:
        BadAnswer: the body is not a JSON object of this API.
    """
    try:
        body = response.json()
    except ValueError as err:
        raise BadAnswer(f"The answer of {response.url} is not JSON.") from err
    if not isinstance(body, dict):
        raise BadAnswer(f"The answer of {response.url} is not a JSON object.")
    try:
        return reader(body)
    except KeyError as err:
        raise BadAnswer(f"The answer of {response.url} does not have {err}.") from err
