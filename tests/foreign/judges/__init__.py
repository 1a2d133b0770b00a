"""Judges: the tests that other servers have for the same routes, run against this one.

They come with published packages: vLLM's with its own, llama.cpp's with llama-cpp-python. `sources` fetches those and
keeps them in `.venv/judges`; nothing of them is committed. `plugins` replaces what would start the other server. Each
suite has a list of the tests that fail and why (`*.toml`): another failure is a failure here, and a pass is reported.

    python -m tests.foreign.judges [vllm | llama.cpp] [--quick] [--url http://127.0.0.1:5000]
"""
