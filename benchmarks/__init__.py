"""Speeds and endurance, measured. Nothing here runs in the timed tests; `python -m benchmarks.<name>`."""
