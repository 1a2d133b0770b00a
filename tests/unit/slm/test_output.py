"""What the command writes to a terminal, and to a pipe."""

from __future__ import annotations

import json
import sys

import pytest
from slm_client.errors import Forbidden, InvalidRequest, NotFound, RateLimited, ServerError, Unauthorized

from slm import failures
from slm.failures import CommandError
from slm.output import Output


def test_a_table_in_a_pipe_is_whole_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).listing({}, ("NAME", "HOSTS"), [("x" * 300, ["a", "b"]), ("[bold]y", None)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["NAME", "HOSTS"], ["x" * 300, "a,", "b"], ["[bold]y", "-"]]


def test_a_terminal_is_not_given_what_it_would_obey(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(as_json=False)
    output.piece("a\x1b[31m\tb\n")
    assert capsys.readouterr().out == "a\x1b[31m\tb\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.piece("a\x1b[31m\tb\x9b\n")
    assert capsys.readouterr().out == "a\ufffd[31m\tb\ufffd\n"


def shown(err: CommandError | InvalidRequest, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> str:
    failures.show(err, Output(as_json=as_json))
    out, text = capsys.readouterr()
    assert out == ""
    return text


def test_an_error_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert "SLMCLIENT_API_KEY" in shown(Unauthorized("no", status=401), capsys)
    assert "admin" in shown(Forbidden("no", status=403), capsys)
    assert "in 7 s" in shown(RateLimited("no", status=429, retry_after_s=7), capsys)
    assert "request id r1" in shown(ServerError("no", status=500, request_id="r1"), capsys)
    assert "SLM_MAX_ADAPTER_BYTES" in shown(InvalidRequest("no", status=413, code="body_too_large"), capsys)
    assert shown(InvalidRequest("no", status=400, code="invalid_request"), capsys) == "slm: no\n"
    assert "older" in shown(NotFound("no", status=404, code="not_found"), capsys)
    assert shown(NotFound("no", status=404, code="not_found", param="alias"), capsys) == "slm: no\n"
    assert shown(CommandError("no"), capsys) == "slm: no\n"


def test_an_error_for_a_program_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    err = InvalidRequest("no", status=400, code="invalid_request", param="seed")
    fields = json.loads(shown(err, capsys, as_json=True))
    assert fields == {"success": False, "error": "no", "code": "invalid_request", "status": 400, "param": "seed"}
