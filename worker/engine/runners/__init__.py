"""Which `ModelRunner` computes a model, and whether it computes it right."""
