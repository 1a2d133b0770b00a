"""Fine-tuning as a library: data that is checked first, then runs, their evaluation and their results.

Rule of this folder: nothing from `api` or `worker`, no Redis, no Celery, no Flask. torch is imported only by the
modules that train; `training.data` imports neither torch nor transformers.
"""
