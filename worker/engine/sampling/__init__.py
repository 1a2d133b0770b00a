"""From logits to tokens: logits processors, top-k/top-p sampling, random numbers, log probabilities."""
