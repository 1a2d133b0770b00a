"""Training runs in the form of OpenAI's fine-tuning jobs."""
