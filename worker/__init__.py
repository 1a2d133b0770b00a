"""The worker process: takes jobs from the queue, runs them through one engine and publishes what comes out.

Rule of this folder: it never imports `api` or flask; the two meet only in `common`. Nothing happens at import. Only
`worker/engine` touches torch and the model, and it in turn knows neither Redis nor Celery.
"""
