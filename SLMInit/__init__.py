"""LoRA fine-tuning of small language models: a library and the two scripts `cudaInit.py` and `cudaInit_cpu.py`.

Rule of this folder: nothing from `api` or `worker`, no Redis, no Celery; of `common` only `settings` and `cores`.
"""
