"""Compares this server with other systems: the same workloads on the same machine, one system at a time.

python -m benchmarks.rivals setup     # once: creates each rival's environment and model
python -m benchmarks.rivals run       # measures, and prints a table

docs/benchmarks.md describes the systems and the method.
"""
