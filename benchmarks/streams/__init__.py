"""Many open streams on one API process: is every token delivered, how late, and what does a stream cost?

    python -m benchmarks.streams [--streams 1000] [--tokens 20] [--rate 1] [--rows 32]

The API runs as in production (gunicorn with gevent, one process) on a real Redis. The worker alone is a stand-in
(`fake_worker`): it takes and writes jobs as a real one does, but computes nothing. Its sequences run in batches of
`--rows`, as those of so many workers would; each batch makes one step, one round trip to Redis, `--rate` times a
second. The text of each token is its number and the time just before its step is written. The clients (`crowd`) are one
asyncio loop; all of them ask at once, and nothing is generated before all streams are open. So a delay is what lies
between a worker's write and the client's read, on one machine's clock: Redis, the API, and the client's own loop.
"""
