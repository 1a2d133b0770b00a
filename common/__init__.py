"""The contracts between the API and the workers: settings, jobs, events, Redis keys, queues, errors.

Rule of this folder: no flask, no torch, no running Celery worker, nothing from `api` or `worker`.
Both sides import it; it imports neither.
"""
