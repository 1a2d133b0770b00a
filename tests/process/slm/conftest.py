"""An API process with a worker that plays a script, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from slm.app import run
from tests.clients.conftest import dying_api, lasting_api, unused_url, url, worker
from tests.clients.mortal_api import MortalApi
from tests.scripted_worker import Play, Script

__all__ = ["dying_api", "lasting_api", "unused_url", "url", "worker"]


@dataclass(frozen=True)
class Done:
    """What a command that has ended wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its JSON document."""
        return json.loads(self.out)

    @property
    def events(self) -> list[Any]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def rows(self) -> list[list[str]]:
        """Its table."""
        return [line.split() for line in self.out.splitlines()]


class Command:
    """The command, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> Done:
        found = run(arguments)
        done = Done(found, *self._capsys.readouterr())
        assert found == status, done
        return done

    def at(self, url: str) -> CommandAt:
        return CommandAt(self, ("--url", url))


@dataclass(frozen=True)
class CommandAt:
    """The command, with the options that name a server."""

    command: Command
    options: Sequence[str]

    def __call__(self, *arguments: str, status: int = 0) -> Done:
        return self.command(*arguments, *self.options, status=status)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    for name in ("SLMCLIENT_URL", "SLMCLIENT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return Command(capsys)


@pytest.fixture
def slm(command: Command, url: str) -> CommandAt:
    """The command, at an API with an empty Redis."""
    return command.at(url)


def count_through_a_restart(api: MortalApi) -> Script:
    """Return a script for an answer in whose middle the API dies and comes back."""

    def script(play: Play) -> None:
        play.say("one ", "two ")
        api.restart()
        api.wait_until_up()
        play.end("three")

    return script
