"""Benchmarks of speed and endurance: `python -m benchmarks.<name>`. They are not part of the tests."""
