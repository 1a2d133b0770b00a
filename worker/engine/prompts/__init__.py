"""From a prompt to token ids, and the checks before that."""
