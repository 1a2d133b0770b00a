"""The clients require the versions that the tests use."""

from __future__ import annotations

import re

import pytest

from common.settings import ROOT


def pins(*path: str) -> set[str]:
    return set(re.findall(r"^[\w.-]+==\S+$", ROOT.joinpath(*path).read_text(), re.MULTILINE))


@pytest.mark.parametrize("client", ["python", "discord"])
def test_a_client_is_tested_with_the_versions_that_it_asks_for(client: str) -> None:
    wanted = pins("clients", client, "requirements.txt")
    assert wanted
    assert wanted <= pins("requirements", "constraints.txt")
