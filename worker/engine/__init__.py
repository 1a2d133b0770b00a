"""The generation engine: many sequences, one model, one thread.

Rule of this folder: it computes and does no I/O once the model is loaded; no redis, celery, flask, `api`. Policy
(`sequence`, `slots`, `scheduler`, `stopping`, `detokenizer`, `output_stream`, `engine`) does not import torch; tensors
live in `sampler`, `cache`, `transformers_runner` and `loader`, behind the `ModelRunner` of `model_runner`.
"""
