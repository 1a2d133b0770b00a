"""Fine-tunes a small language model with LoRA on a CUDA GPU: `python cudaInit.py`; `--help` lists the options."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Run the script; returns its exit status."""
    # The project's folder instead of this one, whose modules have common names that could shadow others.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from SLMInit.script import run

    return run("cuda", sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
