"""The generation engine: many sequences, one model, one thread.

Rule of this folder: it computes and does no I/O once the model is loaded; no redis, celery, flask, `api`. Policy
(`engine`, `scheduler`, `sequence`, `kv_cache.manager`, `output`) does not import torch. Tensors are used in `sampling`
(not in its `host`, the sampler for CPUs), `loading`, `checkpoints` and the runners, which implement the `ModelRunner`
of `model_runner`.
"""
