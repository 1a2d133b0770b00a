"""What both clients set up and read alike."""

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
    """How to reach the server."""
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return {"base_url": url, "headers": headers}


def read(response: httpx.Response, reader: Callable[[Mapping[str, Any]], T]) -> T:
    """What `reader` makes of a success's JSON object.

    Raises:
        BadAnswer: it is none, or not one of this API.
    """
    try:
        body = response.json()
    except ValueError as err:
        raise BadAnswer(f"{response.url} did not answer in JSON.") from err
    if not isinstance(body, dict):
        raise BadAnswer(f"{response.url} did not answer with a JSON object.")
    try:
        return reader(body)
    except KeyError as err:
        raise BadAnswer(f"The answer of {response.url} lacks {err}.") from err
