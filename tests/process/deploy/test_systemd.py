"""The units of deploy/systemd, as systemd reads them, and as docs/operations.md describes them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from common.settings import ROOT, Settings
from deploy.processes import stack

UNITS = ROOT / "deploy" / "systemd"
SERVERS = ["slm.service", "slm-api@.service", "slm-worker@.service", "slm-trainer.service", "slm-embedder.service"]


def value(unit: str, name: str) -> str:
    (found,) = re.findall(rf"(?m)^{name}=(.*)$", (UNITS / unit).read_text())
    return str(found)


@pytest.mark.parametrize(
    ("unit", "module"),
    [
        ("slm-api@.service", stack.API),
        ("slm-worker@.service", stack.worker("slm%i")),
        ("slm-trainer.service", stack.trainer()),
        ("slm-embedder.service", stack.embedder()),
    ],
    ids=["api", "worker", "trainer", "embedder"],
)
def test_units_run_the_commands_of_the_start_command(unit: str, module: tuple[str, ...]) -> None:
    python, option, *command = shlex.split(value(unit, "ExecStart").replace("%%", "%"))
    assert (python, option) == ("/opt/slm/.venv/bin/python", "-m")
    assert command == list(module)


@pytest.mark.parametrize("unit", [*SERVERS, "slm-backup.service"])
def test_all_units_read_the_same_settings(unit: str) -> None:
    """A backup that did not know SLM_REDIS_URL would save an empty Redis of its own."""
    assert "\nEnvironmentFile=-/etc/slm.env\nEnvironment=SLM_DATA_DIR=/var/lib/slm\n" in (UNITS / unit).read_text()


@pytest.mark.parametrize("unit", SERVERS)
def test_a_stopping_unit_has_time_to_drain(unit: str) -> None:
    settings = Settings()
    inside = stack.REDIS_GRACE_S + stack.GRACE_MARGIN_S  # the start command stops Redis after the others
    assert float(value(unit, "TimeoutStopSec")) > settings.drain_s + settings.lease_s + inside


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here")
    for unit in UNITS.iterdir():
        name = unit.name.replace("@.", "@1.")
        (tmp_path / name).write_text(unit.read_text().replace("/opt/slm", str(ROOT)))
    files = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "slm" in line.partition(":")[0]]
    assert (done.returncode, complaints) == (0, [])
