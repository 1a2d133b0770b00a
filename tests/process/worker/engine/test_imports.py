"""The folder's rules, checked in a fresh process."""

from __future__ import annotations

import subprocess
import sys

POLICY = [
    "sequence",
    "kv_cache.block_pool",
    "kv_cache.prefix_tree",
    "kv_cache.manager",
    "model_runner",
    "output.stopping",
    "output.detokenizer",
    "output.stream",
    "scheduler",
    "engine",
    "overlap_engine",
]


def test_the_scheduling_code_is_imported_without_torch() -> None:
    imports = "; ".join(f"import worker.engine.{name}" for name in POLICY)
    program = f"import sys; {imports}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
