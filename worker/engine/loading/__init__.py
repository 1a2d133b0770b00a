"""Loading a model into memory and freeing it: weights, adapter, tokenizer."""
