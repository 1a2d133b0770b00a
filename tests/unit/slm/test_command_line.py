"""The whole command line: its help, its page in the documents, and the variables it reads."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from common.environment import ours
from common.owners.api_keys import Limits, Role
from common.settings import ROOT, Settings
from deploy.setup.settings_check import check_settings
from deploy.start_command import serve_command
from slm.app import command, run
from slm.commands.keys import RoleName

PAGE = (ROOT / "docs" / "command-line.md").read_text("utf-8")


def leaves(one: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    inner = getattr(one, "commands", {})
    if not inner:
        yield path, one
    for name, child in inner.items():
        yield from leaves(child, *path, name)


COMMANDS = dict(leaves(command()))
SERVE = ("serve",)
OTHERS = [path for path in COMMANDS if path != SERVE]


def test_the_commands_are_these() -> None:
    groups = {
        "adapters": {"add", "alias", "list", "rm", "rollback", "show"},
        "aliases": {"list", "rm"},
        "data": {"check", "feedback", "from-feedback"},
        "jobs": {"cancel", "list", "pause", "publish", "resume", "show", "watch"},
        "keys": {"change", "create", "list", "revoke"},
    }
    single = {(name,) for name in ("chat", "doctor", "eval", "export", "generate", "merge", "models", "train")}
    assert COMMANDS.keys() == {SERVE} | single | {(group, name) for group, names in groups.items() for name in names}


@pytest.mark.parametrize("path", OTHERS, ids=" ".join)
def test_a_command_has_a_help_text_json_and_a_place_in_the_documents(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert "\x1b" not in text
    assert COMMANDS[path].help
    assert f"slm {' '.join(path)}" in PAGE


def test_serve_becomes_the_start_command_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda _program, command, _environment: started.append(command))
    for options in (["--port", "8080", "--debug"], ["--help"]):
        run([*SERVE, *options])
        assert started.pop() == serve_command(options)


def test_the_options_of_generations_are_in_the_documents() -> None:
    for path in (("generate",), ("chat",)):
        options = {name for one in COMMANDS[path].params for name in one.opts if name.startswith("-")}
        assert {name for name in options - {"--json"} if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize("path", [(), *OTHERS], ids=" ".join)
def test_an_unknown_option_is_a_wrong_command(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--nope"]) == 2
    assert "--nope" in capsys.readouterr().err


def test_a_server_starts_in_a_shell_with_the_commands_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {str(one.envvar) for path in COMMANDS for one in COMMANDS[path].params if getattr(one, "envvar", None)}
    assert named == {"SLMCLIENT_URL", "SLMCLIENT_API_KEY"}
    for name in named:
        monkeypatch.setenv(name, "http://example.org")
    check_settings(os.environ)
    assert Settings.from_env() == Settings()
    assert named & ours(os.environ).keys() == set(), "no server process needs to see a client's key"


def test_the_exit_statuses_are_in_the_documents() -> None:
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == ["0", "1", "2", "130"]


def test_a_key_can_have_every_role_and_limit() -> None:
    create = {one.name for one in COMMANDS["keys", "create"].params}
    assert {one.value for one in RoleName} == {one.value for one in Role}
    assert {field.name for field in fields(Limits)} <= create
