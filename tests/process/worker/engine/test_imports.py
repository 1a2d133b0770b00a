"""The folder's rules, seen from a fresh process."""

from __future__ import annotations

import subprocess
import sys

POLICY = [
    "sequence",
    "block_pool",
    "prefix_tree",
    "kv_cache_manager",
    "model_runner",
    "stopping",
    "detokenizer",
    "output_stream",
    "scheduler",
    "engine",
    "asynchronous_engine",
]


def test_policy_is_imported_without_torch() -> None:
    imports = "; ".join(f"import worker.engine.{name}" for name in POLICY)
    program = f"import sys; {imports}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
