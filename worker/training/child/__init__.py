"""The process that computes one attempt of a training or evaluation job; `python -m worker.training.child`."""
