"""The worker process: takes jobs from the queue, runs them through one engine and publishes their events.

Rule of this folder: it never imports `api` or flask; both sides share only `common`. Only `worker.app` has an effect at
import. Apart from the question for accelerators in `model/loader.py`, only `worker/engine` uses torch and the
model, and it knows neither Redis nor Celery. With a prepared model on a CPU, torch and transformers are not imported.
"""
