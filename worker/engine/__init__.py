"""The generation engine: many sequences, one model, one thread.

Rule of this folder: it computes and does no I/O once the model is loaded; no redis, celery, flask, `api`. Policy
(`sequence`, `scheduler`, `stopping`, `detokenizer`, `output_stream`, `engine`) does not import torch. Tensors live in
`sampler`, `cache`, `loader` and the runners, behind the `ModelRunner` of `model_runner`.
"""
