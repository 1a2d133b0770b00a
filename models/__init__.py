"""Models on disk, for training and serving alike: base models, adapters, GGUF files, prompt templates, text to tokens.

Rule of this folder: nothing from `api`, `worker`, `deploy` or `SLMInit`; no Redis, no Celery; only the settings of
`common`. torch and transformers are imported inside functions.
"""
