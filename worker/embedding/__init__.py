"""The embedder: a process that computes embeddings, beside the workers or on a machine of its own.

It claims `embed` jobs, renews their leases and records their results as a worker does; several jobs run at once, and
their inputs share the batches of one encoder (`worker.engine.embedding`).
"""
