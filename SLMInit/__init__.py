"""The two scripts `cudaInit.py` and `cudaInit_cpu.py`: the command line of the library `training`.

Rule of this folder: nothing from `api` or `worker`, no Redis, no Celery; of `common` only `settings` and `cores`.
"""
