"""The worker as a Celery application: app, bootstep, consumer and thread pool.

Rule of this folder: in the worker, only this folder, `worker.app` and `worker.runtime` import celery.
"""
