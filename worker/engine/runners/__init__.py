"""Choosing the `ModelRunner` for a model, and checking that it computes the model correctly."""
