"""Computes embeddings: an encoder, its pooling, and the batches in which inputs of all jobs are computed."""
