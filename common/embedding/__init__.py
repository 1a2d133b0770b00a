"""Embeddings: what their jobs ask for and return, and the processes that run them."""
