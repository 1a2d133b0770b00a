"""This server beside its rivals: the same workloads on the same machine, one system at a time.

python -m benchmarks.rivals setup     # once: makes each rival's environment and model
python -m benchmarks.rivals run       # measures, and prints a table

docs/benchmarks.md tells what is compared and how.
"""
