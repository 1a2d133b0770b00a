"""Each log line names its request and job, as text and as JSON."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import datetime

import pytest

from common.observation import context
from common.observation.logs import LogFormat, configure_logging, fields

log = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with context.bound():
        context.begin()  # a request of another test may not have been read to its end
        yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def start(log_format: LogFormat) -> None:
    """pytest's capture replaces stderr for each test, so the handler must be created inside it."""
    configure_logging("INFO", log_format)


def test_a_text_line_names_the_request_and_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    start("text")
    with context.bound(request_id="r-1", job_id="j-1", attempt=2):
        log.info("started")
    [line] = lines(capsys)
    assert line.endswith("INFO    tests.logs: started [request_id=r-1 job_id=j-1 attempt=2]")


def test_a_text_line_does_not_repeat_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    start("text")
    log.info("job %s: ended", "j-1", extra=fields(job_id="j-1", request_id="r-1"))
    assert lines(capsys)[0].endswith("job j-1: ended [request_id=r-1]")


def test_a_json_line_is_one_object_with_time_level_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    start("json")
    with context.bound(request_id="r-1", job_id="j-1", attempt=2):
        log.warning("a\nb %d", 3, extra=fields(bytes=5))
    [text] = lines(capsys)
    line = json.loads(text)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "WARNING",
        "logger": "tests.logs",
        "message": "a\nb 3",
        "request_id": "r-1",
        "job_id": "j-1",
        "attempt": 2,
        "bytes": 5,
    }


def test_a_json_line_contains_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    start("json")
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        log.exception("failed")
    [text] = lines(capsys)
    assert json.loads(text)["exception"].endswith("ZeroDivisionError: why")


def test_fields_end_with_their_block_and_belong_to_one_thread() -> None:
    seen: list[object] = []
    with context.bound(job_id="outer"):
        with context.bound(job_id="inner", attempt=1):
            assert context.current() == {"job_id": "inner", "attempt": 1}
        assert context.current() == {"job_id": "outer"}
        thread = threading.Thread(target=lambda: seen.append(dict(context.current())))
        thread.start()
        thread.join()
    assert seen == [{}]


def test_clearing_the_context_forgets_the_last_request() -> None:
    with context.bound():
        context.begin(request_id="first")
        context.add(job_id="j")
        context.begin(request_id="second")
        assert context.current() == {"request_id": "second"}
