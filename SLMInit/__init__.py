"""LoRA fine-tuning of small language models: a library and the two scripts `cudaInit.py` and `cudaInit_cpu.py`.

Rule of this folder: nothing from `api` or `worker`, no Redis, no Celery; only `common.settings` from `common`.
`base_model`, `adapter_check` and `prompt_template`, which the server imports too, import no model library at the top.
"""
