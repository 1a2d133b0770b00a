#!/usr/bin/env python3
"""Answers on Discord: DISCORD_TOKEN=... python bot.py. See --help."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))  # slm_client is not installed
    from slm_bot.cli import main

    sys.exit(main(sys.argv[1:]))
