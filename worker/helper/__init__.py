"""Computes what may not end, or may take all memory, in processes that can be killed.

Grammars of clients, and templates and patterns that came with a model or adapter, are programs of strangers. Each
worker has one helper process. It is forked from for every child that computes such a thing, so that a child is there
within milliseconds, knows what the helper knows (the model's vocabulary), and leaves nothing behind when it is killed.

    worker ── client.py ══ pipe ══ server.py (the helper) ══ pipes ══ child.py, child.py, ...

Plain data (JSON) goes through the pipes. A request has limits of time and memory; a child that reaches one dies, and
its request gets `OverLimit`. docs/decisions/0013-the-helper-process.md has the reasons.
"""
