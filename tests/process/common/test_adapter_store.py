"""A process that is killed while it keeps an adapter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common.adapters.store import AdapterStore
from common.settings import ROOT


def test_what_a_killed_process_left_is_no_adapter_and_is_tidied_up(tmp_path: Path) -> None:
    killed = """
import os, signal, sys
from pathlib import Path
from common.adapters.store import AdapterStore
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
store = AdapterStore(Path(sys.argv[1]))
with store.copied(Path(sys.argv[2])):
    pass
"""
    folder, source = tmp_path / "adapters", tmp_path / "source"
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    ended = subprocess.run([sys.executable, "-c", killed, folder, source], cwd=ROOT, check=False)
    assert ended.returncode == -9
    assert len(list(folder.iterdir())) == 2, "the lock's file and an unfinished copy"
    store = AdapterStore(folder)
    assert store.ids() == set()
    with store.locked():
        store.tidy()
    assert [path.name for path in folder.iterdir()] == [".lock"]
    with store.copied(source) as content, store.locked():
        store.put(content)
    assert store.folder(content.id).is_dir()
