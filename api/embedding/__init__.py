"""Embeddings, as the routes of all APIs request them."""
