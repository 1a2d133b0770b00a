"""`slm adapters`, `slm aliases` and `slm models`, against a server with prepared answers."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.clients.scripted_server import Reply, refused, scripted_server
from tests.process.slm.conftest import Command, Done
from tests.process.slm.registry_server import ALIAS, NAMED, VERSION, registry_server
from tests.process.slm.terminal import terminal
from tests.small_adapter import folder

OK = {"success": True}
ADDED = VERSION | OK | {"is_new": True, "message": "m", "job_id": "j"}
Answers = dict[str, tuple[int, dict[str, Any]]]


def error(status: int, code: str) -> tuple[int, dict[str, Any]]:
    return status, {"success": False, "error": f"It is {code}.", "code": code, "request_id": "r"}


@pytest.mark.parametrize(
    ("arguments", "asked", "answer", "rows"),
    [
        (
            ["models"],
            "GET /slm/models",
            {"models": [NAMED]},
            ["NAME KIND STANDS FOR BASE LOADED BY", "prod alias support@2 gpt2 -"],
        ),
        (
            ["adapters", "list"],
            "GET /slm/adapters",
            {"adapters": [VERSION | {"versions": [VERSION]}]},
            ["NAME NEWEST BASE RANK SIZE ALIASES LOADED BY", "support 2 gpt2 16 4.9 MB prod w1"],
        ),
        (
            ["aliases", "list"],
            "GET /slm/aliases",
            {"aliases": [ALIAS]},
            ["ALIAS TARGET BEFORE", "prod support@2 support@1"],
        ),
        (["adapters", "rm", "a@2"], "DELETE /slm/adapters/a@2", {"name": "a", "versions": [2]}, ["Deleted: a@2"]),
        (["adapters", "rm", "a"], "DELETE /slm/adapters/a", {"name": "a", "versions": [1, 2]}, ["Deleted: a@1, a@2"]),
        (["adapters", "rollback", "prod"], "POST /slm/aliases/prod/rollback", ALIAS, ["prod -> support@2"]),
        (["aliases", "rm", "prod"], "DELETE /slm/aliases/prod", {"name": "prod"}, ["Deleted prod."]),
    ],
)
def test_a_command_is_one_request(
    command: Command, arguments: list[str], asked: str, answer: dict[str, Any], rows: list[str]
) -> None:
    with registry_server(**{asked: (200, answer | OK)}) as server:
        done = command.at(server.url)(*arguments)
        assert [f"{method} {path}" for method, path, _ in server.asked] == [asked]
        assert [" ".join(row) for row in done.rows] == rows
        assert command.at(server.url)(*arguments, "--json").document == answer | OK


def test_an_adapter_is_shown_with_its_versions(command: Command) -> None:
    row = {"name": "held_out", "base": 3.12345, "current": None, "candidate": 1.5, "bound": 3.12345, "passed": True}
    curve = [{"step": 0, "held_out_loss": 3.0}, {"step": 1, "loss": 2.0}, {"step": 2, "held_out_loss": 1.5}]
    card = {"data": {"sha256": "ab12", "examples_trained": 18}, "seed": 7, "curve": curve, "gate": {"rows": [row]}}
    answer = VERSION | OK | {"versions": [VERSION | {"version": 1}, VERSION], "summary": card}
    with registry_server(**{"GET /slm/adapters/support": (200, answer)}) as server:
        lines = command.at(server.url)("adapters", "show", "support").out.splitlines()
    assert "rank:        16" in lines
    assert "versions:    1, 2" in lines
    assert "data:        examples trained 18, sha256 ab12" in lines
    assert "seed:        7" in lines
    assert "curve:       3 at step 0, 1.5 at step 2" in lines
    assert lines[-1].split() == ["held_out", "3.123", "-", "1.5", "3.123", "yes"]


@pytest.mark.parametrize(
    "summary",
    [{"gate": "passed", "curve": [1]}, {"gate": {"rows": [1]}}, {"gate": {"rows": "all"}, "data": None}],
    ids=["texts", "numbers", "nothing"],
)
def test_any_summary_can_be_shown(command: Command, summary: dict[str, Any]) -> None:
    with registry_server(**{"GET /slm/adapters/support": (200, VERSION | OK | {"summary": summary})}) as server:
        assert "Training" in command.at(server.url)("adapters", "show", "support").out


def test_an_alias_is_moved(command: Command) -> None:
    with registry_server(**{"PUT /slm/aliases/prod": (200, ALIAS | OK)}) as server:
        assert command.at(server.url)("adapters", "alias", "prod", "support").out == "prod -> support@2\n"
        assert json.loads(server.asked[0][2]) == {"model": "support"}


def test_a_name_never_becomes_another_path(command: Command) -> None:
    with scripted_server(Reply(200, b'{"status": "ok"}'), refused(404, "adapter_not_found")) as server:
        done = command.at(server.url)("adapters", "rm", "../jobs/x?y", status=1)
    assert server.asked[1].path == "/slm/adapters/..%2Fjobs%2Fx%3Fy"
    assert "slm adapters list" in done.err


def add(command: Command, path: Path, answers: Answers, *options: str, status: int = 0) -> tuple[Done, Any]:
    with registry_server(**answers) as server:
        return command.at(server.url)("adapters", "add", str(path), *options, status=status), server


def test_a_folder_is_packed_and_uploaded(command: Command, tmp_path: Path) -> None:
    path = folder(tmp_path / "support", optimizer_pt=b"x")
    done, server = add(command, path, {"POST /slm/adapters": (201, ADDED)})
    assert (done.out, done.err) == ("support@2 added\n", "")
    ((_, asked, body),) = server.asked
    assert asked == "/slm/adapters?name=support"
    assert server.headers["Content-Type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert sorted(archive.getnames()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_name_can_be_given_and_old_content_is_not_new(command: Command, tmp_path: Path) -> None:
    path = folder(tmp_path / "support")
    done, server = add(command, path, {"POST /slm/adapters": (201, ADDED | {"is_new": False})}, "--name", "other")
    assert server.asked[0][1] == "/slm/adapters?name=other"
    assert done.out == "support@2 was there already\n"


def test_a_publication_that_takes_long_is_waited_for(command: Command, tmp_path: Path) -> None:
    job = {"success": True, "job_id": "j", "status": "running", "result": None, "error": None}
    answers = {
        "POST /slm/adapters": (202, {"success": True, "job_id": "j", "status": "queued"}),
        "GET /slm/jobs/j": (200, job | {"status": "succeeded", "result": ADDED}),
    }
    done, _ = add(command, folder(tmp_path / "support"), answers, "--json")
    assert done.document == ADDED


def test_a_folder_that_is_no_adapter_is_never_sent(command: Command, tmp_path: Path) -> None:
    done, server = add(command, tmp_path, {}, status=2)
    assert server.asked == []
    assert "is not a PEFT folder: it has no adapter_config.json and adapter_model.safetensors" in done.err


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (401, "invalid_api_key", "SLMCLIENT_API_KEY"),
        (403, "forbidden", "Pass the key of an admin"),
        (404, "not_found", "older than this command"),
        (409, "conflict", ""),
        (413, "body_too_large", "SLM_MAX_ADAPTER_BYTES"),
    ],
)
def test_a_refusal_is_explained(command: Command, tmp_path: Path, status: int, code: str, hint: str) -> None:
    path = folder(tmp_path / "support")
    done, server = add(command, path, {"POST /slm/adapters": error(status, code)}, status=1)
    assert done.err.startswith(f"slm: It is {code}.\n")
    assert hint in done.err
    assert len(server.asked) == 1


def test_an_upload_that_breaks_off_says_that_it_can_be_repeated(command: Command, tmp_path: Path) -> None:
    path = folder(tmp_path / "support")
    with scripted_server(Reply(200, b'{"status": "ok"}'), Reply(0)) as server:
        done = command.at(server.url)("adapters", "add", str(path), status=1)
    assert "lost during the upload" in done.err
    assert "not added twice" in done.err


def test_a_terminal_shows_the_progress_and_its_end(tmp_path: Path) -> None:
    path = folder(tmp_path / "support")
    with registry_server(**{"POST /slm/adapters": (201, ADDED)}) as server:
        for colours in ({}, {"NO_COLOR": "1"}):
            with terminal("adapters", "add", str(path), "--url", server.url, **colours) as screen:
                screen.wait_for("Checking")
                screen.wait_for("support@2 added")
                assert screen.end() == 0
                assert ("\x1b[3" in screen.seen) == (not colours), "a sequence that sets a colour"
