"""Computes what may not end, or may take all memory, in processes that can be killed.

Grammars of clients, and templates and patterns that came with a model or adapter, are programs of strangers. Each
worker has one helper process. The processes that compute such a thing are forked from it: so they are there within
milliseconds, know what the helper knows (the model's vocabulary), and leave nothing behind when they end.

    worker ── client.py ══ forker.py (the helper)
                  ║             └─ forks
                  ╚══════════ child.py, ... (one pipe for each)

A child limits itself: what reaches a limit of time or memory dies, and whoever asked sees the end of the pipe.
docs/decisions/0014-untrusted-programs-in-child-processes.md has the reasons.
"""
