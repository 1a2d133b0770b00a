"""The HTTP API: translates requests into jobs, and their events into answers and server-sent events.

Rule of this folder: it imports `common` and never torch, transformers, peft or `worker`. The process stays small and
starts at once, and whatever a model does cannot harm it.
"""

__version__ = "0.1.0"
