"""Runs computations that might not end, or might use all memory, in processes that can be killed.

Clients' grammars, and templates and patterns of a model or adapter, are untrusted programs. Each worker has one helper
process, and the processes for these computations are forked from it: so they start within milliseconds, share the
helper's data (the model's vocabulary), and leave nothing behind when they end.

    worker ── client.py ══ forker.py (the helper)
                  ║             └─ forks
                  ╚══════════ child.py, ... (one pipe for each)

A child limits itself: what reaches a limit of time or memory dies, and whoever asked sees the end of the pipe.
docs/decisions/0017-the-helper-process.md has the reasons.
"""
