"""Tests of other servers, against this one with its default model; `just judges` runs all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from models import default_model
from tests.foreign.foreign_python import INSTALL_S
from tests.foreign.judges.judging import judge, verdict_of
from tests.foreign.judges.server import MODEL, MODELS, running
from tests.foreign.judges.suites import suite

pytestmark = pytest.mark.timeout(INSTALL_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    default_model.install(MODELS, progress=print)
    with running(tmp_path_factory.mktemp("judged")) as url:
        yield url


@pytest.mark.parametrize("name", ["vllm", "llama.cpp"])
def test_another_servers_tests_pass(server: str, name: str) -> None:
    verdict = judge(suite(name), server, MODEL, MODELS / MODEL, quick=True)
    print(verdict)
    assert verdict.is_good, str(verdict)


def test_only_listed_failures_are_expected() -> None:
    of_vllm = replace(suite("vllm"), reasons={"it is vLLM's": ("a.py::one", "b.py")})
    said = [
        ("a.py::one[x]", "failed"),
        ("b.py::two", "passed"),
        ("a.py::one_more", "failed"),
        ("a.py::three", "skipped"),
    ]
    verdict = verdict_of(of_vllm, [json.dumps({"test": test, "outcome": how, "text": "why"}) for test, how in said])
    assert verdict.expected == {"a.py::one[x]": "it is vLLM's"}
    assert (verdict.now_pass, verdict.skipped) == (["b.py::two"], ["a.py::three"])
    assert (verdict.failed, verdict.is_good) == ({"a.py::one_more": "why"}, False)
