"""Batch processing: a file of prompts in, a file of answers out, over as many runs as it takes."""
