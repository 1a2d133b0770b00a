"""Requests from the OpenAPI document: valid, invalid and edge cases. Every answer must match it.

The server has keys, and every request accepted with an admin's key is tried without one. Requests are the same every
time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.transport.serialization import Binary
from werkzeug.wsgi import ClosingIterator

from api.http.upload_body import RAW_TYPES
from api.reference.dataset_operations import CSV, JSON_LINES
from api.reference.document import OPERATIONS
from common.owners.api_keys import UNLIMITED, ApiKeyStore, Role
from tests.api_in_process import Api, api_in_process
from tests.fake_redis import fake_redis
from tests.fuzz.known import known_names
from tests.unit.api.conftest import SECRET, STORY

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SEED = 20_261_122
DRAWN = 8  # valid requests per operation
EDGES = 30  # valid and invalid requests at the edges per operation, at most that many of each
NEED_A_RUN = {"pauseRun", "resumeRun", "publishRun"}
NEED_A_FINE_TUNING_JOB = {
    *("showFineTuningJob", "cancelFineTuningJob", "pauseFineTuningJob", "resumeFineTuningJob"),
    *("listFineTuningEvents", "listFineTuningCheckpoints"),
}
# There are no dead letters, no runs and no embedder, no drawn file is a dataset, one batch is never validated, and the
# only base model is served. The body of `vllmInvoke` is that of one of three others, whose rules it does not repeat.
IMPOSSIBLE = {
    "vllmInvoke",
    *("retryJob", "dropJob", "deleteAdapter", "deleteModel", "createFineTuningJob", "evaluate"),
    *("createEmbeddings", "ollamaEmbed", "ollamaEmbeddings"),
    *NEED_A_RUN,
    *NEED_A_FINE_TUNING_JOB,
}


@schemathesis.serializer(*RAW_TYPES, JSON_LINES, CSV)
def as_it_is(_context: object, value: object) -> bytes:
    """A body that is a file."""
    return value.data if isinstance(value, Binary) else str(value).encode()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    redis = fake_redis()
    with api_in_process(redis, STORY, webhook_secret=SECRET, data_dir=tmp_path_factory.mktemp("data")) as api:
        yield api


class Asker:
    """Sends requests with an admin's key, and counts the answers."""

    def __init__(self, api: Api, secret: str) -> None:
        self._api = api
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._numbers = itertools.count()
        api.client.post("/slm/load", headers=self._headers)  # an earlier operation may have unloaded the model
        self.statuses: list[int] = []

    @cached_property
    def _known(self) -> dict[str, str]:
        return known_names(self._api.client, **self._headers)

    def ask(self, case: Case) -> None:
        """Fail if the answer does not match its description."""
        self._api.worker.keep_alive()  # its worker stays alive, however long this takes
        self.statuses.append(case.call_and_validate(headers=self._headers).status_code)

    def ask_for_what_is_there(self, case: Case) -> None:
        """As `ask`, with the names of a job, a model, a file and a batch that exist, and an unused Idempotency-Key."""
        for names in (case.path_parameters, case.body):
            if isinstance(names, dict):
                names.update({name: value for name, value in self._known.items() if name in names})
        if "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = f"key {next(self._numbers)}"
        self.ask(case)


@pytest.fixture(scope="module")
def secret(api: Api) -> str:
    return ApiKeyStore(api.redis).create("root", Role.ADMIN, UNLIMITED)  # each test leaves an open batch


@pytest.fixture
def asker(api: Api, secret: str) -> Asker:
    return Asker(api, secret)


@pytest.fixture(scope="module")
def described(api: Api) -> BaseSchema:
    """The document.

    JSON Schema cannot say that 1.0 is not an integer, that fields depend on each other, or where a webhook may go:
    a valid body may still be refused.
    """
    app, config = in_one_piece(api.client.application), schemathesis.Config(seed=SEED)
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)
    schema.config.generation.with_security_parameters = False
    schema.config.checks.positive_data_acceptance.enabled = False
    return schema


def in_one_piece(app: WSGIApplication) -> WSGIApplication:
    """The application, which reads its answers to the end: schemathesis leaves files open."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with closing(ClosingIterator(app(environ, start_response))) as answer:
            return [b"".join(answer)]

    return serve


def find(described: BaseSchema, operation_id: str) -> APIOperation:
    [found] = described.include(operation_id=operation_id).get_all_operations()
    return found.ok()


every_operation = pytest.mark.parametrize("operation_id", sorted(operation.id for operation in OPERATIONS.values()))


@every_operation
def test_valid_requests_are_answered_as_described(described: BaseSchema, asker: Asker, operation_id: str) -> None:
    @settings(
        max_examples=DRAWN, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=find(described, operation_id).as_strategy(generation_mode=GenerationMode.POSITIVE))
    def ask(case: Case) -> None:
        asker.ask_for_what_is_there(case)

    ask()
    assert len(asker.statuses) >= DRAWN
    assert operation_id in IMPOSSIBLE or min(asker.statuses) < 300


@every_operation
def test_requests_at_the_edges_are_answered_as_described(
    described: BaseSchema, asker: Asker, operation_id: str
) -> None:
    for mode in GenerationMode:
        cases = described.iter_coverage_cases(
            find(described, operation_id), generation_modes=[mode], generation_config=described.config.generation
        )
        for case in itertools.islice(cases, EDGES):
            asker.ask(case)
    assert max(asker.statuses) >= 400
