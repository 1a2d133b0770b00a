"""Random requests to every route of the OpenAPI document: nothing crashes the server.

A new route in the document is tested without a change here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from pydantic import TypeAdapter
from werkzeug.test import TestResponse

from api.app import create_app
from api.error_shapes import OPENAI, SLM, shape_of
from api.reference.document import OPERATIONS, build
from common.owners.api_keys import ApiKeyStore, Role
from common.redis.subscriber import Subscriber
from common.settings import Settings
from tests.api_in_process import api_in_process
from tests.fake_redis import fake_redis
from tests.fuzz.fuzz import Fuzz, Target, requests_to
from tests.fuzz.known import known_names
from tests.unit.api.conftest import SECRET, STORY, StartApi
from tests.unit.test_docs import error_codes

IDS = sorted(operation.id for operation in OPERATIONS.values())
CASES = 35  # per operation
STRANGERS = 10  # per operation, without a valid key
MANY = 2500  # for all operations together, at least

ASKED_FOR = {"job_expired", "job_timeout"}  # a client may want its job to expire before it starts
NAMES_AT_OPENAI = {"context_length_exceeded": "prompt_too_long"}
STATUSES = dict(error_codes())

# werkzeug leaves the files of an incomplete form to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")

deterministic = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    redis = fake_redis()
    return build(create_app(Settings(), redis=redis, dispatch=lambda _: None, subscriber=Subscriber(redis)))


@cache
def adapter_of(model: Any) -> TypeAdapter[Any]:
    """Made once for each shape of errors: that takes longer than a request."""
    return TypeAdapter(model)


def code_of(answer: TestResponse) -> str | None:
    """Return our code of an error, if its shape has it; fails if it does not match its description."""
    assert answer.mimetype == "application/json"
    shape = shape_of(answer.request.path)
    code: Any = adapter_of(shape.model).validate_json(answer.data)
    if shape not in (SLM, OPENAI):
        return None
    for name in shape.code_path:
        code = code[name]
    return NAMES_AT_OPENAI.get(code, code)


def check(answer: TestResponse) -> None:
    """Check that it is a success or a client error, and matches its description."""
    assert answer.headers["X-Request-Id"]
    if answer.status_code >= 400:
        code = code_of(answer)
        assert code is None or STATUSES[code] == answer.status_code
        assert answer.status_code < 500 or code in ASKED_FOR, answer.text


@pytest.mark.parametrize("operation_id", IDS)
def test_no_request_crashes_a_route(
    start_api: StartApi, document: dict[str, Any], data_dir: Path, operation_id: str
) -> None:
    api = start_api(webhook_secret=SECRET, data_dir=data_dir)
    target = Target.of(document, operation_id, known_names(api.client))
    statuses: list[int] = []

    @settings(deterministic, max_examples=CASES)
    @given(fuzz=requests_to(target))
    def send(fuzz: Fuzz) -> None:
        api.worker.keep_alive()  # its worker stays alive, however long this takes
        answer = fuzz.send(api.client)
        check(answer)
        statuses.append(answer.status_code)

    send()
    assert len(statuses) >= CASES


@dataclass(frozen=True)
class Locked:
    """A server with an admin, and what it has. Refused requests change nothing, so all of them go to one server."""

    client: FlaskClient
    known: dict[str, str]


@pytest.fixture(scope="module")
def locked() -> Iterator[Locked]:
    redis = fake_redis()
    with api_in_process(redis, STORY, webhook_secret=SECRET) as api:
        secret = ApiKeyStore(redis).create("root", Role.ADMIN)
        yield Locked(api.client, known_names(api.client, Authorization=f"Bearer {secret}"))


@pytest.mark.parametrize("operation_id", IDS)
def test_requests_without_a_key_are_refused(locked: Locked, document: dict[str, Any], operation_id: str) -> None:
    target = Target.of(document, operation_id, locked.known)
    is_open = document["paths"][target.path][target.method]["security"] == []
    answers = []

    @settings(deterministic, max_examples=STRANGERS)
    @given(fuzz=requests_to(target))
    def send(fuzz: Fuzz) -> None:
        answers.append(fuzz.send(locked.client))

    send()
    assert len(answers) >= STRANGERS
    assert is_open or {answer.status_code for answer in answers} <= {401, 404, 405}


def test_thousands_of_requests_were_sent() -> None:
    assert len(IDS) * (CASES + STRANGERS) >= MANY
