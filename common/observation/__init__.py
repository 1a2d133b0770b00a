"""Logs, the context they name, traces, and the store of the workers' metrics."""
