"""Measures many open streams: delivery, delay, and the cost of a stream.

    python -m benchmarks.streams [--streams 1000] [--tokens 20] [--rate 1] [--rows 32] [--apis 1] [--at-once 1000]

The API runs as in production (gunicorn with gevent, `--apis` processes) on a real Redis. Only the worker is a stand-in
(`fake_worker`): it claims jobs and publishes tokens like a real one, but computes nothing. Its sequences run in batches
of `--rows`, like those of several workers; each batch makes one step `--rate` times per second. The text of each token
is its number and the time just before its step is published. The clients are one asyncio
loop; `--at-once` of them open their streams at the same time, and nothing is generated before all are open. A delay is
therefore the time from a worker's write to the client's read, on one machine's clock: Redis, the API, and the client's
own loop.
"""
