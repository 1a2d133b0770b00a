"""Whether a LoRA adapter can be served on a base model, decided from its files alone."""
