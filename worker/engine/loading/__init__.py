"""From files to a model in memory, and out again: weights, adapter, tokenizer."""
