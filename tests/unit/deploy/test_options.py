from __future__ import annotations

import pytest

from deploy.options import StartOptions, parse


def test_without_arguments_one_worker_and_the_settings_decide_the_rest() -> None:
    options = parse([])
    assert options == StartOptions(host=None, port=None, workers=1, debug=False, insecure=False)
    assert options.environment() == {}


def test_the_command_line_overrides_the_settings() -> None:
    options = parse(["--host", "0.0.0.0", "--port", "8080", "--workers", "3", "--debug"])
    assert options.workers == 3
    assert options.environment() == {"SLM_HOST": "0.0.0.0", "SLM_PORT": "8080", "SLM_LOG_LEVEL": "DEBUG"}
    assert parse(["--insecure"]).environment() == {"SLM_INSECURE": "true"}


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--port", "0"], "65535"),
        (["--port", "http"], "http"),
        (["--port", "70000"], "70000"),
        (["--workers", "0"], "64"),
        (["--workers", "-1"], "-1"),
        (["--wrokers", "1"], "--wrokers"),
    ],
)
def test_invalid_arguments_are_refused_by_name(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert caught.value.code == 2
    assert named in capsys.readouterr().err
