from __future__ import annotations

import threading
from pathlib import Path

import pytest

from deploy.processes import child_log
from deploy.processes.child_log import LogEcho, LogTail, is_important, last_line, open_log


def write(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_log_is_continued_while_it_is_small(tmp_path: Path) -> None:
    for word in (b"one\n", b"two\n"):
        with open_log(tmp_path / "logs" / "api.log") as log:
            log.write(word)
    assert (tmp_path / "logs" / "api.log").read_bytes() == b"one\ntwo\n"


def test_a_large_log_is_set_aside_and_the_oldest_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_log, "ROTATE_BYTES", 3)
    path = tmp_path / "api.log"
    for number in range(1, 7):
        with open_log(path) as log:
            log.write(b"life %d\n" % number)
    kept = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert kept == {
        "api.log": "life 6\n",
        "api.log.1": "life 5\n",
        "api.log.2": "life 4\n",
        "api.log.3": "life 3\n",
    }


def test_the_last_line_is_the_last_that_is_not_blank(tmp_path: Path) -> None:
    write(tmp_path / "log", "first\nModuleNotFoundError: No module named 'x'\n\n")
    assert last_line(tmp_path / "log") == "ModuleNotFoundError: No module named 'x'"


def test_an_empty_log_has_no_last_line(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert last_line(tmp_path / "log") == ""


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-01 00:00:00,000 WARNING worker.engine: slow",
        "2026-01-01 00:00:00,000 ERROR   api: lost",
        "[2026-01-01 00:00:00 +0000] [7] [ERROR] Worker failed to boot.",
        "redis.exceptions.ConnectionError: refused",
    ],
)
def test_warnings_errors_and_exceptions_are_important(line: str) -> None:
    assert is_important(line)


@pytest.mark.parametrize(
    "line", ["2026-01-01 00:00:00,000 INFO    worker: 3 errors so far", "", "7:M # WARNING Memory overcommit"]
)
def test_ordinary_lines_are_not_important(line: str) -> None:
    assert not is_important(line)


def test_a_tail_reads_later_additions_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, "before\n")
    tail = LogTail(path)
    write(path, "one\ntw")
    assert tail.read_lines() == ["one"]
    write(path, "o\n")
    assert tail.read_lines() == ["two"]
    assert tail.read_lines() == []


def test_a_tail_continues_in_the_new_file_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, "a long line of an earlier life\n")
    tail = LogTail(path)
    path.replace(tmp_path / "log.1")
    assert tail.read_lines() == []
    write(path, "new\n")
    assert tail.read_lines() == ["new"]


def test_a_tail_survives_bytes_that_are_not_text(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"\xff\xfe\n")
    assert tail.read_lines() == ["\ufffd\ufffd"]


def test_the_echo_names_the_process_and_omits_hidden_lines(tmp_path: Path) -> None:
    said: list[str] = []
    heard = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    echo = LogEcho({"api": tmp_path / "api.log"}, is_important, say)
    echo.start()
    write(tmp_path / "api.log", "INFO fine\nERROR broken\n")
    assert heard.wait(60)
    echo.stop()
    assert said == ["api: ERROR broken"]


def test_the_echo_prints_the_remaining_lines_before_it_ends(tmp_path: Path) -> None:
    said: list[str] = []
    echo = LogEcho({"api": tmp_path / "api.log"}, lambda _line: True, said.append)
    echo.start()
    write(tmp_path / "api.log", "last words\n")
    echo.stop()
    assert said == ["api: last words"]
