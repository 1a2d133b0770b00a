from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from common.errors import InternalError, InvalidRequest, Overloaded
from common.settings import ROOT
from worker.helper.client import MAX_TASKS, Helper, HelperClosed
from worker.helper.given_up import GivenUp
from worker.helper.limits import Limits, OverLimit
from worker.helper.messages import receive, send
from worker.helper.priority import NICER

PLENTY = Limits(wall_s=60, cpu_s=30, memory=2**30)
PATIENCE_S = 60.0


@pytest.fixture
def helper() -> Iterator[Helper]:
    one = Helper("tests.helper_tasks:ServicesForTests")
    yield one
    one.close()


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Run the call on a thread; it may be cancelled."""

    def run() -> None:
        with suppress(GivenUp):
            call()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class Gate:
    """Children wait at it until it is opened."""

    def __init__(self, folder: Path) -> None:
        self.passed: list[object] = []
        self._folder = folder
        self._threads: list[threading.Thread] = []

    def fill(self, helper: Helper, count: int) -> None:
        """Make that many children wait, and return when all do."""

        def wait() -> None:
            self.passed.append(helper.call("wait_at_gate", str(self._folder), PLENTY))

        self._threads += [in_thread(wait) for _ in range(count)]
        deadline = time.monotonic() + PATIENCE_S
        while len(list(self._folder.glob("waiting-*"))) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def open(self) -> None:
        (self._folder / "open").touch()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        assert self.passed == ["passed"] * len(self._threads)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_a_task_runs_while_celery_stops(helper: Helper) -> None:
    """Celery sets a default timeout for new sockets then."""
    earlier = socket.getdefaulttimeout()
    socket.setdefaulttimeout(5.0)
    try:
        assert helper.call("echo", "stopping", PLENTY) == "stopping"
    finally:
        socket.setdefaulttimeout(earlier)


def test_a_task_runs_in_a_child_of_the_helper(helper: Helper) -> None:
    pids = helper.call("pids", None, PLENTY)

    assert len({os.getpid(), pids["helper"], pids["child"]}) == 3
    assert helper.call("echo", {"text": "日本 \ud800", "number": 1.5}, PLENTY) == {"text": "日本 \ud800", "number": 1.5}


def test_a_child_serves_one_request_after_the_other(helper: Helper) -> None:
    assert helper.call("pids", None, PLENTY) == helper.call("pids", None, PLENTY)


def test_a_long_task_leaves_the_idle_child_to_short_ones(helper: Helper) -> None:
    """A fork takes longer than most tasks."""
    idle = helper.call("pids", None, PLENTY)["child"]

    assert helper.call("pids", None, PLENTY, is_long=True)["child"] != idle
    assert idle in (child.pid for child in helper._idle)


def test_a_tasks_refusal_reaches_the_client(helper: Helper) -> None:
    with pytest.raises(InvalidRequest, match="wrong") as refusal:
        helper.call("refuse", "wrong", PLENTY)

    assert refusal.value.param == "prompt"


def test_a_bug_in_a_task_is_an_internal_error_that_says_where(helper: Helper) -> None:
    with pytest.raises(InternalError, match="ValueError: a bug"):
        helper.call("fail", None, PLENTY)


@pytest.mark.parametrize("task", ["compute", "compute_in_one_go"])
def test_a_task_that_uses_too_much_cpu_time_is_stopped(helper: Helper, task: str) -> None:
    with pytest.raises(OverLimit, match="takes too long"):
        helper.call(task, None, Limits(wall_s=60, cpu_s=0.2, memory=2**30))

    assert helper.call("echo", "next", PLENTY) == "next"


def test_a_task_that_takes_too_long_by_the_clock_is_stopped_but_not_blamed(helper: Helper) -> None:
    with pytest.raises(Overloaded):
        helper.call("sleep", 600, Limits(wall_s=0.3, cpu_s=30, memory=2**30))


@pytest.mark.parametrize("task", ["allocate", "abort"])
def test_a_task_that_uses_too_much_memory_is_stopped(helper: Helper, task: str) -> None:
    with pytest.raises(OverLimit, match="needs too much memory"):
        helper.call(task, 2**31, PLENTY)

    assert helper.call("allocate", 2**20, PLENTY) == 2**20


def test_a_request_can_use_its_limits_in_full_after_another_one(helper: Helper) -> None:
    for _ in range(3):
        with pytest.raises(InvalidRequest):
            helper.call("refuse", "wrong", PLENTY)
        assert helper.call("allocate", PLENTY.memory // 2, PLENTY) == PLENTY.memory // 2


def test_a_child_of_another_kind_serves_its_own_connection(helper: Helper) -> None:
    one, other = helper.fork("echo"), helper.fork("echo")
    for child in (one, other):
        send(child.link, child.pid)

    assert [receive(child.link) for child in (other, one)] == [other.pid, one.pid]
    other.link.close()
    wait_until_gone(other.pid)
    send(one.link, "still there")
    assert receive(one.link) == "still there"


def test_short_requests_do_not_wait_for_long_ones(helper: Helper, gate: Gate) -> None:
    gate.fill(helper, MAX_TASKS - 1)

    assert helper.call("echo", "short", PLENTY) == "short"

    assert not gate.passed
    gate.open()


def test_a_slow_child_gets_lower_priority_and_is_not_reused(helper: Helper) -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)

    assert helper.call("niceness", 0, PLENTY) == usual
    assert helper.call("niceness", 1, PLENTY) == min(19, usual + NICER)
    assert helper.call("niceness", 0, PLENTY) == usual


def test_a_cancelled_request_is_killed(helper: Helper) -> None:
    child = helper.call("pids", None, PLENTY)["child"]
    given_up = threading.Event()
    threading.Timer(0.2, given_up.set).start()

    begin = time.monotonic()
    with pytest.raises(GivenUp):
        helper.call("compute", None, PLENTY, given_up.is_set)

    assert time.monotonic() - begin < PLENTY.wall_s / 2
    wait_until_gone(child)


def test_a_request_that_waits_for_a_child_can_be_cancelled(helper: Helper, gate: Gate) -> None:
    gate.fill(helper, MAX_TASKS)

    with pytest.raises(GivenUp):
        helper.call("echo", "late", PLENTY, lambda: True)
    gate.open()


def test_a_child_with_an_old_configuration_gets_no_more_requests(helper: Helper, gate: Gate) -> None:
    gate.fill(helper, 1)
    assert helper.call("configured", "word", PLENTY) is None
    helper.configure("word", "new")
    gate.open()

    for _ in range(3):
        assert helper.call("configured", "word", PLENTY) == "new"


def test_every_child_knows_the_configuration_even_after_a_restart(helper: Helper) -> None:
    helper.configure("word", "x" * 1_000_000)
    assert helper.call("configured", "word", PLENTY) == "x" * 1_000_000

    pids = helper.call("pids", None, PLENTY)
    for pid in pids.values():
        psutil.Process(pid).kill()
        wait_until_gone(pid)

    assert helper.call("configured", "word", PLENTY) == "x" * 1_000_000


def test_an_idle_child_that_dies_is_replaced(helper: Helper) -> None:
    child = helper.call("pids", None, PLENTY)["child"]
    psutil.Process(child).kill()
    wait_until_gone(child)

    assert helper.call("echo", "next", PLENTY) == "next"


def test_closing_lets_running_requests_finish_and_leaves_no_process(helper: Helper, gate: Gate) -> None:
    pids = helper.call("pids", None, PLENTY)
    gate.fill(helper, 1)

    helper.close()
    with pytest.raises(HelperClosed):
        helper.call("echo", "late", PLENTY)
    assert not gate.passed
    gate.open()

    for pid in pids.values():
        wait_until_gone(pid)


def test_the_helper_ends_with_its_worker() -> None:
    """Even if the worker is killed while a child computes."""
    program = """
import threading, time
from tests.process.worker.helper.test_helper import PLENTY, Helper, in_thread
one = Helper("tests.helper_tasks:ServicesForTests")
in_thread(lambda: one.call("compute", None, PLENTY))
print(one.call("pids", None, PLENTY)["helper"], flush=True)
time.sleep(60)
"""
    worker = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    helper_pid = int(worker.stdout.readline())
    children = psutil.Process(helper_pid).children()
    worker.kill()
    worker.communicate()

    assert children
    for one in [helper_pid, *(child.pid for child in children)]:
        wait_until_gone(one)


def test_many_threads_can_send_requests_at_once(helper: Helper) -> None:
    answers: list[int] = []
    threads = [in_thread(lambda n=n: answers.append(helper.call("echo", n, PLENTY))) for n in range(40)]
    for thread in threads:
        thread.join(PATIENCE_S)

    assert sorted(answers) == list(range(40))
