"""The HTTP API: translates requests into jobs, and their events into responses and server-sent events.

Rule of this folder: it imports `common` and never torch, transformers, peft or `worker`. So the process stays small,
starts quickly, and cannot be harmed by a model.
"""

__version__ = "0.1.0"
