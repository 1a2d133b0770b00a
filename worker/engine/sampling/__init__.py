"""From logits to tokens: processors, filters, random numbers, log probabilities."""
