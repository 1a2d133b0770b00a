"""Finding a checkpoint's tensors by their role in the model, for the runners that have their own code for it."""
