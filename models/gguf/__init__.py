"""A GGUF file as the base model: converted once to a folder that `from_pretrained` takes."""
