"""Runs computations that might not end, or might use all memory, in processes that can be killed.

Clients' grammars, and templates and patterns of a model or adapter, are untrusted programs. Each worker has one helper
process, and the processes for these computations are forked from it: so they start within milliseconds, share the
helper's data (the model's vocabulary), and leave nothing behind when they end.

    worker ── client.py ══ forker.py (the helper)
                  ║             └─ forks
                  ╚══════════ child.py, ... (one pipe for each)

A child limits itself: at a limit of time or memory it dies, and its caller sees the end of the pipe.
docs/decisions/0014-untrusted-programs-in-child-processes.md has the reasons.
"""
