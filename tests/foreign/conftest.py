"""A server with a key, and a worker that plays a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from redis import Redis

from common.errors import PromptTooLong
from common.jobs.sampling import SamplingParams
from common.owners.api_keys import ApiKeyStore, Role
from common.redis.client import connect
from tests.api_process import running_api
from tests.fakes import FakeRunner, Outputs, fake_engine, fake_prompt
from tests.foreign.foreign_python import AGENTS, AGENTS_FOLDER, FOLDER, HERE, ForeignPython, foreign_python
from tests.redis_server import running_server
from tests.scripted_worker import Script, ScriptedWorker
from worker.engine.sequence import Sequence


@dataclass(frozen=True)
class Site:
    """The address of the API's `/v1`, and a user's key."""

    url: str
    secret: str
    redis: Redis

    def worker(self, script: Script) -> AbstractContextManager[ScriptedWorker]:
        return ScriptedWorker(self.redis, script)

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables from which these clients read the server's address."""
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": self.secret}


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A separate Redis, because the key stays from test to test."""
    folder = tmp_path_factory.mktemp("foreign")
    with running_server(folder) as server, connect(server.url) as redis:
        secret = ApiKeyStore(redis).create("ada", Role.USER)
        with running_api(folder, redis_url=server.url, drain_s=1) as api:
            yield Site(f"{api.url}/v1", secret, redis)


@pytest.fixture(scope="package")
def too_long() -> PromptTooLong:
    """A worker's error for a prompt that does not fit: some clients recognise its words."""
    engine = fake_engine(Outputs(), runner=FakeRunner(context_length=8))
    with pytest.raises(PromptTooLong) as refused:
        engine.check(Sequence("a", fake_prompt("a long prompt"), SamplingParams(seed=0)))
    return refused.value


@pytest.fixture(scope="package")
def python(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignPython]:
    """The interpreter with LangChain and LiteLLM."""
    with foreign_python(HERE, FOLDER, tmp_path_factory.mktemp("python") / "log", **site.variables) as python:
        yield python


@pytest.fixture(scope="package")
def agents(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignPython]:
    """The interpreter with frameworks for agents."""
    log = tmp_path_factory.mktemp("agents") / "log"
    with foreign_python(AGENTS, AGENTS_FOLDER, log, **site.variables) as python:
        yield python
