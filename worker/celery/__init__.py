"""The worker as a Celery application: app, bootstep, consumer and thread pool.

Rule of this folder: it is the only one of the worker that imports celery, besides `worker.runtime`.
"""
