from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from common.settings import ROOT
from deploy.processes.backoff import Backoff
from deploy.processes.supervisor import ChildSpec, Supervisor
from tests.processes import wait_for

DEADLINE_S = 30
SLEEP = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
DIES = "import os; print(os.getpid()); raise SystemExit(3)"


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Site:
    """A folder, the children that run in it, and the supervisor's messages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.thread: threading.Thread | None = None
        self.supervisor: Supervisor

    def child(self, name: str, code: str, *, stop_order: int = 0, stop_grace_s: float = DEADLINE_S) -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=(sys.executable, "-c", code),
            env=dict(os.environ),
            folder=self.folder,
            log=self.folder / f"{name}.log",
            stop_order=stop_order,
            stop_grace_s=stop_grace_s,
        )

    def start(self, *children: ChildSpec, first_pause_s: float = 0.01) -> None:
        def backoff() -> Backoff:
            return Backoff(first_s=first_pause_s, most_s=max(first_pause_s, 0.1))

        self.supervisor = Supervisor(children, say=self.said.append, backoff=backoff)
        self.thread = threading.Thread(target=self.supervisor.run)
        self.thread.start()

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, name: str, text: str) -> None:
        wait_for(f"{text!r} in the log of {name}", lambda: text in self.log(name))

    def wait_for_pid(self, name: str) -> int:
        wait_for(f"{name} runs", lambda: self.supervisor.pid(name))
        pid = self.supervisor.pid(name)
        assert pid is not None
        return pid

    def join(self) -> None:
        assert self.thread is not None
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive(), "the supervisor does not end"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    if site.thread is not None:
        site.supervisor.request_stop()
        site.supervisor.request_stop()
        site.join()


def test_a_child_that_dies_is_restarted_and_a_line_says_why(site: Site) -> None:
    site.start(site.child("mortal", DIES))
    wait_for("three lives", lambda: len(site.log("mortal").splitlines()) >= 3)
    assert len(set(site.log("mortal").splitlines())) >= 3
    wait_for("a word about it", lambda: site.said)
    assert "mortal ended with status 3" in site.said[0]
    assert str(site.folder / "mortal.log") in site.said[0]


def test_a_child_killed_by_a_signal_is_restarted_while_the_others_keep_running(site: Site) -> None:
    site.start(site.child("victim", SLEEP), site.child("bystander", SLEEP))
    victim, bystander = site.wait_for_pid("victim"), site.wait_for_pid("bystander")
    os.kill(victim, signal.SIGKILL)
    wait_for("a new life", lambda: site.supervisor.pid("victim") not in (None, victim))
    assert site.supervisor.pid("bystander") == bystander
    assert "victim was killed by SIGKILL" in site.said[0]


def test_processes_forked_by_a_dead_child_are_killed_before_it_restarts(site: Site) -> None:
    forks = (
        "import os, subprocess, sys\n"
        f"print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    site.start(site.child("parent", forks), first_pause_s=600)
    wait_for("the death", lambda: site.said)
    grandchild = int(site.log("parent"))
    wait_for("the grandchild's end", lambda: not is_running(grandchild))


def test_children_are_stopped_in_order_and_equal_ones_together(site: Site) -> None:
    def notes(name: str) -> str:
        return (
            "import signal, sys, time\n"
            "def end(*_):\n"
            f"    open('order', 'a').write('{name}\\n')\n"
            "    time.sleep(0.2)\n"
            "    sys.exit()\n"
            "signal.signal(signal.SIGTERM, end)\n"
            "print('up', flush=True)\n"
            "while True: time.sleep(0.01)"
        )

    orders = {"redis": 2, "api": 0, "worker-1": 1, "worker-2": 1}
    site.start(*(site.child(name, notes(name), stop_order=order) for name, order in orders.items()))
    for name in orders:
        site.wait_for_log(name, "up")
    site.supervisor.request_stop()
    site.join()
    stopped = (site.folder / "order").read_text().splitlines()
    assert stopped[0] == "api"
    assert sorted(stopped[1:3]) == ["worker-1", "worker-2"]
    assert stopped[3] == "redis"


def test_a_child_that_ignores_the_stop_is_killed_after_its_grace(site: Site) -> None:
    site.start(site.child("stubborn", STUBBORN, stop_grace_s=0.2))
    site.wait_for_log("stubborn", "up")
    pid = site.wait_for_pid("stubborn")
    site.supervisor.request_stop()
    site.join()
    assert not is_running(pid)
    assert "stubborn did not stop within 0.2 s; killing it" in site.said


def test_a_second_stop_does_not_wait_for_anyone(site: Site) -> None:
    children = [site.child(name, STUBBORN, stop_order=order, stop_grace_s=3600) for order, name in enumerate("abc")]
    site.start(*children)
    for child in children:
        site.wait_for_log(child.name, "up")
    pids = [site.wait_for_pid(child.name) for child in children]
    site.supervisor.request_stop()
    wait_for("the stop to begin", site.supervisor.stopping.is_set)
    site.supervisor.request_stop()
    site.join()
    assert not any(is_running(pid) for pid in pids)


def test_a_stop_does_not_start_a_child_that_waits_for_its_restart(site: Site) -> None:
    site.start(site.child("mortal", DIES), first_pause_s=3600)
    wait_for("the death", lambda: site.said)
    site.supervisor.request_stop()
    site.join()
    assert len(site.log("mortal").splitlines()) == 1


def test_a_child_has_its_own_session_so_that_the_terminal_does_not_reach_it(site: Site) -> None:
    site.start(site.child("leader", SLEEP))
    pid = site.wait_for_pid("leader")
    assert os.getsid(pid) == os.getpgid(pid) == pid


def test_all_output_of_a_child_is_in_its_log(site: Site) -> None:
    site.start(site.child("talker", "import sys; print('to stdout', flush=True); sys.exit('to stderr')"))
    site.wait_for_log("talker", "to stdout\nto stderr\n")


def test_a_missing_program_is_named_in_the_log(site: Site) -> None:
    spec = site.child("ghost", "")
    site.start(ChildSpec(**{name: getattr(spec, name) for name in spec.__slots__} | {"argv": ("/no/such/program",)}))
    site.wait_for_log("ghost", "Cannot run /no/such/program: No such file or directory")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from deploy.processes.supervisor import ChildSpec, Supervisor
folder = Path({str(tmp_path)!r})
def child(name, code):
    return ChildSpec(name, (sys.executable, "-c", code), dict(os.environ), folder, folder / f"{{name}}.log", 0, 10)
code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
Supervisor([child("one", code), child("two", code)], say=print).run()
"""
    supervisor = subprocess.Popen([sys.executable, "-c", script])
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    try:
        wait_for("both children", lambda: all(log.exists() and log.read_text().endswith("\n") for log in logs))
    finally:
        supervisor.kill()
        supervisor.wait()
    for pid in (int(log.read_text()) for log in logs):
        wait_for("the child's end", lambda pid=pid: not is_running(pid))
