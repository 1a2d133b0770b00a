#!/usr/bin/env python3
"""Answers a file of prompts: python batch.py prompts.jsonl answers.jsonl. See --help."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))  # slm_client is not installed
    from slm_batch.cli import main

    sys.exit(main(sys.argv[1:]))
