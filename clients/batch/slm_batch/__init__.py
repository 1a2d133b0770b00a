"""Batch processing: reads a file of prompts and writes a file of answers; an interrupted batch can be continued."""
